"""A router is made for the widths that the student's value states have, in every architecture."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from molsaki.attention import read_attention
from molsaki.methods import METHODS
from molsaki.models.shapes import shapes_of
from molsaki.training import make_method

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
WIDTHS = {
    "gpt2": ({}, 32),
    "llama": ({}, 16),
    "mistral": ({}, 16),
    "qwen3": ({"head_dim": 12}, 24),
    "gemma3_text": ({"head_dim": 16}, 32),
    "phi3": ({}, 16),
    "gpt_neox": ({}, 32),
    "opt": ({"ffn_dim": 48, "word_embed_proj_dim": 32}, 32),
    "olmo2": ({}, 16),
    "gemma3_text of one value head": ({"head_dim": 16, "num_key_value_heads": 1}, 16),
}


def small(name, changes):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name.split()[0], **{**SIZES, **changes}))


@pytest.mark.parametrize(("name", "changes", "width"), [(name, *rest) for name, rest in WIDTHS.items()])
def test_widths_are_those_of_a_reading(name, changes, width):
    model = small(name, changes)
    model.train()
    before = torch.random.get_rng_state()
    sizes = shapes_of(model).values
    assert sizes == (width, width)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(module.training for module in model.modules())
    ids = torch.randint(0, 64, (2, 9))
    spans = torch.tensor([[0] * 5 + [1] * 4] * 2)
    values = read_attention(model, ids, None, spans, spans, values=True).values
    assert tuple(layer.shape[-1] for layer in values) == sizes
    method = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(), model)
    weights = method.router(values, torch.ones(2, 9))
    torch.testing.assert_close(weights, torch.full((2, 2), 0.5))
    each = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(heads="each"), model)
    torch.testing.assert_close(each.router(values, torch.ones(2, 9)), torch.full((2, 8), 0.125))
