r"""Sentences that state an answer: "The answer is …", "Answer: …", "#### …", `\boxed{…}`, `<answer>…</answer>`.

Headings, questions, suppositions ("if the answer is 5"), names ("let x be the answer") and a problem that is restated
state no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice

from molsaki.answers.boxes import box_content
from molsaki.answers.markers import MARKER
from molsaki.answers.problems import end_of_restated
from molsaki.answers.regions import (
    BREAK,
    MAX_REGION,
    AnswerSentence,
    boxed,
    clause_start,
    sentence_behind,
    sentence_start,
    tagged,
)

MAX_SENTENCES = 32
"""The largest number of answer sentences that are read; a text with more only repeats itself."""
MAX_MARKERS = 1000
"""The largest number of occurrences of the word "answer" that are read."""
_WINDOW = 100
_WEAK_WINDOW = 20
_LEFT_WINDOW = 120
_MARKS = ":：=.-–—"

_OWNED = re.compile(
    r"(?<![^\W_])(?:the|my|our|your)\s{1,3}"
    r"(?:(?:final|correct|right|exact|numerical|simplified|required|desired)\s{1,3}){0,2}\*{0,3}\Z",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:\*{1,3}|_{1,3}|\b(?:so|thus|therefore|hence|then|and|finally|in conclusion|in summary|"
    r"i (?:think|believe|guess)|we (?:know|see|conclude|find)|(?:this|which) means|that|since)\b"
    r",?\s{1,3}){0,4}\Z",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"(?:\A|\n|[.!?)] {1,2})(?P<opening>[ \t]{0,4}(?:(?:[->•*+]|\#{1,6}|\d{1,2}[.)]|[^\w\s!-~]{1,3}) ){0,3}"
    r"(?:\*{1,3}|\\text(?:bf)?\{|\{\s{0,4}[\"'])?(?:[^\w\s!-~]{1,3} )?"
    r"(?:(?:so|thus|hence|therefore),?\s{1,3})?(?:(?:final|correct)[\s_]{1,3})?)\Z",
    re.IGNORECASE,
)
_BEFORE_WEAK = re.compile(r"\bis the (?:(?:correct|right|best|final|only) )?\Z", re.IGNORECASE)
_DENIAL = r"(?:not|never|neither|no longer)\b"
_DENIED_BOX = re.compile(
    r"(?:\b(?:not|never|cannot)|n['’]t)\s{1,3}(?:(?:be|equal|to|is|just|simply|the|answer)\s{1,3}){0,3}[\s$*(\\]{0,6}\Z",
    re.IGNORECASE,
)
_DENIED_BEHIND = re.compile(
    r"[\s$})\\*]{1,6}(?:(?:is|was|would be|can(?:no|['’])t be)(?: clearly)? (?:not (?:the|right|correct)|wrong|false|"
    r"incorrect)|is(?:n['’]t| not) (?:the|right|correct))\b",
    re.IGNORECASE,
)
_WRONG = re.compile(r"\b(?:wrong|incorrect|false|mistaken|worst)\s{1,3}\Z", re.IGNORECASE)
_SUPPOSED = re.compile(
    r"(?:\b(?:if|whether|suppos(?:e|ing)|assum(?:e|ing)|imagine|unless|when|check|verify)|"
    r"\b(?:(?<!safe )to|might|may|could|often|people|students|some) (?:think|say|believe|guess|assume|claim)|"
    r"(?:n['’]t|\bnot) (?:think|believe|mean|know|say|true|clear|certain|sure)|\bdoubt)(?: that)? {1,3}\Z",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:\b(?:(?<!here )is|be|being|as|call(?:ed)?|denotes?|represents?|need|want|for|(?<!we )(?<!i )find|"
    r"to \w{1,15}|let(?:'s| us) \w{1,15})(?: us| me)?) {1,3}\Z",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"(?:[^.!?\n]|\.(?=\d)){0,200}\?")
_PURE_HEADING = re.compile(
    r"[ \t]{0,3}\*{0,2}(?:[-+−$£€(]{0,3}\d[\d.,/()*+^ %$−-]{0,60}|\(?[A-Za-z]\)?)\*{0,2}\.?[ \t\r]{0,8}(?=\n|\Z)"
)
_NUMBERED_HEADING = re.compile(
    r"[ \t]{0,3}\*{0,2}(?:\d{1,3}(?:[.)]|:)\s|(?:step|part|case|method|phase|problem|question|solution)\b)",
    re.IGNORECASE,
)
_LEFT_OVER = re.compile(
    r"(?:\s|`{3}\w{0,10}|\{|\\\[|\\\(|\$\$|(?<=\n)(?:[-*_]{3,}|\#{1,6}|\*\*)|(?<=\s)[*_]{1,3}|<(?:final_?)?answer>|[,;，；])+\Z",
    re.IGNORECASE,
)
_ANSWER_TAG = re.compile(r"</?(?:final_?)?answer>|<\|(?:begin|end)_of_box\|>", re.IGNORECASE)


def state_answer(rationale: str, label: str) -> str:
    """A rationale with its answer after it, as this module finds it again.

    The colon is for choices such as "not awake": without it the sentence would deny an answer.
    """
    return f"{rationale} The answer is: {label}."


@lru_cache(maxsize=512)
def _denial(choices: tuple[str, ...]) -> re.Pattern[str]:
    """What denies an answer after its verb: "is not"; but "is not a park" is the choice "not a park"."""
    denials = [re.escape(choice) for choice in choices if re.match(_DENIAL, choice, re.IGNORECASE)]
    but = rf"(?!(?:{'|'.join(denials)})(?!\w))" if denials else ""
    return re.compile(rf"\s{{0,4}}{but}{_DENIAL}", re.IGNORECASE)


def find_answer_sentences(text: str, choices: Sequence[str] = ()) -> list[AnswerSentence]:
    """All answer sentences in reading order.

    A statement in passing is one only where there is no other: in "Of the above choices, the best answer is
    meeting people. So the answer is (c) meeting people." the first sentence belongs to the rationale.
    """
    denial, content = _denial(tuple(choices)), 0
    strong: list[AnswerSentence] = []
    weak: list[AnswerSentence] = []
    for match in islice(MARKER.finditer(text, end_of_restated(text)), MAX_MARKERS):
        if len(strong) == MAX_SENTENCES:
            break
        if match.start() < content:  # a marker inside of a box
            continue
        found, certain = _sentence_at(text, match, strong, denial)
        if found is None:
            continue
        if match["boxed"]:
            content = found.end
        if certain:
            if strong:
                strong[-1] = _shortened(strong[-1], found.start)
            strong.append(found)
        elif not strong and len(weak) < MAX_SENTENCES:
            weak.append(found)
    return strong or weak


def _rule_start(text: str, end: int) -> int:
    """Where the characters of a rule begin that end a text, however long it is."""
    while end and text[end - 1] in "-*_":
        end -= 1
    return end


def trimmed(rationale: str) -> str:
    r"""A rationale without what is left of its answer sentence: `\[`, an opening `$$`, a rule, an answer tag."""
    end = len(rationale)
    # A window at a time: searched from the start, a long run of spaces before a word would take quadratic time.
    while match := _LEFT_OVER.search(rationale, max(0, min(_rule_start(rationale, end), end - _LEFT_WINDOW)), end):
        end = match.start()
    kept = rationale[:end]
    left = rationale[len(kept) :]
    for mark in ("$$", "```"):
        if kept.count(mark) % 2 and mark in left:  # it closes what is kept
            kept += left[: left.index(mark) + len(mark)]
            break
    return _ANSWER_TAG.sub("", kept).strip()


def _sentence_at(
    text: str, match: re.Match[str], strong: list[AnswerSentence], denial: re.Pattern[str]
) -> tuple[AnswerSentence | None, bool]:
    """The sentence of a marker, and whether it is certain that it states an answer."""
    if match["hashes"]:
        return _heading(text, match)
    if match["tag"] or match["box"]:
        return tagged(text, match)
    if match["boxed"]:
        # "The answer is $\boxed{72}$" is one sentence.
        same = bool(strong) and not BREAK.search(text, strong[-1].region, match.start())
        content = box_content(text, match.end())
        if content is not None and not text[content[0] : content[1]].strip():  # "put it in \boxed{}"
            return None, False
        denied = _DENIED_BOX.search(text, max(0, match.start() - _WINDOW), match.start())
        if denied is None and content is not None:
            denied = _DENIED_BEHIND.match(text, content[2])
        found = boxed(text, match, content)
        if same and strong[-1].end < found.end <= strong[-1].region + MAX_REGION:
            strong[-1] = replace(strong[-1], end=found.end)  # of two different boxes none is the answer
        return None if same or denied else found, True
    if match["foreign"] is not None:
        return sentence_behind(text, clause_start(text, match.start()), match.end()), True
    if match["line"]:
        return sentence_behind(text, match.start(), match.end()), False
    if match["correct"]:
        if _SUPPOSED.search(text, max(0, match.start() - _WINDOW), match.start()):
            return None, False
        return AnswerSentence(match.start(), match.end(), match.end("letter")), False
    if match["modal"]:
        return _modal_sentence(text, match), False
    start = _stated_start(text, match)
    if start is None:
        return _weak_sentence(text, match, denial), False
    found = sentence_behind(text, start, match.end())
    verb = match["states"] is not None and match["states"] not in _MARKS
    if verb and denial.match(text, match.end()):
        return None, False
    before = text[max(0, start - _WINDOW) : start]
    if _SUPPOSED.search(before):
        return None, False
    if not verb and match["heading"] is None and _NAMED.search(before):
        return _weak_sentence(text, match, denial), False
    return found, _QUESTION.match(text, found.region, found.end + 1) is None


def _stated_start(text: str, match: re.Match[str]) -> int | None:
    """Where "So the answer is" or a line's "Answer:" starts; None for a statement in passing."""
    if match["states"] is None and match["heading"] is None:
        return None
    window = text[max(0, match.start() - _WINDOW) : match.start()]
    owned = _OWNED.search(window)
    if owned and match["states"]:
        lead = _LEAD.search(window[: owned.start()])
        return match.start() - len(window) + (lead.start() if lead else owned.start())
    opening = _OPENING.search(window)
    if opening and (match.start() <= _WINDOW or opening.start() > 0):
        return match.start() - len(opening["opening"])
    return None


