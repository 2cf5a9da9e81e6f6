"""Users' own rows in JSON lines, JSON, CSV or Parquet, with a mapping of their columns.

    columns = {"question": "q", "answer": "gold", "choices": "options", "answer_is": "letter"}

The mapping's keys are the parts of a problem, its values the columns' names or paths. An answer is text unless
`answer_is` says otherwise; its kind is never guessed, since the text of a choice may be "B" or "2". A row that seems to
need another setting is left out, and the reason names the setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from molsaki.answers.parse import ParsedAnswer, parse_answer
from molsaki.answers.right import is_percentage
from molsaki.data.choices import PAIRS, letter_index, list_in_text, pair_index, text_of_number
from molsaki.data.mapping import FORMAT, ColumnMap, Columns
from molsaki.data.row_files import read_rows
from molsaki.data.rows import (
    Note,
    UnusableRowError,
    answer_of,
    checked_text,
    collect,
    has_decimal_comma,
    identifier_of,
    note_repeated,
    number_of,
    same_value,
    value_of,
)
from molsaki.errors import DataError
from molsaki.records import LoadedProblems, Problem

PARTS = ("id", "question", "answer", "label", "choices", "rationale", "keywords")
SETTINGS = {
    "answer_is": ("text", "letter", "index", "index-from-1", "stated"),
    "choices_are": tuple(PAIRS),
}
MAX_KEYWORDS = 100
"""The most key words that one row may bring."""

_IS_A_PLACE = "the answer is a number and no choice's text: write `answer_is: index`, or index-from-1"
_UNSTATED = {
    "none": "the text states no answer",
    "cut": "the text ends inside its answer",
    "ambiguous": "the text states several answers",
    "unparsable": "the answer that the text states cannot be read",
}
"""Why no answer is read from a text, by the parser's status."""


def load_table(path: Path, columns: Columns, limit: int | None = None) -> LoadedProblems:
    """Load a JSON lines, JSON, CSV, TSV or Parquet file.

    Args:
        path: the file; the extension of its name determines its format.
        columns: a mapping from parts to their columns, each a name or a path (`messages[1].content`). The parts are
            `question` and `answer` or `label` (required), and `choices`, `rationale`, `keywords` and `id`. `question`
            may name several columns, whose texts are joined; `choices` may name one column for each choice, or the
            column of the question if the choices follow it there. `answer_is` is `text` (the default), `letter` (`b`
            or `B`), `index` (from 0), `index-from-1` or `stated` (in a text such as a rationale that ends in "The
            answer is 5"); `choices_are` is `yes-no` or `true-false` if no column has choices. `encoding`, `delimiter`
            and `rows` define how the file is read.
        limit: stop after this many usable rows; None reads all.

    Raises:
        DataError: the mapping is wrong, it names a column that no row has, or the file cannot be used.
    """
    mapping = table_columns(columns)
    return _load(read_rows(path, mapping.wanted, mapping.form), mapping, path.stem, str(path), limit)


def load_mapped(
    rows: Iterable[Any], columns: Columns, prefix: str, source: str, limit: int | None = None
) -> LoadedProblems:
    """As `load_table`, from rows in memory; ids begin with `prefix`."""
    unused = [key for key in FORMAT if key in columns]
    if unused:
        raise DataError(
            f"Expected no {', '.join(unused)} for {source}, which is not a file. Leave it out of the mapping."
        )
    return _load(rows, table_columns(columns), prefix, source, limit)


def table_columns(columns: Columns) -> ColumnMap:
    """Check a mapping as `load_table` takes it.

    Raises:
        DataError: the mapping is wrong.
    """
    wrong = [] if "question" in columns else ["'question' is missing"]
    if not {"answer", "label"} & set(columns):
        wrong.append("'answer' (or 'label') is missing")
    kind = columns.get("answer_is", "text")
    if kind in ("letter", "index", "index-from-1") and not {"answer", "choices"} <= set(columns):
        wrong.append(f"'answer_is: {kind}' needs the columns of 'answer' and 'choices'")
    if kind == "stated" and "answer" not in columns:
        wrong.append("'answer_is: stated' needs the column of 'answer'")
    return ColumnMap.parse(columns, PARTS, SETTINGS, wrong)


