"""Where a rationale ends and the answer starts, and what that answer is.

One parser serves both ends of the pipeline: filtering what a teacher wrote and scoring what a student wrote.
Two parsers that drift apart would keep rationales for answers that are scored as wrong. A reading that is not
certain has a status that says so; it is never replaced by a guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from molsaki.answers.arithmetic import format_number, solve
from molsaki.answers.read import ParsedValue, fold, read_choice, read_number
from molsaki.answers.sentences import MAX_REGION, before_next_question, find_answer_sentences
from molsaki.errors import EvaluationError, ExpressionError
from molsaki.records import Problem

__all__ = [
    "ABSOLUTE_TOLERANCE",
    "RELATIVE_TOLERANCE",
    "ParsedAnswer",
    "Status",
    "format_number",
    "is_right",
    "parse_answer",
    "parse_label",
    "same_number",
    "solve",
]

RELATIVE_TOLERANCE = 1e-4
"""Numbers this close are the same, since a label `( 1.0 / 3.0 )` is often answered by `0.3333`."""
ABSOLUTE_TOLERANCE = 1e-9
"""Added to the relative tolerance, so that rounding noise around zero counts for nothing."""
Status = Literal["ok", "none", "cut", "ambiguous", "unparsable"]


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What was read from a completion.

    Attributes:
        rationale: the text before the first answer sentence, without surrounding space; all of the text (up
            to an invented question) where there is no answer sentence.
        answer_text: the answer as it was written, such as `( 84.0 / 2.0 )`, or the chosen choice's text.
        value: the number, or None for a choice or where the status is not `ok`.
        choice: the index of the choice, or None.
        status: `ok`; `none`, there is no answer sentence; `cut`, the text ends inside it; `ambiguous`, it
            names several different answers, or a letter with other text than its choice; `unparsable`,
            anything else.
        revised: an earlier answer sentence named another answer than this one, so that the rationale, which
            ends before the first of them, may not lead to it.
    """

    rationale: str
    answer_text: str
    value: float | None
    choice: int | None
    status: Status
    revised: bool = False


_PERCENTAGE = re.compile(r"(?:%|\bper\s?cent)\W{0,3}\Z", re.IGNORECASE)


def parse_answer(text: str, choices: Sequence[str] = ()) -> ParsedAnswer:
    r"""Read a completion: a rationale, then an answer sentence such as "So the answer is (d) math problem".

    Answer sentences are `the (final) answer is …`, `Answer: …`, `#### …` and `\boxed{…}`. Whatever follows an
    invented question does not count (a line that starts with `Q:` or its like, or, after an answer, a new
    paragraph with a question mark). Of several answer sentences before it the last readable one counts, as a
    writer who corrects himself would have it; `revised` says whether it differs from another.

    Args:
        text: what a model wrote; anything at all, this never raises.
        choices: the choices' texts, or nothing where the answer is a number.
    """
    kept = before_next_question(text)
    sentences = find_answer_sentences(kept)
    if not sentences:
        return ParsedAnswer(kept.strip(), "", None, None, "none")
    rationale = kept[: sentences[0].start].strip().rstrip(",;")
    readings = [
        _read(kept[sentence.region : sentence.end], choices, sentence.end == len(text)) for sentence in sentences
    ]
    chosen = next((reading for reading in reversed(readings) if reading.status == "ok"), readings[-1])
    revised = any(reading.status == "ok" and not _same_reading(reading, chosen, choices) for reading in readings)
    return _parsed(rationale, chosen, revised)


def parse_label(text: str, choices: Sequence[str] = ()) -> ParsedAnswer:
    """Read a bare answer, which is what a student writes after `predict:`: an equation, a number or a choice.

    The first line that is not empty is read as the answer. Where it is none and an answer sentence is there,
    the text is read as `parse_answer` reads it.

    Args:
        text: what a model wrote; anything at all, this never raises.
        choices: the choices' texts, or nothing where the answer is a number.
    """
    start = len(text) - len(text.lstrip())
    newline = text.find("\n", start)
    end = len(text) if newline < 0 else newline
    line = text[start:end].strip()
    if not line:
        return ParsedAnswer("", "", None, None, "none")
    if find_answer_sentences(line):
        return parse_answer(text, choices)
    reading = _read(line[:MAX_REGION], choices, end == len(text))
    if reading.status == "unparsable" and find_answer_sentences(text):
        return parse_answer(text, choices)
    return _parsed("", reading, revised=False)


def is_right(parsed: ParsedAnswer, problem: Problem) -> bool:
    """Whether an answer is the problem's: numbers compared by `same_number`, choices by their texts.

    Choices with the same text (case and space aside) are equally right. A bare percentage is right as a
    hundredth and as it stands, since data sets write `20` and `0.2` for `20%`.

    Raises:
        EvaluationError: the problem's own answer is neither a number nor one of its choices.
    """
    if problem.choices:
        right = fold(problem.answer)
        if all(fold(choice) != right for choice in problem.choices):
            raise EvaluationError(
                f"Expected the answer of problem {problem.id!r} to be one of its choices "
                f"{list(problem.choices)}, got {problem.answer!r}. No prediction could be right; mend the "
                f"row or leave it out."
            )
        return parsed.choice is not None and fold(problem.choices[parsed.choice]) == right
    expected = _expected_number(problem)
    if parsed.value is None:
        return False
    if same_number(parsed.value, expected):
        return True
    return _PERCENTAGE.search(parsed.answer_text) is not None and same_number(parsed.value * 100, expected)


def same_number(a: float, b: float) -> bool:
    """Whether two numbers are the same: whole ones exactly, others within `RELATIVE_TOLERANCE`."""
    if float(a).is_integer() and float(b).is_integer():
        return a == b
    return abs(a - b) <= RELATIVE_TOLERANCE * max(abs(a), abs(b)) + ABSOLUTE_TOLERANCE


def _expected_number(problem: Problem) -> float:
    for text in (problem.answer, problem.label):
        try:
            return solve(text)
        except ExpressionError:
            continue
    raise EvaluationError(
        f"Expected problem {problem.id!r} to have a number as its answer or an expression as its label, got "
        f"answer {problem.answer!r} and label {problem.label!r}, and it has no choices. Predictions for it "
        f"cannot be scored; mend the row or leave it out."
    )


def _read(region: str, choices: Sequence[str], at_end: bool) -> ParsedValue:
    return read_choice(region, choices, at_end) if choices else read_number(region, at_end)


def _same_reading(a: ParsedValue, b: ParsedValue, choices: Sequence[str]) -> bool:
    if a.choice is not None and b.choice is not None:
        return fold(choices[a.choice]) == fold(choices[b.choice])
    return a.value is not None and b.value is not None and same_number(a.value, b.value)


def _parsed(rationale: str, reading: ParsedValue, revised: bool) -> ParsedAnswer:
    return ParsedAnswer(rationale, reading.text, reading.value, reading.choice, reading.status, revised)
