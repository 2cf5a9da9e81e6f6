"""Label only is plain fine-tuning: the loss that transformers' own models give on the same rows."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from molsaki.encoding.encode import IGNORED, EncodedText
from molsaki.methods import METHODS
from molsaki.training import Collator, Example, make_method, model


def make(name):
    torch.manual_seed(0)
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32)).eval()
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
        )
    )


class Tokenizer:
    pad_token_id = 0


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("knows_how_to_keep", [True, False], ids=["needed logits", "all logits"])
def test_loss_and_gradients_are_those_of_the_model_with_labels(monkeypatch, name, knows_how_to_keep):
    if not knows_how_to_keep:
        monkeypatch.setattr(model, "last_logits", lambda *_: {})
    student = make(name)
    ids = torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    labels = ids.masked_fill(mask == 0, IGNORED)
    labels[:, :4] = IGNORED  # the first label stands at 4, and is predicted from 3
    expected = student(input_ids=ids, attention_mask=mask, labels=labels).loss
    expected.backward()
    gradients = {key: parameter.grad.clone() for key, parameter in student.named_parameters()}
    student.zero_grad()
    rows = [tuple(row[real.bool()].tolist()) for row, real in zip(ids, mask, strict=True)]
    examples = [
        Example(str(i), {"predict": EncodedText(row, ((0, 0),) * len(row), 4, 0, 0, 0)}) for i, row in enumerate(rows)
    ]
    method = make_method(METHODS["label-only"], METHODS["label-only"].Settings(), student)
    got = model.DistillationModel(student, method)(**Collator(Tokenizer(), method.terms)(examples))["loss"]
    got.backward()
    torch.testing.assert_close(got, expected)
    for key, parameter in student.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[key], atol=1e-6, rtol=1e-4, msg=key)
