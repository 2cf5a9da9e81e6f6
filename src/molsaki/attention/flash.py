"""PyTorch's flash attention with its log-sum-exp, forward and backward, on CPUs and on CUDA.

`scaled_dot_product_attention` discards the log-sum-exp, so the operators beneath it are called: on a CPU its one flash
kernel, on CUDA the one that it would choose itself, FlashAttention or cuDNN's. So reading a model's attention runs on
the kernel that the model runs on.

Legend: B batch, H heads, G key-value heads, T tokens, D head dimension.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

DTYPES = {
    "cpu": frozenset({torch.float32, torch.float64, torch.bfloat16}),
    "cuda": frozenset({torch.bfloat16}),
}
"""The supported types by device. float16 lacks the range that the gradient of the log-sum-exp needs."""
_CUDNN = SDPBackend.CUDNN_ATTENTION.value
_ON_CUDA = {_CUDNN, SDPBackend.FLASH_ATTENTION.value}


@dataclass(frozen=True, slots=True)
class FlashOutput:
    """What the forward pass gives.

    Attributes:
        out: [B, H, T, D].
        log_sum_exp: [B, H, T], in float32 or float64.
        state: what the backward pass needs besides: numbers and small tensors. On CUDA, first whether the kernel is
            cuDNN's.
    """

    out: Tensor
    log_sum_exp: Tensor
    state: tuple[Any, ...]


def is_supported(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> bool:
    """Whether PyTorch would use a flash kernel for tensors of this device, shape and type."""
    return query.device.type == "cpu" or _choice(query, key, value, is_causal) in _ON_CUDA


def _choice(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> int:
    shared = query.shape[1] != key.shape[1]
    return int(torch._fused_sdp_choice(query, key, value, None, 0.0, is_causal, enable_gqa=shared))


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
    if _choice(query, key, value, is_causal) == _CUDNN:
        out, log_sum_exp, *state, _ = torch.ops.aten._scaled_dot_product_cudnn_attention(
            query, key, value, None, True, 0.0, is_causal, False, scale=scale
        )
        return FlashOutput(out, log_sum_exp.view(query.shape[:3]), (True, *state))
    out, log_sum_exp, *state, _ = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, is_causal, False, scale=scale
    )
    return FlashOutput(out, log_sum_exp, (False, *state))


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
    is_cudnn, *lengths, seed, offset = output.state
    if is_cudnn:
        out, out_grad = _as_planned(output.out, out_grad, inputs[0])
        log_sum_exp = output.log_sum_exp.contiguous()[..., None]
        grads = torch.ops.aten._scaled_dot_product_cudnn_attention_backward(
            *(out_grad, *inputs, out, log_sum_exp, seed, offset, None, *lengths, 0.0, is_causal), scale=scale
        )
        return grads
    grads = torch.ops.aten._scaled_dot_product_flash_attention_backward(
        out_grad, *inputs, output.out, output.log_sum_exp, *lengths, 0.0, is_causal, seed, offset, scale=scale
    )
    return grads


def _as_planned(out: Tensor, out_grad: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """The output and its gradient, [B, H, T, D], in the layouts that a model's own attention has.

    PyTorch keeps cuDNN's plan of a backward pass and finds it again by the layouts of queries, keys and values, while
    the plan depends on those of the output and its gradient too. If these differ from the plan's first call, cuDNN
    misreads them, and all gradients are wrong (PyTorch 2.11; on an H100 by 1.4 times their size). In a model cuDNN
    lays the output out as the queries, and its gradient is [B, T, H, D] in memory, since the heads of a token are
    joined.
    """
    layout = torch.empty_like(query, device="meta").stride()
    if out.stride() != layout:
        out = torch.empty_like(query).copy_(out)
    return out, out_grad.transpose(1, 2).contiguous().transpose(1, 2)


def has_triton(x: Tensor) -> bool:
    """Whether the kernels of `triton_kernels` take a tensor."""
    return x.device.type == "cuda" and x.dtype in DTYPES["cuda"] and _compiles(x.device)


@lru_cache(maxsize=16)
def _compiles(device: torch.device) -> bool:
    """Triton compiles with the system's compiler, and has products in bfloat16 from compute capability 8.0 on."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    return find_spec("triton") is not None and bool(compiler) and torch.cuda.get_device_capability(device) >= (8, 0)
