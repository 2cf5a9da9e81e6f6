"""Ways to compute one layer's attention together with its sums over steps and keys.

    lse           flash attention with its log-sum-exp, on CPUs and, in bfloat16, on CUDA; computes T × J weights on top
                  of the attention itself
    flex          the same with compiled FlexAttention, on GPUs and only on request
    second-pass   the model's fused attention, then a second call with one-hot key columns as the values; works on
                  any device, with any mask and with dropout; in half precision the weights are rounded
    eager         the whole T × T matrix; for soft caps, and as the reference

Each kernel returns the attention output of `sdpa` or `eager`, within rounding. Dropout applies to the output and not
to the weights: the loss compares the attention distribution with the teacher's, not one noisy sample of it.
(`output_attentions` returns the sample.)

Legend: B batch, R examples that take part, H heads, G key-value heads, T tokens, S steps, K keys, D head dimension.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from molsaki.attention import flex
from molsaki.attention.columns import sum_over_spans
from molsaki.attention.fused import attention_with_log_sum_exp
from molsaki.attention.kernel_choice import AttentionCall, Kernel, choose_kernel, why_not
from molsaki.attention.masks import MaskCache
from molsaki.attention.rules import MaskRule
from molsaki.attention.segments import sum_each_head, sum_over_keys, sum_over_steps
from molsaki.attention.span_index import SpanRequest
from molsaki.errors import InputError

_logger = logging.getLogger(__name__)


def attend(
    call: AttentionCall, requests: Sequence[SpanRequest], kernel: Kernel, masks: MaskCache
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute one layer's attention, and the stepwise attention of each request.

    All requests share one output and one log-sum-exp (or one weight matrix).

    Args:
        call: the layer's arguments.
        requests: the steps and keys, each per head or as the mean over heads.
        kernel: the name of a kernel, or "auto".
        masks: the cached forms of this forward pass's masks.

    Returns:
        The output [B, T, H, D_v] in the layout of the attention interface, and for each request A [R, S, K], or
        [R, H, S, K] per head, in float32 or float64.

    Raises:
        InputError: the requested kernel cannot compute this layer.
    """
    if kernel == "auto":
        kernel, why = choose_kernel(call)
        # A warning where the model could be read at half the cost, since nobody sees the rest by default.
        _log_once(kernel, why, logging.WARNING if call.dropout > 0 else logging.INFO)
    elif reason := why_not(kernel, call):
        raise InputError(
            f'Expected attention that the kernel "{kernel}" can compute; it cannot here: {reason}. Nothing was read; '
            f'use kernel="auto".'
        )
    if kernel in ("lse", "flex"):
        return _by_log_sum_exp(call, requests, kernel, masks)
    call = _with_dense_mask(call)
    if kernel == "second-pass":
        return _sdpa(call), tuple(_second_pass(call, request) for request in requests)
    weights_BHTT = _weights(call)
    return _weighted_values(call, weights_BHTT), tuple(_sum_weights(weights_BHTT, request) for request in requests)


def plain(call: AttentionCall) -> Tensor:
    """Compute the attention output [B, T, H, D_v] alone, for a layer without requests."""
    if isinstance(call.mask, MaskRule):
        if why_not("lse", call) is None:
            return _flash(call, *_autocast(call), call.mask)[0].transpose(1, 2).contiguous()
        call = _with_dense_mask(call)
    if call.softcap is None and call.sinks is None:
        return _sdpa(call)
    weights = _weights(call)
    return _weighted_values(call, weights)


@lru_cache(maxsize=64)
def _log_once(kernel: Kernel, reason: str, level: int) -> None:
    _logger.log(level, "stepwise attention uses the kernel %r (%s)", kernel, reason)


