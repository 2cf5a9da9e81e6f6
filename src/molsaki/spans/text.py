"""A question with its rationale: the text that steps, keys and attention belong to."""

from __future__ import annotations

import re
from dataclasses import dataclass

from molsaki.records import hash_json, hash_text
from molsaki.spans.find import SPAN_RULES, Keys, Spans, find_spans
from molsaki.spans.steps import StepRule


@dataclass(frozen=True, slots=True)
class Text:
    """A question with its rationale.

    Example:
        >>> import molsaki
        >>> text = molsaki.Text("a", "Ada has 3 pens and buys 14. How many?", "3 and 14 are 17.", keys="numbers")
        >>> len(text.text_hash)
        16

    Attributes:
        id: the problem's id.
        question, rationale: the two shared texts.
        keys: what counts as a key; see `find_spans`.
        steps: what a step of the rationale is; see `find_spans`.
    """

    id: str
    question: str
    rationale: str
    keys: Keys
    steps: StepRule = "sentences"

    @property
    def text_hash(self) -> str:
        """Hash of the two texts, the keys and the span rules, which decide steps and keys."""
        rule: object
        if isinstance(self.keys, re.Pattern):
            rule = {"pattern": self.keys.pattern, "flags": self.keys.flags}
        else:
            rule = self.keys if isinstance(self.keys, str) else list(self.keys)
        steps = () if self.steps == "sentences" else (self.steps,)
        return hash_text(self.question, self.rationale, hash_json(rule), SPAN_RULES, *steps)

    def spans(self) -> Spans:
        """Its steps and keys; see `find_spans`."""
        return find_spans(self.question, self.rationale, self.keys, self.steps)
