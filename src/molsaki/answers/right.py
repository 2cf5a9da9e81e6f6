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

_PERCENT = r"\s?\\?(?:[%％٪]|per\s?cent\b|pct\b)"
_PERCENTAGES = re.compile(rf"(\d[\d,]{{0,20}}(?:\.\d{{1,15}})?|\.\d{{1,15}}){_PERCENT}", re.IGNORECASE)


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
    said, right = is_percentage(parsed.answer_text, parsed.value), is_percentage(gold, expected)
    if said != right:  # one of them is without its sign
        return same_number(parsed.value * 100, expected) if said else same_number(parsed.value, expected * 100)
    *work, last = parsed.answer_text.replace("≈", "=").split("=")
    rounded = number_of_text(last) if work else None  # 100 / 7 = 14.29
    return rounded is not None and same_number(rounded, expected)


def is_percentage(text: str, value: float) -> bool:
    """Whether a value is written as a percentage in its text: 0.25 in "25% of the class"."""
    return any(same_number(float(number.replace(",", "")), abs(value) * 100) for number in _PERCENTAGES.findall(text))


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
