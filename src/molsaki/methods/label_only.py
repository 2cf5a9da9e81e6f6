"""Label only: the baseline that learns answers and nothing else."""

from __future__ import annotations

from molsaki.methods.base import Method, Seen
from molsaki.objectives import LossParts, distillation_loss


class LabelOnly(Method):
    """Vanilla fine-tuning: L = L_pre, the cross-entropy of the answer after `predict:`."""

    name = "label-only"
    summary = "question → answer, no rationale"
    tasks = ("predict",)

    def forward(self, seen: Seen) -> LossParts:
        """L = L_pre."""
        return distillation_loss(seen.label_loss, seen.label_loss.new_zeros(()), alpha=1.0)
