r"""Reading one answer: the few words after "the answer is", a bare equation, a lettered choice.

`answers` finds where these words stand; here they become a number or one of the choices.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from molsaki.answers.arithmetic import solve
from molsaki.errors import ExpressionError
from molsaki.records import CHOICE_LETTERS

ROUNDING = 5e-3
"""How far the sides of an answer such as `8 / 3 = 2.67` may be apart, relative to the first (or to 1)."""
LIKENESS = 0.7
"""How alike (`difflib`'s ratio) the text behind a letter must be to that letter's choice: `(e) Australia` is
read as the choice `austrailia`, `(e) ice` is not read as `water cooler`."""


@dataclass(frozen=True, slots=True)
class ParsedValue:
    """One answer as it was read; `ParsedAnswer` describes the fields."""

    text: str
    value: float | None
    choice: int | None
    status: Literal["ok", "cut", "ambiguous", "unparsable"]


_SENTENCE_END = re.compile(r"[.!?;](?=[\"')\]*]{0,2}(?:\s|\Z|[A-Z]))")
_LATEX = (
    (re.compile(r"\\[dt]?frac\{([^{}]{1,60})\}\{([^{}]{1,60})\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\(?:text|mathrm|mbox)\{([^{}]{0,80})\}"), r" \1"),
    (re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\[,;:! ()\[\]]"), " "),
    (re.compile(r"\\([%$])"), r"\1"),
)
_BOX = re.compile(r"(?:\\boxed\s{0,2})?\{([^{}]{0,200})\}")
_WORD = r"(?!(?:[xyzn]|and|or|times)\b)[^\W\d_]+(?:['’-][^\W\d_]+)*"
_UNIT = re.compile(rf"(?<=[\d)%$])\s{{0,3}}-?{_WORD}(?:[ /]{_WORD}){{0,12}}", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.,])[-−]?[$£€]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)(?![\w,.]*\d)%?(?!\w)")
_PERCENT = re.compile(r"\s?\bper\s?cent\b", re.IGNORECASE)
_OPERATOR = re.compile(r"[+*/=×÷^−<>]|(?<!\w)-|-(?!\w)")
_OTHER_AMOUNT = re.compile(
    r"\b(?:half|halves|twice|double|triple|thrice|times|dozens?|quarters?|thirds?|hundreds?|thousands?|millions?|"
    r"billions?|more|less|fewer|minus|plus|squared|cubed|some|of|and|or|not)\b",
    re.IGNORECASE,
)
_PIECES = re.compile(r"\s(?:and|or)\s|[,;]\s")
_NAME = re.compile(r"[^\W\d_][^\d()*/+=-]{0,60}")
_LETTER = re.compile(r"\(\s?([A-Za-z])\s?\)")
# The letter itself without case folding, by which "ı" and "ſ" would be letters from A to Z.
_BARE_LETTER = re.compile(
    r"(?:(?:option|choice|letter)\s{1,3})?((?-i:[A-Za-z]))(?:[.):,](?=\s|\Z)|\s{0,4}\Z)", re.IGNORECASE
)
_JOINED = re.compile(r"[\s,]{0,3}(?:(?:or|and)\s)?(?:the |an? )?")
_OPEN_LETTER = re.compile(r"\(\w?\Z")
_EDGE = " \t\r\n\"'“”‘’*_`.,;:!?"


def fold(text: str) -> str:
    """A text for comparing: compatibility forms, case and runs of space made equal."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_number(region: str, at_end: bool) -> ParsedValue:
    """Read a number or an arithmetic expression, perhaps with units, an equals sign or LaTeX around it.

    Args:
        region: the line after an answer marker.
        at_end: whether the whole text ends with it, so that it may have been cut off.
    """
    plain = _without_latex(region)
    ending = _SENTENCE_END.search(plain)
    answer = plain[: ending.start()] if ending else plain
    answer = _without_emphasis(answer.strip())
    value = _number(answer)
    if value is not None:
        return ParsedValue(answer, value, None, "ok")
    if at_end and ending is None and _looks_cut(answer):
        return ParsedValue(answer, None, None, "cut")
    if not answer:
        return ParsedValue("", None, None, "unparsable")
    values = {_number(piece) for piece in _PIECES.split(_unwrapped(answer))} - {None}
    sides = {_number(side) for side in _unwrapped(answer).split("=")} - {None}
    if len(values) > 1 or len(sides) > 1:
        return ParsedValue(answer, None, None, "ambiguous")
    return ParsedValue(answer, None, None, "unparsable")


def read_choice(region: str, choices: Sequence[str], at_end: bool) -> ParsedValue:
    """Read a choice by its letter, its text or both.

    Args:
        region: the line after an answer marker.
        choices: the choices' texts in order.
        at_end: whether the whole text ends with it, so that it may have been cut off.
    """
    plain = _without_latex(region)
    folded = [_bare(choice) for choice in choices]
    ending = _SENTENCE_END.search(plain)
    if ending:
        first = _read_named(plain[: ending.start()], choices, folded)
        # A choice such as "Mr. Smith" does not end where this sentence seems to.
        return first if first.status != "unparsable" else _read_named(plain, choices, folded)
    reading = _read_named(plain, choices, folded)
    if at_end and reading.status == "unparsable" and _breaks_off(plain, reading.text, folded):
        return ParsedValue(reading.text, None, None, "cut")
    return reading


def _read_named(plain: str, choices: Sequence[str], folded: Sequence[str]) -> ParsedValue:
    """The choice that a sentence names, whose folded texts are `folded`."""
    said = _bare(plain)
    letters = _LETTER.findall(plain)
    if not letters:
        whole = fold(plain).strip(_EDGE)
        texts = [fold(choice).strip(_EDGE) for choice in choices]
        if whole and whole in texts:  # `the ground` is not `ground` where both are choices
            return _chosen(choices, texts.index(whole))
        meant = {text for text, bare in zip(texts, folded, strict=True) if said and bare == said}
        if len(meant) == 1:
            return _chosen(choices, folded.index(said))
        if meant:
            return ParsedValue(said, None, None, "ambiguous")
        alone = _BARE_LETTER.match(plain)
        letters = [alone[1]] if alone else []
        rest = plain[alone.end() :] if alone else plain
    else:
        rest = _LETTER.sub(" ", plain)
    indices = [CHOICE_LETTERS.index(letter.lower()) for letter in letters]
    lettered = {folded[i] for i in indices if i < len(folded)}
    named = _named(_bare(rest), folded)
    if len(lettered) > 1 or (lettered and any(i >= len(folded) for i in indices)):
        return ParsedValue(said, None, None, "ambiguous")
    if lettered:
        index = next(i for i in indices if i < len(folded))
        agrees = folded[index] in named or (not named and _alike(plain, letters[0], folded[index]))
        return _chosen(choices, index) if agrees else ParsedValue(said, None, None, "ambiguous")
    if letters:
        return ParsedValue(said, None, None, "ambiguous" if named else "unparsable")
    if len(named) == 1:
        return _chosen(choices, folded.index(named.pop()))
    return ParsedValue(said, None, None, "ambiguous" if named else "unparsable")


def _breaks_off(plain: str, said: str, folded: Sequence[str]) -> bool:
    """Whether a choice stops in the middle: nothing there, `(c`, or the beginning of a choice's text."""
    return _OPEN_LETTER.search(plain.rstrip()) is not None or any(text.startswith(said) for text in folded)


def _chosen(choices: Sequence[str], index: int) -> ParsedValue:
    return ParsedValue(choices[index], None, index, "ok")


def _bare(text: str) -> str:
    """Folded, without quotes and punctuation at the edges and without an article in front."""
    bare = fold(text).strip(_EDGE)
    for article in ("a ", "an ", "the "):
        if bare.startswith(article):
            return bare[len(article) :]
    return bare


def _named(said: str, folded: Sequence[str]) -> set[str]:
    """The choices' texts that a text is, starts with or mentions; one inside a longer one does not count."""
    if said in folded:
        return {said}
    mentioned = {text for text in folded if text and _mentions(said, text)}
    first = max((text for text in mentioned if said.startswith(text)), key=len, default="")
    listed = _JOINED.match(said, len(first))
    others = said[listed.end() :] if listed else ""
    found = {first} if first and not others.startswith(tuple(mentioned)) else mentioned
    return {text for text in found if not any(text != other and _mentions(other, text) for other in found)}


def _alike(plain: str, letter: str, choice: str) -> bool:
    """Whether what stands right behind a letter may be its choice: nothing, a reason, or much that text."""
    behind = re.split(rf"\b{letter}\b[ )*]*", plain, maxsplit=1)[-1]
    said = _bare(behind)
    if not said or behind.lstrip()[:1] in ",;-–—(" or said.startswith(("because", "since", "as ", "which")):
        return True
    return choice.startswith(said) or _mentions(choice, said) or SequenceMatcher(None, said, choice).ratio() >= LIKENESS


def _mentions(said: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", said) is not None


def _without_latex(region: str) -> str:
    box = _BOX.search(region)
    plain = region
    if "\\" in plain or box:
        for pattern, replacement in _LATEX:
            plain = pattern.sub(replacement, plain)
        plain = " ".join(plain.split())
        box = _BOX.search(plain)
        if box:
            plain = box[1]
    return plain


def _without_emphasis(answer: str) -> str:
    """Without Markdown's marks around it; a single `*` at the end alone is an operator."""
    inner = answer.lstrip("*_`")
    if inner != answer or answer.endswith(("**", "`")):
        inner = inner.rstrip("*_`")
    return inner.strip()


def _number(answer: str) -> float | None:
    """The one number that a text states, or None."""
    answer = _PERCENT.sub("%", _unwrapped(answer))
    for candidate in (answer, _UNIT.sub(" ", answer)):
        value = _solved(candidate)
        if value is not None:
            return value
    if "=" in answer:
        return _equation(answer)
    numbers = _NUMBER.findall(answer)
    if len(numbers) != 1 or answer.count("(") != answer.count(")") or _OTHER_AMOUNT.search(answer):
        return None
    others = answer.replace(numbers[0], "")
    return None if _OPERATOR.search(others) or any(map(str.isdigit, others)) else _solved(numbers[0])


def _equation(answer: str) -> float | None:
    """The value of `84 / 2 = 42` or `x = 5`, if its sides agree."""
    left, *others = answer.split("=")
    sides = others if _NAME.fullmatch(left.strip()) else [left, *others]
    values = [_number(side) for side in sides]
    first = values[0] if values else None
    if first is None or any(value is None or abs(value - first) > ROUNDING * max(1.0, abs(first)) for value in values):
        return None
    return first


def _solved(text: str) -> float | None:
    try:
        return solve(text)
    except ExpressionError:
        return None


def _unwrapped(answer: str) -> str:
    """Without one pair of parentheses around the whole, so that `(5 apples)` and `(x = 5)` are read."""
    answer = answer.strip()
    if not (answer.startswith("(") and answer.endswith(")")):
        return answer
    depth = 0
    for i, character in enumerate(answer):
        depth += (character == "(") - (character == ")")
        if depth == 0 and i < len(answer) - 1:
            return answer
    return answer[1:-1]


def _looks_cut(answer: str) -> bool:
    """Whether an answer stops in the middle: nothing there, an open parenthesis, an operator at its end."""
    return not answer or answer.count("(") > answer.count(")") or answer[-1] in "+-*/×÷−=$,("
