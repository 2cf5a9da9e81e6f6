"""Anybody's rows: JSON lines, CSV or Parquet, with a mapping that says which column holds what.

    columns = {"question": "q", "answer": "gold", "choices": "options", "answer_is": "letter"}

The mapping's keys are the parts of a problem, its values the columns' names. An answer is taken as text
unless `answer_is` says that it is a letter or an index into the choices; nothing is guessed from how it
looks, since a choice may itself read "B" or "2".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from molsaki.data.row_files import read_rows
from molsaki.data.rows import (
    Note,
    UnusableRowError,
    answer_of,
    checked_choices,
    checked_text,
    collect,
    identifier_of,
    note_repeated,
    number_of,
    optional_text_of,
    same_value,
    text_of,
    value_of,
)
from molsaki.errors import DataError
from molsaki.records import CHOICE_LETTERS, LoadedProblems, Problem

PARTS = ("id", "question", "answer", "label", "choices", "rationale", "keywords")
ANSWER_KINDS = ("text", "letter", "index")
MAX_KEYWORDS = 100
"""The most key words that one row may bring."""


def load_table(path: Path, columns: Mapping[str, str], limit: int | None = None) -> LoadedProblems:
    """Load a JSON lines, CSV, TSV or Parquet file.

    Args:
        path: the file; its name's ending says its format.
        columns: from `question` and `answer` or `label` (these are needed), and `choices`, `rationale`,
            `keywords` and `id` to the names of the columns that hold them; and `answer_is`: `text` (the
            default), `letter` (`b` or `B`) or `index` (from 0). Choices and key words are lists, or JSON
            lists in a cell of text.
        limit: stop after this many usable rows; None reads all.

    Raises:
        DataError: the mapping is wrong, it names a column that no row has, or the file cannot be used.
    """
    return load_mapped(read_rows(path), columns, path.stem, str(path), limit)


def load_mapped(
    rows: Iterable[Any], columns: Mapping[str, str], prefix: str, source: str, limit: int | None = None
) -> LoadedProblems:
    """As `load_table`, from rows that are already there; ids begin with `prefix`."""
    mapping = _Mapping(columns, prefix)
    loaded = collect(mapping.watch(rows), mapping.name_row, mapping.problem, source, limit)
    absent = {part: column for part, column in mapping.column_of.items() if column not in mapping.seen}
    if absent:
        raise DataError(
            f"Expected {source} to have the columns that the mapping names; no row that was read has "
            f"{absent}. What these columns hold would be missing from every problem; the columns are: "
            f"{sorted(mapping.seen)[:50]}."
        )
    return loaded


class _Mapping:
    """A checked column mapping, and the columns that have been seen while rows went by."""

    def __init__(self, columns: Mapping[str, str], prefix: str) -> None:
        column_of = {str(part): column for part, column in columns.items()}
        self.answer_is = column_of.pop("answer_is", "text")
        self.column_of = column_of
        self.prefix = prefix
        self.seen: set[str] = set()
        problems = [f"{part!r} is no part of a problem" for part in column_of if part not in PARTS]
        problems += [
            f"the column of {p!r} is not a name" for p, c in column_of.items() if not isinstance(c, str) or not c
        ]
        if "question" not in column_of:
            problems.append("'question' is missing")
        if not {"answer", "label"} & set(column_of):
            problems.append("'answer' (or 'label') is missing")
        if self.answer_is not in ANSWER_KINDS:
            problems.append(f"'answer_is' is {self.answer_is!r}, not one of {', '.join(ANSWER_KINDS)}")
        elif self.answer_is != "text" and not {"answer", "choices"} <= set(column_of):
            problems.append(f"'answer_is: {self.answer_is}' needs the columns of 'answer' and 'choices'")
        if problems:
            raise DataError(
                f"Expected a mapping from {', '.join(PARTS)} to columns' names, with 'question' and "
                f"'answer'; got {dict(columns)}: {'; '.join(problems)}. Rows cannot be read without it; mend "
                f"the mapping."
            )

    def watch(self, rows: Iterable[Any]) -> Iterator[Any]:
        """Pass rows on and remember which columns they have."""
        for row in rows:
            if isinstance(row, Mapping):
                self.seen.update(str(name) for name in row)
            yield row

    def name_row(self, index: int, row: Mapping[str, Any]) -> str:
        """`<prefix>/<id>`, or the row's place from 0 where the mapping names no id."""
        return f"{self.prefix}/{identifier_of(row, self.column_of['id']) if 'id' in self.column_of else index}"

    def problem(self, row_id: str, row: Mapping[str, Any], note: Note) -> Problem:
        """The problem of one row."""
        question = text_of(row, self.column_of["question"])
        given = self._cell(row, "choices")
        if given is None and self.answer_is != "text":
            raise UnusableRowError("there are no choices for the answer to point at")
        choices = () if given is None else checked_choices(_list_of(given, "the choices"))
        if choices:
            answer = label = self._chosen(row, choices)
            if "label" in self.column_of and text_of(row, self.column_of["label"]) != label:
                raise UnusableRowError("the label is not the right choice's text")
            note_repeated(choices, answer, note)
        else:
            answer, label = self._number(row)
        rationale = optional_text_of(row, self.column_of["rationale"]) if self._cell(row, "rationale") else None
        return Problem(row_id, question, answer, label, choices, rationale, self._keywords(row))

    def _cell(self, row: Mapping[str, Any], part: str) -> Any:
        """A part's value; None where there is no column for it, no value, or an empty cell."""
        value = row.get(self.column_of[part]) if part in self.column_of else None
        return None if isinstance(value, str) and not value.strip() else value

    def _chosen(self, row: Mapping[str, Any], choices: tuple[str, ...]) -> str:
        value = self._cell(row, "answer" if "answer" in self.column_of else "label")
        if value is None:
            raise UnusableRowError("the answer is missing")
        if self.answer_is == "text":
            answer = checked_text(value, "the answer")
            if answer not in choices:
                raise UnusableRowError("the answer is none of the choices")
            return answer
        index = _letter_index(value) if self.answer_is == "letter" else _whole_number(value)
        if index is None:
            raise UnusableRowError(f"the answer is not {'a letter' if self.answer_is == 'letter' else 'an index'}")
        if not 0 <= index < len(choices):
            raise UnusableRowError("the answer points at no choice")
        return choices[index]

    def _number(self, row: Mapping[str, Any]) -> tuple[str, str]:
        if "label" not in self.column_of:
            answer = answer_of(self._cell(row, "answer"))
            return answer, answer
        label = text_of(row, self.column_of["label"])
        if "answer" not in self.column_of:
            value = value_of(label)
            if value is None:
                raise UnusableRowError("the label is no arithmetic expression with a value")
            return number_of(value), label
        answer = answer_of(self._cell(row, "answer"))
        if not same_value(label, answer):
            raise UnusableRowError("the label does not solve to the answer")
        return answer, label

    def _keywords(self, row: Mapping[str, Any]) -> tuple[str, ...] | None:
        given = self._cell(row, "keywords")
        if given is None:
            return None
        words = _list_of(given, "the key words")
        if len(words) > MAX_KEYWORDS:
            raise UnusableRowError(f"there are more than {MAX_KEYWORDS} key words")
        return tuple(dict.fromkeys(checked_text(word, "a key word") for word in words))


def _list_of(value: object, what: str) -> list[Any]:
    """A list, or the list that a cell of text holds as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise UnusableRowError(f"{what} are not a JSON list") from None
    if not isinstance(value, list):
        raise UnusableRowError(f"{what} are not a list")
    return value


def _letter_index(value: object) -> int | None:
    letter = value.strip().strip("()").lower() if isinstance(value, str) else ""
    return CHOICE_LETTERS.index(letter) if len(letter) == 1 and letter in CHOICE_LETTERS else None


def _whole_number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None
