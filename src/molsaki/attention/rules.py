"""Masks as rules: causal attention within a sliding window, over texts padded on the left, in no memory at all.

transformers writes such masks out as T × T bools for every example. What they say is two things: how far back a token
sees, and where each text begins. A `MaskRule` says these to the kernels that can use them, and is to all others the
tensor that transformers would have made: it is written out once something computes with it.

Legend: B batch, H heads, T tokens, J key tokens, D head dimension.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function


class MaskRule(Tensor):
    """A bool mask [B, 1, T, T], True where a token sees another: itself and what stands before it, within limits.

    Attributes:
        window: how many tokens a token sees at most, itself among them; None for all.
        starts: for each example where its text begins, behind padding on the left; None where no example has any.
        blocks: what FlexAttention makes of it, once that is known.
    """

    window: int | None
    starts: tuple[int, ...] | None
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
    ) -> MaskRule:
        """A rule for so many examples of so many tokens; a window that reaches over the whole text is none."""
        shape = (examples, 1, tokens, tokens)
        rule: MaskRule = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=torch.bool, device=device)
        rule.window = None if window is None or window >= tokens else window
        rule.starts = starts if starts is not None and any(starts) else None
        rule.blocks = None
        return rule

    def __repr__(self) -> str:  # type: ignore[override]
        return f"MaskRule({self.shape[0]}, {self.shape[2]}, window={self.window}, starts={self.starts})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Compute with what is written out."""
        args, kwargs = tree_map_only(cls, lambda rule: rule.written_out, (args, kwargs or {}))
        return function(*args, **kwargs)

    @property
    def is_causal_rule(self) -> bool:
        """Whether a token sees everything before it, so that the kernels' own causal rule says it all."""
        return self.window is None and self.starts is None

    @cached_property
    def written_out(self) -> Tensor:
        """The mask as transformers makes it."""
        place_T = torch.arange(self.shape[2], device=self.device)
        seen = self.sees(place_T[:, None], place_T)
        if self.starts_B111 is not None:
            seen = seen & (place_T >= self.starts_B111)
        return seen.expand(self.shape)

    @cached_property
    def starts_B111(self) -> Tensor | None:
        """The starts on the mask's device."""
        return None if self.starts is None else torch.tensor(self.starts, device=self.device)[:, None, None, None]

    def sees(self, at: Tensor, on: Tensor) -> Tensor:
        """Whether a token at one place sees a token of its text on another; places are broadcast."""
        return on <= at if self.window is None else (on <= at) & (on > at - self.window)

    def pad_on_the_right(self, rows_BHTX: Tensor) -> Tensor:
        """Rows of which each begins at the text's beginning, what was padding before it behind it."""
        return _rolled(rows_BHTX, None if self.starts is None else [-start for start in self.starts])

    def pad_on_the_left(self, rows_BHTX: Tensor) -> Tensor:
        """Rows as they were before `pad_on_the_right`."""
        return _rolled(rows_BHTX, self.starts)


def read_rule(asked: dict[str, Any], padded_on_the_right: bool) -> MaskRule | None:
    """The rule that transformers asks its mask interface for; None where it asks for something else.

    Padding on the right is left out: no real token sees it.

    Args:
        asked: the interface's keyword arguments.
        padded_on_the_right: nobody needs to look at the padding to know that it is there.
    """
    tokens = asked.get("q_length")
    is_square = tokens == asked.get("kv_length") and asked.get("q_offset", 0) == 0 and asked.get("kv_offset", 0) == 0
    # Without this permission the mask is more than causal: packed texts, a cache, images among the tokens.
    if not is_square or asked.get("allow_is_causal_skip") is not True:
        return None
    function, window = asked.get("mask_function", causal_mask_function), asked.get("local_size")
    expected = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    if not _is_same(function, expected):
        return None
    padding_BT = asked.get("attention_mask")
    starts = None
    if padding_BT is not None and not padded_on_the_right and not is_on_the_right(padding_BT):
        starts = _read_starts(padding_BT)
        if starts is None:
            return None
    return MaskRule(asked["batch_size"], asked["q_length"], window, starts, torch.device(asked.get("device", "cpu")))


def is_on_the_right(padding_BT: Tensor) -> bool:
    """Whether all real tokens stand before all padding."""
    real_BT = padding_BT.bool()
    return bool((real_BT[:, :1].all() & (real_BT[:, 1:] <= real_BT[:, :-1]).all()).item())


def _read_starts(padding_BT: Tensor) -> tuple[int, ...] | None:
    real_BT = padding_BT.bool()
    if not bool((real_BT[:, -1:].all() & (real_BT[:, 1:] >= real_BT[:, :-1]).all()).item()):
        return None
    return tuple((~real_BT).sum(1).tolist())


def _is_same(one: Any, other: Any) -> bool:
    """Whether two functions are the same code over the same values; a mask that is made otherwise is written out."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if not (hasattr(one, "__code__") and hasattr(other, "__code__")):
        return bool(one == other)
    cells = [tuple(cell.cell_contents for cell in function.__closure__ or ()) for function in (one, other)]
    return one.__code__ is other.__code__ and _is_same(*cells)


def _rolled(rows_BHTX: Tensor, by: list[int] | tuple[int, ...] | None) -> Tensor:
    if by is None:
        return rows_BHTX
    return torch.stack([row.roll(shift, 1) for row, shift in zip(rows_BHTX.unbind(0), by, strict=True)])
