"""Which kernels can compute a layer's attention, and the fastest of them; `kernels.py` has the kernels.

Legend: B batch, H heads, G key-value heads, T tokens, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from molsaki.attention import flash, flex
from molsaki.attention.rules import MaskRule

Kernel = Literal["auto", "lse", "flex", "second-pass", "eager"]
KERNELS = ("auto", "lse", "flex", "second-pass", "eager")


@dataclass(frozen=True)
class AttentionCall:
    """The arguments that a layer passes to the attention interface.

    Attributes:
        module: the layer's attention module.
        query: [B, H, T, D].
        key: [B, G, T, D]; of a part of a text, all tokens up to its end.
        value: [B, G, T, D_v], likewise.
        mask: [B or 1, H or 1, T, T], bool (True where attended; may be a `MaskRule`) or float (added to the scores);
            or None.
        dropout: probability, 0 outside training.
        scale: factor of the scores.
        is_causal: without a mask, a token attends to itself and to earlier tokens.
        softcap: scores become softcap · tanh(score / softcap), or None.
        sinks: [H], a score that takes part in each row's softmax and has no value; or None.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    dropout: float
    scale: float
    is_causal: bool
    softcap: float | None
    sinks: Tensor | None

    @property
    def compute_dtype(self) -> torch.dtype:
        """The type in which the attention is computed: the query's, or that of autocast."""
        device = self.query.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.query.dtype


def choose_kernel(call: AttentionCall) -> tuple[Kernel, str]:
    """The fastest of the kernels that compute this layer, and why. FlexAttention is used only on request."""
    reason = why_not("lse", call)
    if reason is None:
        return "lse", f"on {call.query.device.type}, {call.query.dtype}"
    return ("eager" if why_not("second-pass", call) else "second-pass"), reason


def why_not(kernel: Kernel, call: AttentionCall) -> str | None:
    """Why a kernel cannot compute a layer's attention; None if it can."""
    if kernel not in KERNELS:
        return f"it is not a kernel; the kernels are {', '.join(KERNELS)}"
    if kernel == "eager":
        return None
    if call.softcap is not None:
        return "the scores have a soft cap, which fused attention does not support"
    if kernel == "second-pass":
        return None if call.sinks is None else "the rows have sinks, which fused attention does not support"
    if call.dropout > 0:
        return f"attention has a dropout of {call.dropout}"
    if call.mask is not None and call.mask.requires_grad:
        return "the mask is learned"
    return _why_not_flex(call) if kernel == "flex" else _why_not_flash(call)


def _why_not_flash(call: AttentionCall) -> str | None:
    device = call.query.device.type
    if device not in flash.DTYPES:
        return f"it runs on CPUs and on CUDA; these tensors are on {device}"
    if call.compute_dtype not in flash.DTYPES[device]:
        return f"flash attention on {device} does not support {call.compute_dtype} with gradients of its log-sum-exp"
    if call.value.shape[-1] > call.key.shape[-1]:
        return "the values are wider than the keys"
    if device == "cpu":
        return None
    rule = call.mask if isinstance(call.mask, MaskRule) else None
    if (rule is None and call.mask is not None) or (rule is not None and rule.window is not None):
        return f"flash attention on {device} takes no mask and no window"
    return None if _has_flash_kernel(call) else f"PyTorch has no flash kernel for heads of {call.query.shape[-1]}"


def _why_not_flex(call: AttentionCall) -> str | None:
    if call.query.device.type not in flex.DEVICES and torch.is_grad_enabled() and call.query.requires_grad:
        return f"FlexAttention has no backward pass on {call.query.device.type}"
    if call.compute_dtype not in flex.FLEX_DTYPES:
        return f"FlexAttention does not support {call.compute_dtype}"
    if min(call.query.shape[-1], call.value.shape[-1]) < flex.MIN_HEAD:
        return f"the heads are narrower than {flex.MIN_HEAD}"
    if call.mask is not None and call.mask.dtype != torch.bool:
        return "the mask is added to the scores, and FlexAttention supports bool masks only"
    return None


def _has_flash_kernel(call: AttentionCall) -> bool:
    """Whether a kernel of `flash` computes the tokens' attention to each other."""
    T, D = call.query.shape[2:]
    # As `_flash` passes them: in the type of autocast, the values as wide as the keys. Only shapes and types count, so
    # nothing is computed or copied.
    query, key, value = (
        x[:, :, -T:] if x.dtype == call.compute_dtype else torch.empty_like(x[:, :, -T:], dtype=call.compute_dtype)
        for x in (call.query, call.key, call.key if call.value.shape[-1] < D else call.value)
    )
    return flash.is_supported(query, key, value, call.is_causal or call.mask is not None)
