"""PyTorch's flash attention with its log-sum-exp, both with exact gradients.

The kernels of `flash` return the log-sum-exp, but their backward passes take no gradient for it. The gradient can be
passed through the output instead. With P the softmax weights, S the scores and dO the gradient of the
output O, the kernel computes

    dS_ij = P_ij (dO_i·V_j − D_i)    with    D_i = dO_i·O_i ,

and uses O for nothing else. A gradient g_i of row i's log-sum-exp adds g_i inside the bracket, so the kernel must
compute D_i − g_i. It does if O_i is replaced by any O′_i = O_i − g_i c_i with dO_i·c_i = 1. The choice
c = sign(dO) / ‖dO‖₁ gives all terms of that product the same sign, so nothing cancels. A row whose output has no
gradient (in the last layer of a prompt, for example) gets one that is negligible beside g_i, and the same holds.

With a sliding window, blocks of rows attend only to the columns in their reach, so work and memory grow with
T × window, and all blocks share one small band as their bias. The tokens of a part of a text attend to the P tokens
before them without a mask and to each other causally, in two calls whose outputs are weighted by their log-sum-exps:
no pair of tokens is computed for nothing.

Nothing is cast up, copied into another layout or computed twice, so the kernel is as fast as without the log-sum-exp.

Legend: B batch, H heads, G key-value heads, T tokens, P tokens before them, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from molsaki.attention import flash

# The ratio of an output's gradient (L1 norm) to that of its row's log-sum-exp, below which it is negligible.
_NEGLIGIBLE = 1e-12
# The smallest gradient of a log-sum-exp that is not taken for 0; _NEGLIGIBLE times it is still a normal float32.
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
    """Compute attention and the log-sum-exp of its rows, on a CPU or by a flash kernel of CUDA.

    Args:
        query_BHTD: queries.
        key_BGTD: keys, of P + T tokens; each serves H / G heads and is repeated only where the kernel cannot share it.
        value_BGTD: their values, of the same head dimension as the keys.
        bias_BHTT: [B or 1, H or 1, T, T] in the queries' type, added to the scores; or None. It gets no gradient.
            CPUs only.
        is_causal: a token attends to itself and to earlier tokens; only without a bias.
        scale: factor of the scores.
        window: the largest number of tokens that a token attends to, itself included; only with `is_causal`. CPUs only.

    Returns:
        The output [B, H, T, D] and the log-sum-exp [B, H, T] (float32 for bfloat16).
    """
    shared_by = query_BHTD.shape[1] // key_BGTD.shape[1]
    if shared_by > 1 and query_BHTD.device.type == "cpu" and not kernel_shares_keys():
        key_BGTD, value_BGTD = (x.repeat_interleave(shared_by, 1) for x in (key_BGTD, value_BGTD))
    arguments = (query_BHTD, key_BGTD, value_BGTD, bias_BHTT, is_causal, scale, window)
    output: tuple[Tensor, Tensor] = _FlashAttention.apply(*arguments)  # type: ignore[no-untyped-call]
    return output


@lru_cache(maxsize=1)
def kernel_shares_keys() -> bool:
    """Whether the CPU kernel of this PyTorch supports fewer key heads than query heads.

    A kernel without that support would read out of bounds, so this does not call it. It calls
    `scaled_dot_product_attention`, which knows, and checks the tensors saved for the backward pass: they are those
    that the kernel got, with one key head (shared) or two (repeated).
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
        parts = list(_parts(query_BHTD, key_BGTD.shape[2], bias_BHTT, is_causal, window))
        done = [
            flash.forward(
                query_BHTD[:, :, part.rows],
                key_BGTD[:, :, part.columns],
                value_BGTD[:, :, part.columns],
                part.bias,
                part.is_causal,
                scale,
            )
            for part in parts
        ]
        # The kernel's outputs are laid out as [B, T, H, D] in memory. Concatenate along T in that layout to keep it.
        if len(done) == 1:
            out_BHTD, log_sum_exp_BHT = done[0].out, done[0].log_sum_exp
        elif parts[0].rows == parts[1].rows:
            out_BHTD, log_sum_exp_BHT = _together(done)
        else:
            out_BHTD = torch.cat([one.out.transpose(1, 2) for one in done], 1).transpose(1, 2)
            log_sum_exp_BHT = torch.cat([one.log_sum_exp for one in done], 2)
        ctx.save_for_backward(query_BHTD, key_BGTD, value_BGTD, out_BHTD, log_sum_exp_BHT, bias_BHTT)
        ctx.is_causal, ctx.scale, ctx.window = is_causal, scale, window
        ctx.states = [one.state for one in done]
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

        def of(part: _Part, state: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor]:
            output = flash.FlashOutput(out[:, :, part.rows], log_sum_exp[:, :, part.rows], state)
            inputs = query[:, :, part.rows], key[:, :, part.columns], value[:, :, part.columns]
            return flash.backward(out_grad[:, :, part.rows], inputs, output, part.bias, part.is_causal, ctx.scale)

        parts = list(_parts(query, key.shape[2], bias, ctx.is_causal, ctx.window))
        if parts[0].columns == slice(0, key.shape[2]) and len(parts) == 1:
            return *of(parts[0], ctx.states[0]), None, None, None, None
        # Rows and columns get gradients from every part that has them. They are summed in float32, since bfloat16 would
        # round each sum.
        wide = torch.promote_types(key.dtype, torch.float32)
        sums = [torch.zeros_like(x, dtype=wide) for x in (query, key, value)]
        for part, state in zip(parts, ctx.states, strict=True):
            for total, some, more in zip(sums, (part.rows, part.columns, part.columns), of(part, state), strict=True):
                total[:, :, some] += more
        return *(total.to(key.dtype) for total in sums), None, None, None, None


