"""The terms of the loss, summed up on the device between two lines of the log.

Reading a number from a GPU forces the CPU to wait for it, so the values of each batch are added up as tensors and read
once a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


class TermMeans:
    """Sums of a loss's terms over batches.

    Args:
        names: of the terms.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._sums: Tensor | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing was added since the last `take`."""
        return self._sums is None

    def add(self, outputs: Mapping[str, Tensor], counts: Tensor | None = None, processes: int = 1) -> None:
        """Add the outputs of one batch.

        Args:
            outputs: what `DistillationModel.forward` returns.
            counts: number of items that each term is a mean over; None if the terms are this batch's shares of an
                optimizer step's means, which are added as they are.
            processes: number of processes whose items were counted.
        """
        loss = outputs["loss"].detach().float()
        weights = torch.ones(len(self.names), device=loss.device) if counts is None else counts.float()
        values = torch.stack([outputs[f"{name}_loss"].float() for name in self.names])
        weighted = torch.stack([outputs[f"{name}_share"].float() for name in self.names]) * loss
        sums = torch.stack([values * weights, weighted * weights, weights / processes])
        self._sums = sums if self._sums is None else self._sums + sums

    def take(
        self, prefix: str = "", steps: int | None = None, gather: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, float]:
        """The terms' means and their shares of the loss; the sums start again from 0.

        Args:
            prefix: of the names.
            steps: number of optimizer steps that were added; None if items were counted.
            gather: sums a tensor over processes.

        Returns:
            For each term with items `<term>_loss`, before weighting, and `<term>_share`; and `loss`, their weighted
            sum. Empty if nothing was added, or no item of these terms.
        """
        if self._sums is None:
            return {}
        sums, self._sums = self._sums, None
        values, weighted, counts = (sums if gather is None else gather(sums)).tolist()
        means = {}
        terms = {}
        for index, name in enumerate(self.names):
            items = counts[index] if steps is None else steps
            if items:
                means[f"{prefix}{name}_loss"] = values[index] / items
                terms[name] = weighted[index] / items
        if not terms:
            return {}
        total = sum(terms.values())
        shares = {f"{prefix}{name}_share": term / total if total else 0.0 for name, term in terms.items()}
        return {f"{prefix}loss": total, **means, **shares}