def _heading(text: str, match: re.Match[str]) -> tuple[AnswerSentence | None, bool]:
    """The answer of a line `#### 72`; certain if it is a bare number or letter, or nothing follows."""
    if _NUMBERED_HEADING.match(text, match.end()):
        return None, False
    found = sentence_behind(text, match.start(), match.end())
    followed = any(map(str.isalnum, text[found.end : found.end + MAX_REGION]))
    return found, not followed or _PURE_HEADING.match(text, match.end()) is not None


def _modal_sentence(text: str, match: re.Match[str]) -> AnswerSentence | None:
    """A sentence such as "The answer must be 5", which counts only where there is no other."""
    first = max(0, match.start() - _WINDOW)
    owned = _OWNED.search(text, first, match.start())
    if owned is None or _SUPPOSED.search(text, first, owned.start()):
        return None
    lead = _LEAD.search(text, first, owned.start())
    found = sentence_behind(text, lead.start() if lead else owned.start(), match.end())
    return None if _QUESTION.match(text, found.region, found.end + 1) else found


def _weak_sentence(text: str, match: re.Match[str], denial: re.Pattern[str]) -> AnswerSentence | None:
    """A statement in passing: "the best answer is beach", "(b) is the correct answer"."""
    if _WRONG.search(text, max(0, match.start() - _WEAK_WINDOW), match.start()):
        return None
    if match["states"] and match["states"] not in _MARKS:
        return (
            None
            if denial.match(text, match.end())
            else sentence_behind(text, sentence_start(text, match.start()), match.end())
        )
    before = _BEFORE_WEAK.search(text, max(0, match.start() - _WEAK_WINDOW), match.start())
    if before is None:
        return None
    start = sentence_start(text, before.start())
    return AnswerSentence(start, start, before.start())


def _shortened(sentence: AnswerSentence, following: int) -> AnswerSentence:
    """The sentence without what belongs to the following one."""
    return replace(sentence, end=max(sentence.region, min(sentence.end, following)))
