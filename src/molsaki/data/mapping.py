"""The column mapping of a recipe: the columns of a problem's parts, and the format of the file and of its answers.

{question: [instruction, input], answer: output, answer_is: stated, delimiter: ";"}
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

from molsaki.data.choices import PAIRS, read_choices, split_options
from molsaki.data.columns import Column, require_columns
from molsaki.data.row_files import FileFormat
from molsaki.data.rows import UnusableRowError, checked_text
from molsaki.errors import DataError

Columns = Mapping[str, str | Sequence[str]]
"""From parts to the names of columns, and from settings to their values."""

FORMAT = ("encoding", "delimiter", "rows")
"""The settings that say how a file is read; see `FileFormat`."""
LISTS = ("question", "choices")
"""The parts that may be in several columns: texts that follow each other, and one choice each."""


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """A checked mapping.

    Attributes:
        columns: the columns of each part.
        settings: how answers and choices read, by the setting's name.
        form: how the file is read.
    """

    columns: dict[str, tuple[Column, ...]]
    settings: dict[str, str]
    form: FileFormat

    @classmethod
    def parse(
        cls, given: Columns, parts: Collection[str], settings: Mapping[str, Collection[str]], wrong: Sequence[str] = ()
    ) -> Self:
        """Check a mapping.

        Args:
            given: the mapping.
            parts: the parts that it may have.
            settings: the settings that it may have, with their values.
            wrong: what else is wrong with it.

        Raises:
            DataError: all that is wrong with it.
        """
        problems = [*wrong, *_mistakes(given, parts, settings)]
        if problems:
            raise DataError(
                f"Expected a mapping from {', '.join(parts)} to the names of columns, with "
                f"{', '.join((*settings, *FORMAT))} where they are needed: {'; '.join(problems)}. Rows cannot be read "
                "without it; correct the mapping."
            )
        columns = {part: tuple(map(Column, _names(given[part]))) for part in parts if part in given}
        chosen = {key: str(given[key]) for key in settings if key in given}
        return cls(columns, chosen, FileFormat(**{key: str(given[key]) for key in FORMAT if key in given}))

    @property
    def wanted(self) -> set[str]:
        """The names of all columns that are needed."""
        return {name for columns in self.columns.values() for column in columns for name in column.heads}

    def require_columns(self, source: str) -> None:
        """Raise `DataError` for columns that no row had."""
        require_columns(self.columns, source)

    def same(self, part: str, other: str) -> bool:
        """Whether two parts are in the same columns."""
        paths = [[column.path for column in self.columns.get(name, ())] for name in (part, other)]
        return paths[0] == paths[1] != []

    def cell(self, row: Mapping[str, Any], part: str) -> Any:
        """A part's value; None if it has no column, no value, or an empty cell."""
        value = self.columns[part][0].of(row) if part in self.columns else None
        return None if isinstance(value, str) and not value.strip() else value

    def text(self, row: Mapping[str, Any], part: str) -> str:
        """The text of a part.

        Raises:
            UnusableRowError: it is missing, empty or no text.
        """
        column = self.columns[part][0]
        value = column.of(row)
        if value is None:
            raise UnusableRowError(f"the field {column.path!r} is missing")
        return checked_text(value, f"the field {column.path!r}")

    def question(self, row: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """The question's text, and its choices if there are any.

        Raises:
            UnusableRowError: there is no question, or its choices cannot be read.
        """
        question = self._question(row)
        if "choices_are" in self.settings:
            return question, PAIRS[self.settings["choices_are"]]
        if not self.same("choices", "question"):
            return question, self._choices(row)
        question, options = split_options(question)
        if not options:
            raise UnusableRowError("the question has no options with letters from A on")
        return checked_text(question, "the question in front of its options"), read_choices(options)

    def _question(self, row: Mapping[str, Any]) -> str:
        columns = self.columns["question"]
        if len(columns) == 1:
            return self.text(row, "question")
        cells = [(column.path, column.of(row)) for column in columns]
        texts = [checked_text(cell, f"the field {path!r}") for path, cell in cells if not _is_empty(cell)]
        if not texts:
            raise UnusableRowError(f"the fields {', '.join(path for path, _ in cells)} are missing or empty")
        return "\n".join(texts)

    def _choices(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        columns = self.columns.get("choices", ())
        if len(columns) > 1:
            return read_choices(_without_empty_end([column.of(row) for column in columns]))
        value = self.cell(row, "choices")
        return () if value is None else read_choices(value)


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _without_empty_end(cells: list[Any]) -> list[Any]:
    """The cells up to the last one that is not empty; a question may have fewer choices than another one."""
    while cells and _is_empty(cells[-1]):
        cells = cells[:-1]
    if any(map(_is_empty, cells)):
        raise UnusableRowError("a choice is empty before others, so letters and indices would name another choice")
    return cells


def _mistakes(given: Columns, parts: Collection[str], settings: Mapping[str, Collection[str]]) -> Iterator[str]:
    """What is wrong with the keys and values of a mapping."""
    known = (*parts, *settings, *FORMAT)
    for key, value in given.items():
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            yield f"{str(key)[:60]!r} is not part of a row{f', {close[0]!r} is' if close else ''}"
        elif key in settings and value not in settings[key]:
            yield f"{key!r} is {str(value)[:60]!r}, not one of {', '.join(settings[key])}"
        elif key in parts and not _are_names(value, key in LISTS):
            yield f"the column of {key!r} is not a name"
        elif key in FORMAT and not isinstance(value, str):
            yield f"{key!r} is not text"
    if "choices" in given and "choices_are" in given:
        yield "'choices' and 'choices_are' are both there; leave one out"


def _names(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _are_names(value: object, several: bool) -> bool:
    if isinstance(value, str):
        return bool(value)
    return several and isinstance(value, (list, tuple)) and bool(value) and all(v and isinstance(v, str) for v in value)


COMPLETION_PARTS = ("completion", "id", "question", "choices")


def completion_columns(columns: Columns) -> ColumnMap:
    """Check a mapping of the columns of a file of completions.

    Args:
        columns: from `completion` (a rationale with an answer sentence) and `id` or `question` to columns, as
            `load_table` has them. `question` is the text of the question, with or without its choices, and is matched
            instead of an id; `choices` may be in the question's own column.

    Raises:
        DataError: the mapping is wrong.
    """
    wrong = [] if "completion" in columns else ["'completion' is missing"]
    if not {"id", "question"} & set(columns):
        wrong.append("'id' (or 'question') is missing")
    if {"id", "question"} <= set(columns):
        wrong.append("'id' and 'question' are both there; rows are matched by one of them, leave the other out")
    if "choices" in columns and "question" not in columns:
        wrong.append("'choices' needs the column of 'question'")
    return ColumnMap.parse(columns, COMPLETION_PARTS, {}, wrong)
