"""The numbers that a problem's text states, in digits or in words.

A label that calculates with a number from nowhere (a unit's factor, a step that was worked out before) would
teach a student to make numbers up, so a formula is taken as a label only if the problem states all its
numbers.
"""

from __future__ import annotations

import re

_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: value for value, word in enumerate(_UNITS)}
_WORDS.update({word: 10 * place for place, word in enumerate(_TENS, start=2)})
_SCALES = {"hundred": 100, "thousand": 1000}
_MULTIPLES = {
    "twice": (2.0,),
    "double": (2.0,),
    "doubles": (2.0,),
    "doubled": (2.0,),
    "half": (2.0, 0.5),
    "triple": (3.0,),
    "dozen": (12.0,),
}
_LARGEST = 10**9
_TOKEN = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+|[a-z]+")
_NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+")


def states_all_numbers(text: str, expression: str) -> bool:
    """Whether every number of an arithmetic expression is stated in a text."""
    stated = stated_numbers(text)
    return all(float(number) in stated for number in _NUMBER.findall(expression))


def stated_numbers(text: str) -> set[float]:
    """The numbers of a text: `1,200`, `0.5`, `forty-seven`, `one hundred and ten`, `twice` (2)."""
    stated: set[float] = set()
    words: list[str] = []
    for found in [*_TOKEN.findall(text.lower()), ""]:
        if found in _WORDS or (words and (found in _SCALES or (found == "and" and words[-1] in _SCALES))):
            words.append(found)
            continue
        stated.update(_values_of(words))
        words = []
        if found in _MULTIPLES:
            stated.update(_MULTIPLES[found])
        elif found and not found.isalpha():
            stated.add(float(found.replace(",", "")))
    return stated


def _values_of(words: list[str]) -> set[float]:
    """The numbers that a run of number words spells: one for `forty seven`, two for `three four`."""
    values: list[int] = []
    for word in words:
        if word == "and":
            continue
        if word in _SCALES and values[-1] < _LARGEST:
            # "two hundred fifty thousand": all of it; "one thousand two hundred": the hundreds only
            below = values[-1] % 1000 if word == "hundred" else values[-1]
            values[-1] += below * (_SCALES[word] - 1)
        elif word in _SCALES:
            continue
        elif values and _continues(values[-1], _WORDS[word]):
            values[-1] += _WORDS[word]
        else:
            values.append(_WORDS[word])
    return {float(value) for value in values}


def _continues(value: int, number: int) -> bool:
    """Whether a number word continues the number before it: `forty` + `seven`, `hundred` + `ten`."""
    if number == 0 or value == 0:
        return False
    return value % 100 == 0 or (number < 10 and value % 10 == 0 and value % 100 >= 20)