_ROWS = 256
"""The rows of one part of windowed attention: fewer waste fewer columns beyond the window, but need more calls."""


@dataclass(frozen=True)
class _Part:
    """A block of rows of the attention matrix, the columns in its reach, and its bias or causal rule."""

    rows: slice
    columns: slice
    bias: Tensor | None
    is_causal: bool


def _parts(
    query_BHTD: Tensor, keys: int, bias_BHTT: Tensor | None, is_causal: bool, window: int | None
) -> Iterator[_Part]:
    """One part without a window; with one, a part for every `_ROWS` rows. `keys` is P + T.

    A causal part of a text has two: all tokens before it, and its own. They have the same rows.
    """
    T = query_BHTD.shape[2]
    past = keys - T
    if window is None or window >= keys:
        if is_causal and past > 0:
            yield _Part(slice(0, T), slice(0, past), None, False)
            yield _Part(slice(0, T), slice(past, keys), None, True)
        else:
            yield _Part(slice(0, T), slice(0, keys), bias_BHTT, is_causal)
        return
    # The band [_ROWS, _ROWS + window − 1] is the same for every part: with columns counted from window − 1 before the
    # part's first row, row i attends to the columns i … i + window − 1.
    band = query_BHTD.new_zeros(_ROWS, _ROWS + window - 1)
    row, column = torch.arange(_ROWS)[:, None], torch.arange(_ROWS + window - 1)
    band.masked_fill_((column < row) | (column >= row + window), -torch.inf)
    for first in range(0, T, _ROWS):
        end, before = min(first + _ROWS, T), past + first - window + 1
        # At the beginning of the text `before` is negative: the band loses the columns before token 0.
        columns = slice(max(0, before), past + end)
        bias = band[None, None, : end - first, columns.start - before : past + end - before]
        yield _Part(slice(first, end), columns, bias, False)


def _together(done: list[flash.FlashOutput]) -> tuple[Tensor, Tensor]:
    """The attention of rows to all of their columns, from that to two sets of them.

    Each has the share exp(e_1) / (exp(e_1) + exp(e_2)) of the softmax, a sigmoid of the difference.
    """
    (first_BHTD, first_BHT), (second_BHTD, second_BHT) = ((one.out, one.log_sum_exp) for one in done)
    share_BHT = torch.sigmoid(second_BHT - first_BHT)
    wide = torch.promote_types(first_BHTD.dtype, torch.float32)
    # As the kernel lays it out: [B, T, H, D] in memory.
    parts = [x.transpose(1, 2).to(wide) for x in (first_BHTD, second_BHTD, share_BHT[..., None])]
    out_BHTD = torch.lerp(*parts).to(first_BHTD.dtype).transpose(1, 2)
    return out_BHTD, torch.logaddexp(first_BHT, second_BHT)


def _carry(log_sum_exp_grad_BHT: Tensor, out_BHTD: Tensor, out_grad_BHTD: Tensor) -> tuple[Tensor, Tensor]:
    """O′ and dO, both [B, H, T, D], with dO·O′ = dO·O − g in each row (see the module's docstring)."""
    g_BHT = log_sum_exp_grad_BHT
    if flash.has_triton(out_BHTD):
        from molsaki.attention import triton_kernels

        gradients = g_BHT, out_BHTD, out_grad_BHTD
        return triton_kernels.carry(*gradients, negligible=_NEGLIGIBLE, smallest=_SMALLEST)
    norm_BHT = torch.linalg.vector_norm(out_grad_BHTD, ord=1, dim=-1, dtype=g_BHT.dtype)
    # Rows whose output gradient is negligible beside g would divide by almost 0. Where g matters, they get the gradient
    # that is constant over D and has the norm |g| · _NEGLIGIBLE; where g is 0 too, they keep their output.
    negligible_BHT = g_BHT.abs() * _NEGLIGIBLE
    weak_BHT = norm_BHT <= negligible_BHT
    replaced_BHT = weak_BHT & (g_BHT.abs() > _SMALLEST)
    # Reading the values of an accelerator would force a device sync, so there the rows are always replaced.
    if g_BHT.device.type != "cpu" or bool(replaced_BHT.any()):
        each_BHT1 = (negligible_BHT / out_BHTD.shape[-1])[..., None].to(out_BHTD.dtype)
        out_grad_BHTD = torch.where(replaced_BHT[..., None], each_BHT1, out_grad_BHTD)
        norm_BHT = torch.where(replaced_BHT, negligible_BHT, norm_BHT)
    # O′ = O − sign(dO) · g / ‖dO‖₁.
    share_BHT = (g_BHT / norm_BHT).masked_fill_(weak_BHT & ~replaced_BHT, 0.0)
    shares_BHT1 = share_BHT[..., None].to(out_BHTD.dtype)
    return torch.addcmul(out_BHTD, out_grad_BHTD.sign(), shares_BHT1, value=-1.0), out_grad_BHTD