def _by_log_sum_exp(
    call: AttentionCall, requests: Sequence[SpanRequest], kernel: Kernel, masks: MaskCache
) -> tuple[Tensor, tuple[Tensor, ...]]:
    query, key, value = _autocast(call)
    mask = call.mask
    if kernel == "flex":
        blocks = masks.blocks.get(mask, call.is_causal, query.shape[2], query.device)
        out, log_sum_exp = _flex(call, query, key, value, blocks)
    else:
        added = mask if mask is None or isinstance(mask, MaskRule) else masks.floats(mask, query.dtype)
        out, log_sum_exp = _flash(call, query, key, value, added)

    def sums(request: SpanRequest) -> Tensor:
        """A [R, S, K] or [R, H, S, K] of one request, from its own weights [R, H, T, J] and the shared log-sum-exp."""
        spans = request.spans
        columns = None if mask is None else masks.columns(mask, spans, query.dtype)
        parts = spans.take(query), spans.take(key), spans.take(log_sum_exp)
        options: dict[str, Any] = {"is_causal": call.is_causal, "scale": call.scale, "heads": request.heads}
        return sum_over_spans(*parts, columns, spans, **options)

    return out.transpose(1, 2).contiguous(), tuple(map(sums, requests))


def _flash(
    call: AttentionCall, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Output [B, H, T, D_v] and log-sum-exp [B, H, T]; the mask is a rule or, on a CPU, a bias of the scores."""
    D, D_v = query.shape[-1], value.shape[-1]
    # The kernel requires D_v = D. Zero columns of the values yield zero columns of the output, cut off below.
    if D_v < D:
        value = nn.functional.pad(value, (0, D - D_v))
    if isinstance(mask, MaskRule):
        # Rotary embedding has already encoded the positions, so rows may move as long as their order stays. With the
        # padding on the right, the causal rule alone hides it.
        query, key, value = (mask.pad_on_the_right(x) for x in (query, key, value))
        options: dict[str, Any] = {"is_causal": True, "scale": call.scale, "window": mask.window}
        out, log_sum_exp = attention_with_log_sum_exp(query, key, value, None, **options)
        out, log_sum_exp = mask.pad_on_the_left(out), mask.pad_on_the_left(log_sum_exp)
    else:
        options = {"is_causal": call.is_causal, "scale": call.scale}
        out, log_sum_exp = attention_with_log_sum_exp(query, key, value, mask, **options)
    return _with_sinks(out[..., :D_v], log_sum_exp, call.sinks)


def _flex(
    call: AttentionCall, query: Tensor, key: Tensor, value: Tensor, mask: MaskRule | BlockMask | None
) -> tuple[Tensor, Tensor]:
    """Output [B, H, T, D_v] and log-sum-exp [B, H, T] by FlexAttention."""
    blocks = flex.blocks_of(mask) if isinstance(mask, MaskRule) else mask
    out, log_sum_exp = flex.attention_with_log_sum_exp(query, key, value, blocks, scale=call.scale)
    return _with_sinks(out, log_sum_exp, call.sinks)


def _with_sinks(out: Tensor, log_sum_exp: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
    """Add the sinks to the softmax of each row: output [B, H, T, D_v] and log-sum-exp [B, H, T]."""
    if sinks is None:
        return out, log_sum_exp
    # A sink of score c extends the denominator: e' = log(exp(e) + exp(c)). It has no value, so it only scales the
    # output, by exp(e − e').
    with_sink = torch.logaddexp(log_sum_exp, sinks.to(log_sum_exp.dtype)[None, :, None])
    return out * (log_sum_exp - with_sink).exp().to(out.dtype)[..., None], with_sink


def _second_pass(call: AttentionCall, request: SpanRequest) -> Tensor:
    """A [R, S, K], or [R, H, S, K] per head, from fused attention over one-hot columns.

    With V[j, k] = 1 if token j belongs to key k, the output softmax(QKᵀ) V is the weight of each token on each key.
    """
    spans, heads = request.spans, request.heads
    R, (T, D) = spans.step_RT.shape[0], call.key.shape[2:]
    again = replace(
        call,
        query=spans.take(call.query),
        key=spans.take(call.key),
        mask=None if call.mask is None else spans.take(call.mask),
        dropout=0.0,
    )
    parts = []
    # Fused attention requires values as wide as the keys, so each call sums D of the K keys.
    for first in range(0, spans.keys, D):
        # [R, J]: the column of each key token in this call; D, a dropped column, for the keys of other calls.
        here_RJ = torch.where((spans.key_RJ >= first) & (spans.key_RJ < first + D), spans.key_RJ - first, D)
        # [R, T + 1, D + 8]: the last row and the column D take the tokens of other calls and are cut off. With eight
        # columns more than D, rows begin at multiples of 16 bytes, without which FlashAttention cannot read them.
        columns_RTD = call.query.new_zeros(R, T + 1, D + 8)
        position_RJ = torch.where(here_RJ < D, spans.key_position_RJ, T)
        columns_RTD[torch.arange(R, device=here_RJ.device)[:, None], position_RJ, here_RJ] = 1.0
        # All heads share the columns: an expanded view, without a copy.
        columns_RGTD = columns_RTD[:, None, :T, :D].expand(-1, call.key.shape[1], -1, -1)
        weights_RTHD = _sdpa(replace(again, value=columns_RGTD))[..., : min(D, spans.keys - first)]
        weights_RTHD = weights_RTHD.to(torch.promote_types(weights_RTHD.dtype, torch.float32))
        parts.append(weights_RTHD if heads else weights_RTHD.mean(2))
    if not heads:
        return sum_over_steps(torch.cat(parts, dim=2), spans)
    columns_RTHK = torch.cat(parts, dim=3)
    # Sum the rows of each step with heads and keys side by side (X = H · K), then separate them again.
    sums_RSX = sum_over_steps(columns_RTHK.flatten(2), spans)
    return sums_RSX.view(R, spans.steps, *columns_RTHK.shape[2:]).transpose(1, 2)


def _sum_weights(weights_BHTT: Tensor, request: SpanRequest) -> Tensor:
    """A [R, S, K], or [R, H, S, K] per head, from the whole matrix."""
    spans = request.spans
    R, T = spans.step_RT.shape
    weights_RHTT = spans.take(weights_BHTT)
    if request.heads:
        index_RHTJ = spans.key_position_RJ[:, None, None, :].expand(-1, weights_RHTT.shape[1], T, -1)
        return sum_each_head(weights_RHTT.gather(3, index_RHTJ), spans)
    # The mean over heads first: what follows works on [R, T, J] instead of [R, H, T, J].
    weights_RTJ = weights_RHTT.mean(1).gather(2, spans.key_position_RJ[:, None, :].expand(R, T, -1))
    return sum_over_keys(sum_over_steps(weights_RTJ, spans), spans)


def _weights(call: AttentionCall) -> Tensor:
    """Softmax weights [B, H, T, T] in float32 or float64, as the models' own eager attention computes them."""
    # [B, G, T, D] to [B, H, T, D]: each key head serves H / G query heads.
    shared = call.query.shape[1] // call.key.shape[1]
    key = call.key.repeat_interleave(shared, 1)
    scores = torch.matmul(call.query, key.transpose(2, 3)) * call.scale
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    # The models' own order: scale, soft cap, mask, softmax.
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
    if call.mask is not None:
        lowest = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~call.mask, lowest) if call.mask.dtype == torch.bool else scores + call.mask
    elif call.is_causal:
        T = scores.shape[-1]
        future = torch.ones(T, T, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, torch.finfo(scores.dtype).min)
    if call.sinks is None:
        return torch.softmax(scores, dim=-1)
    # Sinks are one more column [B, H, T, 1] of the scores, which is dropped after the softmax.
    sinks = call.sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
    return torch.softmax(torch.cat([scores, sinks], dim=-1), dim=-1)[..., :-1]


def _weighted_values(call: AttentionCall, weights_BHTT: Tensor) -> Tensor:
    """The output [B, T, H, D_v], with dropout on the weights."""
    value = call.value.repeat_interleave(call.query.shape[1] // call.value.shape[1], 1)
    weights_BHTT = nn.functional.dropout(weights_BHTT.to(value.dtype), call.dropout)
    return torch.matmul(weights_BHTT, value).transpose(1, 2).contiguous()


def _sdpa(call: AttentionCall) -> Tensor:
    options: dict[str, Any] = {"dropout": call.dropout, "scaling": call.scale, "is_causal": call.is_causal}
    out: Tensor = sdpa_attention_forward(call.module, call.query, call.key, call.value, call.mask, **options)[0]
    return out


def _with_dense_mask(call: AttentionCall) -> AttentionCall:
    return replace(call, mask=call.mask.dense) if isinstance(call.mask, MaskRule) else call


def _autocast(call: AttentionCall) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, cast under autocast as `scaled_dot_product_attention` casts them."""
    dtype = call.compute_dtype
    return call.query.to(dtype), call.key.to(dtype), call.value.to(dtype)
