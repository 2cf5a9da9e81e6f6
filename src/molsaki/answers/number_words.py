"""Numbers in words, and in the notation of other countries, as digits: `twenty-one pens`, `two thirds`, `1.234,50 €`.

Words are read at the start of an answer alone, where nothing else in it is a number. Separators are read only where
they can have one meaning: `1.234.567` is a number of thousands, `1.234` has a decimal point, `1,5` may be two values.
"""

from __future__ import annotations

import re


def _numbered(words: str, first: int, step: int = 1) -> dict[str, int]:
    return {word: step * number for number, word in enumerate(words.split(), first)}


_ONES = _numbered("one two three four five six seven eight nine", 1)
_TEENS = _numbered("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 10)
_TENS = _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 2, 10)
_SMALL = {"a": 1, "an": 1, "zero": 0, **_ONES, **_TEENS, **_TENS}
_LARGE = {word: 1000**power for power, word in enumerate(("thousand", "million", "billion", "trillion"), 1)}
_PARTS = _numbered("half third fourth fifth sixth seventh eighth ninth tenth", 2) | {"halve": 2, "quarter": 4}


def _any(words: dict[str, int]) -> str:
    return f"(?:{'|'.join(words)})"


NUMBER_WORD = f"(?:zero|{_any(_ONES)}|{_any(_TEENS)}|{_any(_TENS)})"
_TWO_DIGITS = rf"(?:{_any(_TENS)}(?:[ -]{_any(_ONES)})?|{_any(_TEENS)}|{_any(_ONES)})"
_THREE_DIGITS = rf"(?:(?:a|{_any(_TEENS)}|{_any(_ONES)})[ -]hundred(?: (?:and )?{_TWO_DIGITS})?|{_TWO_DIGITS})"
_GROUP = rf"(?:(?:an?|{_THREE_DIGITS})[ -]{_any(_LARGE)}|{_THREE_DIGITS})"
_WHOLE = rf"(?:zero|{_GROUP}(?:,? (?:and )?{_GROUP}){{0,4}})"
_FRACTION = rf"(?P<above>an?(?= half)|{_any(_ONES)})[ -](?P<below>(?!(?<= )quarter){_any(_PARTS)})s?"  # not coins
_WORDS = re.compile(
    r"(?:(?:about|approximately|around|roughly|exactly|only|just) )?"
    r"(?:(?:that )?there (?:are|is|were|was|will be) )?(?P<sign>(?:negative|minus) )?"
    rf"(?:(?:(?P<mixed>{_WHOLE}) and )?{_FRACTION}|(?P<half>(?:a |one )?half(?: an?(?= )|\Z))|(?P<dozen>a(?= dozen))"
    rf"|(?P<whole>{_WHOLE})(?: point(?P<decimals>(?: {NUMBER_WORD})+))?)(?![\w'’-])"
    r"(?: ?\((?P<digits>\d[\d,./]{0,20})\))?(?P<rest>[^\d]{0,200})",
    re.IGNORECASE,
)
_ONE_AND_NO_NUMBER = re.compile(r"(?: (?!another\b|more\b|off\b|by\b)[^\W\d_]+)?", re.IGNORECASE)
"""What may follow "one": "one pen"; "one of them" and "one thing I know" state no number."""

_GROUPED = re.compile(
    r"(?<![\w.,'’])(?<!\d )\d{1,3}(?:(?:['’_]\d{3})+(?:\.\d{1,9})?|(?:\.\d{3}){2,}(?:,\d{1,2})?|(?:\.\d{3})+,\d{1,2}"
    r"|(?: \d{3}){2,}(?:[.,]\d{1,2})?|(?: \d{3})+,\d{1,2})(?![\w'’]|[.,]\d| \d)"
)
"""Thousands with a separator that can be nothing else there: `1'234`, `1.234.567`, `1.234,50`, `1 234 567`."""
_INDIAN = re.compile(
    r"(?:(?<=₹)|(?<=₹ )|(?<=\b[Rr]s )|(?<=\b[Rr]s\. )|(?<=\bINR ))\d{1,2}(?:,\d\d)+,\d{3}(?![\d,])"
    r"|(?<![\d,.])\d{1,2}(?:,\d\d)+,\d{3}(?= rupees\b)"
)
_DECIMAL_COMMA = re.compile(
    r"(?<![\d.,])(?P<whole>\d{1,9}),(?P<cents>\d\d)(?= ?(?:€|EUR\b|euros?\b|zł|Kč|kr\b))|(?<=[€])\d{1,9},\d\d(?![\d,])"
    r"|(?<=R\$)\d{1,9},\d\d(?![\d,])|(?<=R\$ )\d{1,9},\d\d(?![\d,])"
)


def in_digits(answer: str) -> str:
    """The answer with a number in words at its start, and numbers with other separators, in digits."""
    if any(map(str.isdigit, answer)):
        answer = _GROUPED.sub(lambda match: _with_point(match[0]), answer)
        answer = _INDIAN.sub(lambda match: match[0].replace(",", ""), answer)
        answer = _DECIMAL_COMMA.sub(lambda match: match[0].replace(",", "."), answer)
    said = _WORDS.fullmatch(" ".join(answer.split()))
    number = _number(said) if said else None
    if said is None or number is None:
        return answer
    if said["digits"] and said["digits"].replace(",", "") != number:
        return answer
    if number == "1" and not _ONE_AND_NO_NUMBER.fullmatch(said["rest"]):
        return answer
    return f"{'-' if said['sign'] else ''}{number}{said['rest']}"


def _with_point(number: str) -> str:
    """A number with thousands separators without them, and with a decimal point."""
    whole, separator, decimals = number, "", ""
    if "," in number:
        whole, separator, decimals = number.partition(",")
    elif re.search(r"['’_ ]", number):
        whole, separator, decimals = number.partition(".")
    return re.sub(r"\D", "", whole) + ("." if separator else "") + decimals


def _number(said: re.Match[str]) -> str | None:
    if said["half"]:
        return "(1/2)"
    if said["dozen"]:
        return "1"
    if said["below"]:
        above, below = _SMALL[said["above"].lower()], _PARTS[said["below"].lower()]
        whole = _whole(said["mixed"]) if said["mixed"] else 0
        if whole is None or whole >= 1000:  # "a million and a half" is 1.5 million
            return None
        return f"({whole}+{above}/{below})" if whole else f"({above}/{below})"
    whole = _whole(said["whole"])
    decimals = [_SMALL[word] for word in (said["decimals"] or "").lower().split()]
    if whole is None or any(digit > 9 for digit in decimals):
        return None
    return f"{whole}.{''.join(map(str, decimals))}" if decimals else str(whole)


def _whole(words: str) -> int | None:
    """The value of a whole number in words; None where a part does not fit the one before: "twenty ten"."""
    total, last = 0, max(_LARGE.values()) * 1000
    for part in re.findall(_GROUP, words.lower()):
        *small, end = re.split("[ -]", part)
        scale = _LARGE.get(end, 1)
        if scale >= last:
            return None
        last = scale
        value = 0
        for word in small if scale > 1 else [*small, end]:
            value = value * 100 if word == "hundred" else value + _SMALL.get(word, 0)
        total += value * scale
    return total
