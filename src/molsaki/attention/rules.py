"""Masks as rules: causal attention within a sliding window, over texts padded on the left, without T × T memory.

transformers materializes such masks as T × T bools for every example. They carry two facts: how far back a token
attends, and where each text begins. A `MaskRule` passes these two facts to the kernels that can use them. Everywhere
else it acts as the tensor of transformers, which it materializes when an operation computes with it.

A rule also serves a part of a text, whose tokens attend to the cached keys of the tokens before them.

Legend: B batch, H heads, T tokens, P tokens before them (0 for a whole text), J key tokens, D head dimension.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function


class MaskRule(Tensor):
    """A bool mask [B, 1, T, P + T], True where a token attends: to itself and earlier tokens of its text and window.

    Attributes:
        window: the largest number of tokens that a token attends to, itself included; None for all.
        starts: the position of each example's first real token, after padding on the left; None without padding.
        past: P.
        blocks: FlexAttention's block mask of the rule, or None before it is computed.
    """

    window: int | None
    starts: tuple[int, ...] | None
    past: int
    blocks: Any
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(
        cls,
        examples: int,
        tokens: int,
        window: int | None,
        starts: tuple[int, ...] | None,
        device: torch.device,
        past: int = 0,
    ) -> MaskRule:
        """Create the rule for a batch of shape [examples, tokens]; a window over all tokens becomes None."""
        shape = (examples, 1, tokens, past + tokens)
        rule: MaskRule = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=torch.bool, device=device)
        rule.window = None if window is None or window >= past + tokens else window
        rule.past = past
        rule.starts = starts if starts is not None and any(starts) else None
        rule.blocks = None
        return rule

    def __repr__(self) -> str:  # type: ignore[override]
        return (
            f"MaskRule({self.shape[0]}, {self.shape[2]}, window={self.window}, starts={self.starts}, past={self.past})"
        )

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Run the operation on the materialized mask."""
        args, kwargs = tree_map_only(cls, lambda rule: rule.dense, (args, kwargs or {}))
        return function(*args, **kwargs)

    @property
    def is_causal_rule(self) -> bool:
        """Whether the rule is plain causal attention, which the kernels compute without a mask."""
        return self.window is None and self.starts is None and self.past == 0

    @cached_property
    def position_T(self) -> Tensor:
        """The position of each token among the P + T, on the mask's device."""
        return torch.arange(self.past, self.shape[3], device=self.device)

    @cached_property
    def dense(self) -> Tensor:
        """The mask [B, 1, T, P + T] as transformers computes it."""
        column = torch.arange(self.shape[3], device=self.device)
        # [T, P + T], and [B, 1, T, P + T] with padding: rows are queries, columns are keys.
        seen = self.sees(self.position_T[:, None], column)
        if self.starts_B111 is not None:
            seen = seen & (column >= self.starts_B111)
        return seen.expand(self.shape)

    @cached_property
    def starts_B111(self) -> Tensor | None:
        """The starts on the mask's device."""
        return None if self.starts is None else torch.tensor(self.starts, device=self.device)[:, None, None, None]

    def sees(self, at: Tensor, on: Tensor) -> Tensor:
        """Whether a token at position `at` attends to the token of its text at position `on`; both broadcast."""
        return on <= at if self.window is None else (on <= at) & (on > at - self.window)

    def pad_on_the_right(self, rows_BHTX: Tensor) -> Tensor:
        """Move each example's padding from the left to the right: [B, H, T, X] to [B, H, T, X]."""
        return _roll_each(rows_BHTX, None if self.starts is None else [-start for start in self.starts])

    def pad_on_the_left(self, rows_BHTX: Tensor) -> Tensor:
        """Undo `pad_on_the_right`; takes [B, H, T] too."""
        return _roll_each(rows_BHTX, self.starts)


def read_rule(asked: dict[str, Any], padded_on_the_right: bool) -> MaskRule | None:
    """The rule of the mask that transformers requests; None if the request is not such a rule.

    Padding on the right is left out: no real token attends to it.

    Args:
        asked: the keyword arguments of the mask interface.
        padded_on_the_right: all padding is known to be on the right, so its values are not read.
    """
    tokens, past = asked["q_length"], asked.get("q_offset", 0)
    # A static cache has its offset in a tensor, and a window's own cache drops the tokens outside it.
    is_whole = isinstance(past, int) and past + tokens == asked["kv_length"] and asked.get("kv_offset", 0) == 0
    # transformers sets this only for masks that are causal and no more. Packed texts or image tokens unset it.
    if not is_whole or asked.get("allow_is_causal_skip") is not True:
        return None
    function, window = asked.get("mask_function", causal_mask_function), asked.get("local_size")
    expected = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    if not _is_same(function, expected):
        return None
    padding_BT = asked.get("attention_mask")
    starts = None
    if padding_BT is not None and not padded_on_the_right and not is_on_the_right(padding_BT):
        starts = _read_starts(padding_BT)
        # Each example's padding would move its tokens by another distance, while the parts of all texts are one.
        if starts is None or past > 0:
            return None
    return MaskRule(asked["batch_size"], tokens, window, starts, torch.device(asked.get("device", "cpu")), past)


def is_on_the_right(padding_BT: Tensor) -> bool:
    """Whether all padding is on the right."""
    real_BT = padding_BT.bool()
    # A real first token, and no step from padding to a real token.
    return bool((real_BT[:, :1].all() & (real_BT[:, 1:] <= real_BT[:, :-1]).all()).item())


def _read_starts(padding_BT: Tensor) -> tuple[int, ...] | None:
    """The position of each example's first real token; None unless all padding is on the left."""
    real_BT = padding_BT.bool()
    # A real last token, and no step from a real token to padding.
    if not bool((real_BT[:, -1:].all() & (real_BT[:, 1:] >= real_BT[:, :-1]).all()).item()):
        return None
    return tuple((~real_BT).sum(1).tolist())


def _is_same(one: Any, other: Any) -> bool:
    """Whether two functions have the same code and close over the same values."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if not (hasattr(one, "__code__") and hasattr(other, "__code__")):
        return bool(one == other)
    cells = [tuple(cell.cell_contents for cell in function.__closure__ or ()) for function in (one, other)]
    return one.__code__ is other.__code__ and _is_same(*cells)


def _roll_each(rows_BHTX: Tensor, by: list[int] | tuple[int, ...] | None) -> Tensor:
    """Roll each example along T by its own shift."""
    if by is None:
        return rows_BHTX
    return torch.stack([row.roll(shift, 1) for row, shift in zip(rows_BHTX.unbind(0), by, strict=True)])
