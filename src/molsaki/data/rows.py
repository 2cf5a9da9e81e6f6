"""Functions of all readers: checking a row's fields, converting numbers to text, counting rows that are left out.

A reader gives one function that turns a row into a `Problem` or raises `UnusableRowError` with a reason; here
is the loop that calls it, so that every row that a reader leaves out is counted. Reasons are a
small fixed set of phrases without the row's own text, since they are counted and shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from molsaki.answers.amounts import is_unclear
from molsaki.answers.arithmetic import MAX_MAGNITUDE
from molsaki.answers.expressions import is_expression, is_text
from molsaki.answers.numbers import number_of_text
from molsaki.answers.options import right_choices
from molsaki.answers.parse import format_number, same_number, solve
from molsaki.errors import DataError, ExpressionError
from molsaki.records import CHOICE_LETTERS, LoadedProblems, Problem, RowReport

MAX_TEXT_CHARACTERS = 100_000
"""The longest question, rationale or choice that is taken, in characters."""

MAX_ID_CHARACTERS = 200

Note = Callable[[str], None]
"""Counts an event of a row that is used nevertheless."""

_NUMBER = re.compile(r"[+-]?[$£€]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_INDIAN = re.compile(r"[+-]?[$£€₹]?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?")
_UNEVEN = re.compile(r"(?=.*,\d{3}\b)[-+−]?\d{1,3}(?:,\d{2,3}){2,}(?:\.\d+)?")
"""Digits in groups of two and three; as a number it is Indian or wrong, and a list would not be written so."""
_UNFINISHED = re.compile(r"[-+−*/×÷=]\Z|/\s?0+\Z")
_FRACTION = re.compile(r"-?\d+/\d+|-\(\d+/\d+\)")
_DECIMAL_COMMA = re.compile(r"[-+−]?\d{1,15},\d{1,15}|[-+−]?\d{1,3}(?:\.\d{3})+,\d{1,15}")
_NO_VALUE = re.compile(r"(?<!\d)_|_(?!\d|\{\d)|[#\"':;?@&~]|(?<!\d)\d{1,3}-\d{1,3}(?!\d)")
"""In a text without letters: ids, quotes, times, scores."""
_NUMBERS_APART = re.compile(r"\d\s+\d")
_MATHEMATICAL = re.compile(r"[\\^_()\[\]{}=+*/<>√π∞≤≥]|\d[a-zA-Z]\b")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class UnusableRowError(DataError):
    """One row cannot be used; the message is the reason that it is counted under."""


def collect(
    rows: Iterable[Any],
    name_row: Callable[[int, Mapping[str, Any]], str],
    to_problem: Callable[[str, Mapping[str, Any], Note], Problem],
    source: str,
    limit: int | None = None,
) -> LoadedProblems:
    """Convert rows to problems, and count the rows that are used and left out.

    Args:
        rows: the rows as they were read.
        name_row: gives a row's id from its place (from 0) and its content.
        to_problem: gives the problem of an id and a row, or raises `UnusableRowError` with the reason.
        source: what is read, for messages.
        limit: stop after this many usable rows; None reads all.

    Raises:
        DataError: no row can be used, or two problems share an id.
    """
    report = RowReport()
    problems: list[Problem] = []
    places: dict[str, int] = {}
    unusable: dict[str, int] = {}
    for index, row in enumerate(rows):
        if limit is not None and len(problems) >= limit:
            report.note(f"stopped after {limit} usable rows, as requested; later rows were not read")
            break
        row_id = f"row {index}"
        try:
            fields = _fields_of(row)
            row_id = name_row(index, fields)
            problem = to_problem(row_id, fields, report.note)
            if not any(map(str.isalnum, problem.text)):
                raise UnusableRowError("the question has no letter or digit")
        except UnusableRowError as reason:
            report.skip(row_id, str(reason))
            unusable.setdefault(str(reason), index)
            continue
        if (first := places.setdefault(row_id, index)) != index:
            raise DataError(
                f"Expected rows with ids of their own in {source}; rows {first} and {index} (from 0) have the same. "
                "Rows could not be matched between stages; rename one, or leave the column of ids out."
            )
        problems.append(problem)
        report.keep()
    if not problems:
        raise DataError(_nothing_usable(source, report, unusable))
    return LoadedProblems(tuple(problems), report)


def _fields_of(row: object) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise UnusableRowError("the row is not an object with named fields")
    return row


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A field's text without white space around it; missing or empty makes the row unusable."""
    text = optional_text_of(row, name)
    if text is None:
        raise UnusableRowError(f"the field {name!r} is missing")
    return text


def optional_text_of(row: Mapping[str, Any], name: str) -> str | None:
    """As `text_of`, but None if the field is missing or null."""
    value = row.get(name)
    return None if value is None else checked_text(value, f"the field {name!r}")


def joined_question(row: Mapping[str, Any], body: str, question: str) -> str:
    """The story and its question on two lines, as Distilling step-by-step writes SVAMP.

    The form is the same for every data set that keeps the two apart, so that a student that was trained on
    one reads the others as it learnt to. A question without a story is one line.
    """
    asked = text_of(row, question)
    if row.get(body) == "":
        return asked
    return f"{text_of(row, body)}\n{asked}"


