"""Sums of attention over the tokens of each step and of each key.

Legend: R examples, H heads, T tokens, J key tokens, S steps, K keys; X any number of columns side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from molsaki.attention.span_index import SpanIndex


def sum_over_steps(weights_RTX: Tensor, spans: SpanIndex) -> Tensor:
    """Add the rows of each step: [R, T, X] to [R, S, X]."""
    R, _, X = weights_RTX.shape
    return _segment_sum(weights_RTX, spans.step_RT, spans.steps).view(R, spans.steps, X)


def sum_over_keys(weights_RSJ: Tensor, spans: SpanIndex) -> Tensor:
    """Add the columns of each key: [R, S, J] to [R, S, K]."""
    return _segment_sum(weights_RSJ.transpose(1, 2), spans.key_RJ, spans.keys).transpose(1, 2)


def sum_each_head(weights_RHTJ: Tensor, spans: SpanIndex) -> Tensor:
    """Add the rows of each step and the columns of each key, head by head: [R, H, T, J] to [R, H, S, K]."""
    R, H, T, J = weights_RHTJ.shape
    # Tokens to steps first, with X = H · J columns side by side: S is far below T, so the second sum is small.
    rows_RTX = weights_RHTJ.transpose(1, 2).reshape(R, T, H * J)
    return sum_keys_of_heads(sum_over_steps(rows_RTX, spans).view(R, spans.steps, H, J), spans)


def sum_keys_of_heads(rows_RSHJ: Tensor, spans: SpanIndex) -> Tensor:
    """Add the columns of each key: [R, S, H, J] to [R, H, S, K]."""
    R, S, H, J = rows_RSHJ.shape
    # X = H · S columns side by side.
    columns_RJX = rows_RSHJ.permute(0, 3, 2, 1).reshape(R, J, H * S)
    return _segment_sum(columns_RJX, spans.key_RJ, spans.keys).reshape(R, spans.keys, H, S).permute(0, 2, 3, 1)


def _segment_sum(rows_RTX: Tensor, segment_RT: Tensor, segments: int) -> Tensor:
    """Add the rows of each segment: [R, T, X] to [R, segments, X]; rows of segment number `segments` are dropped."""
    R, T, X = rows_RTX.shape
    # One `index_add` over all examples.
    sums = rows_RTX.new_zeros(R * (segments + 1), X)
    sums = sums.index_add(0, row_of_segment(segment_RT, segments), rows_RTX.reshape(R * T, X))
    return sums.view(R, segments + 1, X)[:, :segments]


def row_of_segment(segment_RT: Tensor, segments: int) -> Tensor:
    """[R · T]: the segment of each token among those of all examples; example r's begin at r · (segments + 1)."""
    offset_R1 = torch.arange(len(segment_RT), device=segment_RT.device)[:, None] * (segments + 1)
    return (segment_RT + offset_R1).flatten()
