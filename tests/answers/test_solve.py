"""Arithmetic is read right, bounded, and never anything but a number or an ExpressionError."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.answers.arithmetic import MAX_DIGITS, MAX_LENGTH, MAX_MAGNITUDE, format_number, solve
from molsaki.errors import ExpressionError


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("( 7.0 * 30.0 )", 210.0),
        ("( 84.0 / 2.0 )", 42.0),
        ("(16 * 17) * 4", 1088.0),
        ("( ( 17.0 + 15.0 ) + 2.0 )", 34.0),
        ("(51 - (-11))", 62.0),
        ("(-7 - 12)", -19.0),
        ("((22/11) + (34/11))", 56 / 11),
        ("(95 * 118) + (11,210 / 84)", 95 * 118 + 11210 / 84),
        ("-2**2", -4.0),
        ("2**3**2", 512.0),
        ("2**-1", 0.5),
        ("2**-3*4", 0.5),
        ("2^3", 8.0),
        ("10 - 4 - 3", 3.0),
        ("24 / 4 / 3", 2.0),
        ("- - 5", 5.0),
        ("+5", 5.0),
        ("3 × (2 − 1) ÷ 4", 0.75),
        ("3 x 4", 12.0),
        ("3x4", 12.0),
        ("1,234.50", 1234.5),
        ("$1,234.50", 1234.5),
        ("$-5", -5.0),
        ("-$5", -5.0),
        ("5$", 5.0),
        ("£3.50 * 2", 7.0),
        ("$72$", 72.0),
        ("50%", 0.5),
        ("200 * 15%", 30.0),
        (".5", 0.5),
        ("42.", 42.0),
        ("84/2 =", 42.0),
        ("84/2 = .", 42.0),
        ("1e-7", 1e-7),
        ("１２", 12.0),
        ("-0", 0.0),
    ],
)
def test_value(expression: str, value: float) -> None:
    assert solve(expression) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "expression",
    [
        "", " ", ".", "=", "()", "(", "5 +", "5 5", "2(3)", "(5)(4)", "7x", "2x+3", "x", "25 + x",
         "some - 8", "(175, 5)",
        "1,23", "1,234,56", "5. + 3", "1..", "5 % 3", "$", "5 + $", "$$5", "$+5", "²", "1/0", "1/(2-2)", "0**-1",
        "(-8)**0.5", "9**9**9", "1e400", "1e15 * 10", "nan", "inf", "True", "__import__('os')", "9" * (MAX_DIGITS + 1),
        "1" + "+1" * MAX_LENGTH, "(" * 200 + "1" + ")" * 200, "-" * 900 + "1", "2**" * 300 + "1", "5;6", "[1]",
        "5 and 3",
    ],
)  # fmt: skip
def test_refused(expression: str) -> None:
    with pytest.raises(ExpressionError, match="Expected an arithmetic expression"):
        solve(expression)


@pytest.mark.parametrize("part", ["(", ")", "-", "1", "1,", "$", "9**", "((1)", " ", "1 +", "%", "."])
def test_a_million_characters_are_refused_at_once(part: str) -> None:
    began = time.process_time()
    with pytest.raises(ExpressionError):
        solve(part * 1_000_000)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("number", "text"),
    [(42.0, "42"), (0.5, "0.5"), (0.1 + 0.2, "0.3"), (-0.0, "0"), (-3.25, "-3.25"), (1e15, "1000000000000000")],
)
def test_format_number(number: float, text: str) -> None:
    assert format_number(number) == text


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_without_text_is_refused(number: float) -> None:
    with pytest.raises(ExpressionError, match="finite"):
        format_number(number)


@given(st.floats(min_value=-1e14, max_value=1e14))
def test_formatted_numbers_are_read_back(number: float) -> None:
    assert solve(format_number(number)) == pytest.approx(number, rel=1e-11)


Tree = tuple[str, Fraction | None]
"""An expression's text and its exact value, None where it has none."""


def _joined(parts: tuple[Tree, str, Tree]) -> Tree:
    (left, a), operator, (right, b) = parts
    text = f"({left} {operator} {right})"
    if a is None or b is None or (operator == "/" and b == 0):
        return text, None
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else a}[operator]
    return text, value


numbers: st.SearchStrategy[Tree] = st.decimals(min_value=0, max_value=10_000, places=2).map(
    lambda d: (str(d), Fraction(d))
)
expressions = st.recursive(
    numbers,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(_joined),
    max_leaves=8,
)


@given(expressions)
def test_equals_exact_arithmetic(tree: Tree) -> None:
    text, exact = tree
    try:
        value = solve(text)
    except ExpressionError:
        # Only where there is no exact value, it is out of bounds, or rounding decides whether a divisor is 0.
        assert exact is None or "exceeds" in _why(text) or "divides by zero" in _why(text)
        return
    if exact is not None and abs(exact) > Fraction(1, 1000):
        # Cancellation loses digits, so the bound is that of the largest value on the way.
        assert value == pytest.approx(float(exact), rel=1e-6, abs=1e-9 * MAX_MAGNITUDE**0.5) or "-" in text


def _why(text: str) -> str:
    with pytest.raises(ExpressionError) as caught:
        solve(text)
    return str(caught.value)


@given(
    st.recursive(
        st.integers(0, 99).map(str),
        lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", " + ", " - ", " * "]), inner).map("".join),
        max_leaves=12,
    )
)
def test_precedence_is_pythons(expression: str) -> None:
    exact = 0
    for sign, product in _terms(expression):
        factor = 1
        for part in product.split("*"):
            factor *= int(part)
        exact += sign * factor
    if abs(exact) < 10**12:
        try:
            value = solve(expression)
        except ExpressionError:
            assert "exceeds" in _why(expression)
        else:
            assert value == exact


def _terms(expression: str) -> list[tuple[int, str]]:
    terms = []
    for added in expression.replace(" ", "").split("+"):
        first, *others = added.split("-")
        terms.append((1, first))
        terms += [(-1, other) for other in others]
    return terms


@settings(max_examples=300)
@given(st.text(alphabet="0123456789.,+-*/^()%$£xX×÷−=eE ²\n", max_size=60) | st.text(max_size=200))
def test_nothing_but_numbers_and_expression_errors(text: str) -> None:
    try:
        value = solve(text)
    except ExpressionError:
        return
    assert abs(value) <= MAX_MAGNITUDE
