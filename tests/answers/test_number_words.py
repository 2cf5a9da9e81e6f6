"""Numbers in words, in other countries' notation and with letters of scale, and what is no number."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.answers.parse import parse_answer
from molsaki.answers.right import is_right
from molsaki.records import Problem

UNDER_TEN = "zero one two three four five six seven eight nine"
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def read(said: str) -> float | None:
    return parse_answer(f"We count. The answer is {said}.").value


def in_words(number: int) -> str:
    for scale, word in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= scale:
            rest = f" {in_words(number % scale)}" if number % scale else ""
            return f"{in_words(number // scale)} {word}{rest}"
    tens, one = divmod(number, 10)
    if tens < 2:
        return f"{UNDER_TEN} {TEENS}".split()[number]
    return TENS.split()[tens - 2] + (f"-{UNDER_TEN.split()[one]}" if one else "")


@given(
    st.integers(0, 999_999_999),
    st.sampled_from(["{}", "{} pens", "about {} pens", "there are {} pens", "{} ({digits})"]),
)
def test_a_number_in_words_is_its_number(number: int, form: str) -> None:
    words = in_words(number)
    for said in (words, words.capitalize(), re.sub("hundred (?![tm]|.* thou)", "hundred and ", words)):
        assert read(form.format(said, digits=number)) == number


@given(
    st.integers(2, 99),
    st.sampled_from(["less than", "more than", "to", "over", "minus", "past", "and", "or"]),
)
def test_a_number_beside_another_one_in_words_is_not_read(number: int, between: str) -> None:
    assert read(f"{number} {between} {in_words(number + 1)}") is None
    assert read(f"{in_words(number)} {between} {in_words(number + 1)}") is None


@given(st.integers(1000, 999_999_999), st.sampled_from([".", " ", "'", "’", "_", ","]))
def test_a_separator_of_thousands_separates_them_or_makes_it_unparsable(number: int, separator: str) -> None:
    said = f"{number:,}".replace(",", separator)
    assert read(said) in (number, None) or (separator == "." and number < 10**6)
    if number >= 10**6 or separator in "'’_,":
        assert read(said) == number


WORDS: list[tuple[str, float | None]] = [
    ("five hundred and three", 503),
    ("a hundred", 100),
    ("a thousand and one", 1001),
    ("two hundred five thousand", 205_000),
    ("nineteen hundred", 1900),
    ("five point two five", 5.25),
    ("two and a half hours", 2.5),
    ("two thirds", 2 / 3),
    ("three-quarters of an hour", 0.75),
    ("one half", 0.5),
    ("half", 0.5),
    ("half an hour", 0.5),
    ("half a million", 500_000),
    ("half a dozen", 6),
    ("a dozen", 12),
    ("three dozen eggs", 36),
    ("one and a half million", 1.5e6),
    ("five (5) pens", 5),
    ("minus two thirds", -2 / 3),
    ("one hundred percent", 1),
    ("one", 1),
    ("one pen", 1),
    *((said, None) for said in ("one of them", "one more than 5", "one thing I know", "one or two", "one-to-one")),
    *((said, None) for said in ("two-fold", "zero-sum", "twenty ten", "ten twenty", "nineteen eighty-four", "someone")),
    *(
        (said, None)
        for said in ("three quarters", "a quarter", "a fifth", "twice five", "half of them", "half past two")
    ),
    *((said, None) for said in ("five (6)", "five fives", "five out of six", "two score", "hundreds", "a few hundred")),
]
NOTATIONS: list[tuple[str, float | None]] = [
    ("1.234,50 €", 1234.5),
    ("€1.234.567,89", 1_234_567.89),
    ("1 234,5", 1234.5),
    ("1'234.50 francs", 1234.5),
    ("₹1,23,456.50", 123_456.5),
    ("Rs. 12,34,567", 1_234_567),
    ("3,50 €", 3.5),
    ("R$ 50,00", 50),
    *((said, None) for said in ("1,23,456", "0,5", "1,5", "12,34", "1 500", "12.345.67", "192.168.1.1", "1,2,3")),
    ("$5k", 5000),
    ("$1.5M", 1.5e6),
    ("€2bn", 2e9),
    ("5 lakh", 500_000),
    ("2 crore", 2e7),
    *((said, None) for said in ("5k", "5M", "5 bn", "5 K", "$5t", "5 lac")),
    *((said, None) for said in ("5 Millionen", "5 Milliarden", "5 millones", "5 milhões", "5 тысяч", "5 миллионов")),
    *((said, None) for said in ("3万", "3 万元", "3.5 亿", "3만 원", "3千个")),
    ("3个苹果", 3),
    ("3 円", 3),
    ("5$/hour", 5),
    ("$5/hour", 5),
    ("5 g of CO2", 5),
    ("5 vitamin B12 pills", 5),
    ("3.0\\times10^{8}\\ \\text{m/s}", 3e8),
    ("10^{\\text{th}}", 10),
]
DOUBTS: list[tuple[str, float | None]] = [
    ("7/2 or 3.5", 3.5),
    ("0.5, or 50%", 0.5),
    ("3.5 (or 7/2)", 3.5),
    ("5 + 6, or 11", 11),
    ("20% of 50, which is 10", 10),
    ("found by multiplying 6 by 7, which gives 42", 42),
    ("the sum: 40 + 2 = 42", 42),
    ("5 + 6 → 11", 11),
    ("C(5,2) = 10", 10),
    ("gcd(12, 18) = 6", 6),
    ("20 [since 25-5=20]", 20),
    ("3.14 (rounded to 2 decimal places)", 3.14),
    ("11 (Tom 5, Ann 6)", 11),
    ("*15*", 15),
    ("0.333…", 1 / 3),
    ("0.1666...", 1 / 6),
    *(
        (said, None)
        for said in ("7/2 or 4", "3.5 (or 7/3)", "20 → 25", "11 (Tom 5, Ann 7)", "half of 20, which is 10 or 11")
    ),
    *(
        (said, None)
        for said in ("0.12…", "1.414...", "0.3 repeating", "4 remainder 3", "sin(x) = 5", "wrong, if it is 5")
    ),
    *((said, None) for said in ("one millionth", "3 thousandth", "a million and a half", "two to the fifth", "5/six")),
    *((said, None) for said in ("$5M-$6M", "$1k–$2k", "7/2, which is 3.6", "five to the power of two")),
    ("8/3, which is 2.67", 8 / 3),
    ("16 - 0 = 16, which is 9 more than 7", 16),
    ("sin(30) = 0.5", 0.5),
    ("log 100 = 2", 2),
    *((said, None) for said in ("the 1990s", "March 15", "15 March", "7th of July", "page 5", "given in (3)")),
    *((said, None) for said in ("1.6 × 10-19", "6.02 × 1023", "($5)", "5 apples, three pears", "5 each, ten in total")),
]


@pytest.mark.parametrize(("said", "value"), [*WORDS, *NOTATIONS, *DOUBTS])
def test_an_amount_in_any_notation_is_read_or_unparsable(said: str, value: float | None) -> None:
    assert read(said) == (None if value is None else pytest.approx(value, abs=1e-12))


@pytest.mark.parametrize(
    ("said", "choices", "choice"),
    [
        ("three", ("3", "5"), "3"),
        ("3", ("three", "five"), "three"),
        ("minus three", ("3", "-3"), "-3"),
        ("one third", ("3", "1/3"), "1/3"),
        ("2 days", ("two days", "two weeks"), "two days"),
        ("that there are two", ("two", "ten", "a lot"), "two"),
        ("one of the boys", ("one boy", "two boys"), None),
        ("3 : 4", ("3:4", "4:3"), "3:4"),
        ("3/4", ("3:4", "4:3"), None),
        ("yes or no", ("yes", "no"), None),
        ("yes or no depending on context", ("yes", "no"), None),
    ],
)
def test_choices_that_are_numbers_in_words(said: str, choices: tuple[str, ...], choice: str | None) -> None:
    parsed = parse_answer(f"We count. The answer is {said}.", choices)
    assert (parsed.answer_text if parsed.status == "ok" else None) == choice


@pytest.mark.parametrize(
    ("said", "right"), [("m + n = 73", True), ("2x + 3y = 73", False), ("xy = 73", True), ("x^2 = 73", False)]
)
def test_a_sum_that_was_asked_for_states_its_value(said: str, right: bool) -> None:
    parsed = parse_answer(f"So $\\boxed{{{said}}}$.")
    assert is_right(parsed, Problem("p", "?", "73", "73")) is right
