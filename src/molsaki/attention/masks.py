"""Attention masks in the forms that the log-sum-exp kernels need, computed once for all layers that share a mask.

`scaled_dot_product_attention` converts a bool mask to floats in every layer and keeps each for the backward pass.

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
    """The columns of a mask at the key tokens.

    Attributes:
        seen_RHTJ: [R, H or 1, T, J], 1 where the token attends to the key token, else 0.
        bias_RHTJ: [R, H or 1, T, J], added to the scores; valid where `seen_RHTJ` is 1. None for a bool mask.
    """

    seen_RHTJ: Tensor
    bias_RHTJ: Tensor | None


@dataclass
class _Forms:
    """The cached forms of one mask."""

    floats: dict[torch.dtype, Tensor] = field(default_factory=dict)
    columns: dict[tuple[SpanIndex, torch.dtype], MaskColumns] = field(default_factory=dict)


class MaskCache:
    """A cache of the last two masks: a model with sliding windows has two kinds of layers and so two masks."""

    def __init__(self) -> None:
        self._known: list[tuple[Tensor, _Forms]] = []
        self.blocks = BlockMaskCache()

    def floats(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """The bias that a mask adds to the scores, [B or 1, H or 1, T, T].

        Args:
            mask: [B or 1, H or 1, T, T], bool (True where attended) or added to the scores.
            dtype: the type of the queries.
        """
        cached = self._forms(mask).floats
        if dtype not in cached:
            if mask.dtype == torch.bool:
                zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
                cached[dtype] = zeros.masked_fill_(~mask, -torch.inf)
            else:
                cached[dtype] = mask.to(dtype)
        return cached[dtype]

    def columns(self, mask: Tensor, spans: SpanIndex, dtype: torch.dtype) -> MaskColumns:
        """The mask's columns at the key tokens of one span index; arguments as for `floats`."""
        cached, key = self._forms(mask).columns, (spans, dtype)
        if key not in cached:
            if mask.dtype == torch.bool:
                cached[key] = MaskColumns(_columns(mask, spans).float(), None)
            else:
                added = _columns(self.floats(mask, dtype), spans)
                # Models mask a score with the lowest number of the type or with -inf. The bias is 0 there instead,
                # so that no infinity reaches the products; `seen` sets the weight to 0.
                seen = added > torch.finfo(dtype).min / 2
                cached[key] = MaskColumns(seen.float(), added.masked_fill(~seen, 0.0))
        return cached[key]

    def _forms(self, mask: Tensor) -> _Forms:
        # By identity: comparing two masks number by number would cost more than the cache saves.
        for known, forms in self._known:
            if known is mask:
                return forms
        self._known = [*self._known[-1:], (mask, _Forms())]
        return self._known[-1][1]


def _columns(mask: Tensor, spans: SpanIndex) -> Tensor:
    """[B or 1, H or 1, T, T] to [R, H or 1, T, J]: the rows of the examples in use, the columns of their key tokens."""
    R, J = spans.key_position_RJ.shape
    if isinstance(mask, MaskRule):
        return _columns_of_rule(mask, spans)
    some = spans.take(mask).expand(R, -1, -1, -1)
    return some.gather(3, spans.key_position_RJ[:, None, None, :].expand(*some.shape[:3], J))


def _columns_of_rule(rule: MaskRule, spans: SpanIndex) -> Tensor:
    """[R, 1, T, J] from the rule itself, without the T × T mask."""
    key_R11J = spans.key_position_RJ[:, None, None, :]
    seen_R1TJ = rule.sees(rule.position_T.to(key_R11J.device)[:, None], key_R11J)
    return seen_R1TJ if rule.starts_B111 is None else seen_R1TJ & (key_R11J >= spans.take(rule.starts_B111))
