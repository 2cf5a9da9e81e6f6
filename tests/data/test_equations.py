"""Equations as labels: written out, and solved for their unknown, with the value that they had."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.answers.parse import same_number, solve
from molsaki.data.equations import solved_for_x, written_out
from molsaki.data.stated import stated_numbers, states_all_numbers


@pytest.mark.parametrize(
    ("expression", "label"),
    [
        ("7+2", "( 7 + 2 )"),
        ("9+5+2", "( ( 9 + 5 ) + 2 )"),
        ("83-36*2", "( 83 - ( 36 * 2 ) )"),
        (" ((17 + 48)) ", "( 17 + 48 )"),
        ("2.50/.5", "( 2.50 / .5 )"),
        ("42", "42"),
    ],
)
def test_written_out(expression: str, label: str) -> None:
    assert written_out(expression) == label


@pytest.mark.parametrize(
    ("equation", "label"),
    [
        ("70-x=27", "( 70 - 27 )"),
        ("28+x=54", "( 54 - 28 )"),
        ("45*3=x", "( 45 * 3 )"),
        ("8=2+x", "( 8 - 2 )"),
        ("x=84.0/12.0", "( 84.0 / 12.0 )"),
        ("(x+4)/2=34", "( ( 34 * 2 ) - 4 )"),
        ("79-(9*x)=16", "( ( 79 - 16 ) / 9 )"),
        ("60/x=12", "( 60 / 12 )"),
        ("74=35+18+3*x", "( ( 74 - ( 35 + 18 ) ) / 3 )"),
        ("0.2*x-4.0=6.0", "( ( 6.0 + 4.0 ) / 0.2 )"),
    ],
)
def test_solved_for_x(equation: str, label: str) -> None:
    assert solved_for_x(equation) == label


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "x",
        "9=3+6",
        "x=x",
        "x+x=4",
        "x=1=2",
        "2x=4",
        "2^x=8",
        "2**x=8",
        "x//2=3",
        "-x=3",
        "0x10=x",
        "1(2)=x",
        "x(2)=4",
        "x==3",
        "x=y",
        "__import__('os')=x",
        "(" * 200 + "x" + ")" * 200 + "=1",
        "(" * 140 + "x" + ")" * 140 + "=1",
        "x=" + "1+" * 400 + "1",
        "x=٣",
    ],
)
def test_everything_else_has_no_solution(text: str) -> None:
    solution = solved_for_x(text)
    assert solution is None or solution == "1"  # 140 parentheses are still parentheses


operands = st.integers(1, 99).map(str)
expressions = st.recursive(
    operands,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda p: f"({p[0]}{p[1]}{p[2]})"),
    max_leaves=6,
)


@given(expressions)
def test_writing_out_keeps_the_value(expression: str) -> None:
    label = written_out(expression)
    assert label is not None
    try:
        expected = solve(expression)
    except ValueError:
        return
    assert same_number(solve(label), expected)


@given(expressions, st.integers(1, 50))
def test_a_solution_solves_its_equation(expression: str, x: int) -> None:
    """Replace the first number by x, let the value be the other side, and find x again."""
    start = next(i for i, c in enumerate(expression) if c.isdigit())
    end = next((i for i in range(start, len(expression)) if not expression[i].isdigit()), len(expression))
    with_x = expression[:start] + "x" + expression[end:]
    try:
        value = solve(with_x.replace("x", str(x)))
        found = solved_for_x(f"{with_x}={value:.12f}") if 0 <= value < 1e6 else None
        solution = solve(found) if found is not None else None
    except ValueError:
        return  # a division by zero on the way, forth or back
    assert solution is None or abs(solution - x) < 1e-3 or "/" in expression or "*" in expression


@given(st.text("0123456789.+-*/() x=", max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    solved_for_x(text)
    written_out(text)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Bobby ate twenty-six pieces, then seventeen more.", {26, 17}),
        ("9,792 pounds, $1.80, .5 and 3 cups", {9792, 1.8, 0.5, 3}),
        ("one hundred one seeds; one hundred-twenty stickers", {101, 120}),
        ("one thousand two hundred thirty-four", {1234}),
        ("two hundred fifty thousand and three", {250003}),
        ("three four", {3, 4}),
        ("twenty ten", {20, 10}),
        ("twice as many, half a dozen", {2, 0.5, 12}),
        ("hundred of them, and a thousand", set()),
        ("sixty-seven", {67}),
        ("someone often weighs", set()),
    ],
)
def test_numbers_in_digits_and_in_words(text: str, numbers: set[float]) -> None:
    assert stated_numbers(text) == numbers


def test_a_formula_with_a_number_from_nowhere_is_noticed() -> None:
    assert states_all_numbers("Joe had fifty cars and got 12 more.", "( 50 + 12 )")
    assert not states_all_numbers("The ratio of boys to girls is 8:5. There are 30 girls.", "( 48 - 30 )")


SMALL = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def spell(n: int) -> str:
    """A number below a million in words, with hyphens and without "and"."""
    if n >= 1000:
        return f"{spell(n // 1000)} thousand {spell(n % 1000)}".strip()
    if n >= 100:
        return f"{SMALL[n // 100]} hundred {spell(n % 100)}".strip()
    return SMALL[n] if n < 20 else TENS[n // 10] + (f"-{SMALL[n % 10]}" if n % 10 else "")


@given(st.integers(1, 999_999))
def test_a_number_that_is_spelled_is_the_only_one_stated(n: int) -> None:
    assert stated_numbers(f"They sold {spell(n)} cups.") == {n}


@given(st.lists(st.sampled_from(["one", "ten", "forty", "hundred", "thousand", "and", "zero"]), max_size=40))
def test_any_run_of_number_words_states_no_more_numbers_than_it_has_words(words: list[str]) -> None:
    assert len(stated_numbers(" ".join(words))) <= len(words)
