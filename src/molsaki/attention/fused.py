"""PyTorch's CPU flash attention with its log-sum-exp, both with exact gradients.

`scaled_dot_product_attention` throws the log-sum-exp away, and the kernel's backward takes no gradient for it. The
kernel can be given one exactly. It computes dS_ij = P_ij (dO_i·V_j − D_i) with D_i = dO_i·O_i; with a column of ones
beside V, the gradient g of the log-sum-exp beside dO, and zeros beside O, Q and K, the bracket becomes
dO_i·V_j + g_i − D_i, which is what is needed.

Legend: B batch, R examples whose log-sum-exp is asked for, H heads, G key-value heads, T tokens, D head dimension.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# The width of the columns that are added, the number of float32 values in the widest vector registers.
_COLUMNS = 16

FLASH_DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})


def attention_with_log_sum_exp(
    query_BHTD: Tensor,
    key_BGTD: Tensor,
    value_BGTD: Tensor,
    bias_BHTT: Tensor | None,
    *,
    is_causal: bool,
    scale: float,
    rows: slice | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention on a CPU, and the log-sum-exp of its rows.

    Args:
        query_BHTD: queries.
        key_BGTD: keys; each serves H / G heads and is not repeated.
        value_BGTD: values, of the same head dimension as the keys.
        bias_BHTT: what is added to the scores ([B or 1, H or 1, T, T], in the queries' type), or None. It gets no
            gradient.
        is_causal: a token sees itself and what stands before it; only without a bias.
        scale: what the scores are multiplied by.
        rows: the examples whose log-sum-exp is asked for; the others cost nothing extra. None for all.

    Returns:
        The output [B, H, T, D] and the log-sum-exp [R, H, T] (float32 for half precision).
    """
    arguments = (query_BHTD, key_BGTD, value_BGTD, bias_BHTT, is_causal, scale, rows)
    return cast(tuple[Tensor, Tensor], _FlashAttention.apply(*arguments))  # type: ignore[no-untyped-call]


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
        rows: slice | Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        out_BHTD, lse_BHT = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query_BHTD, key_BGTD, value_BGTD, 0.0, is_causal, attn_mask=bias_BHTT, scale=scale
        )
        ctx.save_for_backward(query_BHTD, key_BGTD, value_BGTD, out_BHTD, lse_BHT, bias_BHTT)
        ctx.is_causal, ctx.scale, ctx.rows = is_causal, scale, rows
        ctx.set_materialize_grads(False)
        return out_BHTD, lse_BHT if rows is None else lse_BHT[rows].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        out_grad, lse_grad = grads
        done = _Forward(*ctx.saved_tensors, ctx.is_causal, ctx.scale)
        if out_grad is None:
            out_grad = torch.zeros_like(done.out)
        if lse_grad is None:
            input_grads = done.backward(out_grad)
        elif ctx.rows is None:
            input_grads = done.backward_with_lse(out_grad, lse_grad)
        else:
            input_grads = _backward_in_two(done, out_grad, lse_grad, ctx.rows)
        return *input_grads, None, None, None, None


_Grads = tuple[Tensor, Tensor, Tensor]


class _Forward(NamedTuple):
    """What the kernel took and gave; its backward takes it all again."""

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    log_sum_exp: Tensor
    bias: Tensor | None
    is_causal: bool
    scale: float

    def take(self, rows: slice | Tensor) -> _Forward:
        """Some of the examples."""
        bias = self.bias if self.bias is None or self.bias.shape[0] == 1 else self.bias[rows]
        return _Forward(*(x[rows] for x in self[:5]), bias, self.is_causal, self.scale)

    def backward(self, out_grad: Tensor) -> _Grads:
        """The gradients of query, key and value for a gradient of the output."""
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        grads = kernel(out_grad, *self[:5], 0.0, self.is_causal, attn_mask=self.bias, scale=self.scale)
        return cast(_Grads, grads)

    def backward_with_lse(self, out_grad: Tensor, lse_grad: Tensor) -> _Grads:
        """The gradients for gradients of output and log-sum-exp."""
        D = self.query.shape[-1]
        query, key, value, out, out_grad = (_widen(x) for x in (*self[:4], out_grad))
        out_grad[..., D] = lse_grad
        value[..., D] = 1.0
        wide = self._replace(query=query, key=key, value=value, out=out)
        query_grad, key_grad, value_grad = wide.backward(out_grad)
        return query_grad[..., :D], key_grad[..., :D], value_grad[..., :D]


def _backward_in_two(done: _Forward, out_grad: Tensor, lse_grad: Tensor, rows: slice | Tensor) -> _Grads:
    """Only the examples whose log-sum-exp has a gradient pay for it."""
    grads = torch.empty_like(done.query), torch.empty_like(done.key), torch.empty_like(done.value)
    others = torch.ones(done.query.shape[0], dtype=torch.bool)
    others[rows] = False
    parts = [(rows, done.take(rows).backward_with_lse(out_grad[rows], lse_grad))]
    if bool(others.any()):
        rest = _as_slice(others)
        parts.append((rest, done.take(rest).backward(out_grad[rest])))
    for some, some_grads in parts:
        for grad, some_grad in zip(grads, some_grads, strict=True):
            grad[some] = some_grad
    return grads


def _as_slice(mask: Tensor) -> slice | Tensor:
    index = mask.nonzero().flatten()
    first, last = int(index[0]), int(index[-1])
    return slice(first, last + 1) if last - first + 1 == len(index) else index


def _widen(x_BHTD: Tensor) -> Tensor:
    # Laid out as the projections are, [B, T, H, D], which the kernel reads best.
    B, H, T, D = x_BHTD.shape
    wide = x_BHTD.new_zeros(B, T, H, (D // _COLUMNS + 1) * _COLUMNS).transpose(1, 2)
    wide[..., :D] = x_BHTD
    return wide
