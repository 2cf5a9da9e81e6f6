"""The parts of the loss, summed up on the device until somebody wants to read them.

Reading a number off a GPU makes the processor wait for it, so what every batch gives is added up as tensors, and
read once for each line of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from molsaki.methods import TERMS


class PartMeans:
    """Sums of the loss's parts over batches.

    Args:
        parts: which of `TERMS` the method's loss has; the others are not reported.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = tuple(parts)
        self._sums: Tensor | None = None

    @property
    def empty(self) -> bool:
        """Nothing was added since the beginning or the last `take`."""
        return self._sums is None

    def add(self, outputs: Mapping[str, Tensor], counts: Tensor | None = None, processes: int = 1) -> None:
        """Add what one forward pass gave.

        Args:
            outputs: what `DistillationModel.forward` returns.
            counts: of how many items each part is a mean in these outputs; None adds the parts as they are, where
                they are already this batch's share of a step's means.
            processes: over how many processes' batches the items were counted.
        """
        loss = outputs["loss"].detach().float()
        weights = torch.ones(len(TERMS), device=loss.device) if counts is None else counts.float()
        values = torch.stack([outputs[f"{part}_loss"].float() for part in TERMS])
        weighted = torch.stack([outputs[f"{part}_share"].float() for part in TERMS]) * loss
        sums = torch.stack([values * weights, weighted * weights, weights / processes])
        self._sums = sums if self._sums is None else self._sums + sums

    def take(
        self, prefix: str = "", steps: int | None = None, gather: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, float]:
        """The parts' means and their shares of the loss; then begin anew.

        Args:
            prefix: of the names.
            steps: how many optimiser steps were added; None where items were counted.
            gather: sums a tensor over processes.

        Returns:
            For every part with items `<part>_loss`, before weighing, and `<part>_share`; and `loss`, their weighted
            sum. Nothing if nothing was added, or no item of these parts.
        """
        if self._sums is None:
            return {}
        sums, self._sums = self._sums, None
        values, weighted, counts = (sums if gather is None else gather(sums)).tolist()
        means = {}
        terms = {}
        for index, part in enumerate(TERMS):
            items = counts[index] if steps is None else steps
            if part in self.parts and items:
                means[f"{prefix}{part}_loss"] = values[index] / items
                terms[part] = weighted[index] / items
        if not terms:
            return {}
        total = sum(terms.values())
        shares = {f"{prefix}{part}_share": term / total if total else 0.0 for part, term in terms.items()}
        return {f"{prefix}loss": total, **means, **shares}
