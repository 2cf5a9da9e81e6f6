"""Blocks of tokens give the loss and the gradients of all tokens at once, and hold no more logits than a block."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from small_world import MODELS, make_examples
from torch.utils._python_dispatch import TorchDispatchMode

from molsaki.methods import METHODS
from molsaki.training import Collator, make_method, token_outputs
from molsaki.training.model import DistillationModel

VOCABULARY = 257
TOKENS = 7
CASES = {
    "dss": {},
    "mmi": {"beta": 0.7},
    "mmi-sum": {"pooled": "sum", "detach_labels": False},
    "logits": {"temperature": 3.0},
    "molsaki": {},
}


class LargestLogits(TorchDispatchMode):
    """The largest number of rows of a tensor that is as wide as the vocabulary."""

    def __init__(self, weights):
        super().__init__()
        self.rows = 0
        self.sizes = {weight.numel() for weight in weights}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        for one in given if isinstance(given, (tuple, list)) else [given]:
            if isinstance(one, torch.Tensor) and one.shape[-1:] == (VOCABULARY,) and one.numel() not in self.sizes:
                self.rows = max(self.rows, one.numel() // VOCABULARY)
        return given


def make(name, model="llama", adapter=None):
    student = MODELS[model]()
    kind = name.removesuffix("-sum")
    method = make_method(METHODS[kind], METHODS[kind].Settings(**CASES[name]), student, teacher_layers=3)
    if adapter is not None:
        torch.manual_seed(1)
        student = get_peft_model(student, adapter)
    return DistillationModel(student, method)


def take_step(distilled, batch, dtype=None):
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        outputs = distilled(**batch)
    outputs["loss"].backward()
    gradients = {key: p.grad for key, p in distilled.named_parameters() if p.grad is not None}
    return outputs, gradients


def both(monkeypatch, tmp_path, tokenizer, name, dtype=None, **changes):
    """A step with all tokens in one block, and one with a few tokens a block; and the most logits of the latter."""
    terms = METHODS[name.removesuffix("-sum")].terms_of(METHODS[name.removesuffix("-sum")].Settings(**CASES[name]))
    batch = Collator(tokenizer, terms)(make_examples(tmp_path, tasks=terms.tasks, choice=terms.attention))
    whole = take_step(make(name, **changes), batch, dtype)
    monkeypatch.setattr(token_outputs, "LOGITS_HELD", VOCABULARY * TOKENS + 5)
    distilled = make(name, **changes)
    with LargestLogits(distilled.parameters()) as largest:
        blocks = take_step(distilled, batch, dtype)
    return whole, blocks, largest.rows, batch["batch"]


def assert_same(whole, blocks, rtol=1e-4):
    for key, value in whole[0].items():
        torch.testing.assert_close(blocks[0][key], value, atol=1e-6, rtol=rtol, msg=key)
    assert whole[1].keys() == blocks[1].keys()
    for key, gradient in whole[1].items():
        atol = rtol * float(gradient.abs().max())
        torch.testing.assert_close(blocks[1][key], gradient, atol=atol, rtol=rtol, msg=key)


@pytest.mark.parametrize("model", ["llama", "gpt2"])
@pytest.mark.parametrize("name", CASES)
def test_blocks_change_neither_loss_nor_gradients(monkeypatch, tmp_path, tokenizer, name, model):
    whole, blocks, rows, batch = both(monkeypatch, tmp_path, tokenizer, name, model=model)
    assert_same(whole, blocks)
    (one,) = batch.passes
    # The forward pass itself computes those of the last position of each row; MMI keeps a line for each row of a block.
    kept = len(one.positions_N) // TOKENS + 1 if name.startswith("mmi") else 0
    assert rows <= max(TOKENS, kept + len(one.input_ids_RT)) < len(one.positions_N)


@pytest.mark.parametrize("name", ["dss", "logits"])
def test_blocks_in_mixed_precision_differ_by_rounding(monkeypatch, tmp_path, tokenizer, name):
    whole, blocks, _, _ = both(monkeypatch, tmp_path, tokenizer, name, dtype=torch.bfloat16)
    assert_same(whole, blocks, rtol=0.02)


# peft asks transformers for a name that is going away.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_head_with_an_adapter_is_the_one_that_computes(monkeypatch, tmp_path, tokenizer):
    adapter = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    whole, blocks, _, _ = both(monkeypatch, tmp_path, tokenizer, "dss", adapter=adapter)
    assert_same(whole, blocks)
    assert any("lm_head" in key and "lora" in key for key in blocks[1])