def checked_text(value: object, what: str) -> str:
    """A value's text without the white space around it, if it is usable text."""
    if not isinstance(value, str):
        raise UnusableRowError(f"{what} is not text")
    if len(value) > MAX_TEXT_CHARACTERS:
        raise UnusableRowError(f"{what} has more than {MAX_TEXT_CHARACTERS} characters")
    if _LONE_SURROGATE.search(value):
        raise UnusableRowError(f"{what} is not valid Unicode")
    text = value.strip()
    if not text:
        raise UnusableRowError(f"{what} is empty")
    return text


def identifier_of(row: Mapping[str, Any], name: str) -> str:
    """A field that names the row: a whole number, or printable text without white space around it."""
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < MAX_MAGNITUDE else None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARACTERS:
        raise UnusableRowError(f"the id in {name!r} is missing, or is neither a whole number nor a short text")
    if value != value.strip() or not value.isprintable():
        raise UnusableRowError(f"the id in {name!r} holds control characters or has white space around it")
    return value


def number_of(value: object, what: str = "the answer") -> str:
    """The normalized text of a number given as a number or as text: `"42"`, `"0.5"`, `"1234"` for `"1,234"`.

    Text is read when it is nothing but a number (a sign, thousands commas, a decimal point, a currency sign
    in front) or a fraction of two whole numbers; units or words make the row unusable.
    """
    if value is None:
        raise UnusableRowError(f"{what} is missing")
    if isinstance(value, Decimal):
        value = str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UnusableRowError(f"{what} is neither a number nor text")
    if isinstance(value, str):
        text = checked_text(value, what)
        if has_decimal_comma(text):
            raise UnusableRowError(f"{what} has a decimal comma: save it with a decimal point")
        if _INDIAN.fullmatch(text):
            text = text.replace(",", "").replace("₹", "")
        if not (_NUMBER.fullmatch(text) or _FRACTION.fullmatch(text)):
            raise UnusableRowError(f"{what} is not a number")
        try:
            value = solve(text.rstrip("."))
        except ExpressionError:
            raise UnusableRowError(f"{what} is not a number within bounds") from None
    if not abs(value) <= MAX_MAGNITUDE:
        raise UnusableRowError(f"{what} is not a finite number within bounds")
    return format_number(float(value))


def has_decimal_comma(text: str) -> bool:
    """Whether a text is a number with a decimal comma, such as `0,75` or `1.234,5`."""
    return _DECIMAL_COMMA.fullmatch(text.strip()) is not None and _NUMBER.fullmatch(text.strip()) is None


def answer_of(value: object) -> str:
    r"""A number as `number_of` has it, or a mathematical value such as `\frac{1}{2}`, `(0, 1]` or `5n+10`."""
    try:
        return number_of(value)
    except UnusableRowError:
        text = checked_text(value, "the answer") if isinstance(value, str) else ""
        if is_text(text) or _is_mathematical(text):
            return text
        raise


def _is_mathematical(text: str) -> bool:
    """Whether a text is unambiguously a value: no unit in words, no date or range, no decimal comma."""
    if is_unclear(text) or _DECIMAL_COMMA.fullmatch(text) or _UNEVEN.fullmatch(text) or _UNFINISHED.search(text):
        return False
    if any(map(str.isalpha, text)):
        if not _MATHEMATICAL.search(text):
            return False
    elif _NO_VALUE.search(text) or (_NUMBERS_APART.search(text) and number_of_text(text) is None):
        return False
    has_value = any(map(str.isdigit, text)) or "\\" in text
    return has_value and (number_of_text(text) is not None or is_expression(text))


def value_of(expression: str) -> float | None:
    """The value of an arithmetic expression, or None if it has none."""
    try:
        return solve(expression)
    except ExpressionError:
        return None


def same_value(expression: str, number: str) -> bool:
    """Whether an expression has the value of a number, by the comparison that scores predictions."""
    value, other = value_of(expression), number_of_text(number)
    return value is not None and other is not None and same_number(value, other)


def checked_choices(values: object) -> tuple[str, ...]:
    """The choices' texts of one question: at least two, and at most one for each letter."""
    if not isinstance(values, (list, tuple)):
        raise UnusableRowError("the choices are not a list")
    if not 2 <= len(values) <= len(CHOICE_LETTERS):
        raise UnusableRowError(f"there are not between 2 and {len(CHOICE_LETTERS)} choices")
    return tuple(checked_text(value, "a choice") for value in values)


def note_repeated(choices: tuple[str, ...], answer: str, note: Note) -> None:
    """Count a question that offers one text twice; its answer is still one text, whatever its letter."""
    if len(right_choices(choices, answer)) > 1:
        note("the answer's text is listed under several letters; each is right")
    elif any(len(right_choices(choices, choice)) > 1 for choice in choices):
        note("a wrong choice's text is listed under several letters")


def _nothing_usable(source: str, report: RowReport, first: Mapping[str, int]) -> str:
    """The message for a file without a usable row; `first` has a row for each reason."""
    if not report.read:
        return f"Expected rows in {source}; it has none. Nothing was loaded; check the path or the split."
    reasons = "; ".join(
        f"{reason} ({count} rows, for example row {first[reason]} from 0)"
        for reason, count in report.skipped.most_common(5)
    )
    return (
        f"Expected at least one usable row in {source}; none of its {report.read} rows can be used: {reasons}. Nothing "
        "was loaded; check that the file has the format of that data set."
    )
