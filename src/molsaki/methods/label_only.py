"""Label only: the baseline that learns answers and nothing else."""

from __future__ import annotations

from molsaki.methods.base import Method
from molsaki.methods.terms import MethodSettings, Term, Terms


class LabelOnly(Method[MethodSettings]):
    """Vanilla fine-tuning: L = L_pre, the cross-entropy of the answer after `predict:`."""

    name = "label-only"
    summary = "question → answer, no rationale"
    Settings = MethodSettings

    @classmethod
    def terms_of(cls, settings: MethodSettings) -> Terms:  # noqa: ARG003 - there are none
        """L = L_pre."""
        return Terms([Term("label", 1.0, ("predict",))])
