"""The views of attention that methods compare: which rows and columns, and whether heads are told apart.

Each view that some method of a recipe needs is read once and has a store and a stage of its own, so that one more
method never has what is there read anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from molsaki.spans.find import SPAN_RULES, Keys, Spans, find_spans
from molsaki.spans.steps import StepRule
from molsaki.spans.words import WORD_RULES, find_words

ViewName = Literal["steps", "heads", "words"]


@dataclass(frozen=True, slots=True)
class View:
    """One view of a model's attention on a question and its rationale.

    Attributes:
        name: as methods ask for it.
        folder: its store in a run's directory.
        stage: the stage that reads it.
        title: how it is called where people read of it.
        heads: each head of every layer is kept apart; else a layer is the mean over its heads.
        words: rows are the words of the rationale and columns all words; else steps and keys.
    """

    name: ViewName
    folder: str
    stage: str
    title: str
    heads: bool = False
    words: bool = False

    def spans(self, question: str, rationale: str, keys: Keys, steps: StepRule = "sentences") -> Spans:
        """The rows (as steps) and columns (as keys) of a text."""
        return find_words(question, rationale) if self.words else find_spans(question, rationale, keys, steps)

    def rules(self, keys: str) -> dict[str, str]:
        """What decides its rows and columns, for fingerprints; the same names for every view, never the same values.

        Args:
            keys: what the recipe takes for keys.
        """
        layers = "all heads of all" if self.heads else "all"
        if self.words:
            return {"keys": "words", "span rules": f"words {WORD_RULES}", "layers": layers}
        return {"keys": keys, "span rules": SPAN_RULES, "layers": layers}


STEPS = View("steps", "attention", "attend", "attention")
"""Steps by keys, mean over heads: the paper's."""
HEADS = View("heads", "attention-heads", "attend-heads", "attention of each head", heads=True)
"""Steps by keys, head by head."""
WORDS = View("words", "attention-words", "attend-words", "attention of words", words=True)
"""Words by words over question and rationale, mean over heads."""
VIEWS: dict[str, View] = {view.name: view for view in (STEPS, HEADS, WORDS)}
"""All views by name, in the order in which they are read."""
