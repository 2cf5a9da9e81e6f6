"""Whether an answer is the problem's: numbers by their value, LaTeX by math-verify, choices by their texts."""

from __future__ import annotations

import re

from molsaki.answers.arithmetic import format_number, same_number, solve
from molsaki.answers.expressions import is_expression, is_text
from molsaki.answers.math_values import same_math
from molsaki.answers.numbers import number_of_text
from molsaki.answers.options import right_choices
from molsaki.answers.parse import ParsedAnswer
from molsaki.errors import EvaluationError, ExpressionError
from molsaki.records import Problem

PERCENTAGE = re.compile(r"(?:%|\bper\s?cent)\W{0,3}\Z", re.IGNORECASE)
"""An answer that ends in a percent sign or word."""


def is_right(parsed: ParsedAnswer, problem: Problem) -> bool:
    r"""Whether an answer is the problem's: numbers by `same_number`, LaTeX by its value, choices by their texts.

    Choices with the same text are equally right. A bare percentage is right as a hundredth and as the number itself,
    since data sets write `20` and `0.2` for `20%`.

    Raises:
        EvaluationError: the problem's own answer is neither a number, a LaTeX value nor one of its choices.
    """
    if problem.choices:
        right = right_choices(problem.choices, problem.answer)
        if not right:
            raise EvaluationError(
                f"Expected the answer of problem {problem.id!r} to be one of its choices "
                f"{list(problem.choices)}, got {problem.answer!r}. No prediction could be right; correct the "
                f"row or leave it out."
            )
        return parsed.choice in right
    expected = _expected(problem)
    if parsed.value is not None and not isinstance(expected, str):
        return _same_amount(parsed, expected, problem.answer)
    if parsed.status in ("none", "cut") or (parsed.status != "ok" and not isinstance(expected, str)):
        return False
    return same_math(expected if isinstance(expected, str) else format_number(expected), parsed.answer_text)


def _same_amount(parsed: ParsedAnswer, expected: float, gold: str) -> bool:
    assert parsed.value is not None
    if same_number(parsed.value, expected):
        return True
    if PERCENTAGE.search(parsed.answer_text) is not None:
        return same_number(parsed.value * 100, expected)
    return PERCENTAGE.search(gold) is not None and same_number(parsed.value, expected * 100)


def _expected(problem: Problem) -> float | str:
    """The problem's number, or its LaTeX value."""
    for text in (problem.answer, problem.label):
        try:
            return solve(text)
        except ExpressionError:
            continue
    value = number_of_text(problem.answer)
    if value is not None:
        return value
    if is_expression(problem.answer) or is_text(problem.answer):
        return problem.answer
    raise EvaluationError(
        f"Expected problem {problem.id!r} to have a number or a LaTeX value as its answer, or an expression as its "
        f"label; got answer {problem.answer!r} and label {problem.label!r}, and it has no choices. Predictions for it "
        f"cannot be scored; correct the row or leave it out."
    )
