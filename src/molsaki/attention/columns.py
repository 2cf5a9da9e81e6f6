"""Sums of attention weights over steps and keys, from the rows' log-sum-exp.

For a key token j the weight is exactly exp(q_i·k_j·scale − e_i), where e_i is the log-sum-exp that fused attention
computes anyway. So only [T, J] products are needed for the J key tokens, and never a matrix T × T. Between forward
and backward nothing of that size is kept either: the weights are computed again.

Legend: R examples, H heads, G key-value heads, N = H / G heads that share one, T tokens, J key tokens, S steps,
K keys, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from molsaki.attention.masks import MaskColumns
from molsaki.attention.spans import TokenSpans

# Of a weight of 2e-35, beside which any sum is the same with and without it.
_LOWEST_LOGARITHM = -80.0


def sum_over_spans(
    query_RHTD: Tensor,
    key_RGTD: Tensor,
    log_sum_exp_RHT: Tensor,
    mask: MaskColumns | None,
    spans: TokenSpans,
    *,
    is_causal: bool,
    scale: float,
) -> Tensor:
    """Stepwise attention A [R, S, K] of one layer, mean over its heads, from the log-sum-exp of its rows.

    A[s, k] = (1/H) Σ_h Σ_{i ∈ step s} Σ_{j ∈ key k} exp(q_hi·k_hj·scale + bias_hij − e_hi)  (Eq. 2, 3 of the paper).

    Args:
        query_RHTD: queries as attention takes them, after rotary embedding.
        key_RGTD: keys likewise, before they are repeated over the heads that share them.
        log_sum_exp_RHT: e, with its gradient.
        mask: the mask on key tokens, or None.
        spans: the steps and keys.
        is_causal: without a mask, a token sees itself and what stands before it.
        scale: what the scores are multiplied by.

    Returns:
        A in float32 (float64 for float64 queries), with gradients to queries, keys and log-sum-exp.
    """
    if mask is not None:
        seen, bias = mask.seen_RHTJ * spans.in_a_step[:, None], mask.bias_RHTJ
    else:
        seen, bias = (spans.seen_causally if is_causal else spans.in_a_step)[:, None], None
    arguments = (query_RHTD, key_RGTD, log_sum_exp_RHT, seen, bias, spans, scale)
    return cast(Tensor, _SumOverSpans.apply(*arguments))  # type: ignore[no-untyped-call]


def sum_over_steps(weights_RTX: Tensor, spans: TokenSpans) -> Tensor:
    """Add the rows of each step: [R, T, X] to [R, S, X]."""
    R, _, X = weights_RTX.shape
    return _segment_sum(weights_RTX, spans.step_RT, spans.steps).view(R, spans.steps, X)


def sum_over_keys(weights_RSJ: Tensor, spans: TokenSpans) -> Tensor:
    """Add the columns of each key: [R, S, J] to [R, S, K]."""
    return _segment_sum(weights_RSJ.transpose(1, 2), spans.key_RJ, spans.keys).transpose(1, 2)


class _SumOverSpans(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_RHTD: Tensor,
        key_RGTD: Tensor,
        log_sum_exp_RHT: Tensor,
        seen_RHTJ: Tensor,
        bias_RHTJ: Tensor | None,
        spans: TokenSpans,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(query_RHTD, key_RGTD, log_sum_exp_RHT, seen_RHTJ, bias_RHTJ)
        ctx.spans, ctx.scale = spans, scale
        R, H, T, _ = query_RHTD.shape
        dtype = torch.promote_types(query_RHTD.dtype, torch.float32)
        mean_RTJ = query_RHTD.new_empty(R, T, spans.key_RJ.shape[1], dtype=dtype)
        examples = _examples(query_RHTD, key_RGTD, log_sum_exp_RHT, seen_RHTJ, bias_RHTJ, spans, scale)
        with torch.autocast(query_RHTD.device.type, enabled=False):
            for r, example in enumerate(examples):
                torch.sum(example.weights(), 0, out=mean_RTJ[r])
        return sum_over_keys(sum_over_steps(mean_RTJ, spans), spans) / H

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query_RHTD, key_RGTD, log_sum_exp_RHT, seen_RHTJ, bias_RHTJ = ctx.saved_tensors
        spans: TokenSpans = ctx.spans
        # Every token takes its step's row and every key token its key's column; the dropped slots have gradient 0.
        grad_RSK = torch.nn.functional.pad(grads[0] / query_RHTD.shape[1], (0, 1, 0, 1))
        grad_query, grad_key = torch.empty_like(query_RHTD), torch.zeros_like(key_RGTD)
        grad_lse = torch.empty_like(log_sum_exp_RHT)
        examples = _examples(query_RHTD, key_RGTD, log_sum_exp_RHT, seen_RHTJ, bias_RHTJ, spans, ctx.scale)
        with torch.autocast(query_RHTD.device.type, enabled=False):
            for r, example in enumerate(examples):
                grad_TJ = grad_RSK[r].index_select(0, spans.step_RT[r]).index_select(1, spans.key_RJ[r])
                example.backward(grad_TJ, grad_query[r], grad_key[r], grad_lse[r])
        return grad_query, grad_key, grad_lse, None, None, None, None


class _Example:
    """One example of one layer. Examples go one by one, since their weights are then small enough for caches."""

    def __init__(
        self,
        query_HTD: Tensor,
        key_GTD: Tensor,
        log_sum_exp_HT: Tensor,
        seen_HTJ: Tensor,
        bias_HTJ: Tensor | None,
        key_position_J: Tensor,
        scale: float,
    ) -> None:
        dtype = torch.promote_types(query_HTD.dtype, torch.float32)
        self.query_HTD, self.log_sum_exp_HT = query_HTD.to(dtype), log_sum_exp_HT
        self.seen_HTJ, self.bias_HTJ, self.key_position_J, self.scale = seen_HTJ, bias_HTJ, key_position_J, scale
        self.shared_by = query_HTD.shape[0] // key_GTD.shape[0]
        scaled_GJD = key_GTD.index_select(1, key_position_J).to(dtype) * scale
        self.scaled_key_HJD = scaled_GJD.repeat_interleave(self.shared_by, 0)

    def weights(self) -> Tensor:
        """The softmax weights of key tokens, [H, T, J]; 0 where they are not seen and for tokens of no step."""
        scores_HTJ = torch.baddbmm(-self.log_sum_exp_HT[..., None], self.query_HTD, self.scaled_key_HJD.transpose(1, 2))
        if self.bias_HTJ is not None:
            scores_HTJ += self.bias_HTJ
        # A weight is at most exp(0); what is not seen may exceed that by any amount, and is bounded before the
        # exponential. From below as well, since exponentials that underflow are dozens of times slower.
        return scores_HTJ.clamp_(_LOWEST_LOGARITHM, 0.0).exp_().mul_(self.seen_HTJ)

    def backward(self, grad_TJ: Tensor, grad_query_HTD: Tensor, grad_key_GTD: Tensor, grad_lse_HT: Tensor) -> None:
        """Write the gradients of queries and log-sum-exp, add that of keys."""
        grad_HTJ = self.weights().mul_(grad_TJ)
        grad_lse_HT.copy_(grad_HTJ.sum(2).neg_())
        grad_query_HTD.copy_(torch.bmm(grad_HTJ, self.scaled_key_HJD))
        grad_HJD = torch.bmm(grad_HTJ.transpose(1, 2), self.query_HTD)
        G, J, D = grad_key_GTD.shape[0], *grad_HJD.shape[1:]
        grad_GJD = grad_HJD.view(G, self.shared_by, J, D).sum(1).mul_(self.scale)
        grad_key_GTD.index_add_(1, self.key_position_J, grad_GJD.to(grad_key_GTD.dtype))


def _examples(
    query_RHTD: Tensor,
    key_RGTD: Tensor,
    log_sum_exp_RHT: Tensor,
    seen_RHTJ: Tensor,
    bias_RHTJ: Tensor | None,
    spans: TokenSpans,
    scale: float,
) -> Iterator[_Example]:
    for r in range(query_RHTD.shape[0]):
        yield _Example(
            query_RHTD[r],
            key_RGTD[r],
            log_sum_exp_RHT[r],
            seen_RHTJ[r],
            None if bias_RHTJ is None else bias_RHTJ[r],
            spans.key_position_RJ[r],
            scale,
        )


def _segment_sum(rows_RTX: Tensor, segment_RT: Tensor, segments: int) -> Tensor:
    """Add the rows of each segment; segment number `segments` is dropped."""
    R, T, X = rows_RTX.shape
    offset_R1 = torch.arange(R, device=segment_RT.device)[:, None] * (segments + 1)
    sums = rows_RTX.new_zeros(R * (segments + 1), X)
    sums = sums.index_add(0, (segment_RT + offset_R1).flatten(), rows_RTX.reshape(R * T, X))
    return sums.view(R, segments + 1, X)[:, :segments]
