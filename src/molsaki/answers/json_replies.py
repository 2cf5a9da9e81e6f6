"""Replies that are JSON: `{"reasoning": "6 * 7 = 42", "answer": 42}` as a text with an answer sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice

MAX_OBJECTS = 8
"""The largest number of places in a text where an object is looked for."""
_START = re.compile(r"(?:```(?:json)?\s{0,8})?(?P<object>\{\s{0,80}\")", re.IGNORECASE)
_ANSWER = re.compile(r"(?:(?:final|correct)[ _-]?)?answer(?:[ _-](?:choice|letter|value))?", re.IGNORECASE)


class _Number(str):
    """A number as it is written; no text of a rationale."""


_DECODER = json.JSONDecoder(parse_float=_Number, parse_int=_Number)


def without_json(text: str) -> str:
    """The text with the first JSON object that has an answer as lines: its texts, and "The answer is: …"."""
    if "{" not in text or '"' not in text:
        return text
    for start in islice(_START.finditer(text), MAX_OBJECTS):
        try:
            found, end = _DECODER.raw_decode(text, start.start("object"))
            if any(_ANSWER.fullmatch(key) for key in found):
                return text[: start.start()] + "\n".join(_lines(found)) + text[end:]
        except (ValueError, RecursionError):  # no object, or one that is nested too deeply
            continue
    return text


def _lines(fields: dict[str, object]) -> Iterator[str]:
    """The texts in their order, and the answer behind them."""
    answers = [value for key, value in fields.items() if _ANSWER.fullmatch(key)]
    yield from _texts([value for key, value in fields.items() if not _ANSWER.fullmatch(key)])
    yield from (f"The answer is: {value if isinstance(value, str) else json.dumps(value)}" for value in answers)


def _texts(value: object) -> Iterator[str]:
    """All texts in lists and objects, such as `[{"explanation": "…", "output": "6 * 7 = 42"}]`."""
    if isinstance(value, str):
        if not isinstance(value, _Number):
            yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
