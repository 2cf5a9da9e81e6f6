"""The forms of choices in files: a list, lettered options in one text, options after the question, or two words.

    ["A)21", "B)21.5"]         a list; letters are removed if all items have one
    {"A": "sea", "B": "sky"}   an object of letters
    "A) 21 B) 21.5"            one text; letters from A on, all with the same mark after or around them
    '["sea", "sky"]'           a list as JSON or as Python writes it, in a cell of text

Letters count only if they run from A in order, so "Vitamin A: …" is not an option. Choices with other letters,
of which one is A, are refused, since a letter would name another choice than its position does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from molsaki.answers.parse import format_number
from molsaki.data.json_files import json_or_text
from molsaki.data.rows import UnusableRowError, checked_choices, checked_text
from molsaki.records import CHOICE_LETTERS

PAIRS = {"yes-no": ("yes", "no"), "true-false": ("true", "false")}
"""Choices that a recipe can name if the file has none."""

MAX_MARKS = 200
"""The number of possible letters of options that are examined in a text, from the end."""

_MARK = re.compile(r"(?:(?<=[\s,;])|\A)(?:\((?P<inner>[A-Za-z])\)|(?P<plain>[A-Za-z])(?P<end>[).:]))[ \t]*")
_HEADING = re.compile(r"(?:\b(?:answer\s+)?(?:choices|options)\s*:?\s*)\Z", re.IGNORECASE)
_BULLET = re.compile(r"[-*•–|]\s{1,4}(?=\S)")
_BETWEEN = re.compile(r"(?:(?:\n|\A)[ \t]{0,8}[-*•–]|[ \t]{0,8}[|/]|[,;]?\s(?P<word>or|and))\s{0,8}\Z", re.IGNORECASE)
"""What may stand before a letter: the bullet of its line, a bar, a slash, or a word between two options."""
_ENDING = re.compile(
    r"(?:\s{1,9}(?:a|answer|explanation|solution)\s?:|\n\s{0,9}(?:answer|explanation|solution))?"
    r"(?:\s{1,9}let['’]s think[^\n]{0,80})?\Z",
    re.IGNORECASE,
)
"""What a prompt has after the options."""
OUT_OF_ORDER = "the choices have letters that do not run from A in order"
_OPENING = re.compile(r"\A(?:q|question)\s?:\s*", re.IGNORECASE)
_LITERAL = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_PYTHON_LIST = re.compile(rf"\[\s*(?:(?:{_LITERAL})\s*(?:,\s*(?:{_LITERAL})\s*)*)?\]", re.DOTALL)


def read_choices(value: Any) -> tuple[str, ...]:
    """The choices' texts of a cell.

    Raises:
        UnusableRowError: the cell holds no choices in any of the forms above, or too few or too many.
    """
    if isinstance(value, str):
        value = list_in_text(checked_text(value, "the text of the choices"))
        if isinstance(value, str):
            _, value = split_options(value)
            if not value:
                raise UnusableRowError("the choices are neither a list nor options with letters from A on")
    if isinstance(value, Mapping):
        if [str(key).lower() for key in value] != list(CHOICE_LETTERS[: len(value)]):
            part = _longest_texts(value)
            hint = f": name their texts, such as `column.{part}`" if part is not None else ""
            raise UnusableRowError(f"the choices are an object whose keys are not the letters from A{hint}")
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        raise UnusableRowError("the choices are not a list")
    while value and value[-1] is None:  # Parquet and pandas fill a question with fewer choices than another one
        value = value[:-1]
    if value and all(isinstance(item, Mapping) for item in value):
        texts = [str(key) for key, item in value[0].items() if isinstance(item, str) and len(item.strip()) > 1]
        raise UnusableRowError(f"the choices are objects: name their text, such as `column.{(texts or ['text'])[0]}`")
    return checked_choices(_without_letters([text_of_number(item) for item in value]))


def split_options(text: str) -> tuple[str, list[str]]:
    """A text without the lettered options at its end, and the options; no options if it has fewer than two.

    A heading before them (`Answer choices:`), `Q:` in front and `A:` or "Let's think step by step" behind belong to
    neither.

    Raises:
        UnusableRowError: a paragraph follows the last option, or letters are left out.
    """
    marks = _longest_run(list(_MARK.finditer(text))[-MAX_MARKS:])
    if len(marks) < 2:
        return text, []
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    *parts, last = (text[mark.end() : end] for mark, end in zip(marks, ends, strict=True))
    before_last = _BETWEEN.search(parts[-1])
    if before_last and before_last["word"]:  # a question of its own: "(A) bird, or (B) stone?"
        last = last.rstrip().removesuffix("?")
    parts = [_BETWEEN.sub("", part) for part in parts]
    options = [part.strip().rstrip(",;").rstrip() for part in (*parts, last.rstrip().removesuffix("|"))]
    if any(mark["end"] == marks[0]["end"] and _follows(mark, marks[-1]) for mark in _MARK.finditer(options[-1])):
        raise UnusableRowError(OUT_OF_ORDER)
    options[-1] = _ENDING.sub("", options[-1]).rstrip()
    if "\n" in options[-1] and not any("\n" in option for option in options[:-1]):
        raise UnusableRowError("text follows the last option, which would be part of it")
    question = text[: marks[0].start()]
    before_first = _BETWEEN.search(question)
    if before_first and not before_first["word"]:
        question = question[: before_first.start()]
    question = _HEADING.sub("", question.rstrip()).rstrip()
    return _OPENING.sub("", question), options


def letter_index(value: object, choices: Sequence[str]) -> int | None:
    """The index of the choice that an answer such as `b`, `(B)`, `B.` or `B) 21.5` names by its letter."""
    text = value.strip() if isinstance(value, str) else ""
    mark = _MARK.match(text)
    letter = (mark["inner"] or mark["plain"]) if mark else text
    if len(letter) != 1 or letter.lower() not in CHOICE_LETTERS:
        return None
    index = CHOICE_LETTERS.index(letter.lower())
    rest = text[mark.end() :].strip() if mark else ""
    return index if not rest or choices[index : index + 1] == (rest,) else None


def pair_index(value: object, pair: Sequence[str]) -> int | None:
    """The one of two words (yes and no, or true and false) that an answer means: a boolean, 1 or 0, or the word."""
    if isinstance(value, (bool, int, float)):
        return {1.0: 0, 0.0: 1}.get(float(value)) if abs(value) < 2 else None
    word = value.strip(" .!\t\r\n").casefold() if isinstance(value, str) else ""
    return next((i for i in range(2) if word in {names[i] for names in PAIRS.values()} | {pair[i]}), None)


def list_in_text(text: str) -> Any:
    """The list or object in a cell of text, written as JSON or as a Python list of texts; else the text itself."""
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    value = json_or_text(text)
    if value is not text:
        return value
    if not _PYTHON_LIST.fullmatch(text.strip()):
        return text
    try:
        return [ast.literal_eval(literal) for literal in re.findall(_LITERAL, text, re.DOTALL)]
    except (ValueError, SyntaxError):
        return text


def _longest_texts(value: Mapping[Any, Any]) -> Any:
    """The key of the list with the longest texts, as of `{"label": ["A", "B"], "text": ["sea", "sky"]}`; or None."""
    lists = {key: inner for key, inner in value.items() if isinstance(inner, list)}
    return max(lists, key=lambda key: sum(len(str(item)) for item in lists[key]), default=None)


def _longest_run(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """The marks A, B, C and so on with the same case and sign: the longest run, and on a tie the last one.

    Raises:
        UnusableRowError: two runs of one length are mixed, as in "A) both a) and b) B) none".
    """
    best: list[re.Match[str]] = []
    for start, first in enumerate(marks):
        if _letter(first) not in "aA":
            continue
        run = [first]
        for mark in marks[start + 1 :]:
            if len(run) < len(CHOICE_LETTERS) and _form(mark) == _form(first, len(run)):
                run.append(mark)
        if len(run) == len(best) > 1 and run[0].start() < best[-1].start():
            raise UnusableRowError(OUT_OF_ORDER)
        best = run if len(run) >= len(best) else best
    return best


def _letter(mark: re.Match[str]) -> str:
    return mark["inner"] or mark["plain"]


def _follows(mark: re.Match[str], last: re.Match[str]) -> bool:
    """Whether a letter comes after the last one of a run, in the same case."""
    return _letter(mark) > _letter(last) and _letter(mark).isupper() == _letter(last).isupper()


def _form(mark: re.Match[str], ahead: int = 0) -> tuple[str, str | None]:
    """The letter `ahead` letters after a mark's own, and the sign after the mark."""
    return chr(ord(_letter(mark)) + ahead), mark["end"]


def _without_letters(items: list[Any]) -> list[Any]:
    """The items without their leading letters, if each item has its own letter."""
    marks = [_first_mark(item) if isinstance(item, str) else None for item in items]
    found = [mark for mark in marks if mark is not None]
    if not found or len(found) < len(items) or len(items) > len(CHOICE_LETTERS):
        return items
    if all(_form(mark) == _form(found[0], i) for i, mark in enumerate(found)) and _letter(found[0]) in "aA":
        return [item[mark.end() :] for item, mark in zip(items, found, strict=True)]
    if any(_letter(mark) in "aA" for mark in found):
        raise UnusableRowError(OUT_OF_ORDER)
    return items


def _first_mark(item: str) -> re.Match[str] | None:
    """The letter that an item begins with, perhaps behind a bullet."""
    bullet = _BULLET.match(item)
    return _MARK.match(item, bullet.end() if bullet else 0)


def text_of_number(item: Any) -> Any:
    """A number as its text; anything else as it is."""
    if isinstance(item, bool) or not isinstance(item, (int, float, Decimal)):
        return item
    return str(item) if isinstance(item, int) else format_number(float(item))
