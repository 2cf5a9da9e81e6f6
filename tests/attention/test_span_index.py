"""Spans that would give silent zeros or other texts' sums are refused, by example."""

from __future__ import annotations

import pytest
import torch

from molsaki.attention.span_index import make_span_index
from molsaki.errors import InputError

STEP = torch.tensor([[0, 0, 1, -1], [0, 1, 2, 2]])
KEY = torch.tensor([[-1, 0, 0, -1], [1, -1, -1, 0]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])


def test_key_tokens_come_first_and_dropped_slots_last():
    spans = make_span_index(STEP, KEY, MASK)
    assert (spans.steps, spans.keys, spans.examples, spans.rows) == (3, 2, 2, None)
    assert spans.step_RT.tolist() == [[0, 0, 1, 3], [0, 1, 2, 2]]
    assert spans.key_position_RJ.tolist() == [[1, 2], [0, 3]]
    assert spans.key_RJ.tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize("rows", [torch.tensor([1]), torch.tensor([False, True])])
def test_rows_and_sizes_can_be_chosen(rows):
    spans = make_span_index(STEP, KEY, MASK, rows, steps=5, keys=4)
    assert spans.rows == slice(1, 2)
    assert (spans.steps, spans.keys) == (5, 4)
    assert spans.step_RT.tolist() == [[0, 1, 2, 2]]


def test_a_mask_that_all_examples_share_is_not_cut():
    spans = make_span_index(STEP, KEY, MASK, torch.tensor([1]))
    assert spans.take(torch.zeros(1, 1, 4, 4)).shape[0] == 1
    assert spans.take(torch.arange(2)).tolist() == [1]


@pytest.mark.parametrize(
    ("step", "key", "mask", "rows", "sizes", "message"),
    [
        (STEP, KEY[:, :3], MASK, None, {}, "of one shape"),
        (STEP.float(), KEY, MASK, None, {}, r"step_of_token is torch\.float32"),
        (STEP, KEY, MASK[:, :3], None, {}, "attention mask"),
        (STEP, torch.full_like(KEY, -1), MASK, None, {}, "none has a key"),
        (torch.full_like(STEP, -1), KEY, MASK, None, {}, "none has a step"),
        (STEP - 1, KEY, MASK, None, {}, "at least −1"),
        (STEP, KEY, MASK.flip(1), None, {}, "example 0 has them on padding"),
        (STEP, KEY, MASK, torch.tensor([2]), {}, "rows to be different examples"),
        (STEP, KEY, MASK, torch.tensor([0, 0]), {}, "rows to be different examples"),
        (STEP, KEY, MASK, torch.tensor([False, False]), {}, "at least one example"),
        (STEP, KEY, MASK, torch.tensor([True]), {}, "rows as a bool mask"),
        (STEP, KEY, MASK, torch.tensor([0.0]), {}, "rows as a bool mask"),
        (STEP, KEY, MASK, None, {"steps": 2}, "at least 3 steps"),
        (STEP, KEY, MASK, None, {"keys": 1}, "at least .* 2 keys"),
    ],
)
def test_impossible_spans_are_refused(step, key, mask, rows, sizes, message):
    with pytest.raises(InputError, match=message):
        make_span_index(step, key, mask, rows, **sizes)
