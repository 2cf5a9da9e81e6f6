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

from molsaki.attention.spans import TokenSpans

# Weights that are held at a time: few examples on a CPU, where caches count, many on a GPU, where launches do.
_WEIGHTS_AT_A_TIME = {"cpu": 2**20}
_WEIGHTS_AT_A_TIME_ELSEWHERE = 2**26


def sum_over_spans(
    query_RHTD: Tensor,
    key_RGTD: Tensor,
    log_sum_exp_RHT: Tensor,
    bias_RHTJ: Tensor | None,
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
        bias_RHTJ: what is added to the scores of key tokens ([R, H or 1, T, J]), or None.
        spans: the steps and keys.
        is_causal: a token sees itself and what stands before it.
        scale: what the scores are multiplied by.

    Returns:
        A in float32 (float64 for float64 queries), with gradients to queries, keys and log-sum-exp.
    """
    arguments = (query_RHTD, key_RGTD, log_sum_exp_RHT, bias_RHTJ, spans, is_causal, scale)
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
        bias_RHTJ: Tensor | None,
        spans: TokenSpans,
        is_causal: bool,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(query_RHTD, key_RGTD, log_sum_exp_RHT, bias_RHTJ)
        ctx.spans, ctx.is_causal, ctx.scale = spans, is_causal, scale
        sums = [
            part.weights_RHTJ().mean(1)
            for part in _parts(query_RHTD, key_RGTD, log_sum_exp_RHT, bias_RHTJ, spans, is_causal, scale)
        ]
        return sum_over_keys(sum_over_steps(torch.cat(sums), spans), spans).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query_RHTD, key_RGTD, log_sum_exp_RHT, bias_RHTJ = ctx.saved_tensors
        spans: TokenSpans = ctx.spans
        R, H = query_RHTD.shape[:2]
        # Every token takes its step's row and every key token its key's column; the dropped slots have gradient 0.
        grad_RSK = torch.nn.functional.pad(grads[0] / H, (0, 1, 0, 1))
        row = torch.arange(R, device=grad_RSK.device)[:, None, None]
        grad_query, grad_lse = torch.empty_like(query_RHTD), torch.empty_like(log_sum_exp_RHT)
        grad_key = torch.zeros_like(key_RGTD)
        for part in _parts(query_RHTD, key_RGTD, log_sum_exp_RHT, bias_RHTJ, spans, ctx.is_causal, ctx.scale):
            at = part.at
            grad_RTJ = grad_RSK[row[at], spans.step_RT[at, :, None], spans.key_RJ[at, None, :]]
            part.backward(grad_RTJ, grad_query[at], grad_key[at], grad_lse[at])
        return grad_query, grad_key, grad_lse, None, None, None, None


class _Part:
    """Some examples of a layer, few enough that their weights on key tokens may be held."""

    def __init__(
        self,
        at: slice,
        query_RHTD: Tensor,
        key_RGTD: Tensor,
        log_sum_exp_RHT: Tensor,
        bias_RHTJ: Tensor | None,
        spans: TokenSpans,
        is_causal: bool,
        scale: float,
    ) -> None:
        self.at, self.is_causal, self.scale = at, is_causal, scale
        self.dtype = torch.promote_types(query_RHTD.dtype, torch.float32)
        self.query_RHTD = query_RHTD[at].to(self.dtype)
        self.log_sum_exp_RHT = log_sum_exp_RHT[at]
        self.bias_RHTJ = None if bias_RHTJ is None else bias_RHTJ[at]
        self.has_step_RT = spans.step_RT[at] < spans.steps
        self.key_position_RJ = spans.key_position_RJ[at]
        key_RGTD = key_RGTD[at]
        R, G, _, D = key_RGTD.shape
        self.index_RGJD = self.key_position_RJ[:, None, :, None].expand(R, G, -1, D)
        shared = self.query_RHTD.shape[1] // G
        self.key_RHJD = key_RGTD.gather(2, self.index_RGJD).to(self.dtype).repeat_interleave(shared, 1)

    def weights_RHTJ(self) -> Tensor:
        scores_RHTJ = torch.matmul(self.query_RHTD, self.key_RHJD.transpose(2, 3)).mul_(self.scale)
        if self.bias_RHTJ is not None:
            scores_RHTJ += self.bias_RHTJ
        scores_RHTJ -= self.log_sum_exp_RHT[..., None]
        hidden_RTJ = ~self.has_step_RT[:, :, None]
        if self.is_causal:
            position_T = torch.arange(scores_RHTJ.shape[2], device=scores_RHTJ.device)
            hidden_RTJ = hidden_RTJ | (position_T[:, None] < self.key_position_RJ[:, None, :])
        # Hidden before the exponential, since what a token cannot see may exceed its log-sum-exp by any amount.
        return scores_RHTJ.masked_fill_(hidden_RTJ[:, None], -torch.inf).exp_()

    def backward(self, grad_RTJ: Tensor, grad_query: Tensor, grad_key: Tensor, grad_lse: Tensor) -> None:
        """Write the gradients of queries and log-sum-exp, add the gradient of keys."""
        grad_RHTJ = self.weights_RHTJ().mul_(grad_RTJ[:, None])
        grad_lse.copy_(grad_RHTJ.sum(3).neg_())
        grad_RHTJ.mul_(self.scale)
        grad_query.copy_(torch.matmul(grad_RHTJ, self.key_RHJD))
        grad_RHJD = torch.matmul(grad_RHTJ.transpose(2, 3), self.query_RHTD)
        R, G = grad_key.shape[:2]
        grad_RGJD = grad_RHJD.view(R, G, -1, *grad_RHJD.shape[2:]).sum(2)
        grad_key.scatter_add_(2, self.index_RGJD, grad_RGJD.to(grad_key.dtype))


def _parts(
    query_RHTD: Tensor,
    key_RGTD: Tensor,
    log_sum_exp_RHT: Tensor,
    bias_RHTJ: Tensor | None,
    spans: TokenSpans,
    is_causal: bool,
    scale: float,
) -> Iterator[_Part]:
    R, H, T = query_RHTD.shape[:3]
    held = _WEIGHTS_AT_A_TIME.get(query_RHTD.device.type, _WEIGHTS_AT_A_TIME_ELSEWHERE)
    count = max(1, held // (H * T * spans.key_RJ.shape[1]))
    for start in range(0, R, count):
        at = slice(start, min(start + count, R))
        yield _Part(at, query_RHTD, key_RGTD, log_sum_exp_RHT, bias_RHTJ, spans, is_causal, scale)


def _segment_sum(rows_RTX: Tensor, segment_RT: Tensor, segments: int) -> Tensor:
    """Add the rows of each segment; segment number `segments` is dropped."""
    R, T, X = rows_RTX.shape
    offset_R1 = torch.arange(R, device=segment_RT.device)[:, None] * (segments + 1)
    sums = rows_RTX.new_zeros(R * (segments + 1), X)
    sums = sums.index_add(0, (segment_RT + offset_R1).flatten(), rows_RTX.reshape(R * T, X))
    return sums.view(R, segments + 1, X)[:, :segments]
