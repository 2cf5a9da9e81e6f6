"""The cost model of large teachers counts what runs and what is written."""

from __future__ import annotations

import pytest
import torch
from test_costs import LAYERS, J, T
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from molsaki.store.attention_rows import ATTENTION, CompactRow, attention_schema, compact_schema, pack_numbers
from molsaki.store.schema import BYTES_OF
from molsaki_benchmarks import scale
from molsaki_benchmarks.models import ModelSize

TINY = ModelSize(LAYERS, 64, 4, 2, 32, 176)
ROWS = scale.Rows(count=10, tokens=T, steps=8, keys=J, words=40)


def test_the_operations_of_a_pass_are_those_that_run():
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        LlamaForCausalLM(config)(input_ids=torch.zeros(1, T, dtype=torch.long), use_cache=False)
    found = counter.get_flop_counts()["Global"]
    matrices = sum(count for name, count in found.items() if "attention" not in str(name))
    cost = scale.teacher_cost(TINY, ROWS)
    expected = cost.pass_operations - 2 * T**2 * 64 * LAYERS + cost.logit_operations
    assert matrices == pytest.approx(expected, rel=1e-3)


def test_the_parameters_are_those_of_the_model():
    assert scale.teacher_cost(scale.TEACHERS["7B"], ROWS).parameters == pytest.approx(7.6e9, rel=0.01)
    assert scale.teacher_cost(scale.TEACHERS["70B"], ROWS).parameters == pytest.approx(70.6e9, rel=0.01)


def test_the_bytes_of_a_row_are_those_that_are_stored():
    attention_LSK, numbers = torch.rand(LAYERS, 8, 30), pack_numbers([5] * 8)
    compact = CompactRow(torch.zeros(30, dtype=torch.long), 24, "float16")
    compact.add(attention_LSK)
    rows = {
        "steps × keys, float32": (attention_schema(LAYERS), {ATTENTION: attention_LSK, **numbers}),
        "float16, 24 largest": (compact_schema(LAYERS, "float16"), compact.finish(numbers)),
    }
    found = scale.teacher_cost(TINY, scale.Rows(tokens=T, steps=8, keys=30, words=40)).stores
    for name, (schema, tensors) in rows.items():
        assert found[name] == sum(tensors[part].numel() * BYTES_OF[spec.dtype] for part, spec in schema.items())


def test_the_command_prints_every_teacher(capsys):
    scale.main(["--rows", "1000", "--tokens", "100", "--steps", "10", "--keys", "8", "--words", "50"])
    shown = capsys.readouterr().out
    assert all(shown.count(f"\n| {name} |") == 2 for name in scale.TEACHERS)
