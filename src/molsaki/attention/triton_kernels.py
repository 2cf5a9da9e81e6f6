"""The sums over key tokens and the gradient of the log-sum-exp as Triton kernels, for GPUs.

They compute what `columns` and `fused` describe without a tensor [R, H, T, J] in memory: a program holds the weights of
a block of tokens on a block of key tokens in registers. A layer's queries are read once forward and twice backward, and
little else is read or written. Products are of the queries' type and summed in float32. The gradients of the scores are
rounded to the queries' type before they are multiplied, as flash attention rounds them.

The kernels run on a CPU in Triton's interpreter, where the tests compare them with `columns` and `fused`.

Legend: B batch, R examples, H heads, G key-value heads, N = H / G query heads that share one of them, T tokens,
J key tokens, D head dimension. In the kernels arguments such as `q_t` are strides, BT, BJ and BD sizes of blocks, and
row i of a block is the token `first + i`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
import triton
import triton.language as tl
from torch import Tensor

# Tokens and key tokens of a block, the fastest of a few on an H100; half of it for wide heads, for the memory of
# smaller GPUs.
_BLOCK, _WIDE = 64, 128
_ROWS = 64
# As many programs keep the largest GPUs busy.
_PROGRAMS = 512
_P = ParamSpec("_P")
_X = TypeVar("_X")
_LOG2_E = tl.constexpr(1.4426950408889634)


def _on_its_device(function: Callable[_P, _X]) -> Callable[_P, _X]:
    """Launch on the device of the first tensor: a model's layers may be on several, and Triton takes the current."""

    @wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _X:
        with torch.cuda.device_of(args[0]):  # type: ignore[no-untyped-call]
            return function(*args, **kwargs)

    return run


@_on_its_device
def sum_weights(
    query_RHTD: Tensor,
    key_RGTD: Tensor,
    log_sum_exp_RHT: Tensor,
    position_RJ: Tensor,
    *,
    scale: float,
    is_causal: bool,
) -> Tensor:
    """The softmax weights of the key tokens, summed over heads: [R, T, J] in float32.

    Args:
        query_RHTD: queries.
        key_RGTD: keys of all tokens.
        log_sum_exp_RHT: of the rows.
        position_RJ: the positions of the key tokens, in order.
        scale: factor of the scores.
        is_causal: no weight of a key token after its token counts. The kernel may leave it out or give any number of at
            most H for it; the caller sets it to 0.
    """
    R, H, T, _ = query_RHTD.shape
    J = position_RJ.shape[1]
    query, key = _dense_last(query_RHTD), _dense_last(key_RGTD)
    sums_RTJ = torch.empty(R, T, J, dtype=torch.float32, device=query.device)
    sizes = _sizes(query, key, is_causal)
    _sum_weights[triton.cdiv(T, sizes["BT"]), triton.cdiv(J, sizes["BJ"]), R](
        *(query, key, log_sum_exp_RHT, position_RJ.contiguous(), sums_RTJ),
        *(*query.stride()[:3], *key.stride()[:3], *log_sum_exp_RHT.stride()),
        *(T, J, scale),
        **sizes,
        H=H,
    )
    return sums_RTJ


