"""Distilling step-by-step: the rationale as a second task."""

from __future__ import annotations

from typing import cast

from pydantic import Field

from molsaki.methods.base import Method, MethodInputs, MethodSettings
from molsaki.methods.losses import LossParts, weighted_loss


class DistillingStepByStepSettings(MethodSettings):
    """Settings of Distilling step-by-step.

    Attributes:
        alpha: weight of the answers' loss; the rationales' has 1 − alpha. 0.5 in the MoLSAKI paper.
    """

    alpha: float = Field(default=0.5, ge=0, le=1)


class DistillingStepByStep(Method):
    """L = α·L_pre + (1 − α)·L_exp: write the answer after `predict:`, the rationale after `explain:`.

    Hsieh et al., "Distilling Step-by-Step!", Findings of ACL 2023; the weights as in the MoLSAKI paper (Eq. 8
    without its attention term).
    """

    name = "dss"
    summary = "answer and rationale as two tasks (Distilling step-by-step)"
    tasks = ("predict", "explain")
    Settings = DistillingStepByStepSettings

    def forward(self, inputs: MethodInputs) -> LossParts:
        """L = α·L_pre + (1 − α)·L_exp."""
        settings = cast(DistillingStepByStepSettings, self.settings)
        assert inputs.label_loss is not None, "the predict task was not batched"
        assert inputs.rationale_loss is not None, "the explain task was not batched"
        return weighted_loss(
            {"label": (settings.alpha, inputs.label_loss), "rationale": (1 - settings.alpha, inputs.rationale_loss)}
        )
