"""PyTorch's CPU flash attention with its log-sum-exp, both with exact gradients.

`scaled_dot_product_attention` throws the log-sum-exp away, and the kernel's backward takes no gradient for it. It can
be given one all the same. With P the softmax weights and dO the gradient of the output O, the kernel computes

    dS_ij = P_ij (dO_i·V_j − D_i)    with    D_i = dO_i·O_i ,

and uses O for nothing else. A gradient g_i of row i's log-sum-exp adds g_i inside the bracket, so D_i − g_i is what
the kernel must get: any O′_i = O_i − g_i c_i with dO_i·c_i = 1 in O's place gives it. The choice c = sign(dO) / ‖dO‖₁
makes all terms of that sum alike in sign, so nothing cancels. Where the output of a row has no gradient at all (the
last layer of a prompt, say) it gets one that is too small to be seen beside g_i, and the same holds.

Within a sliding window some rows at a time see only the columns that they reach, so work and memory grow with
T × window, and one small band of a bias serves them all.

Nothing is widened, copied into another layout or computed twice, so the kernel runs as fast as without.

Legend: B batch, H heads, G key-value heads, T tokens, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FLASH_DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16})
"""What the kernel takes here; float16 lacks the range that O′ needs."""

# The gradient of an output beside that of its row's log-sum-exp, below which it is not seen.
_UNSEEN = 1e-12
# The smallest gradient of a log-sum-exp that is taken for one; _UNSEEN of it is still a normal float32.
_SMALLEST = 1e-24


def attention_with_log_sum_exp(
    query_BHTD: Tensor,
    key_BGTD: Tensor,
    value_BGTD: Tensor,
    bias_BHTT: Tensor | None,
    *,
    is_causal: bool,
    scale: float,
    window: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention on a CPU, and the log-sum-exp of its rows.

    Args:
        query_BHTD: queries.
        key_BGTD: keys; each serves H / G heads and is not repeated where the kernel can share it.
        value_BGTD: values, of the same head dimension as the keys.
        bias_BHTT: what is added to the scores ([B or 1, H or 1, T, T], in the queries' type), or None. It gets no
            gradient.
        is_causal: a token sees itself and what stands before it; only without a bias.
        scale: what the scores are multiplied by.
        window: how many tokens a token sees at most, itself among them; only with `is_causal`.

    Returns:
        The output [B, H, T, D] and the log-sum-exp [B, H, T] (float32 for bfloat16).
    """
    shared_by = query_BHTD.shape[1] // key_BGTD.shape[1]
    if shared_by > 1 and not kernel_shares_keys():
        key_BGTD, value_BGTD = (x.repeat_interleave(shared_by, 1) for x in (key_BGTD, value_BGTD))
    arguments = (query_BHTD, key_BGTD, value_BGTD, bias_BHTT, is_causal, scale, window)
    return cast(tuple[Tensor, Tensor], _FlashAttention.apply(*arguments))  # type: ignore[no-untyped-call]


@lru_cache(maxsize=1)
def kernel_shares_keys() -> bool:
    """Whether this PyTorch's kernel takes fewer key heads than query heads.

    A kernel that does not would read beyond the keys, so `scaled_dot_product_attention` is asked, which knows: what it
    keeps for the backward pass is what it gave the kernel.
    """
    kept: list[int] = []
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        query, key = torch.zeros(1, 2, 2, 8, requires_grad=True), torch.zeros(1, 1, 2, 8)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape[1]), lambda x: x):
            out = torch.nn.functional.scaled_dot_product_attention(query, key, key, is_causal=True, enable_gqa=True)
    return "FlashAttentionForCpu" in type(out.grad_fn).__name__ and 1 in kept


