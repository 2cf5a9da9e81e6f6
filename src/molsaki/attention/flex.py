"""FlexAttention with its log-sum-exp: the fast way on GPUs.

FlexAttention gives the log-sum-exp beside its output, and takes a gradient for both. It is compiled for its shapes
when it first runs, and takes a mask as a rule, of which it skips the blocks that nobody sees.

Legend: B batch, H heads, G key-value heads, T tokens, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

FLEX_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})
"""What the compiled kernel takes."""
SMALLEST_HEAD = 16
"""The smallest head dimension that it takes."""
DEVICES = ("cuda", "xpu")
"""Where it is compiled into one kernel; on a CPU it has no backward pass."""


class BlockMaskCache:
    """The block masks of the last two masks, for all layers that share one.

    Without a mask there are the causal rule and none at all; both depend on the length alone.
    """

    def __init__(self) -> None:
        self._known: list[tuple[Tensor, BlockMask]] = []

    def get(self, mask: Tensor | None, is_causal: bool, tokens: int, device: torch.device) -> BlockMask | None:
        """The block mask of a bool mask [B or 1, H or 1, T, T], or of the causal rule; None where all is seen."""
        if mask is None:
            return _causal(tokens, device) if is_causal else None
        for known, blocks in self._known:
            if known is mask:
                return blocks
        blocks = _from_dense(mask)
        self._known = [*self._known[-1:], (mask, blocks)]
        return blocks


@lru_cache(maxsize=32)
def _causal(tokens: int, device: torch.device) -> BlockMask:
    def sees(_b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return i >= j

    return create_block_mask(sees, None, None, tokens, tokens, device=str(device))


def _from_dense(mask: Tensor) -> BlockMask:
    B, H, T, _ = mask.shape

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return mask[b if B > 1 else 0, h if H > 1 else 0, i, j]

    return create_block_mask(sees, B if B > 1 else None, H if H > 1 else None, T, T, device=str(mask.device))


def attention_with_log_sum_exp(
    query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor, blocks: BlockMask | None, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention and the log-sum-exp of its rows, both with gradients.

    Args:
        query_BHTD: queries.
        key_BGTD: keys; each serves H / G heads and is not repeated.
        value_BGTD: values.
        blocks: who sees whom, or None.
        scale: what the scores are multiplied by.

    Returns:
        The output [B, H, T, D_v] and the log-sum-exp [B, H, T] in float32.
    """
    shares = query_BHTD.shape[1] != key_BGTD.shape[1]
    run = _compiled() if query_BHTD.device.type in DEVICES else cast(Callable[..., Any], flex_attention)
    out, more = run(
        query_BHTD,
        key_BGTD,
        value_BGTD,
        block_mask=blocks,
        scale=scale,
        enable_gqa=shares,
        return_aux=AuxRequest(lse=True),
    )
    return out, more.lse


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention)
