"""The key words of a multiple-choice problem, as listed by a teacher or as the content words of the question.

Key words that occur in neither the question nor the rationale are dropped and counted. `molsaki.spans.keywords` finds
them in a text, here and in the spans of keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from molsaki.answers.thinking import split_thinking
from molsaki.spans.keywords import keyword_spans
from molsaki.spans.scripts import MARKS, UNSPACED

MAX_NAMED = 16
MAX_LENGTH = 60
"""The limits on the number of key words of a question and on the characters of each; anything beyond is ignored."""

_STOP_WORD_LIST = """
    a about above after again all also am an and another any are as at be because been before being below between
    both but by can could did do does doing down during each either else ever every few for from further get gets
    getting go goes going had has have having he her here hers him himself his how i if in into is it its itself
    just kind know let like likely made make makes making many may me might more most much must my need needs no nor
    not now of off on once one only or other our out over own people person put same shall she should so some
    someone something sort such take than that the their theirs them then there these they thing things this those
    through to too under until up upon us use used using very want wants was way we were what when where whether
    which while who whom whose why will with without would you your yours

"""
_STOP_WORDS = frozenset(_STOP_WORD_LIST.split())
_LETTERS = rf"(?:[^\W\d_][{MARKS}]*)+"
_WORD = re.compile(rf"{_LETTERS}(?:['’-]{_LETTERS})*")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_SEPARATOR = re.compile(r"[,;\n•*|、，；،؛]|\s-\s")
_LABEL = re.compile(r"[^,;:\n]{0,60}\bkey\s?-?words?\b[^,;:\n]{0,40}(?::|\bare\b|\bis\b)\W{0,4}", re.IGNORECASE)
_ITEM = re.compile(r"\s{0,8}(?:[-*•·–]|\(?\d{1,2}[.):])\s{1,4}(?=\S)")


@dataclass(frozen=True, slots=True)
class ChosenKeywords:
    """The key words that occur in the question or the rationale (`kept`), and the others (`dropped`)."""

    kept: tuple[str, ...]
    dropped: tuple[str, ...]


def parse_keywords(text: str) -> tuple[str, ...]:
    """Read the key words that a teacher lists, without duplicates.

    They are on the first line that has any (`velp, home`, `Key words: velp; home`), or on separate lines that begin
    with a bullet or a number. Any text after them is ignored, and so is thinking before them.
    """
    lines = [line for line in split_thinking(text).summary.splitlines() if any(map(str.isalnum, line))]
    first = _LABEL.sub("", lines[0], count=1) if lines else ""
    if lines and not any(map(str.isalnum, first)) and len(lines) > 1:
        lines, first = lines[1:], lines[1]
    items = []
    for line in lines:
        mark = _ITEM.match(line)
        if mark is None:
            break
        items.append(line[mark.end() :])
    named = (part.strip(" \t\"'“”.`()[]{}") for part in _SEPARATOR.split("\n".join(items) or first))
    usable = [part for part in named if any(map(str.isalnum, part)) and len(part) <= MAX_LENGTH]
    return _unique(usable)[:MAX_NAMED]


def question_words(question: str) -> tuple[str, ...]:
    """The content words of a question: its words of three letters or more that are not on a list of stop words.

    Scripts that write no space between words have none: their runs of letters are phrases.
    """
    words = (match[0] for match in _WORD.finditer(question))
    usable = (word for word in words if _is_content(word))
    return _unique(usable)[:MAX_NAMED]


def _is_content(word: str) -> bool:
    return 2 < len(word) <= MAX_LENGTH and word.casefold() not in _STOP_WORDS and not _UNSPACED.search(word)


def choose_keywords(named: Iterable[str], question: str, rationale: str) -> ChosenKeywords:
    """Keep the key words that occur in at least one of the two texts."""
    unique = _unique(named)
    kept = tuple(word for word in unique if _occurs(word, question, rationale))
    return ChosenKeywords(kept, tuple(word for word in unique if word not in kept))


def _occurs(word: str, *texts: str) -> bool:
    return any(keyword_spans(text, [word]) for text in texts)


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for word in words:
        found.setdefault(word.casefold(), word)
    return tuple(found.values())
