"""The views of attention that methods compare: which rows and columns, and whether heads are told apart.

Each view that some method of a recipe needs is read once and has a store and a stage of its own, so that one more
method never has what is there read anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from molsaki.spans import SPAN_RULES, Keys, Spans, find_spans

ViewName = Literal["steps", "heads"]


@dataclass(frozen=True, slots=True)
class View:
    """One view of a model's attention on a question and its rationale.

    Attributes:
        name: as methods ask for it.
        folder: its store in a run's directory.
        stage: the stage that reads it.
        title: how it is called where people read of it.
        heads: each head of every layer is kept apart; else a layer is the mean over its heads.
    """

    name: ViewName
    folder: str
    stage: str
    title: str
    heads: bool = False

    def spans(self, question: str, rationale: str, keys: Keys) -> Spans:
        """The rows and columns: the text's steps and keys."""
        return find_spans(question, rationale, keys)

    def rules(self, keys: str) -> dict[str, str]:
        """What decides its rows and columns, for fingerprints; the same names for every view, never the same values.

        Args:
            keys: what the recipe takes for keys.
        """
        return {"keys": keys, "span rules": SPAN_RULES, "layers": "all heads of all" if self.heads else "all"}


STEPS = View("steps", "attention", "attend", "attention")
"""Steps by keys, mean over heads: the paper's."""
HEADS = View("heads", "attention-heads", "attend-heads", "attention of each head", heads=True)
"""Steps by keys, head by head."""
VIEWS: dict[str, View] = {view.name: view for view in (STEPS, HEADS)}
"""All views by name, in the order in which they are read."""
