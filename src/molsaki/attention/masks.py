"""Attention masks in the forms that the log-sum-exp kernel needs, made once for all layers that share a mask.

`scaled_dot_product_attention` turns a bool mask into floats in every layer and keeps each for the backward pass.

Legend: B batch, R examples that take part, H heads, T tokens, J key tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Bias:
    """What is added to the scores.

    Attributes:
        whole: [B or 1, H or 1, T, T], in the type of the queries.
        columns: of the key tokens.
    """

    whole: Tensor
    columns: MaskColumns


class BiasCache:
    """The biases of the last two masks; a model with sliding windows has two kinds of layers and two masks."""

    def __init__(self) -> None:
        self._known: list[tuple[Tensor, Bias]] = []
        self._columns: list[tuple[Tensor, MaskColumns]] = []
        self.blocks = BlockMaskCache()

    def columns(self, mask: Tensor, spans: SpanIndex) -> MaskColumns:
        """The columns of a bool mask [B or 1, H or 1, T, T] alone, for a kernel that does not need the rest."""
        for known, columns in self._columns:
            if known is mask:
                return columns
        columns = MaskColumns(_columns(mask, spans).float(), None)
        self._columns = [*self._columns[-1:], (mask, columns)]
        return columns

    def get(self, mask: Tensor, dtype: torch.dtype, spans: SpanIndex) -> Bias:
        """The bias of a mask that is bool (True where attended) or is added to the scores.

        Args:
            mask: [B or 1, H or 1, T, T].
            dtype: the type of the queries.
            spans: the same at every call.
        """
        for known, bias in self._known:
            if known is mask and bias.whole.dtype == dtype:
                return bias
        if mask.dtype == torch.bool:
            whole = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
            columns = self.columns(mask, spans)
        else:
            whole = mask.to(dtype)
            added = _columns(whole, spans)
            # Models write "not seen" as the lowest number or as -inf.
            seen = added > torch.finfo(dtype).min / 2
            columns = MaskColumns(seen.float(), added.masked_fill(~seen, 0.0))
        bias = Bias(whole, columns)
        self._known = [*self._known[-1:], (mask, bias)]
        return bias


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
