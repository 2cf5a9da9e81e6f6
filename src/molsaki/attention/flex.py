"""FlexAttention with its log-sum-exp: a kernel for GPUs, used only on request.

FlexAttention returns the log-sum-exp beside its output, both differentiable. It is compiled for its shapes on the
first call, takes the mask as a function, and skips blocks of tokens that are masked as a whole.

The compiler makes a new kernel for every new number in the mask's function, so the length of a window and of what
precedes a part of a text are tensors there.

Legend: B batch, H heads, G key-value heads, T tokens, P tokens before them, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

from molsaki.attention.rules import MaskRule

FLEX_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})
"""The types that the compiled kernel supports."""
MIN_HEAD = 16
"""The smallest head dimension that it supports."""
DEVICES = ("cuda", "xpu")
"""The devices where it is compiled into one kernel; on a CPU it has no backward pass."""


class BlockMaskCache:
    """A cache of the block masks of the last two masks, for all layers that share them."""

    def __init__(self) -> None:
        self._known: list[tuple[Tensor, BlockMask]] = []

    def get(self, mask: Tensor | None, is_causal: bool, tokens: int, device: torch.device) -> BlockMask | None:
        """The block mask of a bool mask [B or 1, H or 1, T, T] or, without one, of the causal rule.

        None without a mask and without the causal rule: every token attends to every token.
        """
        if mask is None:
            return _causal(tokens, device) if is_causal else None
        if isinstance(mask, MaskRule):
            return blocks_of(mask)
        for known, blocks in self._known:
            if known is mask:
                return blocks
        blocks = _from_dense(mask)
        self._known = [*self._known[-1:], (mask, blocks)]
        return blocks


@lru_cache(maxsize=32)
def _causal(tokens: int, device: torch.device) -> BlockMask:
    # The cache outlives this forward pass, and training could not use a tensor created in inference mode.
    with torch.inference_mode(False):
        return blocks_of(MaskRule(1, tokens, None, None, device))


_BLOCK = 128
"""The number of queries and of keys in a block of FlexAttention."""


def blocks_of(rule: MaskRule) -> BlockMask:
    """The block mask of a rule, computed once."""
    if rule.blocks is None:
        rule.blocks = _from_rule(rule)
    blocks: BlockMask = rule.blocks
    return blocks


def _from_rule(rule: MaskRule) -> BlockMask:
    """Find partial and full blocks from the corners of each block, without evaluating the pairs of tokens.

    N blocks of queries are the rows and M blocks of keys the columns; `create_block_mask` would evaluate every pair.
    """
    T, keys, past, starts = rule.shape[2], rule.shape[3], rule.past, rule.starts_B111
    window = rule.window or keys
    row_N1 = torch.arange(0, T, _BLOCK, device=rule.device)[:, None]
    column_M = torch.arange(0, keys, _BLOCK, device=rule.device)
    start = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=rule.device) if starts is None else starts
    # The positions of a block's first and last query among the P + T, and of its last key.
    at_N1, last_at_N1 = past + row_N1, past + (row_N1 + _BLOCK).clamp(max=T) - 1
    last_column_M = (column_M + _BLOCK).clamp(max=keys) - 1
    # A token attends to a key at the distance position − column of 0 … window − 1. Within a block the distance takes
    # all values from at − last_column to last_at − column. So some pair is in reach if that range meets 0 … window − 1
    # (with columns from the text's start), and all pairs are if it is inside. Both are [B or 1, 1, N, M]. A block
    # that the sequence ends in is never full, since FlexAttention would not mask the rest of it.
    begun_M = torch.maximum(column_M, start)
    some = (begun_M <= last_column_M) & (last_at_N1 >= begun_M) & (at_N1 - last_column_M < window)
    is_full_block = (row_N1 + _BLOCK <= T) & (column_M + _BLOCK <= keys)
    whole = is_full_block & (column_M >= start) & (at_N1 >= last_column_M) & (last_at_N1 - column_M < window)
    arguments = (*_listed(some & ~whole), *_listed(whole))
    sees = _pairs(rule)
    return BlockMask.from_kv_blocks(*arguments, BLOCK_SIZE=_BLOCK, mask_mod=sees, seq_lengths=(T, keys))


def _pairs(rule: MaskRule) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Whether query i attends to key j, in the form of FlexAttention's masks."""
    starts = rule.starts_B111
    past = torch.tensor(rule.past, device=rule.device)
    window = torch.tensor(rule.window or rule.shape[3], device=rule.device)

    def causal(_b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return j <= i

    def sees(b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        seen = (j <= i + past) & (j > i + past - window)
        return seen if starts is None else seen & (j >= starts[b, 0, 0, 0])

    return causal if rule.is_causal_rule else sees


def _listed(blocks_B1NM: Tensor) -> tuple[Tensor, Tensor]:
    """Counts [B, 1, N] and indices [B, 1, N, M] of each row's blocks, selected ones first, as in `BlockMask`."""
    order = torch.argsort(blocks_B1NM.int(), dim=-1, descending=True, stable=True)
    return blocks_B1NM.sum(-1).int(), order.int().contiguous()


def _from_dense(mask: Tensor) -> BlockMask:
    """The block mask of any bool mask, by evaluating every pair of tokens."""
    B, H, T, keys = mask.shape

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return mask[b if B > 1 else 0, h if H > 1 else 0, i, j]

    return create_block_mask(sees, B if B > 1 else None, H if H > 1 else None, T, keys, device=str(mask.device))


def attention_with_log_sum_exp(
    query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor, blocks: BlockMask | None, *, scale: float
) -> tuple[Tensor, Tensor]:
    """Compute attention and the log-sum-exp of its rows, both differentiable.

    Args:
        query_BHTD: queries.
        key_BGTD: keys, of P + T tokens; each serves H / G heads and is not repeated.
        value_BGTD: values.
        blocks: the block mask, or None if every token attends to every token.
        scale: factor of the scores.

    Returns:
        The output [B, H, T, D_v] and the log-sum-exp [B, H, T] in float32.
    """
    shares = query_BHTD.shape[1] != key_BGTD.shape[1]
    run: Any = _compiled() if query_BHTD.device.type in DEVICES else flex_attention
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
