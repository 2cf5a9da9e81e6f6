"""The records that stages exchange.

They are frozen dataclasses with a lossless dict form: a stage writes them as JSON lines, and another process reads
them. A row is identified by its `id` and the hash of its text, never by its position.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from molsaki.counts import plural
from molsaki.errors import DataError

CHOICE_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its answer.

    Example:
        >>> import molsaki
        >>> problem = molsaki.Problem("a", "Where do fish live?", "water", "water", choices=("sand", "water"))
        >>> print(problem.text)
        Where do fish live?
        Answer Choices:
        (a) sand
        (b) water

    Attributes:
        id: unique within its data set.
        question: the text of the question, without choices.
        answer: the right answer: a number as text (`"42"`, `"0.5"`) or the text of a choice.
        label: what the student learns to write after `predict:`: an equation such as `( 7.0 * 30.0 )`, a number, or
            the text of the right choice.
        choices: the texts of the choices in order; empty if the answer is a number.
        rationale: the rationale in the data set, or None.
        keywords: the key words in the data set, or None.
        sources: for each step of the solution, the characters (start, end) of the numbers in `question` that it uses;
            None if the data set does not say.
    """

    id: str
    question: str
    answer: str
    label: str
    choices: tuple[str, ...] = ()
    rationale: str | None = None
    keywords: tuple[str, ...] | None = None
    sources: tuple[tuple[tuple[int, int], ...], ...] | None = None

    @property
    def text(self) -> str:
        """The question as both models read it: with the lettered choices below it, if it has any.

        Raises:
            DataError: there are more choices than letters.
        """
        if not self.choices:
            return self.question
        _require_letters(self.id, self.choices)
        lettered = "\n".join(f"({CHOICE_LETTERS[i]}) {choice}" for i, choice in enumerate(self.choices))
        return f"{self.question}\nAnswer Choices:\n{lettered}"

    @property
    def text_hash(self) -> str:
        """Hash of the question, choices, answer and label: of all that a stage may use."""
        return hash_text(self.question, *self.choices, self.answer, self.label)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form. `from_dict` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Read the JSON form.

        Raises:
            DataError: a field is missing, unknown or of another type, or there are more choices than letters.
        """
        values = dict(row)
        wrong = [
            f"{name} is {repr(values[name])[:60]}, not {form}"
            for name, form in _FIELD_TYPES.items()
            if name in values and not _has_type(values[name], form)
        ]
        try:
            if wrong:
                raise TypeError("; ".join(wrong))
            for name in ("choices", "keywords"):
                if values.get(name) is not None:
                    values[name] = tuple(values[name])
            if values.get("sources") is not None:
                values["sources"] = tuple(tuple((a, b) for a, b in step) for step in values["sources"])
            problem = cls(**values)
        except TypeError as error:
            raise DataError(
                "Expected a problem with the fields id, question, answer, label, choices, rationale, keywords and "
                f"sources; got {sorted(map(str, row))}: {error}. The row cannot be used. Write it with "
                "Problem.to_dict()."
            ) from error
        _require_letters(problem.id, problem.choices)
        return problem


def _require_letters(row_id: str, choices: Sequence[str]) -> None:
    """Refuse a question with more choices than letters."""
    if len(choices) > len(CHOICE_LETTERS):
        raise DataError(
            f"Expected at most {len(CHOICE_LETTERS)} choices, one for each letter; problem {row_id!r} has "
            f"{len(choices)}. They cannot be lettered. Leave the problem out, or give it fewer choices."
        )


_FIELD_TYPES = {
    **dict.fromkeys(("id", "question", "answer", "label"), "text"),
    "choices": "a list of texts",
    "rationale": "text or null",
    "keywords": "a list of texts or null",
    "sources": "a list of lists of [start, end] or null",
}
"""The type of each field in the JSON form of a problem."""


def _has_type(value: object, form: str) -> bool:
    """Whether a value has one of the types in `_FIELD_TYPES`."""
    if value is None:
        return form.endswith("null")
    if form.startswith("a list of lists"):
        return isinstance(value, (list, tuple)) and all(
            isinstance(step, (list, tuple)) and all(map(_is_range, step)) for step in value
        )
    if form.startswith("a list"):
        return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    return isinstance(value, str)


def _is_range(value: object) -> bool:
    return (
        isinstance(value, (list, tuple)) and [type(item) for item in value] == [int, int] and 0 <= value[0] < value[1]
    )


@dataclass(slots=True)
class RowReport:
    """Counts of the rows of one input: how many were read and kept, and why the others were skipped.

    Attributes:
        read: rows read.
        kept: rows used.
        skipped: number of skipped rows by reason.
        examples: the first few ids of the skipped rows by reason.
        notes: number of rows by what happened to them although they are used, such as "cut to the context window".
    """

    read: int = 0
    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    EXAMPLES_PER_REASON = 5

    def keep(self) -> None:
        """Count a row that is used."""
        self.read += 1
        self.kept += 1

    def skip(self, row_id: str, reason: str) -> None:
        """Count a row that is not used, under its reason."""
        self.read += 1
        self.skipped[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < self.EXAMPLES_PER_REASON:
            examples.append(row_id)

    def note(self, event: str) -> None:
        """Count something that happened to a row that is used."""
        self.notes[event] += 1

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, the most frequent reasons first."""
        return {
            "read": self.read,
            "kept": self.kept,
            "skipped": dict(self.skipped.most_common()),
            "examples": self.examples,
            "notes": dict(self.notes.most_common()),
        }


@dataclass(frozen=True, slots=True)
class LoadedProblems:
    """The problems of a data set and the counts of its rows."""

    problems: tuple[Problem, ...]
    report: RowReport

    def __len__(self) -> int:
        return len(self.problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)


def hash_text(*parts: str) -> str:
    """SHA-256 (first 16 hex digits) of the parts and their lengths, so that moving a boundary changes the hash."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:16]


def hash_json(value: Any) -> str:
    """Hash of a JSON value. It does not depend on the order of keys."""
    return hash_text(json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def require_unique_ids(problems: Iterable[Problem]) -> None:
    """Check that no two problems share an id.

    Raises:
        DataError: some do. The message names the first of their ids.
    """
    counts = Counter(problem.id for problem in problems)
    repeated = [row_id for row_id, n in counts.items() if n > 1]
    if repeated:
        raise DataError(
            f"Expected a unique id for every problem; {plural(len(repeated), 'id')} repeated, for example "
            f"{repeated[:3]}. Stages could not match rows by id. Rename them, or load one split at a time."
        )