def _load(rows: Iterable[Any], mapping: ColumnMap, prefix: str, source: str, limit: int | None) -> LoadedProblems:
    table = _Table(mapping, prefix)
    try:
        loaded = collect(rows, table.name_row, table.problem, source, limit)
    except DataError:
        mapping.require_columns(source)  # a column's misspelt name says more than that no row can be used
        raise
    mapping.require_columns(source)
    places = loaded.report.skipped.get(_IS_A_PLACE, 0)
    if places >= loaded.report.kept:  # the others are places, too, among choices that are numbers
        raise DataError(
            f"Expected the answers in {source} to be choices' texts; {places} of {loaded.report.read} are numbers that "
            "no choice has. The others may be places that look like texts, so nothing was loaded; write "
            "`answer_is: index`, or index-from-1."
        )
    return loaded


class _Table:
    """The row functions of a mapping."""

    def __init__(self, mapping: ColumnMap, prefix: str) -> None:
        self.mapping = mapping
        self.prefix = prefix
        self.answer_is = mapping.settings.get("answer_is", "text")

    def name_row(self, index: int, row: Mapping[str, Any]) -> str:
        """`<prefix>/<id>`, or the row's place from 0 where the mapping names no id."""
        if "id" not in self.mapping.columns:
            return f"{self.prefix}/{index}"
        (column,) = self.mapping.columns["id"]
        return f"{self.prefix}/{identifier_of({column.path: column.of(row)}, column.path)}"

    def problem(self, row_id: str, row: Mapping[str, Any], note: Note) -> Problem:
        """The problem of one row."""
        question, choices = self.mapping.question(row)
        stated = self._stated(row, choices) if self.answer_is == "stated" else None
        if choices:
            answer = label = self._chosen(row, choices, stated)
            if "label" in self.mapping.columns and self.mapping.text(row, "label") != label:
                raise UnusableRowError("the label is not the right choice's text")
            note_repeated(choices, answer, note)
        elif self.answer_is in ("letter", "index", "index-from-1"):
            raise UnusableRowError("there are no choices for the answer to point at")
        else:
            answer, label = self._number(row, stated)
        return Problem(row_id, question, answer, label, choices, self._rationale(row, stated), self._keywords(row))

    def _stated(self, row: Mapping[str, Any], choices: tuple[str, ...]) -> ParsedAnswer:
        parsed = parse_answer(self.mapping.text(row, "answer"), choices)
        status = "ambiguous" if parsed.status == "ok" and parsed.revised else parsed.status
        if status != "ok":
            raise UnusableRowError(_UNSTATED[status])
        return parsed

    def _chosen(self, row: Mapping[str, Any], choices: tuple[str, ...], stated: ParsedAnswer | None) -> str:
        if stated is not None:
            assert stated.choice is not None, "a readable answer of a question with choices is one of them"
            return choices[stated.choice]
        value = self.mapping.cell(row, "answer" if "answer" in self.mapping.columns else "label")
        if value is None:
            raise UnusableRowError("the answer is missing")
        if "choices_are" in self.mapping.settings:
            index = pair_index(value, choices)
            if index is None:
                raise UnusableRowError(f"the answer is neither {choices[0]} nor {choices[1]}")
            return choices[index]
        if self.answer_is == "text":
            return _among(value, choices)
        if self.answer_is == "letter":
            index = letter_index(value, choices)
        else:
            index = _whole_number(value)
            index = index - 1 if index is not None and self.answer_is == "index-from-1" else index
        if index is None and self.answer_is == "letter" and _whole_number(value) is not None:
            raise UnusableRowError("the answer is a number and no letter: write `answer_is: index`, or index-from-1")
        if index is None:
            raise UnusableRowError(f"the answer is not {'a letter' if self.answer_is == 'letter' else 'an index'}")
        if not 0 <= index < len(choices):
            raise UnusableRowError("the answer points at no choice")
        return choices[index]

    def _number(self, row: Mapping[str, Any], stated: ParsedAnswer | None) -> tuple[str, str]:
        """Answer and label of a problem without choices: a number or a LaTeX value."""
        columns = self.mapping.columns
        if "answer" in columns:
            answer = _stated(stated) if stated is not None else _answer(self.mapping.cell(row, "answer"))
            if "label" not in columns:
                return answer, answer
        label = self.mapping.text(row, "label")
        value = value_of(label)
        if "answer" not in columns:
            if value is None:
                raise UnusableRowError("the label is not an arithmetic expression with a value")
            return number_of(value), label
        if not same_value(label, answer):
            raise UnusableRowError("the label does not solve to the answer")
        return answer, label

    def _rationale(self, row: Mapping[str, Any], stated: ParsedAnswer | None) -> str | None:
        """The rationale; if its text also states the answer, the part before the answer."""
        if stated is not None and self.mapping.same("rationale", "answer"):
            return stated.rationale.strip() or None
        given = self.mapping.cell(row, "rationale")
        if isinstance(given, list):  # its steps
            return "\n".join(checked_text(step, "a step of the rationale") for step in given) or None
        return self.mapping.text(row, "rationale") if given is not None else None

    def _keywords(self, row: Mapping[str, Any]) -> tuple[str, ...] | None:
        given = self.mapping.cell(row, "keywords")
        if given is None:
            return None
        words = list_in_text(given) if isinstance(given, str) else given
        if not isinstance(words, list):
            raise UnusableRowError("the key words are not a list")
        if len(words) > MAX_KEYWORDS:
            raise UnusableRowError(f"there are more than {MAX_KEYWORDS} key words")
        return tuple(dict.fromkeys(checked_text(word, "a key word") for word in words))