class _FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_BHTD: Tensor,
        key_BGTD: Tensor,
        value_BGTD: Tensor,
        bias_BHTT: Tensor | None,
        is_causal: bool,
        scale: float,
        window: int | None,
    ) -> tuple[Tensor, Tensor]:
        parts = list(_parts(query_BHTD, bias_BHTT, is_causal, window))
        done = [
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query_BHTD[:, :, part.rows],
                key_BGTD[:, :, part.columns],
                value_BGTD[:, :, part.columns],
                0.0,
                part.is_causal,
                attn_mask=part.bias,
                scale=scale,
            )
            for part in parts
        ]
        # The kernel's outputs lie as [B, T, H, D] in memory, and so does the whole.
        if len(done) == 1:
            out_BHTD, log_sum_exp_BHT = done[0]
        else:
            out_BHTD = torch.cat([out.transpose(1, 2) for out, _ in done], 1).transpose(1, 2)
            log_sum_exp_BHT = torch.cat([log_sum_exp for _, log_sum_exp in done], 2)
        ctx.save_for_backward(query_BHTD, key_BGTD, value_BGTD, out_BHTD, log_sum_exp_BHT, bias_BHTT)
        ctx.is_causal, ctx.scale, ctx.window = is_causal, scale, window
        ctx.set_materialize_grads(False)
        return out_BHTD, log_sum_exp_BHT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        out_grad, log_sum_exp_grad = grads
        query, key, value, out, log_sum_exp, bias = ctx.saved_tensors
        if out_grad is None:
            out_grad = torch.zeros_like(out)
        if log_sum_exp_grad is not None:
            out, out_grad = _carry(log_sum_exp_grad, out, out_grad)

        def of(part: _Part) -> tuple[Tensor, Tensor, Tensor]:
            grads: tuple[Tensor, Tensor, Tensor]
            grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                out_grad[:, :, part.rows],
                query[:, :, part.rows],
                key[:, :, part.columns],
                value[:, :, part.columns],
                out[:, :, part.rows],
                log_sum_exp[:, :, part.rows],
                0.0,
                part.is_causal,
                attn_mask=part.bias,
                scale=ctx.scale,
            )
            return grads

        parts = list(_parts(query, bias, ctx.is_causal, ctx.window))
        if len(parts) == 1:
            return *of(parts[0]), None, None, None, None
        query_grad = torch.empty_like(query)
        # A key gets a share from each part that reaches it; in bfloat16 every addition would round.
        wide = torch.promote_types(key.dtype, torch.float32)
        key_grad, value_grad = torch.zeros_like(key, dtype=wide), torch.zeros_like(value, dtype=wide)
        for part in parts:
            query_grad[:, :, part.rows], to_key, to_value = of(part)
            key_grad[:, :, part.columns] += to_key
            value_grad[:, :, part.columns] += to_value
        return query_grad, key_grad.to(key.dtype), value_grad.to(value.dtype), None, None, None, None


_ROWS = 256
"""How many rows of windowed attention are computed at a time: few columns beyond the window, and not too many calls."""


@dataclass(frozen=True)
class _Part:
    """Some rows of an attention matrix, the columns that they reach, and how they see those."""

    rows: slice
    columns: slice
    bias: Tensor | None
    is_causal: bool


def _parts(query_BHTD: Tensor, bias_BHTT: Tensor | None, is_causal: bool, window: int | None) -> Iterator[_Part]:
    T = query_BHTD.shape[2]
    if window is None or window >= T:
        yield _Part(slice(0, T), slice(0, T), bias_BHTT, is_causal)
        return
    # Row i of any rows sees the columns i … i + window − 1 of those that begin window − 1 before the first row.
    band = query_BHTD.new_zeros(_ROWS, _ROWS + window - 1)
    row, column = torch.arange(_ROWS)[:, None], torch.arange(_ROWS + window - 1)
    band.masked_fill_((column < row) | (column >= row + window), -torch.inf)
    for first in range(0, T, _ROWS):
        end, before = min(first + _ROWS, T), first - window + 1
        columns = slice(max(0, before), end)
        bias = band[None, None, : end - first, columns.start - before : end - before]
        yield _Part(slice(first, end), columns, bias, False)


def _carry(log_sum_exp_grad_BHT: Tensor, out_BHTD: Tensor, out_grad_BHTD: Tensor) -> tuple[Tensor, Tensor]:
    """O′ and dO with dO·O′ = dO·O − g: the output and its gradient with the log-sum-exp's gradient in them."""
    g_BHT = log_sum_exp_grad_BHT
    norm_BHT = torch.linalg.vector_norm(out_grad_BHTD, ord=1, dim=-1, dtype=g_BHT.dtype)
    unseen_BHT = g_BHT.abs() * _UNSEEN
    weak_BHT = norm_BHT <= unseen_BHT
    replaced_BHT = weak_BHT & (g_BHT.abs() > _SMALLEST)
    if bool(replaced_BHT.any()):
        each_BHT1 = (unseen_BHT / out_BHTD.shape[-1])[..., None].to(out_BHTD.dtype)
        out_grad_BHTD = torch.where(replaced_BHT[..., None], each_BHT1, out_grad_BHTD)
        norm_BHT = torch.where(replaced_BHT, unseen_BHT, norm_BHT)
    share_BHT = (g_BHT / norm_BHT).masked_fill_(weak_BHT & ~replaced_BHT, 0.0)
    shares_BHT1 = share_BHT[..., None].to(out_BHTD.dtype)
    return torch.addcmul(out_BHTD, out_grad_BHTD.sign(), shares_BHT1, value=-1.0), out_grad_BHTD
