"""A question with its rationale: the text that steps, keys and attention belong to."""

from __future__ import annotations

import re
from dataclasses import dataclass

from molsaki.records import hash_json, hash_text
from molsaki.spans.find import SPAN_RULES, Keys
from molsaki.spans.steps import StepRule


@dataclass(frozen=True, slots=True)
class Text:
    """One question with its rationale, as attention is read on it.

    Attributes:
        id: the problem's id.
        question, rationale: the two shared texts.
        keys: what counts as a key.
        steps: what a step of the rationale is.
    """

    id: str
    question: str
    rationale: str
    keys: Keys
    steps: StepRule = "sentences"

    @property
    def text_hash(self) -> str:
        """Hash of the texts and the keys: what decides steps, keys and attention, given a teacher."""
        rule: object
        if isinstance(self.keys, re.Pattern):
            rule = {"pattern": self.keys.pattern, "flags": self.keys.flags}
        else:
            rule = self.keys if isinstance(self.keys, str) else list(self.keys)
        steps = () if self.steps == "sentences" else (self.steps,)
        return hash_text(self.question, self.rationale, hash_json(rule), SPAN_RULES, *steps)