def _among(value: Any, choices: tuple[str, ...]) -> str:
    """The choice whose text equals the answer."""
    answer = checked_text(text_of_number(value), "the answer")
    if answer in choices:
        return answer
    letter, number = letter_index(value, choices), _whole_number(value)
    if letter is not None and letter < len(choices):
        raise UnusableRowError("the answer is a letter and no choice's text: write `answer_is: letter`")
    if number is not None and number <= len(choices):
        raise UnusableRowError(_IS_A_PLACE)
    raise UnusableRowError("the answer is none of the choices")


def _stated(stated: ParsedAnswer) -> str:
    """The answer that a text states: a number, or a LaTeX value."""
    if stated.value is None:
        return answer_of(stated.answer_text)
    if is_percentage(stated.answer_text, stated.value):  # 20% stays 20%, for which 20 is right as well
        return f"{number_of(100 * stated.value)}%"
    return number_of(stated.value)


def _answer(value: Any) -> str:
    """The normalized text of a number, or a LaTeX value; the reason says what else it may be."""
    if isinstance(value, bool) or (isinstance(value, str) and pair_index(value, PAIRS["yes-no"]) is not None):
        raise UnusableRowError("the answer is a truth value and there are no choices: write `choices_are: yes-no`")
    if isinstance(value, list):
        raise UnusableRowError("the answer is a list: name its position, such as `column[0]`")
    try:
        return answer_of(value)
    except UnusableRowError:
        if isinstance(value, str) and not has_decimal_comma(value) and parse_answer(value).status == "ok":
            raise UnusableRowError("the answer is a text that states a number: write `answer_is: stated`") from None
        raise


def _whole_number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    text = value.strip() if isinstance(value, str) else ""
    # pandas writes whole numbers as decimals where a column has gaps.
    text = text.removesuffix(".0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None
