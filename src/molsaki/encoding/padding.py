"""Rows of different lengths as one padded tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Pad rows on the right to the longest: LongTensor [rows, longest]."""
    padded = torch.full((len(rows), max(len(row) for row in rows)), filler, dtype=torch.long)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded
