"""Which outputs of a teacher are kept, and what of them a student learns.

A rationale counts if it reaches the right answer, read by the parser that also scores students. It is cut where the
sentence begins that the answer was read from, so that neither that sentence nor an invented question behind it is part
of what a student learns. A second pass is given the answer and must reason without it: a rationale that mentions it is
dropped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from molsaki.answers.parse import format_number, is_right, parse_answer
from molsaki.answers.sentences import before_next_question
from molsaki.answers.thinking import SplitCompletion, split_thinking
from molsaki.models.decode import Completion
from molsaki.records import Problem

Keep = Literal["right", "all"]
Learn = Literal["summary", "thinking", "both"]
"""What a student learns of a completion with thinking: what stands behind the thinking, the thinking, or both."""

SMALL_SHARE = 0.25
MOSTLY_CUT = "kept rows with less than a quarter of what was written"
THINKING_KEPT = "kept rows with the thinking, since the summary holds the answer alone"
"""What a report says of kept rows that a reader should look at."""

UNCHECKED = "kept unchecked"
"""The reason of a row that is kept although it does not reach the right answer, where that was asked for."""
IN_SECOND = ", second pass"
"""What is added to the reason of a row that the second pass decided."""
TOLD = "says that the answer was given"

_REASON_OF_STATUS = {
    "none": "no answer",
    "cut": "cut off",
    "ambiguous": "ambiguous",
    "unparsable": "unparsable",
}
_KEPT = ("right", "given", UNCHECKED, f"right{IN_SECOND}")
_ANSWER = r"(?:answers?(?! choices?| options?)|(?:correct|right) (?:solution|choice|option|result|value))"
_GIVEN = r"(?:given|told|provided|supplied|stated|known|revealed|specified)"
_TOLD = re.compile(
    rf"\b{_GIVEN} (?:(?:to|us|me|that|as|the|a|correct|right|final|true|expected) ){{0,4}}{_ANSWER}\b"
    rf"|\b{_ANSWER} (?:(?:is|was|has|had|have|were|been|already|that|which|we|i|you|are|to|us) ){{0,5}}{_GIVEN}\b"
    rf"|\b(?:told|informed) (?:that|us|me)(?: that)? (?:the )?{_ANSWER}\b"
    rf"|\b(?:we|i) (?:already )?know (?:that )?the {_ANSWER}\b"
    rf"|\b(?:since|because|as|if) the (?:correct |right |final )?answer (?:is|was|must be|should be|has to be)\b"
    rf"|\b(?:correct|right|expected) answer (?:is|was) supposed\b"
    r"|\b(?:according to|from|by|as) (?:the|this|that|your) hint\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class FilterResult:
    """How one output was read; `reason` is `right` or why it is not used.

    Attributes:
        status: what the parser says of its answer.
        rationale: the text that is kept, or was read before a wrong answer.
        reason: in words, what became of it.
        derivation: what right outputs that got there the same way share: the expression of the answer.
        notes: what a reader should know of a kept rationale, `MOSTLY_CUT` or `THINKING_KEPT`.
    """

    status: str
    rationale: str
    reason: str
    derivation: str = ""
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether it is used."""
        return self.reason in _KEPT


@dataclass(frozen=True, slots=True)
class SelectedSample:
    """One of several outputs for a question.

    Attributes:
        completion: the output.
        result: what it is worth.
        agreement: how many of the outputs reach the right answer by its derivation, itself among them; 0 where it
            is not kept.
    """

    completion: Completion
    result: FilterResult
    agreement: int


def check_completion(
    problem: Problem,
    completion: Completion,
    *,
    keep: Keep = "right",
    second_pass: bool = False,
    learn: Learn = "summary",
) -> FilterResult:
    """Say whether an output is kept, and why not.

    Args:
        problem: what was asked.
        completion: what came.
        keep: "all" keeps what has text although it is not right, with the reason `UNCHECKED`.
        second_pass: the right answer was given with the question.
        learn: what the rationale is, of a completion with thinking. Where the summary holds the answer alone, "summary"
            takes the thinking and notes it.
    """
    parts = split_thinking(completion.text)
    result = _checked(problem, completion, parts, learn)
    if second_pass:
        # "We are told that the answer is 7" is itself an answer sentence, where the rationale would end.
        told = result.kept and _TOLD.search(_written(parts, learn)) is not None
        result = replace(result, reason=f"{TOLD if told else result.reason}{IN_SECOND}")
    text = result.rationale.strip() or _written(parts, learn) or parts.thinking
    if keep == "all" and not result.kept and text:
        return FilterResult(result.status, text, UNCHECKED)
    return result


def select_sample(completions: Sequence[Completion], results: Sequence[FilterResult]) -> SelectedSample:
    """Choose among several outputs for one question, each with its result.

    Of those that are kept, the derivation that most of them share wins (of as many, the one that came first), and of
    these the shortest rationale (of as short ones, the first). Derivations are the same if their answers are the same
    expression, blanks and a `.0` aside; choices have only one. If none is kept, the first output stands for all.
    """
    kept = [i for i, result in enumerate(results) if result.kept]
    if not kept:
        return SelectedSample(completions[0], results[0], 0)
    counts = Counter(results[i].derivation for i in kept)
    most, agreement = max(counts.items(), key=lambda item: item[1])
    agreeing = [i for i in kept if results[i].derivation == most]
    best = min(agreeing, key=lambda i: len(results[i].rationale))
    return SelectedSample(completions[best], results[best], agreement)


def _checked(problem: Problem, completion: Completion, parts: SplitCompletion, learn: Learn) -> FilterResult:
    if completion.too_long:
        return FilterResult("too_long", "", "prompt too long")
    if completion.filtered:
        return FilterResult("filtered", "", "content filter")
    parsed = parse_answer(completion.text, problem.choices)
    right = is_right(parsed, problem)
    if parsed.status != "ok" and not right:
        cut = parsed.status == "none" and completion.cut
        return FilterResult(parsed.status, "", "cut off" if cut else _REASON_OF_STATUS[parsed.status])
    if not right:
        return FilterResult("ok", parsed.rationale, "wrong answer")
    if parsed.revised:  # the rationale holds another answer, so it may not lead to this one
        return FilterResult("ok", parsed.rationale, "ambiguous")
    rationale, notes = _learned(parsed.rationale, parts, learn)
    reason = "right" if rationale else "empty rationale"
    return FilterResult("ok", rationale, reason, "" if problem.choices else _derivation(parsed.answer_text), notes)


def _learned(summary: str, parts: SplitCompletion, learn: Learn) -> tuple[str, tuple[str, ...]]:
    """What a student learns of a right completion, whose summary ends where the answer begins, and notes on it."""
    if learn == "thinking":
        return parts.thinking, ()
    if learn == "summary" and not summary and parts.thinking:
        return parts.thinking, (THINKING_KEPT,)
    rationale = "\n\n".join(filter(None, [parts.thinking, summary])) if learn == "both" else summary
    mostly_cut = len(rationale) < SMALL_SHARE * len(_written(parts, learn))
    return rationale, (MOSTLY_CUT,) if rationale and mostly_cut else ()


def _written(parts: SplitCompletion, learn: Learn) -> str:
    """All that was written of what a student learns, answer sentences included."""
    summary = before_next_question(parts.summary).strip()
    chosen = {"summary": [summary], "thinking": [parts.thinking], "both": [parts.thinking, summary]}[learn]
    return "\n\n".join(filter(None, chosen))


def _derivation(answer: str) -> str:
    plain = re.sub(r"\d{1,30}(?:\.\d{1,30})?", lambda match: format_number(float(match[0])), answer.replace(",", ""))
    return "".join(plain.split())
