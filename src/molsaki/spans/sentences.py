"""Where the sentences of a rationale end: the steps of stepwise attention.

The paper segments by periods. But a period inside a number, an abbreviation or `P.E.` ends no sentence, and a rationale
may have lines without a full stop. So this is a small rule-based segmenter. It needs no model and no tokenizer: the
same text has the same steps everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

ALWAYS_LAST = "。｡！？।॥۔؟։።፧။។៕‼⁇⁈⁉"
"""Marks of many scripts that end a sentence wherever they stand."""
_CANDIDATE = re.compile(
    rf"(?P<line>[\n\r\u2028\u2029]+)|(?P<marks>[.!?…{ALWAYS_LAST}]+)(?P<closing>[\"'”’)\]}}»」』】）*_`]*)"
)
_NEXT = re.compile(r"[^\S\n\r]{0,8}[\"'“‘(\[{«*_`]{0,4}(?P<word>[^\W\d_]{0,15})")
_OPERATION = re.compile(r"\s{1,8}[=+*/×÷](?:\s|\Z)")
_OPENING = "\"'“”‘’([{«*_`$"
_MAX_WORD_CHARACTERS = 24
_DOTTED = re.compile(r"(?:[^\W\d_]\.){1,6}[^\W\d_]")
_LIST_MARKER = re.compile(r"[(\[*_]{0,3}(?:\d{1,3}|[A-Za-z])")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


NEVER_LAST = _set(
    "mr mrs ms mx dr prof st mt gen capt sgt lt col rev hon pres gov sen rep messrs ph vs v cf viz approx ca sq cu "
    "e.g i.e eg ie"
)
"""Abbreviations that end no sentence, except at the end of the text."""
BEFORE_A_NUMBER = _set("no nos nr p pp vol ch fig figs eq eqs art jan feb mar apr jun jul aug sep sept oct nov dec")
"""Abbreviations that end no sentence before a number: `No. 5`, `Jan. 3`."""
SELDOM_LAST = _set(
    "etc inc ltd co corp jr sr dept est ave blvd rd apt tel esq al max avg misc bros univ a.m p.m "
    "ft in oz lb lbs hr hrs min mins sec secs cm mm km kg mg ml mi yd yds gal qt pt pts mph wk wks mo mos yr yrs"
)
"""Abbreviations that end a sentence unless a lower-case letter follows."""
OPENERS = _set(
    "a after all also altogether an and answer as at before both but by each every finally first for from he hence "
    "her his how however i if in initially it its let my next no not now of on one only or our second she since so "
    "some that the their then there therefore these they this those thus to total we what when where which while "
    "who why with you"
)
"""Words that open a sentence even after an initial: `from the U.S. He left`, but `the U.S. Army`, `J. Smith`."""


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Split a text into sentences: character ranges without white space at their ends, in order, without overlap.

    A sentence ends at a full stop, `!`, `?`, `…` or the mark of another script, such as `。`, `।` and `؟` (with the
    closing quotes and brackets that follow), and at every line break. A piece without a letter or digit, such as `---`,
    belongs to the sentence before it, or to the first sentence if none is before it.
    """
    return visible_spans(text, _pieces(text))


def visible_spans(text: str, pieces: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Trim pieces of a text, and join one without a letter or digit to the piece before it, or else to the first."""
    spans: list[tuple[int, int]] = []
    carried: int | None = None
    for start, end in pieces:
        piece = text[start:end]
        start, end = end - len(piece.lstrip()), start + len(piece.rstrip())
        if start >= end:
            continue
        if any(map(str.isalnum, piece)):
            spans.append((start if carried is None else carried, end))
            carried = None
        elif spans:
            spans[-1] = (spans[-1][0], end)
        elif carried is None:
            carried = start
    return spans


def _pieces(text: str) -> list[tuple[int, int]]:
    """The text cut at every end of a sentence."""
    pieces = []
    start = 0
    for match in _CANDIDATE.finditer(text):
        if match["line"] or _ends_sentence(text, start, match):
            pieces.append((start, match.end()))
            start = match.end()
    pieces.append((start, len(text)))
    return pieces


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether the punctuation matched in the sentence that starts at `start` ends it."""
    marks = match["marks"]
    if not set(ALWAYS_LAST).isdisjoint(marks):
        return True
    after = text[match.end() : match.end() + 1]
    if after and not after.isspace():
        return _ends_without_space(text, match, after)
    following = _NEXT.match(text, match.end())
    word = following["word"] if following else ""
    first = word[:1] or (text[following.end() : following.end() + 1] if following else "")
    if "!" in marks or "?" in marks:
        return not (match["closing"] and first.islower())  # "Really?" he asked
    if marks != ".":
        return not first.islower()
    if not first or first in "\n\r":
        return True
    if _OPERATION.match(text, match.end()):  # 5 ft. * 7 ft. = 35
        return False
    if _LIST_MARKER.fullmatch(text[start : match.start()].strip()[:8]):
        return False
    return _period_ends(_word_before(text, match.start()), first, word)


def _ends_without_space(text: str, match: re.Match[str], after: str) -> bool:
    """Whether punctuation ends a sentence that has no space after it: `1.5`, `apples.So`, `e.g.`, `week.12 / 3`."""
    if match["marks"] != "." or match["closing"]:
        return after.isupper()
    word = _word_before(text, match.start())
    if not word or _is_abbreviation(word):
        return False
    if after.isdigit():
        return len(word) > 2 and word.isalpha() and word.islower()
    return after.isupper() and (word[-1].isdigit() or (len(word) > 1 and word[-1].islower()))


def _period_ends(word: str, first: str, following: str) -> bool:
    """Whether a period between `word` and a space ends a sentence, given the next character and word."""
    lower = word.casefold()
    if lower in NEVER_LAST:
        return False
    if lower in BEFORE_A_NUMBER and first.isdigit():
        return False
    if lower in SELDOM_LAST:
        return not first.islower()
    if (len(word) == 1 and word.isupper()) or _DOTTED.fullmatch(word):
        if first.isupper():
            return following.casefold() in OPENERS
        return not first.islower()
    return True


def _is_abbreviation(word: str) -> bool:
    lower = word.casefold()
    return lower in NEVER_LAST or lower in BEFORE_A_NUMBER or _DOTTED.fullmatch(word) is not None


def _word_before(text: str, position: int) -> str:
    """The characters between the last space and `position`, without opening quotes and brackets."""
    window = text[max(0, position - _MAX_WORD_CHARACTERS) : position]
    if not window or window[-1].isspace():
        return ""
    return window.split()[-1].lstrip(_OPENING)