@_on_its_device
def sum_gradients(
    query_RHTD: Tensor,
    key_RGTD: Tensor,
    log_sum_exp_RHT: Tensor,
    position_RJ: Tensor,
    grad_RTJ: Tensor,
    *,
    scale: float,
    is_causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `sum_weights`.

    Args:
        query_RHTD: as there.
        key_RGTD: as there.
        log_sum_exp_RHT: as there.
        position_RJ: as there.
        grad_RTJ: the gradient of its result; 0 for weights that do not count.
        scale: as there.
        is_causal: as there.

    Returns:
        The gradients of queries [R, H, T, D], of the key tokens [R, G, J, D] in float32, and of log-sum-exps [R, H, T].
    """
    R, H, T, D = query_RHTD.shape
    G, J = key_RGTD.shape[1], position_RJ.shape[1]
    query, key = _dense_last(query_RHTD), _dense_last(key_RGTD)
    inputs = query, key, log_sum_exp_RHT, position_RJ.contiguous(), grad_RTJ.contiguous()
    numbers = *query.stride()[:3], *key.stride()[:3], *log_sum_exp_RHT.stride(), T, J, scale
    sizes = _sizes(query, key, is_causal)
    grad_query, grad_lse = torch.empty_like(query), torch.empty_like(log_sum_exp_RHT)
    _token_gradients[triton.cdiv(T, sizes["BT"]), H, R](
        *inputs, grad_query, grad_lse, *grad_query.stride()[:3], *grad_lse.stride(), *numbers, **sizes
    )
    # Each part of the tokens has a sum of its own, so that enough programs run and the order of the sums is fixed.
    blocks = triton.cdiv(J, sizes["BJ"])
    parts = min(triton.cdiv(_PROGRAMS, blocks * R * G), triton.cdiv(T, sizes["BT"]))
    grad_PRGJD = torch.empty(parts, R, G, J, D, dtype=torch.float32, device=query.device)
    _key_gradients[blocks, parts, R * G](*inputs, grad_PRGJD, R, G, *numbers, **sizes)
    return grad_query, grad_PRGJD.sum(0), grad_lse


@_on_its_device
def carry(
    log_sum_exp_grad_BHT: Tensor, out_BHTD: Tensor, out_grad_BHTD: Tensor, *, negligible: float, smallest: float
) -> tuple[Tensor, Tensor]:
    """O′ and dO of `fused`, both [B, H, T, D].

    Args:
        log_sum_exp_grad_BHT: g.
        out_BHTD: O.
        out_grad_BHTD: dO.
        negligible: the ratio ‖dO‖₁ / |g| below which a row gets another gradient.
        smallest: the |g| below which it does not.
    """
    B, H, T, D = out_BHTD.shape
    inputs = _dense_last(out_BHTD), _dense_last(out_grad_BHTD)
    outputs = torch.empty_like(inputs[0]), torch.empty_like(inputs[1])
    strides = [stride for x in (*inputs, *outputs) for stride in x.stride()[:3]]
    _carry[triton.cdiv(T * H, _ROWS), B](
        *(log_sum_exp_grad_BHT, *inputs, *outputs),
        *(*log_sum_exp_grad_BHT.stride(), *strides),
        *(T, H, negligible, smallest),
        D=D,
        BD=triton.next_power_of_2(D),
        ROWS=_ROWS,
    )
    return outputs


def _dense_last(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _sizes(query: Tensor, key: Tensor, is_causal: bool) -> dict[str, Any]:
    D = query.shape[-1]
    block = _BLOCK if D <= _WIDE else _BLOCK // 2
    return {
        "D": D,
        "N": query.shape[1] // key.shape[1],
        "BT": block,
        "BJ": block,
        "BD": max(16, triton.next_power_of_2(D)),
        "IS_CAUSAL": is_causal,
    }


@triton.jit
def _sum_weights(
    query, key, lse, position, out,
    q_r, q_h, q_t, k_r, k_g, k_t, l_r, l_h, l_t,
    T, J, scale,
    D: tl.constexpr, N: tl.constexpr, BT: tl.constexpr, BJ: tl.constexpr, BD: tl.constexpr, IS_CAUSAL: tl.constexpr,
    H: tl.constexpr,
):  # fmt: skip
    """One block of tokens and one of key tokens, all heads."""
    first, r = (tl.program_id(0) * BT).to(tl.int64), tl.program_id(2).to(tl.int64)
    i, d = tl.arange(0, BT), tl.arange(0, BD)
    j = tl.program_id(1) * BJ + tl.arange(0, BJ)
    is_token, is_key = first + i < T, j < J
    at = tl.load(position + r * J + j, mask=is_key, other=0)
    q_at = query + r * q_r + first * q_t + i[:, None] * q_t + d[None, :]
    k_at = key + r * k_r + at[None, :] * k_t + d[:, None]
    l_at = lse + r * l_r + first * l_t + i * l_t
    total = tl.zeros((BT, BJ), tl.float32)
    # Positions are in order, and padding has position 0.
    earliest = tl.min(tl.where(is_key, at, T))
    if not IS_CAUSAL or earliest < first + BT:
        for h in tl.range(0, H):
            q = tl.load(q_at + h * q_h, mask=is_token[:, None] & (d < D)[None, :], other=0.0)
            k = tl.load(k_at + h // N * k_g, mask=is_key[None, :] & (d < D)[:, None], other=0.0)
            e = tl.load(l_at + h * l_h, mask=is_token, other=0.0)
            s = tl.dot(q, k, input_precision="ieee") * scale - e[:, None]
            # A score that does not count may exceed e by any amount; at most 0, its weight stays finite.
            total += tl.exp2(tl.minimum(s, 0.0) * _LOG2_E)
    to = out + (r * T + first + i)[:, None] * J + j[None, :]
    tl.store(to, total, mask=is_token[:, None] & is_key[None, :])


@triton.jit
def _token_gradients(
    query, key, lse, position, grad, grad_query, grad_lse,
    gq_r, gq_h, gq_t, gl_r, gl_h, gl_t,
    q_r, q_h, q_t, k_r, k_g, k_t, l_r, l_h, l_t,
    T, J, scale,
    D: tl.constexpr, N: tl.constexpr, BT: tl.constexpr, BJ: tl.constexpr, BD: tl.constexpr, IS_CAUSAL: tl.constexpr,
):  # fmt: skip
    """The gradients of queries and log-sum-exp of one block of tokens in one head."""
    first = (tl.program_id(0) * BT).to(tl.int64)
    h, r = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    i, d = tl.arange(0, BT), tl.arange(0, BD)
    is_token, is_column = first + i < T, d < D
    q_in = is_token[:, None] & is_column[None, :]
    q = tl.load(query + r * q_r + h * q_h + first * q_t + i[:, None] * q_t + d[None, :], mask=q_in, other=0.0)
    e = tl.load(lse + r * l_r + h * l_h + first * l_t + i * l_t, mask=is_token, other=0.0)
    total, row = tl.zeros((BT, BD), tl.float32), tl.zeros((BT,), tl.float32)
    for first_key in range(0, J, BJ):
        j = first_key + tl.arange(0, BJ)
        is_key = j < J
        at = tl.load(position + r * J + j, mask=is_key, other=0)
        earliest = tl.min(tl.where(is_key, at, T))
        if not IS_CAUSAL or earliest < first + BT:
            k_in = is_key[:, None] & is_column[None, :]
            k = tl.load(key + r * k_r + h // N * k_g + at[:, None] * k_t + d[None, :], mask=k_in, other=0.0)
            g_at = grad + (r * T + first + i)[:, None] * J + j[None, :]
            g = tl.load(g_at, mask=is_token[:, None] & is_key[None, :], other=0.0)
            s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale - e[:, None]
            p = g * tl.exp2(tl.minimum(s, 0.0) * _LOG2_E)
            row -= tl.sum(p, 1)
            total = tl.dot(p.to(k.dtype), k, total, input_precision="ieee")
    gq_at = grad_query + r * gq_r + h * gq_h + first * gq_t + i[:, None] * gq_t + d[None, :]
    tl.store(gq_at, (total * scale).to(grad_query.dtype.element_ty), mask=q_in)
    tl.store(grad_lse + r * gl_r + h * gl_h + first * gl_t + i * gl_t, row, mask=is_token)


@triton.jit
def _key_gradients(
    query, key, lse, position, grad, grad_key,
    R, G,
    q_r, q_h, q_t, k_r, k_g, k_t, l_r, l_h, l_t,
    T, J, scale,
    D: tl.constexpr, N: tl.constexpr, BT: tl.constexpr, BJ: tl.constexpr, BD: tl.constexpr, IS_CAUSAL: tl.constexpr,
):  # fmt: skip
    """The gradient of one block of key tokens in one key-value head, from one part of the tokens."""
    j = tl.program_id(0) * BJ + tl.arange(0, BJ)
    part, parts = tl.program_id(1), tl.num_programs(1)
    rg = tl.program_id(2).to(tl.int64)
    r, own = rg // G, rg % G
    i, d = tl.arange(0, BT), tl.arange(0, BD)
    is_key, is_column = j < J, d < D
    at = tl.load(position + r * J + j, mask=is_key, other=0)
    k_in = is_key[:, None] & is_column[None, :]
    k = tl.load(key + r * k_r + own * k_g + at[:, None] * k_t + d[None, :], mask=k_in, other=0.0)
    total = tl.zeros((BJ, BD), tl.float32)
    # Part p of P has the blocks p, p + P, ... of tokens, each for the N heads; under the causal rule from the first
    # token that sees a key token on.
    start = 0
    if IS_CAUSAL:
        start = (tl.min(tl.where(is_key, at, T)) // BT).to(tl.int32)
    blocks = (T + BT - 1) // BT - start
    for n in tl.range(0, (blocks - part + parts - 1) // parts * N, num_stages=3):
        first = ((start + part + n // N * parts) * BT).to(tl.int64)
        h = own * N + n % N
        is_token = first + i < T
        q_at = query + r * q_r + h * q_h + first * q_t + i[:, None] * q_t + d[None, :]
        q = tl.load(q_at, mask=is_token[:, None] & is_column[None, :], other=0.0)
        e = tl.load(lse + r * l_r + h * l_h + first * l_t + i * l_t, mask=is_token, other=0.0)
        g_at = grad + (r * T + first + i)[None, :] * J + j[:, None]
        g = tl.load(g_at, mask=is_token[None, :] & is_key[:, None], other=0.0)
        s = tl.dot(k, tl.trans(q), input_precision="ieee") * scale - e[None, :]
        p = g * tl.exp2(tl.minimum(s, 0.0) * _LOG2_E)
        total = tl.dot(p.to(q.dtype), q, total, input_precision="ieee")
    to = grad_key + ((part * R * G + rg) * J + j)[:, None] * D + d[None, :]
    tl.store(to, total * scale, mask=k_in)


@triton.jit
def _carry(
    lse_grad, out, out_grad, new_out, new_grad,
    g_b, g_h, g_t, o_b, o_h, o_t, d_b, d_h, d_t, no_b, no_h, no_t, nd_b, nd_h, nd_t,
    T, H, negligible, smallest,
    D: tl.constexpr, BD: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Some rows of one example, the heads of a token side by side."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    b = tl.program_id(1).to(tl.int64)
    t, h, d = (row // H).to(tl.int64), row % H, tl.arange(0, BD)[None, :]
    is_row = row < T * H
    inside = is_row[:, None] & (d < D)
    g = tl.load(lse_grad + b * g_b + h * g_h + t * g_t, mask=is_row, other=0.0)
    o = tl.load(out + b * o_b + (h * o_h + t * o_t)[:, None] + d, mask=inside, other=0.0).to(tl.float32)
    do = tl.load(out_grad + b * d_b + (h * d_h + t * d_t)[:, None] + d, mask=inside, other=0.0).to(tl.float32)
    norm = tl.sum(tl.abs(do), 1)
    least = tl.abs(g) * negligible
    is_weak = norm <= least
    is_replaced = is_weak & (tl.abs(g) > smallest)
    do = tl.where(is_replaced[:, None], (least / D)[:, None], do)
    norm = tl.where(is_replaced, least, norm)
    share = tl.where(is_weak & ~is_replaced, 0.0, g / tl.where(norm == 0.0, 1.0, norm))
    sign = tl.where(do > 0.0, 1.0, tl.where(do < 0.0, -1.0, 0.0))
    o -= sign * share[:, None]
    tl.store(new_out + b * no_b + (h * no_h + t * no_t)[:, None] + d, o.to(new_out.dtype.element_ty), mask=inside)
    tl.store(new_grad + b * nd_b + (h * nd_h + t * nd_t)[:, None] + d, do.to(new_grad.dtype.element_ty), mask=inside)
