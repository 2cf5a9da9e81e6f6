"""The views of attention that methods compare: which rows and columns, and whether heads are kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from molsaki.spans.find import Keys, Spans, find_spans
from molsaki.spans.steps import StepRule
from molsaki.spans.words import find_words

ViewName = Literal["steps", "heads", "words"]


@dataclass(frozen=True, slots=True)
class View:
    """One view of a model's attention on a question and its rationale.

    Attributes:
        name: as methods ask for it.
        heads: each head of every layer is kept apart; else a layer is the mean over its heads.
        words: rows are the words of the rationale and columns all words; else steps and keys.
    """

    name: ViewName
    heads: bool = False
    words: bool = False

    def spans(self, question: str, rationale: str, keys: Keys, steps: StepRule = "sentences") -> Spans:
        """The rows (as steps) and columns (as keys) of a text."""
        return find_words(question, rationale) if self.words else find_spans(question, rationale, keys, steps)


STEPS = View("steps")
"""Steps by keys, mean over heads: the paper's."""
HEADS = View("heads", heads=True)
"""Steps by keys, head by head."""
WORDS = View("words", words=True)
"""Words by words over question and rationale, mean over heads."""
VIEWS: dict[str, View] = {view.name: view for view in (STEPS, HEADS, WORDS)}
"""All views by name, in the order in which they are read."""
