"""The work of the sums over steps and keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from molsaki.attention import columns
from molsaki.attention.span_index import make_span_index

T, J, H = 1024, 256, 8


class Written(TorchDispatchMode):
    """Counts the numbers of new tensors, which are no views of others and were not changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not func.is_view and not func._schema.name.endswith("_"):
            self.numbers += result.numel()
        return result


def numbers_written(steps: int, heads: bool) -> int:
    """The numbers that a forward and a backward pass write, with T tokens, J key tokens and H heads."""
    key = torch.full((1, T), -1)
    key[:, :: T // J] = torch.arange(J)
    spans = make_span_index((torch.arange(T) * steps // T)[None], key, None)
    queries, log_sum_exp = torch.randn(1, H, T, 8, requires_grad=True), torch.full((1, H, T), 9.0, requires_grad=True)
    with Written() as written:
        sums = columns.sum_over_spans(
            queries, queries, log_sum_exp, None, spans, is_causal=True, scale=0.3, heads=heads
        )
        sums.sum().backward()
    return written.numbers


@pytest.mark.parametrize("heads", [False, True])
def test_the_work_of_a_block_does_not_grow_with_all_steps_of_a_text(
    heads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(columns._FEW_WEIGHTS, "cpu", 2**15)
    few, many = (numbers_written(steps, heads) for steps in (8, T // 2))
    # One row more for each step, head and key token, a few times; not once for each of 64 blocks.
    assert many - few < 12 * (T // 2) * J * (H if heads else 1)
