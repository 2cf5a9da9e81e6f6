"""The filter of a teacher's outputs: which ones are kept, and which part of them a student learns.

A rationale is kept if it reaches the right answer, as read by the parser that also scores students. It ends where the
sentence with the answer begins, so the student learns neither that sentence nor an invented question after it. The
prompt of a second pass contains the answer; a rationale that mentions this is dropped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from molsaki.answers.parse import format_number, parse_answer
from molsaki.answers.problems import before_next_question
from molsaki.answers.right import is_right
from molsaki.answers.thinking import SplitCompletion, split_thinking
from molsaki.models.decode import Completion
from molsaki.records import Problem

Keep = Literal["right", "all"]
Learn = Literal["summary", "thinking", "both"]
"""The part of a completion with thinking that a student learns: the text after the thinking, the thinking, or both."""

SMALL_SHARE = 0.25
MOSTLY_CUT = "kept rows with less than a quarter of what was written"
THINKING_KEPT = "kept rows with the thinking, since the summary holds the answer alone"
ANSWER_LEFT_OUT = "given rationales that end before their answer"
OTHER_ANSWER = "given rationales that state another answer"
"""Notes in a report on kept rows that a user should check."""

UNCHECKED = "kept unchecked"
"""The reason of a row that is kept although it does not reach the right answer, with `keep="all"`."""
IN_SECOND = ", second pass"
"""The suffix of the reason of a row from the second pass."""
MENTIONS_HINT = "says that the answer was given"

_REASON_OF_STATUS = {
    "none": "no answer",
    "cut": "cut off",
    "ambiguous": "ambiguous",
    "unparsable": "unparsable",
}
_KEPT = ("right", "given", UNCHECKED, f"right{IN_SECOND}")
_ANSWER = r"(?:answers?(?! choices?| options?)|(?:correct|right) (?:solution|choice|option|result|value))"
_GIVEN = r"(?:given|told|provided|supplied|stated|known|revealed|specified)"
_HINT_MENTION = re.compile(
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
    """The filter's result for one output.

    Attributes:
        status: the parser's status for its answer.
        rationale: the text that is kept, or the text before a wrong answer.
        reason: in words, why it is kept or not; `right` for a kept rationale with the right answer.
        derivation: the expression of the answer; outputs with the same derivation agree.
        notes: notes for the user on a kept rationale, such as `MOSTLY_CUT`.
    """

    status: str
    rationale: str
    reason: str
    derivation: str = ""
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether the output is kept."""
        return self.reason in _KEPT

    @property
    def right(self) -> bool:
        """Whether it is kept, and not unchecked."""
        return self.kept and self.reason != UNCHECKED


@dataclass(frozen=True, slots=True)
class SelectedSample:
    """One of several outputs for a question.

    Attributes:
        completion: the output.
        result: the filter's result for it.
        agreement: the number of outputs that reach the right answer by its derivation, itself included; 0 if it does
            not.
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
    """Decide whether an output is kept, with the reason.

    Args:
        problem: the problem.
        completion: the teacher's output; its thinking is in the text, or beside it as a server sent it.
        keep: "all" also keeps outputs with text that are not right, with the reason `UNCHECKED`.
        second_pass: the prompt contained the right answer.
        learn: the part of a completion with thinking that becomes the rationale. If the summary has only the answer,
            "summary" takes the thinking and adds a note.
    """
    parts = split_thinking(completion.text)
    if completion.thinking:
        parts = replace(parts, thinking="\n\n".join(filter(None, [completion.thinking.strip(), parts.thinking])))
    result = _checked(problem, completion, parts, learn)
    if second_pass:
        # An answer sentence, which is no part of the rationale, may be the one that mentions the given answer.
        texts = (_written(parts, learn), result.rationale)
        mentions_hint = result.kept and any(_HINT_MENTION.search(text) for text in texts)
        result = replace(result, reason=f"{MENTIONS_HINT if mentions_hint else result.reason}{IN_SECOND}")
    text = result.rationale.strip() or _written(parts, learn) or parts.thinking
    if keep == "all" and not result.kept and text:
        return FilterResult(result.status, text, UNCHECKED)
    return result


def check_given(problem: Problem, learn: Learn | None = "summary") -> FilterResult:
    """The rationale that a data set gives for a problem, which is kept if it has any text.

    Like a teacher's, it ends before a sentence that states the right answer, if something stands before it, and of
    thinking a student learns what `learn` says. Nothing else is checked: most data sets state no answer there. With
    `learn=None` it stays as it is.
    """
    text = problem.rationale or ""
    if learn is None:
        return FilterResult("given", text.strip(), "given" if text.strip() else "empty rationale")
    parts = split_thinking(text)
    if not parts.closed:
        return FilterResult("cut", "", "cut off")
    parsed = parse_answer(text, problem.choices)
    right = is_right(parsed, problem)
    ends_early = right and not parsed.revised and bool(parsed.rationale or parts.thinking)
    rationale, notes = _learned(parsed.rationale if ends_early else parts.summary.strip(), parts, learn)
    if not rationale:
        return FilterResult("given", "", "empty rationale")
    if ends_early:
        notes = (*notes, ANSWER_LEFT_OUT)
    elif parsed.status == "ok" and not right:
        notes = (*notes, OTHER_ANSWER)
    return FilterResult("given", rationale, "given", notes=notes)


def select_sample(completions: Sequence[Completion], results: Sequence[FilterResult]) -> SelectedSample:
    """Select one of several outputs for one question, each with its result.

    Among the outputs with the right answer, the most frequent derivation wins (on a tie, the first one), and among its
    outputs the shortest rationale (on a tie, the first one). Two derivations are the same if the answers are the same
    expression apart from blanks and a `.0`; all outputs of a multiple-choice problem share one derivation. If none is
    right, the first one that is kept unchecked is returned, or else the first one.
    """
    right = [i for i, result in enumerate(results) if result.right]
    if not right:
        first = next((i for i, result in enumerate(results) if result.kept), 0)
        return SelectedSample(completions[first], results[first], 0)
    counts = Counter(results[i].derivation for i in right)
    most, agreement = max(counts.items(), key=lambda item: item[1])
    agreeing = [i for i in right if results[i].derivation == most]
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
    if parsed.revised:  # the rationale also states another answer, so it may not lead to this one
        return FilterResult("ok", parsed.rationale, "ambiguous")
    rationale, notes = _learned(parsed.rationale, parts, learn)
    reason = "right" if rationale else "empty rationale"
    return FilterResult("ok", rationale, reason, "" if problem.choices else _derivation(parsed.answer_text), notes)


def _learned(summary: str, parts: SplitCompletion, learn: Learn) -> tuple[str, tuple[str, ...]]:
    """The rationale of a right completion, and notes on it; `summary` ends where the answer begins."""
    if learn == "thinking":
        return parts.thinking, ()
    if learn == "summary" and not summary and parts.thinking:
        return parts.thinking, (THINKING_KEPT,)
    rationale = "\n\n".join(filter(None, [parts.thinking, summary])) if learn == "both" else summary
    mostly_cut = len(rationale) < SMALL_SHARE * len(_written(parts, learn))
    return rationale, (MOSTLY_CUT,) if rationale and mostly_cut else ()


def _written(parts: SplitCompletion, learn: Learn) -> str:
    """The whole text of the parts that a student learns, answer sentences included."""
    summary = before_next_question(parts.summary).strip()
    chosen = {"summary": [summary], "thinking": [parts.thinking], "both": [parts.thinking, summary]}[learn]
    return "\n\n".join(filter(None, chosen))


def _derivation(answer: str) -> str:
    normalised = re.sub(
        r"\d{1,30}(?:\.\d{1,30})?", lambda match: format_number(float(match[0])), answer.replace(",", "")
    )
    return "".join(normalised.split())
