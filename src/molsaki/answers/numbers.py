r"""Reading one number: the few words after "the answer is", the content of a box, a bare equation.

What is written has to be all read: units are taken off, amounts (`million`, `dozen`, `½`), signs, powers and
percentages are calculated with, and anything else that could change the value makes it unparsable. A LaTeX value
that is no plain number, such as `2\sqrt{5}` or `(0, 1]`, is kept as text for `math_values` to compare.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from molsaki.answers.arithmetic import solve
from molsaki.answers.latex import BOX, box_content, has_math, to_plain, without_dollars
from molsaki.errors import ExpressionError

ROUNDING = 5e-3
"""How far the sides of an answer such as `8 / 3 = 2.67` may be apart, relative to the first (or to 1)."""
MAX_BOXES = 8


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


SENTENCE_END = re.compile(r"(?:[.?]|!(?!\s{0,3}[=+*/×÷^<>-])|;(?!\s{0,3}[\d$-]))(?=[\"'”’)\]*_]{0,3}(?:\s|\Z|[A-Z]))")

_SUPERSCRIPT = re.compile("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,9}")
_VULGAR = re.compile("[¼-¾⅐-⅞↉]")
_CHARACTERS = str.maketrans(
    {
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width forms
        **dict.fromkeys("‐‑‒﹣－", "-"),
        "⁄": "/",
        "∕": "/",
        "\u2062": "*",
        "。": ".",
        "＄": "$",
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    }
)
_THIN_SPACE = re.compile(r"(?<=\d)[\u00a0\u2005-\u2009\u202f](?=\d{3}(?!\d))")
_MIXED = re.compile(r"(?<![\d.,/^)])(\d{1,9})\s{0,2}\(\((\d{1,9})\)/\((\d{1,9})\)\)")
_MIXED_INLINE = re.compile(r"(?<![\d.,/^)])(?<![-+*/x×] )(\d{1,9}) (?:and )?(\d{1,6})/(\d{1,6})(?![\d./])")

_SCALES = {"tens": 10, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALES |= {"dozen": 12, "dozens": 12, "hundreds": 100, "thousands": 10**3, "millions": 10**6, "billions": 10**9}
_SCALE = re.compile(rf"(?<=[\d)])\s{{0,2}}-?\b({'|'.join(_SCALES)})\b", re.IGNORECASE)
_AND_PART = re.compile(r"(?<![\w.,])(\d{1,9}) and (?:a|an|one) (half|quarter|third)\b", re.IGNORECASE)
_PARTS = {"half": 2, "third": 3, "quarter": 4}
_POWER_WORD = re.compile(
    r"(?<=[\d)])\s{1,2}(squared|cubed)\b(?!\s{1,2}(?:centi|milli|kilo)?(?:met(?:er|re)|feet|foot|ft|inch|unit|yard|mile|"
    r"[cmk]?m\b))",
    re.IGNORECASE,
)
_SIGN_WORD = re.compile(r"(?<![\w)%])(?:negative|minus)\s{1,2}(?=[$£€¥₹]?[\d.(])", re.IGNORECASE)
_OPERATION_WORD = re.compile(
    r"(?<=[\d)%])\s{1,2}(plus|minus|times|multiplied by|divided by)\s{1,2}(?=[$£€(]?\d)", re.IGNORECASE
)
_OPERATIONS = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/"}
_PERCENT = re.compile(r"\s?\b(?:per\s?cent|pct)\b(?!\s?points?)", re.IGNORECASE)
_DEGREES = re.compile(r"\s?[°′″](?:\s?[CFK]\b)?")

_AMOUNT = (
    r"(?i:half|halves|quarters|thirds|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths|thousandths|"
    r"tens|hundreds?|thousands?|millions?|billions?|trillions?|dozens?|twice|double|triple|squared|cubed|factorial|"
    r"below|negative)\b"
)
"""Words that change a number wherever they stand beside it."""
_PART_OF_ONE = re.compile(
    r"\d\s{0,2}-?(?:half|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|score|gross|lakh|crore)\b",
    re.IGNORECASE,
)
_NUMBER_WORD = (
    r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|"
    r"twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)"
)
_SHORT_UNIT = (
    r"(?:kg|km|[cmµn]m|m[lLg]|[kMG]?Hz|k?Wh?|[kMGT]B|lbs?|oz|ft|in|yd|mi|hrs?|mins?|secs?|am|pm|mph|kph|cc|pt|qt|gal|"
    r"st|nd|rd|th|USD|EUR|[c¢])(?![^\W\d_])"
)
_POWER = r"(?:\s?(?:\^|\*\*)\s?\(?[-−]?\d\)?|(?<=[a-z])[23](?!\w))?"
_TIMES = r"times(?=\W{0,4}\Z|\s(?:as|more|larger|bigger|faster|longer|greater|heavier|older|taller|per|an?|each|in)\b)"
_WORD = rf"(?:(?!(?:(?i:and|or|times)\b|{_AMOUNT}))[^\W\d_]{{2,}}(?:['’-][^\W\d_]+)*{_POWER}|a\b|{_TIMES})"
_LONE = rf"[mgshlLVWJNCFA](?:[23](?!\w)|(?!\w){_POWER})"
_MORE = rf"(?:\s?[ /·-]\s?(?:{_WORD}|{_LONE})){{0,12}}"
_UNIT = re.compile(rf"(?<=[\d)%$])(?:\s{{1,3}}-?{_WORD}|-{_WORD}|{_SHORT_UNIT}{_POWER}|[^\W\d_]{{4,}}{_POWER}){_MORE}")
_LONE_UNIT = re.compile(rf"(?<=[\d)%$])(?P<space>\s{{0,3}}){_LONE}{_MORE}")
_FRACTION_UNIT = re.compile(r"\(\(([^()\d]{1,20})\)/\(([^()\d]{1,20})\)\)")
_MONEY_LETTER = re.compile(r"[$£€¥₹]\s?[\d.,]{1,30}\s?(?:k|m|mm|mn|b|bn|t|tn)\b", re.IGNORECASE)
_BINARY = re.compile(r"[\d)%]\s{0,3}(?:\*\*|[-+*/^x×÷−–])\s{0,3}[$£€(]?[\d.(]")
_RANGE = re.compile(r"[$£€]?(\d{1,15}(?:\.\d{1,9})?)(?:-| ?[–—] ?)[$£€]?(\d{1,15}(?:\.\d{1,9})?)(?:/\d{1,9})?")
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{4}")

_NUMBER = re.compile(r"(?<![\w.,])[-−]?[$£€]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)(?![\w,.]*\d)%?(?!\w)")
_OPERATOR = re.compile(r"[+*/=×÷^−<>≤≥≠±∓√π∞|‼\\{}_?~→]|(?<!\w)-|-(?!\w)")
_OTHER_AMOUNT = re.compile(
    rf"\b(?:{_AMOUNT}|quarter\b|third\b|times\b|thrice\b|more\b|less\b|fewer\b|minus\b|plus\b|some\b|of\b|and\b|or\b|not\b|over\b|under\b|"
    r"between\b|except\b|without\b|root\b|log\b|ln\b|sin\b|cos\b|tan\b|mod\b|increase\b|decrease\b|loss\b)"
    rf"|\b{_NUMBER_WORD}\W{{1,2}}\d|\d\W{{1,2}}{_NUMBER_WORD}\b"
    r"|\d\s{0,2}(?-i:[kKMBT]|[mbt]n)\b|\b(?:steps?|sections?|parts?|problems?|questions?|equations?|eqs?|figures?|lines?|chapters?|examples?|cases?|tables?|"
    r"items?|notes?|options?|choices?)\W{1,3}\d|\b(?:an?|the)\s\d+-[a-z]",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"\A(?:(?:[≈~•]|\b(?:about|approximately|around|roughly|exactly|only|just)\b)\s{0,3})?"
    r"(?:(?:US|AU|CA|NZ|HK)D?(?=\$)|(?:USD|EUR|GBP|INR|Rs\.?)\s(?=\d))?",
    re.IGNORECASE,
)
_PIECES = re.compile(r"\s(?:and|or)\s|[,;]\s")
NAME = re.compile(r"(?:\\[a-z]+ )?[^\W\d_][^\d()*/+=^-]{0,60}(?:_\(?\w{1,9}\)?)?(?:\([^\W\d_](?:, ?[^\W\d_]){0,3}\))?")
_REASON = re.compile(
    r",?\s(?:because|since|(?<!times )as|so|which|where|given|making|meaning|rather than|instead of)\s"
    r"|,\s(?:not|i\.e)\b|\s?—\s?|\s--\s",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"([^()]{1,80}?)\s{1,3}\(([^()]{1,120})\)")
_FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "log",
        "ln",
        "exp",
        "arcsin",
        "arccos",
        "arctan",
        "max",
        "min",
        "gcd",
        "lcm",
        "mod",
        "det",
    ]
)
_PROSE_WORD = re.compile(r"(?<!\\)\b[^\W\d_]{3,}\b")
_FORMULA = re.compile(
    r"(?<![\\$])\$(?![\s$])((?:[^$\\]|\\.){1,400}?)(?<!\s)\$(?![\d$])|\\\((.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]",
    re.DOTALL,
)
_SYMBOLIC = re.compile(r"\\[a-zA-Z]{2}|[√π∞]")
_JOINING = re.compile(r"(?<![\w\\])(?:or|and|is|of|in|to)(?!\w)|[?]")
_PLAIN = re.compile(r"[-−]?[$£€]?\d{1,15}(?:\.\d{1,9})?")
MAX_EXPRESSION = 200
"""The longest LaTeX value that is kept to be compared, in characters."""
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
    plain = plain_text(without_dollars(region))
    ending = SENTENCE_END.search(plain)
    answer = without_emphasis((plain[: ending.start()] if ending else plain).strip())
    reading = read_plain(answer)
    if reading.status == "unparsable" and at_end and ending is None and _looks_cut(answer):
        return ParsedValue(answer, None, None, "cut")
    if reading.status != "ok" or not reading.exact:
        formula = _only_formula(region)
        if formula is not None and (reading.status == "unparsable" or has_math(region)):
            return ParsedValue(formula, None, None, "ok")
    return reading


def plain_text(text: str) -> str:
    """A text with its LaTeX, powers, fractions, minus signs and spaces inside numbers as the readers want them."""
    plain = _FRACTION_UNIT.sub(r" \1/\2", to_plain(text))
    if not plain.isascii():
        plain = _SUPERSCRIPT.sub(lambda match: f"^({unicodedata.normalize('NFKC', match[0])})", plain)
        plain = _VULGAR.sub(
            lambda match: "(({})/({}))".format(*unicodedata.normalize("NFKC", match[0]).split("⁄")), plain
        )
        plain = _THIN_SPACE.sub(",", plain).translate(_CHARACTERS)
    return plain


def without_emphasis(answer: str) -> str:
    """Without Markdown's marks around it; a single `*` at the end alone is an operator."""
    inner = answer.lstrip("*_`")
    if inner != answer or answer.endswith(("**", "`")):
        inner = inner.rstrip("*_`")
    return inner.strip()


def number_of_text(text: str) -> float | None:
    """The number that a whole text is, units and LaTeX included; None for anything else."""
    boxes = boxes_of(text) if "\\" in text else []
    plain = plain_text(without_dollars(boxes[-1] if boxes else text)).strip(_EDGE)
    return _exact(plain) if any(map(str.isdigit, plain)) else None


def boxes_of(region: str) -> list[str]:
    """The contents of the closed boxes in a text, in order."""
    found, position = [], 0
    while len(found) < MAX_BOXES and (match := BOX.search(region, position)):
        content = box_content(region, match.end())
        position = match.end() if content is None else content[2]
        if content is not None:
            found.append(region[content[0] : content[1]])
    return found


def _read_formula(content: str) -> ParsedValue:
    """Read what is in a box: a number, or a LaTeX value that is kept as it stands."""
    inner = boxes_of(content)
    if inner:
        content = inner[-1]
    content = content.strip().strip("$").strip()
    plain = without_emphasis(plain_text(content.replace("!", "‼").replace("\\‼", "")).strip().rstrip("."))
    reading = read_plain(plain, formula=True)
    if reading.status == "ok" and reading.exact:
        return reading
    if is_expression(content):
        return ParsedValue(content, None, None, "ok")
    return reading if plain else ParsedValue("", None, None, "unparsable")


def read_plain(answer: str, formula: bool = False) -> ParsedValue:
    """The number that a piece of plain text states."""
    if not any(map(str.isdigit, answer)):
        return ParsedValue(answer, None, None, "unparsable")
    value = _exact(answer, formula)
    if value is None and (shorter := _without_reason(answer)) is not None:
        value = _exact(shorter, formula)
        answer = answer if value is None else shorter
    if value is not None:
        return ParsedValue(answer, value, None, "ok")
    value = _mentioned(answer)
    if value is not None:
        return ParsedValue(answer, value, None, "ok", exact=False)
    values = {_stated(piece) for piece in _PIECES.split(_unwrapped(answer))} - {None}
    sides = {_stated(side) for side in _unwrapped(answer).split("=")} - {None}
    if len(values) > 1 or len(sides) > 1:
        return ParsedValue(answer, None, None, "ambiguous")
    return ParsedValue(answer, None, None, "unparsable")


def _stated(answer: str) -> float | None:
    value = _exact(answer)
    return _mentioned(answer) if value is None else value


def _exact(answer: str, formula: bool = False) -> float | None:
    """The value of a text that is a number or an expression as a whole, with units or an equals sign."""
    if _PLAIN.fullmatch(answer):
        return _solved(answer)
    if _RANGE.fullmatch(answer) or _DATE.search(answer) or _MONEY_LETTER.search(answer):
        return None
    answer = _BEFORE.sub("", _unwrapped(answer))
    if not any(map(str.isdigit, answer)):  # a side of an equation
        return None
    answer = _with_amounts(answer)
    if _PART_OF_ONE.search(answer):
        return None
    for candidate in _without_units(answer, formula):
        value = None if _RANGE.fullmatch(candidate.strip()) else _solved(candidate)
        if value is not None:
            return value
    if "=" in answer or "≈" in answer:
        return _equation(answer, formula)
    return _before_aside(answer, formula)


def _with_amounts(answer: str) -> str:
    """Words and signs that multiply, divide, add or change the sign, as arithmetic."""
    answer = _MIXED.sub(r"(\1+\2/\3)", answer)
    answer = _MIXED_INLINE.sub(_mixed, answer)
    if "°" in answer or "′" in answer:
        answer = _DEGREES.sub("", answer)
    if not any(map(str.isalpha, answer)):
        return answer
    answer = _PERCENT.sub("%", answer)
    answer = _AND_PART.sub(lambda match: f"({match[1]}+1/{_PARTS[match[2].lower()]})", answer)
    answer = _POWER_WORD.sub(lambda match: "^2" if match[1].lower() == "squared" else "^3", answer)
    answer = _SIGN_WORD.sub("-", answer)
    answer = _OPERATION_WORD.sub(lambda match: f" {_OPERATIONS[match[1].lower()]} ", answer)
    return _scaled(_scaled(answer))


def _scaled(answer: str) -> str:
    return _SCALE.sub(lambda match: f"*{_SCALES[match[1].lower()]}", answer)


def _mixed(match: re.Match[str]) -> str:
    """`2 1/2` as a sum; `8 4/2` stays as it is."""
    whole, above, below = match.groups()
    return f"({whole}+{above}/{below})" if int(above) < int(below) else match[0]


def _without_units(answer: str, formula: bool) -> list[str]:
    """The text as it is, and without its units.

    A single letter is a unit only behind a lone number, and in a formula only behind a space: `2s` may be two seconds,
    `4r + 3` and `$2s$` are no amounts.
    """
    plain = _UNIT.sub(" ", answer)
    found = [answer, plain]
    lone = _LONE_UNIT.search(plain)
    if lone and not _BINARY.search(plain) and (lone["space"] or not formula):
        found.append(_LONE_UNIT.sub(" ", plain))
    return found


def _equation(answer: str, formula: bool) -> float | None:
    """The value of `84 / 2 = 42` or `x = 5`, if its sides agree."""
    left, *others = answer.replace("≈", "=").split("=")
    sides = others if NAME.fullmatch(left.strip()) else [left, *others]
    values = [_exact(side.strip(), formula) for side in sides]
    first = values[0] if values else None
    if first is None and len(values) > 1 and "≈" not in answer:
        # Both `√(16) = 4` and `x^(2) = 4` end in a number, which only the first one is.
        unknown = [side for side, value in zip(sides, values, strict=True) if value is None]
        return None if any(map(str.isalpha, "".join(unknown).replace("π", ""))) else values[-1]
    if first is None or any(value is None or abs(value - first) > ROUNDING * max(1.0, abs(first)) for value in values):
        return None
    return first


def _before_aside(answer: str, formula: bool) -> float | None:
    """The value of `42 (six sevens)`; none where the parentheses hold another number."""
    aside = _ASIDE.fullmatch(answer)
    if aside is None:
        return None
    value = _exact(aside[1], formula)
    if value is None or not any(map(str.isdigit, aside[2])):
        return value
    return value if _exact(aside[2], formula) == value else None


def _without_reason(answer: str) -> str | None:
    """What stands before the reason that an answer is given with, if there is one: `42, since 6*7 = 42`."""
    reason = _REASON.search(answer)
    return answer[: reason.start()].rstrip(_EDGE) if reason else None


def _mentioned(answer: str) -> float | None:
    """The only number of a sentence such as "that Luke scored 42 points", where nothing else could change it."""
    answer = _with_amounts(_unwrapped(answer))
    numbers = _NUMBER.findall(answer)
    if len(numbers) != 1 or answer.count("(") != answer.count(")") or _OTHER_AMOUNT.search(answer):
        return None
    if _PART_OF_ONE.search(answer) or _MONEY_LETTER.search(answer):
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
    """Whether an answer stops in the middle: nothing there, an open bracket, an operator at its end."""
    return (
        not answer
        or answer.count("(") > answer.count(")")
        or answer.count("{") > answer.count("}")
        or answer[-1] in "+-*/×÷−=$,("
    )


def _only_formula(region: str) -> str | None:
    r"""The one LaTeX value of a region: all of it, or the only formula in a sentence without other numbers."""
    found = _FORMULA.findall(region)
    if len(found) == 1:
        content = next(filter(None, found[0]), "").strip()
        others = _FORMULA.sub(" ", region)
        if any(map(str.isdigit, others)) or not is_expression(content):
            return None
        return content
    ending = SENTENCE_END.search(region)
    whole = without_emphasis((region[: ending.start()] if ending else region).strip())
    return whole if not found and _SYMBOLIC.search(whole) and is_expression(whole) else None


def is_expression(content: str) -> bool:
    """Whether a text can be a LaTeX value: letters and digits, no words but those of functions, braces that match."""
    plain = to_plain(content)
    if not 0 < len(content) <= MAX_EXPRESSION or plain.count("(") + plain.count("[") != plain.count(")") + plain.count(
        "]"
    ):
        return False
    if plain == content and "{" in content.replace("\\{", ""):
        return False
    words = {word.lower() for word in _PROSE_WORD.findall(re.sub(r"\\[a-zA-Z]+", " ", plain))}
    return any(map(str.isalnum, plain)) and words <= _FUNCTIONS and not _JOINING.search(plain)
