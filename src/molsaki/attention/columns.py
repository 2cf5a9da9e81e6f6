"""Sums of attention weights over steps and keys, from the rows' log-sum-exp.

The weight of token i on key token j is exactly exp(q_i·k_j·scale − e_i), where e_i is the log-sum-exp that fused
attention computes anyway. So the J key tokens need T × J products, and no T × T matrix. They are computed for a block
of tokens at a time, and under the causal rule only for the key tokens before the block's end. The backward pass
computes the weights again where they would take much memory. On a GPU `triton_kernels` never writes them to memory.

Legend: R examples, H heads, G key-value heads, N = H / G query heads that share one of them, T tokens, J key tokens,
S steps, K keys, D head dimension; X is 1 for the mean over heads and H for separate heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from molsaki.attention import flash
from molsaki.attention.masks import MaskColumns
from molsaki.attention.segments import row_of_segment, sum_keys_of_heads, sum_over_keys, sum_over_steps
from molsaki.attention.span_index import SpanIndex

# The logarithm of the smallest weight that is computed, 2e-35: adding it changes no float32 sum.
_LOWEST_LOGARITHM = -80.0


def sum_over_spans(
    query_RHTD: Tensor,
    key_RGTD: Tensor,
    log_sum_exp_RHT: Tensor,
    mask: MaskColumns | None,
    spans: SpanIndex,
    *,
    is_causal: bool,
    scale: float,
    heads: bool = False,
) -> Tensor:
    """Compute the stepwise attention A [R, S, K] of one layer from the log-sum-exp of its rows, mean over its heads.

    A[s, k] = (1/H) Σ_h Σ_{i ∈ step s} Σ_{j ∈ key k} exp(q_hi·k_hj·scale + bias_hij − e_hi)  (Eq. 2, 3 of the paper).

    Args:
        query_RHTD: queries, after rotary embedding.
        key_RGTD: keys, after rotary embedding and before they are repeated over the heads that share them.
        log_sum_exp_RHT: e, differentiable.
        mask: the mask at the key tokens, or None.
        spans: the steps and keys.
        is_causal: without a mask, a token attends to itself and to earlier tokens.
        scale: factor of the scores.
        heads: return A per head, [R, H, S, K], instead of the mean.

    Returns:
        A in float32 (float64 for float64 queries), with gradients to queries, keys and log-sum-exp.
    """
    if mask is not None:
        seen, bias = mask.seen_RHTJ * spans.in_a_step[:, None], mask.bias_RHTJ
    else:
        seen, bias = (spans.seen_causally if is_causal else spans.in_a_step)[:, None], None
    arguments = (query_RHTD, key_RGTD, log_sum_exp_RHT, seen, bias, spans, scale, heads, is_causal and mask is None)
    sums: Tensor = _SumOverSpans.apply(*arguments)  # type: ignore[no-untyped-call]
    return sums


class _Inputs(NamedTuple):
    """The tensors of one layer that the sums are computed from."""

    query_RHTD: Tensor
    key_RGTD: Tensor
    log_sum_exp_RHT: Tensor
    seen_RHTJ: Tensor
    bias_RHTJ: Tensor | None


class _SumOverSpans(torch.autograd.Function):
    """Eq. 2 and 3 with a hand-written backward pass, which keeps no large [R, H, T, J] tensor.

    With w_ij = exp(q_i·k_j·scale + bias_ij − e_i) and g_ij = dL/dA[step of i, key of j], the gradients are

        dL/dq_i = Σ_j g_ij w_ij k_j·scale,    dL/dk_j = Σ_i g_ij w_ij q_i·scale,    dL/de_i = −Σ_j g_ij w_ij.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query_RHTD: Tensor,
        key_RGTD: Tensor,
        log_sum_exp_RHT: Tensor,
        seen_RHTJ: Tensor,
        bias_RHTJ: Tensor | None,
        spans: SpanIndex,
        scale: float,
        heads: bool,
        is_causal: bool,
    ) -> Tensor:
        inputs = _Inputs(query_RHTD, key_RGTD, log_sum_exp_RHT, seen_RHTJ, bias_RHTJ)
        ctx.spans, ctx.scale, ctx.heads, ctx.is_causal = spans, scale, heads, is_causal
        R, H, T, _ = query_RHTD.shape
        dtype = torch.promote_types(query_RHTD.dtype, torch.float32)
        # The Triton kernels have one mask for all heads and return their mean.
        ctx.by_triton = flash.has_triton(query_RHTD) and seen_RHTJ.shape[1] == 1 and bias_RHTJ is None and not heads
        if ctx.by_triton:
            from molsaki.attention.triton_kernels import sum_weights

            ctx.save_for_backward(*inputs)
            sums_RTJ = sum_weights(*inputs[:3], spans.key_position_RJ, scale=scale, is_causal=is_causal)
            return sum_over_keys(sum_over_steps(sums_RTJ.mul_(seen_RHTJ[:, 0]), spans), spans) / H
        kept: list[Tensor] = []

        def weights(block: _Block) -> Tensor:
            weights_CHTJ = _BlockWeights(inputs, spans, scale, block).weights()
            if R * H * T * spans.key_RJ.shape[1] <= _KEPT_WEIGHTS:
                kept.append(weights_CHTJ)
            return weights_CHTJ

        if heads:
            # Blocks add to the rows of their steps alone: [R, S + 1, H, J], R and S + 1 in one dimension.
            slots, J = spans.steps + 1, spans.key_RJ.shape[1]
            rows_YHJ = query_RHTD.new_zeros(R * slots, H, J, dtype=dtype)
            with torch.autocast(query_RHTD.device.type, enabled=False):
                for block in _blocks(query_RHTD, spans, is_causal):
                    some_YHJ = rows_YHJ[slots * block.examples.start :, :, block.columns]
                    row_Y = row_of_segment(spans.step_RT[block.examples, block.tokens], spans.steps)
                    some_YHJ.index_add_(0, row_Y, weights(block).transpose(1, 2).flatten(0, 1))
            ctx.save_for_backward(*inputs, *kept)
            return sum_keys_of_heads(rows_YHJ.view(R, slots, H, J)[:, :-1], spans)
        # Sum over heads first, one block at a time: only [R, T, J] is kept for the sums over spans.
        mean_RTJ = query_RHTD.new_zeros(R, T, spans.key_RJ.shape[1], dtype=dtype)
        with torch.autocast(query_RHTD.device.type, enabled=False):
            for block in _blocks(query_RHTD, spans, is_causal):
                torch.sum(weights(block), 1, out=mean_RTJ[block.examples, block.tokens, block.columns])
        ctx.save_for_backward(*inputs, *kept)
        return sum_over_keys(sum_over_steps(mean_RTJ, spans), spans) / H

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: under checkpointing a second access is an error
        inputs, kept = _Inputs(*saved[:5]), saved[5:]
        query_RHTD, key_RGTD, log_sum_exp_RHT, seen_RHTJ, _ = inputs
        spans: SpanIndex = ctx.spans
        # [R, X, S + 1, J]: `backward` looks up the gradient of each token's step. The added row and column are for
        # tokens of no step and key tokens of no key; their gradient is 0. Keys become key tokens here and not in each
        # block, which may have fewer tokens than there are steps.
        grad_RXSK = grads[0] if ctx.heads else (grads[0] / query_RHTD.shape[1])[:, None]
        grad_RXSK = torch.nn.functional.pad(grad_RXSK, (0, 1, 0, 1))
        grad_RXSJ = grad_RXSK.gather(3, spans.key_RJ[:, None, None, :].expand(-1, *grad_RXSK.shape[1:3], -1))
        if ctx.by_triton:
            from molsaki.attention.triton_kernels import sum_gradients

            grad_RTJ = _of_each_token(grad_RXSJ, spans.step_RT)[:, 0].mul_(seen_RHTJ[:, 0])
            arguments = *inputs[:3], spans.key_position_RJ, grad_RTJ
            grad_query, grad_RGJD, grad_lse = sum_gradients(*arguments, scale=ctx.scale, is_causal=ctx.is_causal)
            grad_key = _at_positions(grad_RGJD, key_RGTD, spans)
            return grad_query, grad_key, grad_lse, None, None, None, None, None, None
        grad_query = torch.empty_like(query_RHTD)
        grad_lse = torch.empty_like(log_sum_exp_RHT)
        # The gradient of the key tokens alone, which is summed over blocks of tokens in the type of the sums.
        R, G, _, D = key_RGTD.shape
        J = spans.key_RJ.shape[1]
        grad_RGJD = key_RGTD.new_zeros(R, G, J, D, dtype=torch.promote_types(key_RGTD.dtype, torch.float32))
        with torch.autocast(query_RHTD.device.type, enabled=False):
            blocks = _blocks(query_RHTD, spans, ctx.is_causal)
            for block, weights_CHTJ in zip_longest(blocks, kept):
                _BlockWeights(inputs, spans, ctx.scale, block).backward(
                    weights_CHTJ,
                    grad_RXSJ[block.examples, ..., block.columns],
                    grad_query[block.examples, :, block.tokens],
                    grad_lse[block.examples, :, block.tokens],
                    grad_RGJD[block.examples, :, block.columns],
                )
        grad_key = _at_positions(grad_RGJD, key_RGTD, spans)
        return grad_query, grad_key, grad_lse, None, None, None, None, None, None


