"""Parsing of a completion: the end of its rationale, and its answer.

The same parser filters a teacher's outputs and scores a student's. Two different parsers would keep rationales for
answers that are scored as wrong. An uncertain result has a status that says so, and is never replaced by a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from molsaki.answers.arithmetic import format_number, same_number, solve
from molsaki.answers.choices import read_choice
from molsaki.answers.expressions import only_formula
from molsaki.answers.json_replies import without_json
from molsaki.answers.latex import plain_text
from molsaki.answers.numbers import ParsedValue, read_number
from molsaki.answers.options import right_choices
from molsaki.answers.problems import another_problem, before_next_question
from molsaki.answers.regions import MAX_REGION, AnswerSentence
from molsaki.answers.sentences import find_answer_sentences, trimmed
from molsaki.answers.thinking import split_thinking

__all__ = ["ParsedAnswer", "Status", "format_number", "parse_answer", "parse_label", "same_number", "solve"]

Status = Literal["ok", "none", "cut", "ambiguous", "unparsable"]


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The result of parsing a completion.

    Attributes:
        rationale: the text before the sentence that the answer was read from, without surrounding space, and without
            a first line that states this answer too; all of the text (up to an invented question) where there is no
            answer sentence. Thinking is not part of it.
        answer_text: the answer as it was written, such as `( 84.0 / 2.0 )`, or the chosen choice's text.
        value: the number; None for a choice, for a LaTeX value that is not a plain number, and where the status is not
            `ok`.
        choice: the index of the choice, or None.
        status: `ok`; `none`, there is no answer sentence; `cut`, the text ends inside it, or inside the thinking;
            `ambiguous`, it names several different answers, or a letter with other text than its choice;
            `unparsable`, anything else.
        revised: another answer sentence names another answer than this one, or a sentence after it takes it back
            ("Wait, that's wrong"), so that the rationale may not lead to it.
    """

    rationale: str
    answer_text: str
    value: float | None
    choice: int | None
    status: Status
    revised: bool = False


_TAKEN_BACK = re.compile(
    r"(?:[.!?…][\"')*\]$}]{0,3}\s{1,3}|\n|\s[—–]\s(?=no\b|wait\b))\W{0,4}"
    r"(?:(?:but|however|oh|hmm+|oops|no|sorry|actually)\b,?\s)?"
    r"(?:(?:wait|hold on|oops|correction|scratch that|sorry)\b|(?:actually|no)[,:;]? (?:that|this|it|the|i|\d)"
    r"|(?:this|that|it)(?:['’]s| is| was| seems) (?:wrong|incorrect|not (?:right|correct)|a mistake|an error)"
    r"|i (?:(?:think i |have )?made) (?:a|an) (?:mistake|error)"
    r"|let me (?:re-?check|re-?consider|re-?do|re-?calculate|correct|try again))",
    re.IGNORECASE,
)
"""A sentence after an answer that takes it back: "Wait, that's wrong."."""
_DOUBTED = re.compile(
    r"\b(?:mistakes?|errors?) in (?:the|this|your|my|our)(?: (?:original|given|provided))? "
    r"(?:question|problem|statement|calculations?|solution|reasoning)\b"
    r"|\b(?:calculation|arithmetic) errors? in\b"
    r"|\b(?:the|this|that|my|our) (?:solution|answer|result|calculation) (?:is|was|seems) "
    r"(?:clearly )?(?:wrong|incorrect)\b"
    r"|\bmust be (?:an )?incorrect\b|\bbut (?:it|that|this) (?:is|was) (?:wrong|incorrect)\b"
    r"|\banswer (?:should|must|has to|ought to) (?:actually |really )?be:? [$£€(\\-]{0,3}\d"
    r"|[;,(?!–—-]\s{0,2}(?:(?:wait|actually|oops|correction|sorry)\b,?|no[,:!]) ",
    re.IGNORECASE,
)
"""Words behind an answer that doubt it: "(note: mistake in the original question)", "The answer should be 960"."""
_LAST_LINE = re.compile(
    r"(?:\A|\n)[ \t]{0,8}(?:\*\*|__)(?P<bold>[^*_\n]{1,100})(?:\*\*|__)\.?\s{0,40}\Z"
    r"|\A\s{0,40}(?P<alone>(?:[A-Za-z][.)] )?(?:(?![.!?;]\s|\\boxed|\\fbox)[^\n]){1,60})\s{0,40}\Z"
)
_BARE = re.compile(r"[-−+$£€¥₹(\\]{0,3}\d\S{0,20}(?: \S{1,20}){0,2}")
"""A number with at most two words after it, as a text that is nothing but an answer."""
_OUTSIDE = re.compile(r"(?<![\\\w])[^\W\d_]{2,}\s")
"""A word of a sentence, which no formula has."""
_DECORATION = re.compile(
    r"(?<=[\w)\]*])[ \t]*[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f\u200d-\u200f]+(?=[.!\s*]*\Z)|\A[\u200e\u200f]+"
)
"""Signs of emotion, check marks and marks of direction around a choice."""
_COMMAND = re.compile(r"\\[a-z]+")
_VERB = re.compile(r"\b(?:is|be)\b")
_REPEATED = 12
"""The largest number of letters and digits, besides the answer, between two sentences that repeat one answer."""


