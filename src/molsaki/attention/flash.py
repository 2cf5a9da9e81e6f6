"""PyTorch's flash attention with its log-sum-exp, forward and backward, on CPUs and on CUDA.

`scaled_dot_product_attention` discards the log-sum-exp, so the operators beneath it are called: on a CPU its one flash
kernel, on CUDA FlashAttention. On some GPUs PyTorch prefers cuDNN's kernel for the plain model. It is not used here:
with a gradient of the log-sum-exp its gradients were wrong (PyTorch 2.11 on an H100).

Legend: B batch, H heads, G key-value heads, T tokens, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_flash_attention

DTYPES = {
    "cpu": frozenset({torch.float32, torch.float64, torch.bfloat16}),
    "cuda": frozenset({torch.bfloat16}),
}
"""The supported types by device. float16 lacks the range that the gradient of the log-sum-exp needs."""


@dataclass(frozen=True, slots=True)
class FlashOutput:
    """What the forward pass gives.

    Attributes:
        out: [B, H, T, D].
        log_sum_exp: [B, H, T], in float32 or float64.
        state: what the backward pass needs besides: numbers and small tensors.
    """

    out: Tensor
    log_sum_exp: Tensor
    state: tuple[Any, ...]


def is_supported(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> bool:
    """Whether PyTorch has a flash kernel for tensors of this device, shape and type."""
    if query.device.type == "cpu":
        return True
    shared = query.shape[1] != key.shape[1]
    return can_use_flash_attention(SDPAParams(query, key, value, None, 0.0, is_causal, shared))


def forward(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, is_causal: bool, scale: float
) -> FlashOutput:
    """Attention and its log-sum-exp. Only a CPU takes a bias."""
    if query.device.type == "cpu":
        out, log_sum_exp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, is_causal, attn_mask=bias, scale=scale
        )
        return FlashOutput(out, log_sum_exp, ())
    assert bias is None
    out, log_sum_exp, *state, _ = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, is_causal, False, scale=scale
    )
    return FlashOutput(out, log_sum_exp, tuple(state))


def backward(
    out_grad: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    output: FlashOutput,
    bias: Tensor | None,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, from that of the output."""
    grads: tuple[Tensor, Tensor, Tensor]
    if out_grad.device.type == "cpu":
        grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            out_grad, *inputs, output.out, output.log_sum_exp, 0.0, is_causal, attn_mask=bias, scale=scale
        )
        return grads
    assert bias is None
    # The state: offsets and lengths of packed texts (of none here), and the generator of the dropout (of 0).
    *lengths, seed, offset = output.state
    grads = torch.ops.aten._scaled_dot_product_flash_attention_backward(
        out_grad, *inputs, output.out, output.log_sum_exp, *lengths, 0.0, is_causal, seed, offset, scale=scale
    )
    return grads
