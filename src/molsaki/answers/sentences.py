r"""Where a completion states its answer: "The answer is …", "Answer: …", "#### …", `\boxed{…}`.

`answers` cuts the rationale at the first of these sentences and has `readings` read what they say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

MAX_SENTENCES = 32
"""Text that names its answer more often than this only repeats itself; later sentences are not read."""
MAX_MARKERS = 1000
"""Nor is text read on behind so many occurrences of the word "answer"."""
MAX_REGION = 400
"""The longest piece of text, in characters, that is read as one answer."""
_WINDOW = 100
_VERDICT_WINDOW = 20

# Other questions that a model goes on to invent: "\n\nQ: There are 15 trees", also right behind a full stop.
_NEXT_QUESTION = re.compile(
    r"(?:\A|\n|(?<=[.!?)]))[ \t]{0,8}(?:[*#]{1,4}[ \t]?)?"
    r"(?:Q|(?:Next |New )?(?:Question|Problem|Exercise)|Answer Choices|Input|Instruction|User|Human)"
    r"(?:[ \t]?\d{1,4})?[ \t]?:",
    re.IGNORECASE,
)
_MARKER = re.compile(
    r"(?P<hashes>\#{4})|\\(?P<boxed>boxed)\s{0,2}(?=\{)"
    r"|\banswers?\b\*{0,2}(?:\s{0,3}(?P<states>(?:is|would be|will be)\b|[:=])|(?P<heading>[ \t]{0,3}\n))?",
    re.IGNORECASE,
)
_OWNED = re.compile(r"\b(?:the|my|our|your)\s{1,3}(?:(?:final|correct|right)\s{1,3})?\*{0,2}\Z", re.IGNORECASE)
_LEAD = re.compile(
    r"(?:\*{1,2}|\b(?:so|thus|therefore|hence|then|and|finally|in conclusion|in summary|"
    r"i (?:think|believe|guess)|we (?:know|see|conclude|find)|(?:this|which) means|that|since)\b"
    r",?\s{1,3}){0,4}\Z",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"(?:\A|\n|[.!?)] {1,2})(?P<opening>(?:\*{1,2}|\#{1,4} )?(?:(?:final|correct)\s{1,3})?)\Z", re.IGNORECASE
)
_VERDICT = re.compile(r"\bis the (?:(?:correct|right|best|final|only) )?\Z", re.IGNORECASE)
_DENIED = re.compile(r"\s{0,4}not\b", re.IGNORECASE)
_AFTER_MARKER = re.compile(r"(?:\s{0,4}:)?[\s*]{0,8}")
_BREAK = re.compile(r"[.!?:][\"')\]*]{0,2}\s|\n")
_PARAGRAPH = re.compile(r"\n[ \t\r]{0,8}\n")


@dataclass(frozen=True, slots=True)
class AnswerSentence:
    """An answer sentence: where it starts, and where what it says starts and ends."""

    start: int
    region: int
    end: int


def state_answer(rationale: str, label: str) -> str:
    """A rationale with its answer behind it, as this module finds it again.

    The colon is for choices such as "not awake": without it the sentence would deny an answer.
    """
    return f"{rationale} The answer is: {label}."


def before_next_question(text: str) -> str:
    """The text up to a line that starts another question (`Q:` or its like)."""
    invented = _NEXT_QUESTION.search(text)
    return text[: invented.start()] if invented else text


def find_answer_sentences(text: str) -> list[AnswerSentence]:
    """All answer sentences in reading order.

    A statement in passing is one only where there is no other: in "Of the above choices, the best answer is
    meeting people. So the answer is (c) meeting people." the first sentence belongs to the rationale. A new
    paragraph with a question mark in it, behind an answer, is another problem: nothing from there on counts.
    """
    strong: list[AnswerSentence] = []
    weak: list[AnswerSentence] = []
    another_problem = len(text)
    for match in islice(_MARKER.finditer(text), MAX_MARKERS):
        if match.start() > another_problem or len(strong) == MAX_SENTENCES:
            break
        start = _strong_start(text, match, strong)
        if start is not None and not _DENIED.match(text, match.end()):
            if strong:
                strong[-1] = _shortened(strong[-1], start)
            strong.append(_sentence(text, start, match.end()))
            another_problem = _another_problem(text, match.end())
        elif not strong and len(weak) < MAX_SENTENCES:
            weak += _weak_sentence(text, match)
    return strong or weak


def _strong_start(text: str, match: re.Match[str], strong: list[AnswerSentence]) -> int | None:
    """Where the sentence of a marker starts; None for one that states no answer or only in passing."""
    if match["hashes"]:
        return match.start()
    if match["boxed"]:
        # "The answer is $\boxed{72}$" is one sentence.
        same = bool(strong) and not _BREAK.search(text, strong[-1].region, match.start())
        return None if same else _sentence_start(text, match.start())
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


def _weak_sentence(text: str, match: re.Match[str]) -> list[AnswerSentence]:
    """A statement in passing: "the best answer is beach", "(b) is the correct answer"."""
    if match["boxed"]:
        return []
    if match["states"] and match["states"] not in ":=":
        denied = _DENIED.match(text, match.end())
        return [] if denied else [_sentence(text, _sentence_start(text, match.start()), match.end())]
    verdict = _VERDICT.search(text, max(0, match.start() - _VERDICT_WINDOW), match.start())
    if verdict is None:
        return []
    start = _sentence_start(text, verdict.start())
    return [AnswerSentence(start, start, verdict.start())]


def _sentence(text: str, start: int, marker_end: int) -> AnswerSentence:
    """The sentence whose answer follows its marker, to the end of the line."""
    after = _AFTER_MARKER.match(text, marker_end)
    region = after.end() if after else marker_end
    newline = text.find("\n", region, region + MAX_REGION)
    return AnswerSentence(start, region, min(len(text), region + MAX_REGION) if newline < 0 else newline)


def _shortened(sentence: AnswerSentence, following: int) -> AnswerSentence:
    """The sentence without what belongs to the following one."""
    return AnswerSentence(sentence.start, sentence.region, max(sentence.region, min(sentence.end, following)))


def _sentence_start(text: str, position: int) -> int:
    """Where the sentence around `position` starts, looking back at most `MAX_REGION` characters."""
    start = max(0, position - MAX_REGION)
    for match in _BREAK.finditer(text, start, position):
        start = match.end()
    return start


def _another_problem(text: str, start: int) -> int:
    """Where, behind an answer, a new paragraph asks something; the text's end if none does."""
    paragraph = _PARAGRAPH.search(text, start)
    question = text.find("?", paragraph.end()) if paragraph else -1
    return len(text) if question < 0 else question
