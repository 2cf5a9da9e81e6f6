r"""Reading one number: the few words after "the answer is", the content of a box, a bare equation.

All of the text has to be read: units are removed, amounts, signs, powers and percentages are calculated with, and
anything else that could change the value makes the number unparsable. A LaTeX value that is not a plain number, such as
`2\sqrt{5}` or `(0, 1]`, is kept as text for `math_values` to compare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from molsaki.answers.amounts import (
    has_other_amount,
    is_unclear,
    starts_with_amount,
    with_amounts,
    without_units,
)
from molsaki.answers.arithmetic import same_number, solve
from molsaki.answers.boxes import boxes_of
from molsaki.answers.denials import is_denied
from molsaki.answers.expressions import SENTENCE_END, is_expression, only_formula, without_emphasis
from molsaki.answers.latex import has_math, marked, plain_text, without_dollars
from molsaki.answers.number_words import in_digits
from molsaki.errors import ExpressionError

ROUNDING = 5e-3
"""The tolerance between the sides of an answer such as `8 / 3 = 2.67`, relative to the first (or to 1)."""
_ONE_NUMBER = re.compile(r"[^\d.]*?(?P<number>[\d,]*\d(?:\.\d{1,15})?|\.\d{1,15})(?P<percent>\s?%)?[^\d.+*/^×÷()-]*")
"""A side of an equation that is one number."""
MAX_PARTS = 8
"""The largest number of values, or of sides of an equation, in one answer."""


@dataclass(frozen=True, slots=True)
class ParsedValue:
    """One answer as it was read; `ParsedAnswer` describes the fields.

    Attributes:
        exact: all of it was read, not only a number or a choice that a sentence mentions.
    """

    text: str
    value: float | None
    choice: int | None
    status: Literal["ok", "cut", "ambiguous", "unparsable"]
    exact: bool = True


NAME = re.compile(
    r"(?:(?:arc)?(?:sin|cos|tan)|log|ln|exp|sqrt|abs) ?\(? ?-?[\d.]{1,12} ?°?\)?"
    r"|(?!\\?(?:arc)?(?:sin|cos|tan|log|ln|exp|sqrt|abs)\b)(?:[^\W\d_]{1,4}\([^()=]{1,30}\)"
    r"|(?:\\(?!binom|pm|neg)[a-z]{2,12} {0,2})?(?:(?<=[a-z])"
    r"|[^\W\d_][^\d()*/+=^-]{0,60}(?:_\(?\w{1,9}\)?)?(?:\([^\W\d_](?:, ?[^\W\d_]){0,3}\))?))"
)
r"""What an equation may define: `x`, `Total cost`, `A_1`, `f(x)`, `gcd(12, 18)`, `\theta`."""
_PLAIN = re.compile(r"[-−]?[$£€]?\d{1,15}(?:\.\d{1,9})?")
_NUMBER = re.compile(r"(?<![\w.,])[-−]?[$£€]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)(?![\w,.]*\d)%?(?!\w)")
_OPERATOR = re.compile(r"[+*/=×÷^−<>≤≥≠±∓√π∞|·‼‰\\{}_?~→°]|(?<!\w)-|-(?!\w)")
_BEFORE = re.compile(
    r"\A(?:an?\s(?:grand\s)?(?:total|sum|average|mean|profit|cost|price)\sof\s(?=[$£€]?\d))?"
    r"(?:(?:[≈~•]|\b(?:about|approx\.?|approximately|around|roughly|exactly|only|just)(?!\w))\s{0,3})?"
    r"(?:(?:US|AU|CA|NZ|HK)D?(?=\$)|(?:USD|EUR|GBP|INR|Rs\.?)\s(?=\d))?",
    re.IGNORECASE,
)
_REASON = re.compile(
    r",?\s(?:because|since|(?<!times )as|so|which|where|given|making|meaning|rather than|instead of)\s"
    r"|,\s(?:(?:not|i\.e)\b|因[为為])|\s?—(?!\s?\d)\s?|\s--\s(?!\d)|,?\sand\s(?:we|that|this|it|so|the|s?he|they|you)\b[^\d]*\Z",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"([^()\[\]]{1,80}?)\s{1,3}[(\[](?:(?:or|i\.e\.,?|that is,?|since|because)\s)?([^()\[\]]{1,120})[)\]]"
)
_ROUNDED = re.compile(
    r"\brounded\b|\b(?:decimal places?|d\.?p\.?|significant figures|sig\.? ?figs?|s\.?f\.?)\Z", re.IGNORECASE
)
_IN_THE_RED = re.compile(r"\([$£€¥₹]\s?[\d.,]+\)")
"""An amount that is negative where it is in parentheses: `($5)`."""
_TWICE = re.compile(r",?\s(?:or|i\.e\.,?|that is,?|equivalently|also written as)\s")
_RESULT = re.compile(
    r",?\swhich\s(?:is|gives|equals|makes|comes to|means)\s(?=\D{0,3}\d(?!.{0,40}\b(?:more|less|fewer|times)\b))"
)
_ARROW = re.compile(r"(?<=[\d)%])\s?(?:[→⇒]|[-=]>)\s?(?=[$£€(-]?\d)")
_NEXT_ITEM = re.compile(r"\n(?:[-•*]|2[.)]) ")
_INEQUALITY = re.compile("[<>!]=")
_LABEL = re.compile(r"(?=[^\d]{0,60}[a-zA-Z])[^\d:=]{1,60}:\s{1,3}(?=\S)")
_PIECES = re.compile(r"\s(?:and|or)\s|[,;]\s")
_NOT_ANOTHER = re.compile(r"(?:not|rather than|instead of)\s[^,;.]{1,40}")
# "5!" may be 120, and "42!" an exclamation; "$42!", "4.50!" and "42 pens!" are not factorials.
_FACTORIAL = re.compile(r"(?:(?<![$£€.\d])\d+(?:,\d{3})*|\))\s?(?:!+[.\s]{0,3}\Z|\Z)")
_EDGE = " \t\r\n.,;:*_`"


def read_number(region: str, at_end: bool) -> ParsedValue:
    """Read a number or an arithmetic expression, perhaps with units, an equals sign or LaTeX around it.

    Args:
        region: the text after an answer marker, or what is in a box.
        at_end: whether the whole text ends with it, so that it may have been cut off.
    """
    boxes = boxes_of(region)
    if len({"".join(box.split()) for box in boxes}) > 1:
        return ParsedValue(region.strip(_EDGE), None, None, "ambiguous")
    if boxes:
        return _read_formula(boxes[0])
    if _NEXT_ITEM.search(region):
        return ParsedValue(region.strip(_EDGE), None, None, "ambiguous")
    plain = plain_text(without_dollars(region))
    ending = SENTENCE_END.search(plain)
    answer = without_emphasis(plain[: ending.start()] if ending else plain)
    factorial = ending is not None and ending[0] == "!" and _FACTORIAL.search(plain[: ending.start()])
    if (factorial or (answer.endswith("!") and _FACTORIAL.search(answer))) and "$!" not in region:
        return ParsedValue(f"{answer.rstrip('!')}!", None, None, "ambiguous")
    reading = read_plain(answer)
    if reading.status == "unparsable" and at_end and ending is None and _looks_cut(answer):
        return ParsedValue(answer, None, None, "cut")
    if reading.status != "ok" or not reading.exact:
        formula = only_formula(region)
        if formula is not None and (reading.status == "unparsable" or has_math(region)):
            return ParsedValue(formula, None, None, "ok")
    return reading


def read_plain(answer: str) -> ParsedValue:
    """Read the number that a piece of plain text (`plain_text`) states."""
    plain = in_digits(answer)
    if not any(map(str.isdigit, plain)) or is_denied("", plain.lstrip("-−$£€(0123456789,.%")):
        return ParsedValue(answer, None, None, "unparsable")
    if _IN_THE_RED.fullmatch(plain):
        return ParsedValue(answer, None, None, "unparsable")
    plain = _ARROW.sub(" = ", plain)
    value = _exact(plain)
    if value is None and _RESULT.search(plain) and _disagrees(_RESULT.sub(" = ", plain)):
        return ParsedValue(answer, None, None, "ambiguous")
    if value is None and (shorter := _without_reason(plain)) is not None:
        value = _exact(shorter)
        answer = shorter if value is not None and plain == answer else answer
    if value is None:
        value = _said_twice(plain)
    if value is not None:
        return ParsedValue(answer, value, None, "ok")
    value = _mentioned(plain)
    if value is not None:
        return ParsedValue(answer, value, None, "ok", exact=False)
    values = {_stated(piece) for piece in _PIECES.split(_unwrapped(plain), maxsplit=MAX_PARTS)} - {None}
    if len(values) > 1 or _disagrees(plain):
        return ParsedValue(answer, None, None, "ambiguous")
    return ParsedValue(answer, None, None, "unparsable")


def number_of_text(text: str) -> float | None:
    """The number of a text that is a number as a whole, units and LaTeX included; None for any other text."""
    boxes = boxes_of(text) if "\\" in text else []
    plain = in_digits(plain_text(without_dollars(boxes[-1] if boxes else text)).strip(_EDGE))
    return _exact(plain) if any(map(str.isdigit, plain)) else None


def _read_formula(content: str) -> ParsedValue:
    """Read the content of a box: a number, or a LaTeX value, which is kept unchanged."""
    inner = boxes_of(content)
    content = (inner[-1] if inner else content).strip(" \r\n")  # not what JSON makes of `\frac` and `\text`
    plain = without_emphasis(plain_text(marked(without_dollars(content))).strip().rstrip("."))
    reading = read_plain(plain)
    content = content.strip("$").strip()
    if not (reading.status == "ok" and reading.exact) and not _disagrees(plain) and is_expression(content):
        return ParsedValue(content, None, None, "ok")
    return reading


def _stated(answer: str) -> float | None:
    value = _exact(answer)
    return _mentioned(answer) if value is None else value


def _exact(answer: str) -> float | None:
    """The value of a text that is a number or an expression as a whole, with units or an equals sign."""
    if _PLAIN.fullmatch(answer):
        return _solved(answer)
    inner = _unwrapped(answer)
    wrapped = inner != answer.strip()
    answer = with_amounts(_BEFORE.sub("", inner))
    for candidate in without_units(answer):
        if not wrapped and is_unclear(candidate.strip()):
            return None
        value = _solved(candidate)
        if value is not None:
            return value
    if "=" not in answer and "≈" not in answer:
        return _before_aside(answer)
    label = _LABEL.match(answer)
    value = _equation(answer)
    if value is None and label and not is_denied(label[0], ""):
        value = _equation(answer[label.end() :])
    return _before_aside(answer) if value is None else value


def _disagrees(answer: str) -> bool:
    """Whether the sides of an equation have different values: `84 / 2 = 41`."""
    sides = _unwrapped(answer).replace("≈", "=").split("=", maxsplit=MAX_PARTS)
    stated = [(side, value) for side in sides if (value := _stated(side)) is not None]
    return any(not _agree(*stated[0], *other) for other in stated)


def _agree(first: str, value: float, side: str, other: float) -> bool:
    """Whether a side of an equation is the first one, rounded or cut to the decimals that either is written with.

    `100 / 7 = 14.29` and `100 / 7 = 14.28` agree, `25000 * 4 = 100400` does not, although it is as close.
    """
    difference = abs(value - other)
    if difference > ROUNDING * max(1.0, abs(value)):
        return False
    places = [n for text, number in ((first, value), (side, other)) if (n := _decimals(text, number)) is not None]
    return not places or difference < 10.0 ** -min(places)


def _decimals(side: str, value: float) -> int | None:
    """The decimals that a value is written with; None for a calculation, and for `2.67 million`."""
    written = _ONE_NUMBER.fullmatch(side.strip(_EDGE))
    if written is None:
        return None
    places = len(written["number"].partition(".")[2]) + (2 if written["percent"] else 0)
    number = float(written["number"].replace(",", "")) / (100 if written["percent"] else 1)
    return places if same_number(number, abs(value)) else None


def _equation(answer: str) -> float | None:
    """The value of `84 / 2 = 42`, `x = 5` or `5 = x`, if its sides agree."""
    if _INEQUALITY.search(answer):
        return None
    left, *others = answer.replace("≈", "=").split("=")
    if len(others) > MAX_PARTS:
        return None
    if len(others) == 1 and NAME.fullmatch(others[0].strip()):
        left, others = others[0], [left]
    sides = others if NAME.fullmatch(left.strip()) else [left, *others]
    values = [_exact(side.strip()) for side in sides]
    first = values[0] if values else None
    if first is None and len(values) > 1 and "≈" not in answer:
        # Both `√(16) = 4` and `x^(2) = 4` end in a number, which only the first one is.
        unknown = [side for side, value in zip(sides, values, strict=True) if value is None]
        return None if any(map(str.isalpha, "".join(unknown).replace("π", ""))) else values[-1]
    if first is None:
        return None
    agree = (
        value is not None and _agree(sides[0], first, side, value) for side, value in zip(sides, values, strict=True)
    )
    return first if all(agree) else None


def _before_aside(answer: str) -> float | None:
    """The value of `42 (six sevens)`; None if the parentheses contain another number."""
    aside = _ASIDE.fullmatch(answer)
    if aside is None:
        return None
    if _ROUNDED.search(aside[2]):
        return _exact(aside[1])
    value = None if starts_with_amount(aside[2]) else _exact(aside[1])
    if value is None or not any(map(str.isdigit, aside[2])) or _NOT_ANOTHER.fullmatch(aside[2]):
        return value
    parts = [float(part) for part in re.findall(r"\d+(?:\.\d+)?", aside[2])]
    return value if _exact(aside[2]) == value or (len(parts) > 1 and sum(parts) == value) else None


def _said_twice(answer: str) -> float | None:
    """The value of `7/2 or 3.5`, `0.5, i.e. 50%` and `20% of 50, which is 10`."""
    *work, result = _RESULT.split(answer)
    if work:
        stated, value = _exact(work[0]), _exact(result)
        return None if len(work) > 1 or is_denied(work[0], "") or stated not in (None, value) else value
    values = [_exact(form) for form in _TWICE.split(answer, maxsplit=2)]
    first = values[0]
    if len(values) < 2 or first is None or any(value is None or not same_number(value, first) for value in values):
        return None
    return first


def _without_reason(answer: str) -> str | None:
    """The part of an answer before its reason, if it has one: `42, since 6*7 = 42`."""
    reason = _REASON.search(answer)
    return answer[: reason.start()].rstrip(_EDGE) if reason else None


def _mentioned(answer: str) -> float | None:
    """The only number of a sentence such as "that Luke scored 42 points", where nothing else could change it."""
    answer = with_amounts(_unwrapped(answer))
    numbers = _NUMBER.findall(answer)
    if len(numbers) != 1 or is_denied(*answer.split(numbers[0], 1)):
        return None
    if answer.count("(") != answer.count(")") or has_other_amount(answer):
        return None
    others = answer.replace(numbers[0], "")
    return None if _OPERATOR.search(others) or any(map(str.isdigit, others)) else _solved(numbers[0])


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
    """Whether an answer is cut off: empty, or with an open bracket or an operator at its end."""
    return (
        not answer
        or answer.count("(") > answer.count(")")
        or answer.count("{") > answer.count("}")
        or answer[-1] in "+-*/×÷−=$,("
    )
