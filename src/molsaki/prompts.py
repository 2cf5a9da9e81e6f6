"""The texts around a question, as templates that a user can copy and change.

A template has exactly one `{question}` and ends with exactly one slot for what the model writes: `{label}`,
`{rationale}` or `{keywords}`. Nothing else in it is special, so braces in few-shot examples are plain text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from molsaki.errors import RecipeError

Slot = Literal["label", "rationale", "keywords"]
_SLOTS: tuple[Slot, ...] = ("label", "rationale", "keywords")

PREDICT = "predict: {question}\n{label}"
EXPLAIN = "explain: {question}\n{rationale}"
TEACHER = "Q: {question}\nA: {rationale}"
KEYWORDS = "Q: {question}\nKey words: {keywords}"


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A prompt in three pieces: what stands before the question, between it and the completion, and the gap.

    Attributes:
        before: text before the question.
        after: text after the question, without the blanks that end it.
        gap: the blanks between prompt and completion. A model is given the prompt without them and writes them
            itself, since tokenizers join a blank to the word that follows it; a line break stays in the prompt.
        slot: what the model writes.
    """

    before: str
    after: str
    gap: str
    slot: Slot

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a template.

        Raises:
            RecipeError: the question or the slot is missing, doubled or in the wrong place.
        """
        found: list[Slot] = [slot for slot in _SLOTS if f"{{{slot}}}" in text]
        slot = found[0] if len(found) == 1 else None
        stripped = text.rstrip("\n")
        if (
            slot is None
            or text.count("{question}") != 1
            or text.count(f"{{{slot}}}") != 1
            or not stripped.endswith(f"{{{slot}}}")
            or text.index("{question}") > text.index(f"{{{slot}}}")
        ):
            raise RecipeError(
                "Expected a prompt template with one {question} and, at its end, one of {label}, {rationale} or "
                f"{{keywords}}; got {text[:200]!r}. It cannot be filled in; see `molsaki recipes show pocket` for one."
            )
        before, rest = stripped.split("{question}")
        after = rest[: -len(f"{{{slot}}}")]
        kept = after.rstrip(" \t")
        return cls(before=before, after=kept, gap=after[len(kept) :], slot=slot)

    def prompt(self, question: str) -> str:
        """What a model is given to write from."""
        return f"{self.before}{question}{self.after}"

    def full(self, question: str, completion: str) -> str:
        """Prompt and completion as one text."""
        return f"{self.prompt(question)}{self.gap}{completion}"

    @property
    def question_start(self) -> int:
        """Where the question starts, in characters."""
        return len(self.before)

    def completion_start(self, question: str) -> int:
        """Where the completion starts in `full`, in characters."""
        return len(self.prompt(question)) + len(self.gap)

    def __str__(self) -> str:
        return f"{self.before}{{question}}{self.after}{self.gap}{{{self.slot}}}"
