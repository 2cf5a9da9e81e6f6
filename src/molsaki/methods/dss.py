"""Distilling step-by-step: the rationale as a second task."""

from __future__ import annotations

from pydantic import Field

from molsaki.methods.base import Method
from molsaki.methods.terms import MethodSettings, Terms, label_and_rationale


class DistillingStepByStepSettings(MethodSettings):
    """Settings of Distilling step-by-step.

    Attributes:
        alpha: weight of the answers' loss; the rationales' has 1 − alpha. 0.5 in the MoLSAKI paper.
    """

    alpha: float = Field(default=0.5, ge=0, le=1)


class DistillingStepByStep(Method[DistillingStepByStepSettings]):
    """L = α·L_pre + (1 − α)·L_exp: write the answer after `predict:`, the rationale after `explain:`.

    Hsieh et al., "Distilling Step-by-Step!", Findings of ACL 2023; the weights as in the MoLSAKI paper (Eq. 8
    without its attention term).
    """

    name = "dss"
    summary = "answer and rationale as two tasks (Distilling step-by-step)"
    Settings = DistillingStepByStepSettings

    @classmethod
    def terms_of(cls, settings: DistillingStepByStepSettings) -> Terms:
        """L = α·L_pre + (1 − α)·L_exp."""
        return Terms(label_and_rationale(settings.alpha))
