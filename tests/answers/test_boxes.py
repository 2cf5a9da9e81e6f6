r"""What stands around a box changes its value, or makes it unparsable: `\boxed{50}\%` is never 50."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.answers.boxes import boxes_of
from molsaki.answers.parse import parse_answer
from molsaki.answers.right import is_right
from molsaki.records import Problem

FRAMES = ["We add them. {}", "The answer is {}", "The answer is: {}.", "**Answer:** {}", "So it is {}."]
"""Box as a sentence of its own, or behind another marker."""


def value_of(text: str) -> float | None:
    parsed = parse_answer(text)
    return parsed.value if parsed.status == "ok" else None


CALCULATED = [
    ("\\boxed{{{n}}}\\%", lambda n: n / 100),
    ("$\\boxed{{{n}}}\\%$", lambda n: n / 100),
    ("\\boxed{{{n}}} percent", lambda n: n / 100),
    ("$\\boxed{{{n}}} \\times 10^3$", lambda n: n * 1000),
    ("$\\boxed{{{n}}} \\cdot 10^{{3}}$", lambda n: n * 1000),
    ("\\boxed{{{n}}} hundred thousand", lambda n: n * 100_000),
    ("$\\boxed{{{n}}}\\text{{ million}}$", lambda n: n * 10**6),
    ("$\\boxed{{{n}}}\\frac12$", lambda n: n + 0.5),
    ("\\boxed{{{n}}} 1/2", lambda n: n + 0.5),
    ("\\boxed{{{n}}}.5", lambda n: n + 0.5),
    ("$-\\boxed{{{n}}}$", lambda n: -n),
    ("-$\\boxed{{{n}}}$", lambda n: -n),
    ("$x = -\\boxed{{{n}}}$", lambda n: -n),
    ("$x = - \\boxed{{{n}}}$", lambda n: -n),
    ("$-\\boxed{{{n}}}\\%$", lambda n: -n / 100),
    ("$-\\boxed{{{n}+1}}$", lambda n: -(n + 1)),
]


@given(st.integers(1, 99), st.sampled_from(CALCULATED), st.sampled_from(FRAMES[:3]))
def test_what_is_around_a_box_is_calculated_with(n, case, frame):
    form, value = case
    assert value_of(frame.format(form.format(n=n))) == pytest.approx(value(n))


@pytest.mark.parametrize(
    "form",
    [
        "$\\frac{\\boxed{5}}{4}$",
        "$\\frac{1}{\\boxed{5}}$",
        "$\\sqrt{\\boxed{5}}$",
        "$\\sqrt[3]{\\boxed{5}}$",
        "$2\\boxed{5}$",
        "$2^{\\boxed{5}}$",
        "$\\pm\\boxed{5}$",
        "$\\boxed{5}+6$",
        "$\\boxed{5} - 6$",
        "$\\boxed{5}/6$",
        "$\\boxed{5} \\times 6$",
        "$\\boxed{5} \\div 6$",
        "$\\boxed{5}^2$",
        "$\\boxed{5}_2$",
        "$\\boxed{5}!$",
        "$\\boxed{5}x$",
        "$\\boxed{5}\\pi$",
        "$\\boxed{5}\\sqrt{2}$",
        "$\\boxed{5}\\log 2$",
        "\\boxed{5}M",
        "\\boxed{5} bil. dollars",
        "\\boxed{5} quarters",
        "\\boxed{5} basis points",
        "\\boxed{5}:6",
        "\\boxed{5} or 6",
        "\\boxed{5} to 6",
        "\\boxed{5} out of 6",
        "\\boxed{5} squared",
        "$\\boxed{5} \\text{ or } 6$",
        "- \\boxed{5} is what it is",
        "\\boxed{5} or \\boxed{6}",
        "$x = \\boxed{5}, y = \\boxed{6}$",
    ],
)
@pytest.mark.parametrize("frame", ["It is {}", "The answer is {}"])
def test_text_beside_a_box_never_leaves_its_content_as_the_value(form, frame):
    assert value_of(frame.format(form)) is None
    assert not is_right(parse_answer(frame.format(form)), Problem("p", "What?", "5", "5"))


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{5}!",
        "So it is \\boxed{5}! Great.",
        "$\\boxed{5}$ apples.",
        "\\boxed{5} is the answer.",
        "$\\boxed{5}\\,\\text{cm}$",
        "$\\boxed{5}^\\circ$",
        "$\\boxed{5} = 2 + 3$",
        "\\boxed{5}, as 2+3 = 5",
        "\\boxed{5} (five)",
        "\\boxed{5}/day",
        "*\\boxed{5}* apples",
        "\\boxed{5} - the sum",
        "12 - \\boxed{5} = 7",
        "$7-\\boxed{5} = 2$",
        "$x-\\boxed{5} = 2$",
        "$3 + \\boxed{5} = 8$",
        "Final answer - \\boxed{5}",
        "It is:\n- \\boxed{5}",
        "It is:\n- \\boxed{5}\n- and no more than 6",
        "\\[\n\\boxed{5}\n\\]\n\n6 of them are left over.",
        "$$\\boxed{5}$$",
        "\\textbf{\\boxed{5}}",
        "$\\boxed{5}$, since $2+3=\\boxed{5}$",
    ],
)
def test_other_text_beside_a_box_changes_nothing(text):
    assert value_of(f"We add them. {text}") == 5


def test_two_different_boxes_in_a_sentence_are_ambiguous():
    assert parse_answer("First \\boxed{5}, no, \\boxed{6}.").status == "ambiguous"
    assert parse_answer("It is \\boxed{A} or \\boxed{B}.", ["sea", "sky"]).status == "ambiguous"
    assert parse_answer("First \\boxed{5}.\nNo, it is \\boxed{6}.").value == 6


@pytest.mark.parametrize(
    "text", ["\\boxed{A}!", "\\boxed{A}) 5 seas", "- \\boxed{A} - 5", "\\boxed{A}\\%", "2\\boxed{A}"]
)
def test_text_beside_the_letter_in_a_box_is_no_part_of_it(text):
    assert parse_answer(text, ["sea", "sky"]).choice == 0


@pytest.mark.parametrize(
    "part", ["\\boxed{5}", "-", "$", " ", "}", "\\boxed{5}^", "\\text{", "\\boxed{5} \\times 10^3"]
)
def test_long_text_around_a_box_takes_little_time(part):
    began = time.process_time()
    boxes_of(part * 20_000 + "\\boxed{5}" + part * 20_000)
    parse_answer(part * 20_000 + "\\boxed{5}" + part * 20_000)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "text", ["So the answer is 42 \\boxed{42}", "The answer is 42 $\\boxed{42}$. The answer is 42."]
)
def test_a_number_that_is_stated_again_in_a_box_is_no_product(text: str) -> None:
    found = parse_answer(text)
    assert (found.status, found.answer_text, found.rationale) == ("ok", "42", "")


@pytest.mark.parametrize("text", ["The answer is 2 \\boxed{3}", "The answer is 2\\boxed{2}"])
def test_another_number_before_a_box_is_part_of_the_value(text: str) -> None:
    assert parse_answer(text).status == "unparsable"


def test_a_sentence_that_begins_with_a_part_in_words_does_not_change_the_box_before_it() -> None:
    parsed = parse_answer("So \\boxed{42} pens. Half of 84 is 42. The answer is 42. The answer is 42.")
    assert (parsed.value, parsed.rationale) == (42, "So \\boxed{42} pens. Half of 84 is 42.")
    assert parse_answer("\\boxed{42} Half of 84 is 42. The answer is 42. The answer is 42.").rationale == ""
    assert parse_answer("So it is \\boxed{3} half.").status != "ok"
