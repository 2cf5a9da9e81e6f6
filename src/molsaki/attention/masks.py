"""Attention masks in the forms that the log-sum-exp kernel needs, made once for all layers that share a mask.

`scaled_dot_product_attention` turns a bool mask into floats in every layer and keeps each for the backward pass.

Legend: B batch, R examples that take part, H heads, T tokens, J key tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from molsaki.attention.flex import BlockMaskCache
from molsaki.attention.rules import MaskRule
from molsaki.attention.span_index import SpanIndex


@dataclass(frozen=True)
class MaskColumns:
    """The mask's columns of the key tokens.

    Attributes:
        seen_RHTJ: 1 where the token sees the key token, else 0; [R, H or 1, T, J].
        bias_RHTJ: what is added to the scores, at least where it is seen; None for a bool mask, which adds nothing.
    """

    seen_RHTJ: Tensor
    bias_RHTJ: Tensor | None


@dataclass
class _Forms:
    """What was made of one mask."""

    floats: dict[torch.dtype, Tensor] = field(default_factory=dict)
    columns: dict[tuple[SpanIndex, torch.dtype], MaskColumns] = field(default_factory=dict)


class MaskCache:
    """The forms of the last two masks; a model with sliding windows has two kinds of layers and two masks."""

    def __init__(self) -> None:
        self._known: list[tuple[Tensor, _Forms]] = []
        self.blocks = BlockMaskCache()

    def floats(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """What a mask adds to the scores.

        Args:
            mask: [B or 1, H or 1, T, T], bool (True where attended) or added to the scores.
            dtype: the type of the queries.
        """
        made = self._forms(mask).floats
        if dtype not in made:
            if mask.dtype == torch.bool:
                zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
                made[dtype] = zeros.masked_fill_(~mask, -torch.inf)
            else:
                made[dtype] = mask.to(dtype)
        return made[dtype]

    def columns(self, mask: Tensor, spans: SpanIndex, dtype: torch.dtype) -> MaskColumns:
        """The mask's columns of the key tokens of one span index; arguments as for `floats`."""
        made, key = self._forms(mask).columns, (spans, dtype)
        if key not in made:
            if mask.dtype == torch.bool:
                made[key] = MaskColumns(_columns(mask, spans).float(), None)
            else:
                added = _columns(self.floats(mask, dtype), spans)
                # Models write "not seen" as the lowest number or as -inf.
                seen = added > torch.finfo(dtype).min / 2
                made[key] = MaskColumns(seen.float(), added.masked_fill(~seen, 0.0))
        return made[key]

    def _forms(self, mask: Tensor) -> _Forms:
        for known, forms in self._known:
            if known is mask:
                return forms
        self._known = [*self._known[-1:], (mask, _Forms())]
        return self._known[-1][1]


def _columns(mask: Tensor, spans: SpanIndex) -> Tensor:
    R, J = spans.key_position_RJ.shape
    if isinstance(mask, MaskRule):
        return _columns_of_rule(mask, spans)
    some = spans.take(mask).expand(R, -1, -1, -1)
    return some.gather(3, spans.key_position_RJ[:, None, None, :].expand(*some.shape[:3], J))


def _columns_of_rule(rule: MaskRule, spans: SpanIndex) -> Tensor:
    key_R11J = spans.key_position_RJ[:, None, None, :]
    seen_R1TJ = rule.sees(torch.arange(rule.shape[2], device=key_R11J.device)[:, None], key_R11J)
    return seen_R1TJ if rule.starts_B111 is None else seen_R1TJ & (key_R11J >= spans.take(rule.starts_B111))