def parse_answer(text: str, choices: Sequence[str] = ()) -> ParsedAnswer:
    r"""Read a completion: a rationale, then an answer sentence such as "So the answer is (d) math problem".

    Answer sentences are `the (final) answer is …`, `Answer: …`, `#### …`, `\boxed{…}`, `<answer>…</answer>`, a JSON
    object's `"answer"`, and the like in other languages (`答案是 …`); where there are none, a last line in bold, or a
    text of one line, if all of it is an answer. They are read after the thinking, if any. Text after an invented
    question is ignored; such a question is a line that starts with `Q:` or the like or, after an answer, a new
    paragraph with a question mark. Among several answer sentences before it the last readable one counts, since a
    later sentence may correct an earlier one; `revised` says whether it differs from another.

    Example:
        >>> import molsaki
        >>> molsaki.parse_answer("Six boxes of 7 pens make 42. The answer is 42.").value
        42.0
        >>> molsaki.parse_answer("Fish swim. **Answer: (a)**", ["water", "sand"]).choice
        0

    Args:
        text: the output of a model; any text is valid, and none raises.
        choices: the choices' texts; empty if the answer is a number or a LaTeX value.
    """
    parts = split_thinking(text)
    summary = without_json(parts.summary)
    kept = before_next_question(summary)
    read = _read_sentences(kept, choices, len(summary))
    if not read:
        return _last_line(kept, choices) or ParsedAnswer(
            kept.strip(), "", None, None, "none" if parts.closed else "cut"
        )
    chosen = _chosen(read)
    reading = read[chosen][1]
    first = _first_of(read, chosen, kept, choices)
    begin = _behind_first_answer(kept, *read[0], reading, choices) if first else 0
    rationale = trimmed(kept[begin : read[first][0].start])
    region = read[chosen][0].region
    taken_back = any(pattern.search(kept, region) is not None for pattern in (_TAKEN_BACK, _DOUBTED))
    return _parsed(rationale, reading, taken_back or _revised(read, chosen, choices))


def parse_label(text: str, choices: Sequence[str] = ()) -> ParsedAnswer:
    """Read a bare answer, as a student writes after `predict:`: an equation, a number or a choice.

    The first line that is not empty is read as the answer. If it is not an answer and the text has an answer sentence,
    the text is read as by `parse_answer`.

    Args:
        text: the output of a model; any text is valid, and none raises.
        choices: the choices' texts; empty if the answer is a number or a LaTeX value.
    """
    parts = split_thinking(text)
    summary = without_json(parts.summary)
    start = len(summary) - len(summary.lstrip())
    newline = summary.find("\n", start)
    end = len(summary) if newline < 0 else newline
    line = summary[start:end].strip()
    if not line:
        return ParsedAnswer("", "", None, None, "none" if parts.closed else "cut")
    if find_answer_sentences(line, choices):
        return parse_answer(text, choices)
    reading = _read(line[:MAX_REGION], choices, end == len(summary))
    if reading.status == "unparsable" and find_answer_sentences(summary, choices):
        return parse_answer(text, choices)
    return _parsed("", reading, revised=False)


Read = list[tuple[AnswerSentence, ParsedValue]]