_FEW_WEIGHTS = {"cpu": 2**19}
_MORE_WEIGHTS = 2**23
"""How many weights a block has: on CPUs few enough for their caches, elsewhere enough to keep the device busy."""
_KEPT_WEIGHTS = 2**20
"""How many weights of a layer, in all blocks together, the backward pass gets from the forward pass."""
_PARTS, _FEW_TOKENS = 8, 256
"""A long text is computed in at least this number of parts under the causal rule, of at least this number of tokens."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Some examples, some of their tokens, and the key tokens that those can see."""

    examples: slice
    tokens: slice
    columns: slice


def _blocks(query_RHTD: Tensor, spans: SpanIndex, is_causal: bool) -> Iterator[_Block]:
    """Several short examples at a time, to save calls, or the tokens of a long one in parts.

    With `is_causal` a token sees the key tokens at its own position and before, and the others are left out.
    """
    R, H, T, _ = query_RHTD.shape
    J = spans.key_RJ.shape[1]
    most = _FEW_WEIGHTS.get(query_RHTD.device.type, _MORE_WEIGHTS)
    # Several parts of a long text leave out more key tokens than one does.
    longest = max(_FEW_TOKENS, T // _PARTS) if is_causal else T
    tokens = max(1, min(longest, most // (H * J)))
    examples = max(1, most // (H * tokens * J))
    for first in range(0, R, examples):
        for start in range(0, T, tokens):
            end = min(start + tokens, T)
            columns = spans.key_tokens_before(end) if is_causal else J
            yield _Block(slice(first, min(first + examples, R)), slice(start, end), slice(0, columns))


class _BlockWeights:
    """The weights of a block of one layer. Legend: C, T, J its examples, tokens and key tokens, X = C · H."""

    def __init__(
        self,
        inputs: _Inputs,
        spans: SpanIndex,
        scale: float,
        block: _Block,
    ) -> None:
        query_RHTD, key_RGTD, log_sum_exp_RHT, seen_RHTJ, bias_RHTJ = inputs
        dtype = torch.promote_types(query_RHTD.dtype, torch.float32)
        examples, tokens, columns = block.examples, block.tokens, block.columns
        self.step_CT = spans.step_RT[examples, tokens]
        self.scale = scale
        self.seen_CHTJ = seen_RHTJ[examples, :, tokens, columns]
        self.bias_CHTJ = None if bias_RHTJ is None else bias_RHTJ[examples, :, tokens, columns]
        self.log_sum_exp_CHT = log_sum_exp_RHT[examples, :, tokens]
        self.query_XTD = query_RHTD[examples, :, tokens].flatten(0, 1).to(dtype)
        # Gather the J key tokens before anything is cast or repeated: [C, G, T, D] to [C, G, J, D], scaled, then
        # repeated over the N heads that share them and flattened to [X, J, D] for batched products.
        key_CGTD = key_RGTD[examples]
        C, G, T, D = key_CGTD.shape
        row_Y = _rows(spans.key_position_RJ[examples, columns], G, T)
        scaled_CGJD = key_CGTD.reshape(-1, D).index_select(0, row_Y).view(C, G, -1, D).to(dtype) * scale
        self.shared_by = query_RHTD.shape[1] // G
        self.scaled_key_XJD = scaled_CGJD.repeat_interleave(self.shared_by, 1).flatten(0, 1)

    def weights(self) -> Tensor:
        """The softmax weights of key tokens, [C, H, T, J]; 0 at masked key tokens and in rows of no step."""
        # q·k·scale − e in one call; the result is [X, T, J].
        scores_XTJ = torch.baddbmm(
            -self.log_sum_exp_CHT.flatten(0, 1)[..., None], self.query_XTD, self.scaled_key_XJD.transpose(1, 2)
        )
        scores_CHTJ = scores_XTJ.view(*self.log_sum_exp_CHT.shape, -1)
        if self.bias_CHTJ is not None:
            scores_CHTJ += self.bias_CHTJ
        # A weight is at most exp(0), but a masked score may exceed e by any amount, so the clamp keeps it finite
        # before `seen` sets it to 0. The lower bound avoids exponentials that underflow, which are dozens of times
        # slower.
        return scores_CHTJ.clamp_(_LOWEST_LOGARITHM, 0.0).exp_().mul_(self.seen_CHTJ)

    def backward(
        self,
        weights_CHTJ: Tensor | None,
        grad_CXSJ: Tensor,
        grad_query_CHTD: Tensor,
        grad_lse_CHT: Tensor,
        grad_CGJD: Tensor,
    ) -> None:
        """Write the gradients of queries and log-sum-exp, and add to that of the key tokens.

        The equations are in `_SumOverSpans`. The weights are computed again if they were not kept.
        """
        # g · w, [C, H, T, J]; all three gradients follow from it. A further backward pass may need the weights.
        grad_CXTJ = _of_each_token(grad_CXSJ, self.step_CT)
        grad_CHTJ = self.weights().mul_(grad_CXTJ) if weights_CHTJ is None else weights_CHTJ * grad_CXTJ
        grad_lse_CHT.copy_(grad_CHTJ.sum(3).neg_())
        grad_XTJ = grad_CHTJ.flatten(0, 1)
        grad_query_CHTD.copy_(torch.bmm(grad_XTJ, self.scaled_key_XJD).view(grad_query_CHTD.shape))
        grad_XJD = torch.bmm(grad_XTJ.transpose(1, 2), self.query_XTD)
        C, G, J, D = grad_CGJD.shape
        # Sum over the N heads that share a key head.
        grad_CGJD.add_(grad_XJD.view(C, G, self.shared_by, J, D).sum(2), alpha=self.scale)


def _of_each_token(grad_CXSJ: Tensor, step_CT: Tensor) -> Tensor:
    """g: steps to tokens, [C, X, S, J] to [C, X, T, J]."""
    C, X, S, J = grad_CXSJ.shape
    return grad_CXSJ.reshape(-1, J).index_select(0, _rows(step_CT, X, S)).view(C, X, -1, J)


def _at_positions(grad_RGJD: Tensor, key_RGTD: Tensor, spans: SpanIndex) -> Tensor:
    """The gradient of all keys [R, G, T, D], from that of the key tokens."""
    R, G, T, D = key_RGTD.shape
    row_YD = _rows(spans.key_position_RJ, G, T)[:, None].expand(-1, D)
    grad_YD = grad_RGJD.to(key_RGTD.dtype).view(-1, D)
    return key_RGTD.new_zeros(R * G * T, D).scatter_add_(0, row_YD, grad_YD).view(R, G, T, D)


def _rows(index_CY: Tensor, groups: int, size: int) -> Tensor:
    """[C · G · Y]: where the rows `index_CY` of each example and group are among the rows of [C · G · size, …].

    Whole rows are copied and added; `gather` and `scatter_add` along an inner dimension look up every number, which
    takes two to ten times as long on a CPU.
    """
    C = len(index_CY)
    first_CG = torch.arange(C * groups, device=index_CY.device).view(C, groups) * size
    return (first_CG[:, :, None] + index_CY[:, None, :]).flatten()
