"""Models in which only some layers have softmax attention are read in these layers, and the others are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import gradients, make_batch, make_hybrid, make_model, slow_stepwise_attention, weighted

from molsaki.attention import expected_layers, read_attention, stepwise_attention
from molsaki.errors import UnreadableModelError
from molsaki.models.shapes import shapes_of

# The layers that are read, and the kinds of the others.
HYBRIDS = {
    "qwen3_next": ((3,), "linear_attention"),
    "qwen3_5": ((3,), "linear_attention"),
    "jamba": ((1, 3), "linear_attention"),
    "granitemoehybrid": ((1,), "linear_attention"),
    "lfm2": ((1,), "conv"),
    "nemotron_h": ((1,), "linear_attention"),
    "zamba2": ((1, 3), "linear_attention"),
    "zamba": ((1, 3), "linear_attention"),
    "bamba": ((1,), "linear_attention"),
    "olmo_hybrid": ((3,), "linear_attention"),
    "qwen3_5_moe": ((3,), "linear_attention"),
    "lfm2_moe": ((1,), "conv"),
    "recurrent_gemma": ((2,), "linear_attention"),
    "minimax": ((1,), "linear_attention"),
}
WHOLE = ("falcon_h1",)
REFUSED = ("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm")


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_hybrid_is_read_in_its_attention_layers(name):
    model, batch = make_hybrid(name), make_batch()
    with torch.no_grad():
        reading = read_attention(model, *batch)
        expected, _ = slow_stepwise_attention(model, batch)
    torch.testing.assert_close(reading.attention, expected, atol=1e-5, rtol=0)
    numbers, kind = HYBRIDS[name]
    assert reading.layers.numbers == numbers
    assert reading.layers.count == model.config.num_hidden_layers
    assert len(reading.layers.others) == reading.layers.count - len(numbers)
    assert f".0 ({kind})" in reading.layers.others[0]
    assert expected_layers(model.config).numbers == numbers


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_without_softmax_attention_is_refused_with_its_layers(name):
    with pytest.raises(UnreadableModelError, match=r"0 did. These did not: \w+\.(layers|blocks)\.0, .*or have none"):
        read_attention(make_hybrid(name), *make_batch())


def test_the_table_of_the_documentation_has_these_models():
    text = (Path(__file__).parents[2] / "docs/attention.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `(\w+)` \| (.+?) \| (.+?) \|$", text)
    models = {name: make_hybrid(name) for name in (*HYBRIDS, *WHOLE, *REFUSED)}
    said = {}
    for name, model in models.items():
        numbers, kind = HYBRIDS.get(name, (range(model.config.num_hidden_layers), "none"))
        of = f"{len(numbers)} of {model.config.num_hidden_layers}"
        said[name] = ("refused", "all") if name in REFUSED else (of, kind)
    assert {name: (read, others) for name, read, others in rows if name in said} == said
    assert set(said) <= {name for name, _, _ in rows}


def test_a_falcon_h1_has_attention_in_every_layer():
    model, batch = make_hybrid("falcon_h1"), make_batch()
    with torch.no_grad():
        reading = read_attention(model, *batch)
        expected, _ = slow_stepwise_attention(model, batch)
    torch.testing.assert_close(reading.attention, expected, atol=1e-5, rtol=0)
    assert reading.layers.is_whole


def test_gradients_and_value_states_are_those_of_the_layers_that_are_read():
    model, batch = make_hybrid("jamba"), make_batch()
    shapes = shapes_of(model)
    reading = read_attention(model, *batch, values=True)
    assert shapes.values == tuple(values.shape[-1] for values in reading.values)
    assert len(shapes.values) == len(shapes.heads) == 2
    got = gradients(model, weighted(reading.attention))
    expected = gradients(model, weighted(slow_stepwise_attention(model, batch)[0]))
    name = "model.layers.1.self_attn.q_proj.weight"
    torch.testing.assert_close(got[name], expected[name], atol=1e-5, rtol=1e-4)


def test_a_model_with_linear_attention_alone_is_refused():
    model = make_hybrid("qwen3_next", layer_types=["linear_attention"] * 4)
    with pytest.raises(UnreadableModelError, match=r"0 did. These did not: model\.layers\.0, .*layers\.3\."):
        stepwise_attention(model, *make_batch())
    assert not expected_layers(model.config).numbers


def test_a_layer_that_skips_its_attention_in_this_pass_is_not_taken_for_one_without():
    model, batch = make_model("llama"), make_batch()
    model.model.layers[1].forward = lambda hidden, **_: hidden
    with pytest.raises(UnreadableModelError, match=r"1 did. These did not: model\.layers\.1\. .*layer dropout"):
        stepwise_attention(model, *batch)


def test_every_layer_can_be_asked_for():
    read = expected_layers(make_hybrid("lfm2").config)
    with pytest.raises(UnreadableModelError, match=r"1 of 3 have.*layer 0 \(conv\), layer 2 \(conv\)"):
        read.require_every("teacher")
    expected_layers(transformers.LlamaConfig(num_hidden_layers=2)).require_every("teacher")