def _read_sentences(text: str, choices: Sequence[str], whole: int) -> Read:
    """The answer sentences of a text of `whole` characters, each with its answer, up to another problem."""
    read: Read = []
    limit = len(text)
    for sentence in find_answer_sentences(text, choices):
        if sentence.start > limit:
            break
        reading = _read(text[sentence.region : sentence.end], choices, sentence.end == whole)
        read.append((sentence, reading))
        certain = reading.exact or _VERB.search(text, sentence.start, sentence.region)
        if reading.status in ("ok", "ambiguous") and certain:
            limit = another_problem(text, sentence.end)
    return read


def _last_line(text: str, choices: Sequence[str]) -> ParsedAnswer | None:
    """The answer of a text without an answer sentence: all of its one line, or of a last line in bold."""
    text = text.strip()
    line = _LAST_LINE.search(text)
    if line is None:
        return None
    alone = line["alone"]
    if alone and not choices and not _BARE.fullmatch(alone.strip()) and not _is_value(alone):
        return None
    reading = _read(line["bold"] or line["alone"], choices, at_end=False)
    whole = reading.status == "ok" and reading.exact
    return _parsed(text[: line.start()].strip(), reading, revised=False) if whole else None


def _is_value(line: str) -> bool:
    """Whether a line is one LaTeX value and nothing else; an equation has a calculation before its value."""
    return not _OUTSIDE.search(line) and "=" not in line and only_formula(line) is not None


def _chosen(read: Read) -> int:
    """The last sentence that can be read, or else the last."""
    readable = [i for i, (_, reading) in enumerate(read) if reading.status == "ok"]
    return readable[-1] if readable else len(read) - 1


def _revised(read: Read, chosen: int, choices: Sequence[str]) -> bool:
    """Whether a sentence that was read as a whole states another answer, or a later one withdraws the answer."""
    for i, (_, reading) in enumerate(read):
        if reading.status == "ok" and reading.exact and not _same_reading(reading, read[chosen][1], choices):
            return True
        unread = reading.status == "unparsable" and not choices and any(map(str.isdigit, reading.text))
        if i > chosen and (reading.status == "ambiguous" or unread):
            return True
    return False


def _first_of(read: Read, chosen: int, text: str, choices: Sequence[str]) -> int:
    """The first of the consecutive sentences with the same answer, up to the chosen one."""
    first = chosen
    while first > 0 and _repeated(text, *read[first - 1], read[first][0].start, read[chosen][1], choices):
        first -= 1
    return first


def _behind_first_answer(
    text: str, sentence: AnswerSentence, reading: ParsedValue, answer: ParsedValue, choices: Sequence[str]
) -> int:
    """Where a text continues whose first line is its answer alone; 0 for any other text."""
    newline = text.find("\n", sentence.end)
    said = text[: sentence.start] + text[sentence.region : max(newline, 0)].replace(reading.text, "", 1)
    alone = newline >= 0 and reading.exact and not any(map(str.isalnum, said))
    return newline if alone and reading.status == "ok" and _same_reading(reading, answer, choices) else 0


def _repeated(
    text: str,
    sentence: AnswerSentence,
    reading: ParsedValue,
    following: int,
    answer: ParsedValue,
    choices: Sequence[str],
) -> bool:
    """Whether a sentence says nothing up to the following one, or only the answer."""
    said = text[sentence.region : following]
    if not any(map(str.isalnum, said)):
        return True
    beside = sum(map(str.isalnum, _COMMAND.sub("", said).replace(reading.text, "")))
    whole = reading.status == "ok" and reading.exact and "=" not in reading.text and beside <= _REPEATED
    return whole and _same_reading(reading, answer, choices)


def _read(region: str, choices: Sequence[str], at_end: bool) -> ParsedValue:
    if not choices:
        return read_number(region, at_end)
    if not any(map(_DECORATION.search, choices)):
        region = _DECORATION.sub("", region)
    return read_choice(region, choices, at_end)


def _same_reading(a: ParsedValue, b: ParsedValue, choices: Sequence[str]) -> bool:
    if a.choice is not None and b.choice is not None:
        return b.choice in right_choices(choices, choices[a.choice])
    if a.value is not None and b.value is not None:
        return same_number(a.value, b.value)
    return a.value is None and b.value is None and _canonical(a.text) == _canonical(b.text)


def _canonical(formula: str) -> str:
    return "".join(plain_text(formula).split())


def _parsed(rationale: str, reading: ParsedValue, revised: bool) -> ParsedAnswer:
    return ParsedAnswer(rationale, reading.text, reading.value, reading.choice, reading.status, revised)
