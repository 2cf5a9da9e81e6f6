"""Where key words occur in a text.

A teacher names key words for a commonsense question: `eagle`, `St. Paul`, `t-shirt`. They are found as whole words,
in any case and in their simple English inflections. A table of these forms finds all of them in one pass over the
text's words, without a regular expression for each question.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from molsaki.errors import SpanError
from molsaki.spans.scripts import MARKS, UNSPACED

MAX_KEYWORDS = 1000
MAX_KEYWORD_LENGTH = 200
MIN_INFLECTED = 3
"""Shorter words have no inflections: `go` does not match `goes`, and `a` does not match `as`."""

# Numbers are one word each; scripts without spaces are read character by character.
_LETTERS = rf"(?:[^\W{UNSPACED}][{MARKS}]*)"
_WORD = re.compile(rf"\d+(?:[.,]\d+)*{_LETTERS}*|[{UNSPACED}]|{_LETTERS}+|[^\w\s]")
_ONE_FORM = str.maketrans("’‘‛“”‐‑‒–−", "'''\"\"-----")


@dataclass(frozen=True, slots=True)
class _Word:
    """One word or punctuation mark of a text, in its compared form, with its place in the original."""

    text: str
    start: int
    end: int
    spaced: bool


_Key = tuple[tuple[frozenset[str], bool], ...]


def keyword_spans(text: str, keywords: Sequence[str]) -> list[tuple[int, int]]:
    """Find where key words occur: character ranges in order. The longest match wins, and none overlap.

    Texts are compared in Unicode's compatibility form, without case. Each word of a key word may have the endings
    -s, -es, -ies, -ed, -ied, -ing (with a dropped `e` or a doubled consonant), and a plural key word matches its
    singular too. The `'s` of a possessive is not part of the range; `don` does not match in `don't`.

    Raises:
        SpanError: a key word has no letter or digit or more than `MAX_KEYWORD_LENGTH` characters, or there are more
            than `MAX_KEYWORDS` of them.
    """
    table = _table(tuple(keywords))
    words = _words(text)
    spans = []
    i = 0
    while i < len(words):
        length = max((_matched(words, i, key) for key in table.get(words[i].text, ())), default=0)
        if length:
            spans.append((words[i].start, words[i + length - 1].end))
        i += length or 1
    return spans


def word_forms(word: str) -> frozenset[str]:
    """The inflections of an English word that match it as a key word: `carry`, `carries`, `carrying`."""
    if len(word) < MIN_INFLECTED or not word.isalpha():
        return frozenset([word])
    forms = {word}
    for base in {word, _singular(word)}:
        forms |= _inflected(base)
    return frozenset(forms)


def _inflected(base: str) -> set[str]:
    forms = {base, base + "s", base + "ed", base + "ing"}
    last, before = base[-1], base[-2]
    if base.endswith(("s", "x", "z", "ch", "sh", "o")):
        forms.add(base + "es")
    if last == "y" and before not in "aeiou":
        forms |= {base[:-1] + "ies", base[:-1] + "ied"}
    if last == "e":
        forms |= {base + "d", base[:-1] + "ing"}
    if last not in "aeiouwxy" and before in "aeiou" and len(base) > 2 and base[-3] not in "aeiou":
        forms |= {base + last + "ed", base + last + "ing"}
    return forms


def _singular(word: str) -> str:
    if len(word) <= MIN_INFLECTED or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > len("ties"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes", "oes")):
        return word[:-2]
    return word[:-1]


@lru_cache(maxsize=1024)
def _table(keywords: tuple[str, ...]) -> dict[str, tuple[_Key, ...]]:
    """From each form of a key word's first word to the key words that start with it."""
    if len(keywords) > MAX_KEYWORDS:
        raise SpanError(
            f"Expected at most {MAX_KEYWORDS} key words; got {len(keywords)}. No keys were found; name fewer words, "
            "those of this question alone."
        )
    table: defaultdict[str, list[_Key]] = defaultdict(list)
    for keyword in dict.fromkeys(keywords):
        key = _key(keyword)
        for form in key[0][0]:
            table[form].append(key)
    return {form: tuple(keys) for form, keys in table.items()}


def _key(keyword: str) -> _Key:
    if not isinstance(keyword, str) or not any(map(str.isalnum, keyword)) or len(keyword) > MAX_KEYWORD_LENGTH:
        raise SpanError(
            f"Expected a key word with a letter or digit and at most {MAX_KEYWORD_LENGTH} characters; got "
            f"{str(keyword)[:60]!r}. It cannot be searched for; leave it out."
        )
    return tuple((word_forms(word.text), word.spaced) for word in _words(keyword.strip()))


def _matched(words: Sequence[_Word], start: int, key: _Key) -> int:
    """Number of words that the key matches from `start`; 0 if it does not match."""
    end = start + len(key)
    if end > len(words):
        return 0
    for i, (forms, spaced) in enumerate(key):
        word = words[start + i]
        if word.text not in forms:
            return 0
        if i and word.spaced != spaced and not (spaced and not words[start + i - 1].text.isalnum()):
            return 0
    if end + 1 < len(words) and words[end].text == "'" and words[end + 1].text == "t":
        return 0 if not (words[end].spaced or words[end + 1].spaced) else len(key)
    return len(key)


def _words(text: str) -> list[_Word]:
    """The words of a text, in their compared form, with their places."""
    folded, starts, ends = _folded(text)
    words: list[_Word] = []
    before = 0
    for match in _WORD.finditer(folded):
        start, end = match.span()
        words.append(_Word(match[0], starts[start], ends[end - 1], spaced=start > before))
        before = end
    return words


def _folded(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """The text in its compared form, and for each of its characters the start and end in the original."""
    if text.isascii():
        return text.lower(), range(len(text)), range(1, len(text) + 1)
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        part = unicodedata.normalize("NFKC", text[start:end]).translate(_ONE_FORM).casefold()
        parts.append(part)
        starts += [start] * len(part)
        ends += [end] * len(part)
        start = end
    return "".join(parts), starts, ends
