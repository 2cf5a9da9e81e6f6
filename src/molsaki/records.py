"""The records that pass between stages.

They are plain frozen dataclasses with a lossless dict form, because every stage writes them to JSON lines and
another process reads them back. A row is known by its `id` and by the hash of its text, never by its position.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from molsaki.errors import DataError

CHOICE_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with what is known about it.

    Attributes:
        id: unique within its data set.
        question: the question's own text, without choices.
        answer: what is right: a number as text (`"42"`, `"0.5"`) or a choice's text.
        label: what the student learns to write after `predict:`: an equation such as `( 7.0 * 30.0 )`, a bare
            number, or the choice's text.
        choices: the choices' texts in order; empty for a problem whose answer is a number.
        rationale: a rationale that comes with the data set, or None.
        keywords: key words that come with the data set, or None where nobody has named any.
    """

    id: str
    question: str
    answer: str
    label: str
    choices: tuple[str, ...] = ()
    rationale: str | None = None
    keywords: tuple[str, ...] | None = None

    @property
    def text(self) -> str:
        """The question as both models read it: the question, and under it the lettered choices if it has any."""
        if not self.choices:
            return self.question
        lettered = "\n".join(f"({CHOICE_LETTERS[i]}) {choice}" for i, choice in enumerate(self.choices))
        return f"{self.question}\nAnswer Choices:\n{lettered}"

    @property
    def text_hash(self) -> str:
        """Hash of everything a stage may have used of this problem's question, choices, answer and label."""
        return hash_text(self.question, *self.choices, self.answer, self.label)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` gives the same record back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Raises:
            DataError: a field is missing, unknown or of another type.
        """
        values = dict(row)
        wrong = [f"{name} is {_shown(values[name])}, not {_FORMS[name]}" for name in _FORMS if not _fits(values, name)]
        try:
            if wrong:
                raise TypeError("; ".join(wrong))
            for name in ("choices", "keywords"):
                if values.get(name) is not None:
                    values[name] = tuple(values[name])
            return cls(**values)
        except TypeError as error:
            raise DataError(
                f"Expected a problem with the fields id, question, answer, label, choices, rationale, keywords; "
                f"got {sorted(map(str, row))}: {error}. The row cannot be used; write it with Problem.to_dict()."
            ) from error


_FORMS = {
    **dict.fromkeys(("id", "question", "answer", "label"), "text"),
    "choices": "a list of texts",
    "rationale": "text or null",
    "keywords": "a list of texts or null",
}
"""What each field of a problem's JSON form is."""


def _fits(values: Mapping[str, Any], name: str) -> bool:
    """Whether a field has its form, or is not there at all."""
    if name not in values:
        return True
    value, form = values[name], _FORMS[name]
    if value is None and form.endswith("null"):
        return True
    if form.startswith("a list"):
        return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    return isinstance(value, str)


def _shown(value: object) -> str:
    return repr(value)[:60]


@dataclass(slots=True)
class RowReport:
    """What became of the rows of one input: how many came, how many were kept, why the others were not.

    Nothing is skipped without a count and a reason, and each reason keeps a few ids as examples.
    """

    read: int = 0
    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    EXAMPLES_PER_REASON = 5

    def keep(self) -> None:
        """Count one row that is used."""
        self.read += 1
        self.kept += 1

    def skip(self, row_id: str, reason: str) -> None:
        """Count one row that is not used, with its reason."""
        self.read += 1
        self.skipped[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < self.EXAMPLES_PER_REASON:
            shown.append(row_id)

    def note(self, what: str) -> None:
        """Count something that happened to a row that is used all the same."""
        self.notes[what] += 1

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, most frequent reasons first."""
        return {
            "read": self.read,
            "kept": self.kept,
            "skipped": dict(self.skipped.most_common()),
            "examples": self.examples,
            "notes": dict(self.notes.most_common()),
        }


@dataclass(frozen=True, slots=True)
class LoadedProblems:
    """The problems of one data set together with the report on its rows."""

    problems: tuple[Problem, ...]
    report: RowReport

    def __len__(self) -> int:
        return len(self.problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)


def hash_text(*parts: str) -> str:
    """SHA-256 (first 16 hex digits) over the parts and where each ends, so that moving a boundary changes it."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:16]


def hash_json(value: Any) -> str:
    """Hash of a JSON value, the same for the same value whatever the order of its keys."""
    return hash_text(json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def require_unique_ids(problems: Iterable[Problem]) -> None:
    """Raise `DataError` if two problems share an id, naming the first such ids."""
    counts = Counter(problem.id for problem in problems)
    repeated = [row_id for row_id, n in counts.items() if n > 1]
    if repeated:
        raise DataError(
            f"Expected every problem to have its own id; {len(repeated)} ids occur more than once, for example "
            f"{repeated[:3]}. Rows could not be matched between stages; rename them or load one split at a time."
        )
