"""Where an answer sentence starts, and what of it is read as the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from molsaki.answers.boxes import BOX, box_content, box_span

MAX_REGION = 400
"""The longest piece of text, in characters, that is read as one answer."""
_AFTERMARKER = re.compile(
    r"(?:\s{0,4}[:：])?(?:[ \n\r*]|\t(?!imes|ext|frac)|`{1,3}(?:\w{0,10}\n)?|\\\[|\\\(|\$\$|(?<=\n)[-•] "
    r"|(?<=\n)1[.)] (?=[^\n]{0,60}\d)){0,12}"
    r"(?:(?:therefore|thus|hence),?\s)?"
)
_FIRST_ITEM = re.compile(r"\n(?:[-•*]|1[.)]) \Z")
_SECOND_ITEM = re.compile(r"\n(?:[-•*]|2[.)]) [^\n=×+*()\d]{0,40}\d[^\n=×+*()]{0,40}(?=\n|\Z)")
"""Items of a list of values, which is not a single answer; an item that calculates is a reason."""
_EMPHASIS = re.compile(r"(?<![\w*_])(\*{1,3}|_{1,3})(?:(?=[^\W_])[^*_\n]*\Z|(?<= \*)\Z)")
"""A mark of emphasis that is still open."""
BREAK = re.compile(r"[.!?:][\"')\]*]{0,2}\s|[。！？]|\n")
_CLOSING_TAG = re.compile(r"</(?:final_?)?answer>|<\|end_of_box\|>|【(?=解|分|详|点)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AnswerSentence:
    """An answer sentence: its start, and the start and end of the answer in it."""

    start: int
    region: int
    end: int


def tagged(text: str, match: re.Match[str]) -> tuple[AnswerSentence, bool]:
    """The text between answer tags; certain if it is one line."""
    limit = min(len(text), match.end() + MAX_REGION)
    closing = _CLOSING_TAG.search(text, match.end(), limit)
    end = closing.start() if closing else limit
    return AnswerSentence(match.start(), match.end(), end), "\n" not in text[match.end() : end].strip()


def boxed(text: str, match: re.Match[str], content: tuple[int, int, int] | None) -> AnswerSentence:
    """A box with what around it changes its value; without content, the text after its command."""
    start = sentence_start(text, match.start())
    begin = match.start()
    if content is None:
        return AnswerSentence(start, begin, min(len(text), match.end() + MAX_REGION))
    first, end = box_span(text, begin, content[2])
    return AnswerSentence(start, max(start, first), end)


def sentence_behind(text: str, start: int, marker_end: int) -> AnswerSentence:
    """The sentence whose answer follows its marker, to the end of the line or of a box that continues."""
    after = _AFTERMARKER.match(text, marker_end)
    region = after.end() if after else marker_end
    newline = text.find("\n", region, region + MAX_REGION)
    end = min(len(text), region + MAX_REGION) if newline < 0 else newline
    second = _SECOND_ITEM.match(text, end) if _FIRST_ITEM.search(text, max(0, region - 4), region) else None
    end = second.end() if second else end
    tag = _CLOSING_TAG.search(text, region, end)
    end = tag.start() if tag else end
    end = _end_of_emphasis(text, start, region, end)
    box = BOX.search(text, region, end)
    content = box_content(text, box.end()) if box else None
    return AnswerSentence(start, region, end if content is None else max(end, content[2]))


def _end_of_emphasis(text: str, start: int, region: int, end: int) -> int:
    """Where an answer ends that was opened together with its marker: "*The answer is 42* and we are done."."""
    opening = _EMPHASIS.search(text, max(0, start - 3), region)
    if opening is None:
        return end
    for closing in re.finditer(re.escape(opening[1]) + r"(?![\w*_])", text[region:end]):
        if closing.start() and not text[region + closing.start() - 1].isspace():
            return region + closing.start()
    return end


def sentence_start(text: str, position: int) -> int:
    """Where the sentence around `position` starts, looking back at most `MAX_REGION` characters."""
    start = max(0, position - MAX_REGION)
    for match in BREAK.finditer(text, start, position):
        start = match.end()
    return start


def clause_start(text: str, position: int) -> int:
    """Where the clause around `position` starts: after the last comma, if a number is before it."""
    start = sentence_start(text, position)
    comma = max(text.rfind(mark, start, position) for mark in ",，;；")
    return comma + 1 if any(map(str.isdigit, text[start : max(comma, start)])) else start
