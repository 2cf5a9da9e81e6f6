"""Label only: the baseline that learns answers and nothing else."""

from __future__ import annotations

from molsaki.methods.base import Method, MethodInputs
from molsaki.methods.losses import LossParts, weighted_loss


class LabelOnly(Method):
    """Vanilla fine-tuning: L = L_pre, the cross-entropy of the answer after `predict:`."""

    name = "label-only"
    summary = "question → answer, no rationale"
    tasks = ("predict",)

    def forward(self, inputs: MethodInputs) -> LossParts:
        """L = L_pre."""
        assert inputs.label_loss is not None, "the predict task was not batched"
        return weighted_loss({"label": (1.0, inputs.label_loss)})
