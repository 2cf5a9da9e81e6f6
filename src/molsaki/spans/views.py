"""The views of attention that methods compare: which rows and columns, and whether heads are kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

from molsaki.spans.find import SPAN_RULES, Keys, Spans, find_spans
from molsaki.spans.steps import StepRule
from molsaki.spans.words import WORD_RULES, find_words

Rows = Literal["steps", "words", "before-keys"]
Columns = Literal["keys", "words"]


@dataclass(frozen=True, slots=True)
class View:
    """One view of a model's attention on a question and its rationale.

    Attributes:
        rows: the steps; the words of the rationale; or the tokens directly before the rationale's keys, which predict
            them.
        columns: the keys, or the words of question and rationale.
        heads: each head of every layer is kept apart; else a layer is the mean over its heads.
    """

    rows: Rows = "steps"
    columns: Columns = "keys"
    heads: bool = False

    @property
    def name(self) -> str:
        """The name of its store."""
        plain = {("steps", "keys"): "steps", ("words", "words"): "words"}
        base = plain.get((self.rows, self.columns), f"{self.rows}-on-{self.columns}")
        if not self.heads:
            return base
        return "heads" if base == "steps" else f"{base}-heads"

    @property
    def title(self) -> str:
        """What it is, for people."""
        what = {
            ("steps", "keys"): "attention",
            ("words", "words"): "attention of words",
            ("steps", "words"): "attention of steps on words",
            ("words", "keys"): "attention of words on keys",
            ("before-keys", "keys"): "attention before keys",
            ("before-keys", "words"): "attention before keys on words",
        }[self.rows, self.columns]
        return f"{what} of each head" if self.heads else what

    def spans(self, question: str, rationale: str, keys: Keys, steps: StepRule = "sentences") -> Spans:
        """The rows (as steps) and columns (as keys) of a text."""
        found, words = find_spans(question, rationale, keys, steps), find_words(question, rationale)
        rows = {
            "steps": found.steps,
            "words": words.steps,
            "before-keys": tuple(key for key in found.keys if key.text == "rationale"),
        }[self.rows]
        columns = found.keys if self.columns == "keys" else words.keys
        return Spans(
            rows, columns, leading_space="words" in (self.rows, self.columns), before=self.rows == "before-keys"
        )

    def rules(self, keys: str) -> dict[str, str]:
        """What decides its rows and columns, for fingerprints.

        Args:
            keys: what the recipe takes for keys.
        """
        used = {
            "steps": SPAN_RULES,
            "keys": SPAN_RULES,
            "words": f"words {WORD_RULES}",
            "before-keys": f"{SPAN_RULES} before",
        }
        return {
            "keys": keys if self.columns == "keys" or self.rows == "before-keys" else "words",
            "span rules": ", ".join(dict.fromkeys((used[self.rows], used[self.columns]))),
        }


STEPS = View()
"""Steps by keys, mean over heads: the paper's."""
HEADS = View(heads=True)
"""Steps by keys, head by head."""
WORDS = View("words", "words")
"""Words by words over question and rationale, mean over heads."""
_ROWS: tuple[Rows, ...] = ("steps", "words", "before-keys")
_COLUMNS: tuple[Columns, ...] = ("keys", "words")
VIEWS: dict[str, View] = {
    view.name: view
    for view in (
        STEPS,
        HEADS,
        WORDS,
        *(View(rows, columns, heads) for rows, columns, heads in product(_ROWS, _COLUMNS, (False, True))),
    )
}
"""All views by name, in the order in which they are stored."""
