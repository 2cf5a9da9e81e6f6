"""Rows of different lengths as one padded tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that rows are padded with: the padding token, or the one that ends texts, or the first.

    Which it is changes no result: in a causal model no real token attends to the padding after it.
    """
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return 0 if padding is None else padding


def pad(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Pad rows on the right to the longest: LongTensor [rows, longest]."""
    padded = torch.full((len(rows), max(len(row) for row in rows)), filler, dtype=torch.long)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded
