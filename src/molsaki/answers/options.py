"""A question's choices in the forms that answers are compared in: as written, trimmed, folded, by value and unit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from molsaki.answers.arithmetic import same_number
from molsaki.answers.latex import plain_text, without_dollars
from molsaki.answers.numbers import number_of_text

_TYPOGRAPHY = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛ʼ´", "'"),
        **dict.fromkeys("“”„‟«»", '"'),
        **dict.fromkeys("‐‑‒–—−", "-"),
        "…": "...",
        **dict.fromkeys("【「『〔［〈《", "["),
        **dict.fromkeys("】」』〕］〉》", "]"),
    }
)
_SIMPLE = re.compile(r"[\w ,.'()-]*", re.ASCII)
"""Text with nothing that `plain_choice` would change."""
_QUOTE = re.compile(r"(?<=\w)`(?=\w)")
_EMPHASIS = re.compile(r"(?<!\d)\*\*|\*\*(?!\d)|__|`")
_RATIO = re.compile(r"(?<=\d)\s?:\s?(?=\d)")
_STYLED_LETTER = re.compile("[⒜-⒵Ⓐ-ⓩ\U0001d400-\U0001d6a3]")
EDGE = " \t\r\n\"'*_.,;:!?"
_BULLET = re.compile(r"\A(?:[-•>→=]\s{1,3}|:\s{0,3})(?=[(\[]?[A-Za-z])")
_UNIT_WORD = re.compile(r"[^\W\d_]+|[$€£¢]")
_UNIT_SIGNS = {"$": "dollars", "€": "euros", "£": "pounds", "¢": "cents"}
_METRIC = re.compile(r"(milli|centi|kilo)?(met(?:er|re)|gram|lit(?:er|re))")


def fold(text: str) -> str:
    """A text for comparing: compatibility forms, case and runs of space made equal."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@dataclass(frozen=True, slots=True)
class Options:
    """A question's choices, in the forms that they are compared in.

    Attributes:
        texts: as they are given.
        forms: forms[i][j] is choice j in form i of `forms_of`; form 0 is the closest to what is written.
        values: the number that a choice is, or None.
    """

    texts: tuple[str, ...]
    forms: tuple[tuple[str, ...], ...]
    values: tuple[float | None, ...]

    @property
    def folded(self) -> tuple[str, ...]:
        """The choices in the form that is furthest from what is written."""
        return self.forms[-1]


@lru_cache(maxsize=512)
def options_of(choices: tuple[str, ...]) -> Options:
    """The choices of a question in their forms."""
    forms = tuple(zip(*(forms_of(plain_choice(choice)) for choice in choices), strict=True))
    values = tuple(number_of_text(choice) for choice in choices)
    if None in values:  # a word such as "one" is a number only among numbers
        values = tuple(
            value if any(map(str.isdigit, choice)) else None for value, choice in zip(values, choices, strict=True)
        )
    return Options(choices, forms, values)


def right_choices(choices: Sequence[str], answer: str) -> frozenset[int]:
    """The choices whose text equals an answer, exactly or else after folding; empty if two texts remain."""
    written = frozenset(i for i, choice in enumerate(choices) if choice.split() == answer.split())
    if written:  # also of signs and code, which folding would change: `*`, `__init__`
        return written
    options = options_of(tuple(choices))
    return frozenset(whole_choices(forms_of(plain_choice(answer))[:3], options) or ())


def plain_choice(text: str) -> str:
    """A text with typographic signs as ASCII, and without LaTeX and emphasis."""
    if _SIMPLE.fullmatch(text) and "__" not in text and text[:1] != "-":
        return text.strip()
    plain = _QUOTE.sub("'", plain_text(without_dollars(text)).translate(_TYPOGRAPHY).strip())
    plain = _RATIO.sub(":", _EMPHASIS.sub("", _BULLET.sub("", plain)))
    if plain.isascii():
        return plain
    plain = _STYLED_LETTER.sub(lambda match: unicodedata.normalize("NFKC", match[0]), plain)
    return unicodedata.normalize("NFC", plain)


def forms_of(plain: str) -> tuple[str, ...]:
    """The forms of a text, each further from what is written: as it is, trimmed, folded, without an article."""
    written = " ".join(plain.strip(" *_").split())
    trimmed = written.strip(EDGE)
    folded = fold(trimmed)
    return written, trimmed, folded, _without_article(folded)


def _without_article(folded: str) -> str:
    for article in ("a ", "an ", "the "):
        if folded.startswith(article):
            return folded[len(article) :]
    return folded


def whole_choices(forms: Sequence[str], options: Options) -> list[int] | None:
    """The choices that equal a whole text, by the first form in which one does; None if none does.

    Empty where choices that are written differently have that form.
    """
    for said, texts in zip(forms, options.forms, strict=False):
        found = [i for i, text in enumerate(texts) if text == said] if said else []
        if found:
            return found if len({options.forms[0][i] for i in found}) == 1 else []
    return None


def of_value(value: float, options: Options) -> list[int]:
    """The choices that are a number: exactly, or else by `same_number`."""
    known = [(i, other) for i, other in enumerate(options.values) if other is not None]
    return [i for i, other in known if other == value] or [i for i, other in known if same_number(value, other)]


def of_unit(plain: str, found: Sequence[int], options: Options) -> list[int]:
    """Of choices with the same value, those with the answer's unit; all of them if the answer has no unit."""
    said = _units(plain)
    if not said:
        return list(found)
    units = {i: _units(options.forms[0][i]) for i in found}
    same = [i for i in found if units[i] <= said]
    return same or [i for i in found if any(_same_unit(a, b) for a in said for b in units[i])]


def _units(text: str) -> set[str]:
    return {_UNIT_SIGNS.get(word, word) for word in _UNIT_WORD.findall(text)}


def _same_unit(a: str, b: str) -> bool:
    """Whether a word is a unit and the other one its plural or short form: `kilometers` and `km`, `hours` and `hr`."""
    short, long = sorted((a.lower().removesuffix("s"), b.lower().removesuffix("s")), key=len)
    if short == long:
        return True
    metric = _METRIC.fullmatch(long)
    if metric:
        return short == (metric[1] or "")[:1] + metric[2][0]
    return len(short) <= 3 < len(long) and short[0] == long[0] and short != "m"
