"""Standard chain-of-thought fine-tuning: the rationale and then the answer, in one sequence."""

from __future__ import annotations

from molsaki.methods.base import Method
from molsaki.methods.terms import MethodSettings, Terms, reasoning


class ChainOfThought(Method[MethodSettings]):
    """L = −(1/N) Σ_n log p(z_n | q, z_<n), z the rationale and its answer sentence after `reason:`, N tokens of them.

    Ho et al., "Large Language Models Are Reasoning Teachers", ACL 2023; Magister et al., "Teaching Small Language
    Models to Reason", ACL 2023. The student has to write its rationale to answer, so it is tested on the `reason:`
    prompt, and its answer is read from the answer sentence, as a teacher's is.
    """

    name = "cot"
    summary = "rationale, then answer, in one sequence (chain-of-thought fine-tuning)"
    Settings = MethodSettings

    @classmethod
    def terms_of(cls, settings: MethodSettings) -> Terms:  # noqa: ARG003 - there are none
        """The cross-entropy of rationale and answer."""
        return Terms([reasoning()])
