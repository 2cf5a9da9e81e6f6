"""PyTorch's flash attention with its log-sum-exp, forward and backward, on CPUs and on CUDA.

`scaled_dot_product_attention` discards the log-sum-exp, so the operators beneath it are called: on a CPU its one flash
kernel, on CUDA the one that it would choose itself, FlashAttention or cuDNN's. So reading a model's attention costs no
other kernel than running the model does.

Legend: B batch, H heads, G key-value heads, T tokens, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

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


class FlashKernel(Protocol):
    """A flash attention."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, is_causal: bool, scale: float
    ) -> FlashOutput:
        """Attention and its log-sum-exp."""

    def backward(
        self,
        out_grad: Tensor,
        inputs: tuple[Tensor, Tensor, Tensor],
        output: FlashOutput,
        bias: Tensor | None,
        is_causal: bool,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of query, key and value, from that of the output."""


def find_kernel(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float) -> FlashKernel | None:
    """The kernel for tensors of this device, shape and type; None if PyTorch would use one without a log-sum-exp."""
    if query.device.type == "cpu":
        return _CPU
    shared = query.shape[1] != key.shape[1]
    choice = torch._fused_sdp_choice(query, key, value, None, 0.0, is_causal, scale=scale, enable_gqa=shared)
    return _CUDA.get(int(choice))


class _OnCpu:
    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, is_causal: bool, scale: float
    ) -> FlashOutput:
        out, log_sum_exp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, is_causal, attn_mask=bias, scale=scale
        )
        return FlashOutput(out, log_sum_exp, ())

    def backward(
        self,
        out_grad: Tensor,
        inputs: tuple[Tensor, Tensor, Tensor],
        output: FlashOutput,
        bias: Tensor | None,
        is_causal: bool,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        grads: tuple[Tensor, Tensor, Tensor]
        grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            out_grad, *inputs, output.out, output.log_sum_exp, 0.0, is_causal, attn_mask=bias, scale=scale
        )
        return grads


class _FlashOnCuda:
    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, is_causal: bool, scale: float
    ) -> FlashOutput:
        assert bias is None
        out, log_sum_exp, *state, _ = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, is_causal, False, scale=scale
        )
        return FlashOutput(out, log_sum_exp, tuple(state))

    def backward(
        self,
        out_grad: Tensor,
        inputs: tuple[Tensor, Tensor, Tensor],
        output: FlashOutput,
        bias: Tensor | None,
        is_causal: bool,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert bias is None
        # The state: offsets and lengths of packed texts (of none here), and the generator of the dropout (of 0).
        *lengths, seed, offset = output.state
        grads: tuple[Tensor, Tensor, Tensor]
        grads = torch.ops.aten._scaled_dot_product_flash_attention_backward(
            out_grad, *inputs, output.out, output.log_sum_exp, *lengths, 0.0, is_causal, seed, offset, scale=scale
        )
        return grads


class _CudnnOnCuda:
    """cuDNN's log-sum-exp has a last dimension of one: [B, H, T, 1]."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, is_causal: bool, scale: float
    ) -> FlashOutput:
        assert bias is None
        out, log_sum_exp, *state, _ = torch.ops.aten._scaled_dot_product_cudnn_attention(
            query, key, value, None, True, 0.0, is_causal, False, scale=scale
        )
        return FlashOutput(out, log_sum_exp.view(query.shape[:3]), tuple(state))

    def backward(
        self,
        out_grad: Tensor,
        inputs: tuple[Tensor, Tensor, Tensor],
        output: FlashOutput,
        bias: Tensor | None,
        is_causal: bool,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert bias is None
        *lengths, seed, offset = output.state
        log_sum_exp = output.log_sum_exp[..., None]
        grads: tuple[Tensor, Tensor, Tensor]
        grads = torch.ops.aten._scaled_dot_product_cudnn_attention_backward(
            *(out_grad, *inputs, output.out, log_sum_exp, seed, offset, None, *lengths, 0.0, is_causal), scale=scale
        )
        return grads


_CPU: FlashKernel = _OnCpu()
_CUDA: dict[int, FlashKernel] = {
    SDPBackend.FLASH_ATTENTION.value: _FlashOnCuda(),
    SDPBackend.CUDNN_ATTENTION.value: _CudnnOnCuda(),
}
