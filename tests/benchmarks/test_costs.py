"""The counted costs are those that PyTorch counts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from molsaki.attention import columns, read_attention
from molsaki_benchmarks.costs import LayerShape, reading_cost

LAYERS, T, J = 3, 96, 8


def make():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=T,
    )
    return LlamaForCausalLM(config)


def operations(read):
    model = make()
    ids = torch.zeros(1, T, dtype=torch.long)
    steps = (torch.arange(T) // 12)[None]
    keys = torch.full_like(ids, -1)
    keys[:, ::12] = torch.arange(J)
    with FlopCounterMode(display=False) as counter:
        if read:
            reading = read_attention(model, ids, None, steps, keys)
            (reading.attention.sum() + reading.outputs.logits.sum()).backward()
        else:
            model(input_ids=ids, use_cache=False).logits.sum().backward()
    return counter


@pytest.mark.parametrize(("kept", "share"), [(0, 1.0), (2**20, 0.75)])
def test_the_extra_operations_are_those_that_run(kept, share, monkeypatch):
    """Where a small layer's weights are kept, its scores are not computed again: 6·T·J·W of 8·T·J·W."""
    monkeypatch.setattr(columns, "_KEPT_WEIGHTS", kept)
    cost = reading_cost(LayerShape(64, 32, 176, 4), T, J)
    extra = operations(read=True).get_total_flops() - operations(read=False).get_total_flops()
    # A reading hides its attention from the counter where the plain model does not, so it is taken out of both.
    names = ("attention", "Attention")
    for counter, sign in ((operations(read=True), -1), (operations(read=False), 1)):
        by_name = counter.get_flop_counts()["Global"]
        extra += sign * sum(count for name, count in by_name.items() if any(part in str(name) for part in names))
    assert extra == LAYERS * cost.extra_operations * share


def test_the_layers_own_operations_are_those_that_run():
    cost = reading_cost(LayerShape(64, 32, 176, 4), T, J)
    by_name = operations(read=False).get_flop_counts()["Global"]
    matrices = sum(count for name, count in by_name.items() if "attention" not in str(name))
    logits = 6 * T * 64 * 32
    # Some versions of transformers make the rotary angles by a small matrix product.
    assert matrices - logits == pytest.approx(LAYERS * (cost.own_operations - 7 * T**2 * 64), rel=1e-4)


def test_the_share_falls_with_length_and_grows_with_keys():
    layer = LayerShape(512, 256, 1408, 8)
    assert reading_cost(layer, 4096, 40).share < reading_cost(layer, 2048, 40).share
    assert reading_cost(layer, 2048, 80).share == 2 * reading_cost(layer, 2048, 40).share
    assert reading_cost(layer, 2048, 40).full_attention_bytes == 4 * 8 * 2048**2
