"""Inputs by kind that were once read as another value, or lost although a reader finds their answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.answers.parse import parse_answer
from molsaki.answers.right import is_right
from molsaki.models.decode import Completion
from molsaki.records import Problem
from molsaki.teacher.filter import check_completion

WET = ("water", "sand", "air")
TENS = ("10", "15", "20", "25", "30")
WORK = "Each of the 6 boxes holds 7 pens, so 6*7 = 42."

VALUES: dict[str, list[tuple[str, float | None]]] = {
    "powers without braces": [("2^10 bytes", 1024), ("\\boxed{2^10}", 1024), ("1.5 x 10^-3", 0.0015), ("10^-3", 0.001)],
    "units": [("9.8 m s^-2", 9.8), ("\\boxed{5 sq. ft.}", 5), ("\\boxed{$\\frac{3}{4}$ cup}", 0.75), ("Rs. 500", 500)],
    "angles and lengths in two units": [("45°30′", None), ("5′6″", None), ("30°", 30), ("-20°C", -20)],
    "words of scale": [
        ("5 myriad", None),
        ("5 gazillion", None),
        ("5 mega", None),
        ("5 per mille", None),
        ("0.5 quadrillion", 5e14),
        ("5 (million)", None),
        ("5 (in thousands)", None),
        ("5 (dozen)", None),
    ],
    "scales of money": [("$5m/year", None), ("$5 mm", None), ("$5t", None), ("$1.5 m", 1.5e6), ("€3bn", 3e9)],
    "signs": [("—5", None), ("5 (negative)", None), ("5 in debt", None), ("5 in the red", None), ("5 under par", None)],
    "bounds": [("at least 5", None), ("at most 5", None), ("up to 5", None), ("down 5", None)],
    "functions in words": [("sqrt(25)", None), ("2 pi", None), ("cbrt 8", None), ("f(5)", None)],
    "other bases": [
        ("1011 in binary", None),
        ("101 (binary)", None),
        ("10 in hexadecimal", None),
        ("17 octal", None),
        ("101 base 2", None),
        ("\\boxed{0x1F}", None),
    ],
    "percentages": [("50 % points", None), ("½%", 0.005), ("33⅓%", 1 / 3), ("12.5 percent", 0.125)],
    "abbreviated units before another amount": [
        ("5 ft. 3 in.", None),
        ("5 in. by 7 in.", None),
        ("5 hr. 30 min.", None),
        ("5 vs. 6", None),
        ("5 in. tall", 5),
        ("5 lbs. Nothing else weighs 3 lbs.", 5),
        ("5. 6 people came", 5),
    ],
    "percentages in operations": [
        ("1/2%", 0.005),
        ("100 - 12 percent", None),
        ("15% - 20%", None),
        ("15% + 5%", 0.2),
        ("100 - 12% = 88", None),
    ],
    "dates and centuries": [
        ("03-05-2023", None),
        ("\\boxed{2023 \\text{-}04\\text{-}05}", None),
        ("15th century", None),
        ("19th-century art", None),
        ("15th place", 15),
        ("2 centuries", 2),
    ],
    "no value, and a number of something else": [
        ("undefined (division by 0)", None),
        ("unknown; 5 facts are missing", None),
        ("insufficient data: 3", None),
        ("depends on 3 things", None),
        ("error 404", None),
    ],
    "comparisons in ASCII": [(">= 5", None), ("!= 5", None), ("5 <= 6", None), ("15 at most", None), ("= 5", 5)],
    "grids and dashes": [("3x4 grid", None), ("3 x 4", 12), ("\\boxed{5 \\text{--} 7}", None), ("5 — 7", None)],
    "other numbers behind a character": [
        ("3至5", None),
        ("3比4", None),
        ("3点半", None),
        ("3小时20分钟", None),
        ("3又1/2", None),
        ("3小时", 3),
    ],
    "powers in parentheses": [("10^(-2)", 0.01), ("25^(1/2)", 5), ("2^(10)", 1024)],
    "lists": [("\n- 3 apples\n- 4 pears", None), ("\n- 42 pens\n- 6 × 7 pens", 42), ("\n1. 3 apples", 3)],
    "equations": [("5 = x", 5), ("x = 5", 5), ("\\boxed{2 + 3 = 6}", None), ("5.5 ≈ 6", None), ("$\\log x = 5$", None)],
    "asides": [("6 (not 5)", 6), ("9 (quarters)", 9), ("5 (6)", None), ("5 (five)", 5)],
    "variables": [("5-a", None), ("5x", None), ("2x = 10", None)],
    "LaTeX sizes and what is not shown": [
        ("\\boxed{\\Large 5}", 5),
        ("\\boxed{5\\phantom{0}}", 5),
        ("$5 \\tag{1}$", 5),
    ],
    "nested answers": [("\\boxed{\\text{The answer is 5}}", 5), ("\\boxed{} as \\boxed{5}", 5)],
}


@pytest.mark.parametrize(("kind", "said", "value"), [(kind, *case) for kind, row in VALUES.items() for case in row])
def test_a_number_of_each_kind_is_read_or_refused(kind: str, said: str, value: float | None) -> None:
    parsed = parse_answer(f"So it is. The answer is {said}.")
    assert parsed.value == (None if value is None else pytest.approx(value)), kind


GOLDS: dict[str, list[tuple[str, str, bool]]] = {
    "words that change a formula": [
        ("greater than $5$", "5", False),
        ("twice $5$", "5", False),
        ("at least $5$", "5", False),
        ("half of $10$", "10", False),
        ("the square root of $25$", "25", False),
        ("$5$ hundredths", "5", False),
        ("minus $\\sqrt{2}$", "\\sqrt{2}", False),
        ("$\\sqrt{2}$ squared", "\\sqrt{2}", False),
        ("anything but $\\pi$", "\\pi", False),
        ("the interval $(0, 1]$", "(0,1]", True),
        ("$2\\sqrt{2}$ square units", "\\sqrt{8}", True),
    ],
    "scale in a formula's unit": [
        ("$\\boxed{5\\text{M}}$", "5", False),
        ("$\\boxed{5\\text{k}}$", "5", False),
        ("$\\boxed{5\\text{ cm}}$", "5", True),
    ],
    "several equations": [
        ("$\\boxed{x=5, y=6}$", "6", False),
        ("$x_1 = 5, x_2 = 7$", "7", False),
        ("$\\boxed{x=5 \\text{ and } y=6}$", "6", False),
    ],
    "what an equation states": [
        ("$3 \\times \\binom{11}{5} = 3 \\times 462 = 1386$", "1386", True),
        ("$\\theta = 60^\\circ$", "60", True),
        ("$2\\theta = 60$", "60", False),
        ("$f(5) = 7$", "7", True),
        ("$\\log_2 8 = 3$", "3", True),
        ("$\\log_2 x = 3$", "3", False),
    ],
    "no products": [("$1.000.000$", "0", False), ("$\\boxed{0x1F}$", "0", False)],
    "cut decimals and bases": [
        ("$0.3\\ldots$", "0.3", False),
        ("$101_3$", "101_2", False),
        ("$101_{2}$", "101_2", True),
    ],
    "formulas without dollar signs": [
        ("x^2+5x+4", "x^2+5x+4", True),
        ("3p^3 - 6p^2 - 3p + 10", "3p^3 - 6p^2 - 3p + 11", False),
        ("2*sqrt(3)", "2\\sqrt{3}", True),
        ("3 pi", "3\\pi", True),
    ],
    "denied boxes": [("\\boxed{5} is wrong", "5", False), ("\\boxed{5} is not the answer", "5", False)],
}


@pytest.mark.parametrize(
    ("kind", "said", "gold", "right"), [(kind, *case) for kind, row in GOLDS.items() for case in row]
)
def test_a_formula_of_each_kind_is_right_or_not(kind: str, said: str, gold: str, right: bool) -> None:
    lead = "So" if kind == "denied boxes" else "The answer is"
    parsed = parse_answer(f"So it is. {lead} {said}.")
    assert is_right(parsed, Problem("p", "What?", gold, gold)) is right, kind


CHOICES: dict[str, list[tuple[tuple[str, ...], str, str | None]]] = {
    "dresses of letters": [
        (WET, said, "water")
        for said in (
            "《A》",
            "『A』",
            "\\{A\\}",
            "A ✅",
            "→ A",
            "- A",
            "the option A",
            "most likely A",
            "A, i.e. water",
        )
    ],
    "a letter beside another choice": [
        (WET, said, None) for said in ("A. sand", "A - sand", "Option A - sand", "A (or B)", "sand, A")
    ]
    + [(TENS, "A. 15", None)],
    "a letter beside its reason": [(WET, "A. B is dry", "water"), (WET, "A - it is wet", "water")],
    "words inside longer ones": [(WET, "air-dried", None), (("3:30", "4:00"), "3:30:00", None)],
    "booleans": [
        (("yes", "no"), "True", "yes"),
        (("no", "yes"), "**false**", "no"),
        (("True", "False"), "No, they cannot", "False"),
        (("yes", "no"), "not true", None),
        (("yes", "no", "maybe"), "true", None),
        (("yes", "no"), "no, wait, yes", None),
    ],
    "units": [
        (("5 cm", "5 m", "5 km"), "5 mm", None),
        (("5 cm", "5 m", "5 km"), "5 kilometers", "5 km"),
        (("$5", "$50"), "50 cents", None),
        (("$5", "$50"), "5 dollars", "$5"),
    ],
    "numbers": [(TENS, "at least 15", None), (("-5", "5"), "– 5", "-5"), (("$\\sqrt{2}$", "$2$"), "sqrt(2)", None)],
    "formulas": [
        (("$\\sqrt{2}$", "$2$"), "twice $\\sqrt2$", None),
        (("$\\sqrt{2}$", "$2$"), "greater than $\\sqrt{2}$", None),
        (("$\\frac{1}{2}$", "$2$"), "$-\\frac{1}{2}$", None),
        (("$x$", "$y$"), "$-x$", None),
        (TENS, "-(-15)", "15"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "choices", "said", "choice"), [(kind, *case) for kind, row in CHOICES.items() for case in row]
)
def test_a_choice_of_each_kind_is_read_or_refused(
    kind: str, choices: tuple[str, ...], said: str, choice: str | None
) -> None:
    parsed = parse_answer(f"So it is. The answer is {said}.", choices)
    assert (parsed.answer_text if parsed.status == "ok" else None) == choice, kind


@pytest.mark.parametrize(
    "said",
    [
        "You may be tempted to say the answer is 13.",
        "You might think the answer is 13.",
        "A common mistake is to say that the answer is 13.",
        "Students often say the answer is 13.",
        "Put the number in \\boxed{}.",
    ],
)
def test_what_one_might_say_states_no_answer(said: str) -> None:
    assert parse_answer(f"{said} {WORK}").status == "none"
    result = check_completion(
        Problem("p", "?", "42", "42"), Completion(0, f"{said} {WORK} The answer is 42.", 1, False)
    )
    assert (result.reason, result.rationale) == ("right", f"{said} {WORK}")


@pytest.mark.parametrize(
    "said", ["*The answer is 42.*", "The __answer__ is 42.", "final_answer: 42", "The answer is <s>43</s> 42."]
)
def test_markdown_around_an_answer_sentence(said: str) -> None:
    parsed = parse_answer(f"{WORK}\n{said}")
    assert (parsed.value, parsed.rationale) == (42, WORK)


@given(
    st.integers(2, 99),
    st.sampled_from(["more than", "twice", "half of", "at least", "at most", "up to", "minus", "double", "not"]),
    st.sampled_from(["{}", "${}$", "$\\frac{{{}}}{{1}}$", "**{}**", "$\\sqrt{{{}}}$"]),
)
def test_a_changed_number_is_never_the_number(number: int, word: str, dress: str) -> None:
    parsed = parse_answer(f"So it is. The answer is {word} {dress.format(number)}.")
    assert not is_right(parsed, Problem("p", "What?", str(number), str(number)))
    assert parsed.value in (None, -number)


@given(
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from(["{}. {}", "{}) {}", "({}) {}", "{} - {}", "{}: {}", "**{}** {}", "[{}] {}", "\\text{{({}) {}}}"]),
)
def test_a_letter_and_a_text_name_one_choice_or_none(letter: int, text: int, form: str) -> None:
    said = form.format("BCD"[letter], ("salt", "pepper", "sugar")[text])
    parsed = parse_answer(f"So it is. The answer is {said}.", ("oil", "salt", "pepper", "sugar"))
    assert parsed.choice == (letter + 1 if letter == text else None)


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("\\boxed{\\begin{pmatrix}5\\\\6\\end{pmatrix}}", "\\begin{pmatrix} 5 \\\\ 6 \\end{pmatrix}"),
        ("\\boxed{\\{2, 3\\}}", "\\{3, 2\\}"),
        ("\\boxed{y = 2x + 1}", "y = 2x+1"),
        ("\\boxed{\\text{tuesday}}", "\\text{Tuesday}"),
        ("$3x^(10)$", "3x^{10}"),
        ("$5 \\frac{\\text{m}}{\\text{s}}$", "5"),
    ],
)
def test_a_value_that_is_no_plain_number_is_compared_as_a_whole(said: str, gold: str) -> None:
    assert is_right(parse_answer(f"So it is. The answer is {said}."), Problem("1", "?", gold, gold))


@pytest.mark.parametrize(("said", "index"), [("5 kilometers", 1), ("5 metres", 0), ("5 kg", None)])
def test_a_unit_in_words_names_the_choice_with_its_sign(said: str, index: int | None) -> None:
    assert parse_answer(f"So the answer is {said}.", ["5 m", "5 km"]).choice == index


def test_a_question_behind_a_sentence_with_the_answer_is_another_problem() -> None:
    parsed = parse_answer("The answer is that Luke has 42 pens.\n\nHow many are in 5 boxes of 7? The answer is 35.")
    assert (parsed.value, parsed.revised) == (42, False)


def test_answer_tags_inside_a_rationale_are_left_out_of_it() -> None:
    parsed = parse_answer("It is <answer>42</answer> here.\nSix sevens.\n\nThe answer is 42.")
    assert parsed.rationale == "It is 42 here.\nSix sevens."


@pytest.mark.parametrize(
    "text",
    [
        "The right option is B.",
        "The best option is B.",
        "The right choice is B.",
        "The best choice is B.",
        "So the answer, therefore, is B.",
        "The answer then is B.",
    ],
)
def test_other_words_for_the_right_answer_state_it(text: str) -> None:
    assert parse_answer(f"Fish swim. {text}", WET).choice == 1


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("\x08oxed{42}", 42),
        ("\\\\boxed{42}", 42),
        ("\\boxed{6 \times 7}", 42),
        ("\\boxed{\x0crac{1}{2}}", 0.5),
        ("\\boxed{\\\\frac{1}{2}}", 0.5),
    ],
)
def test_commands_whose_backslash_json_has_changed_are_read(said: str, value: float) -> None:
    assert parse_answer(f"So it is {said}.").value == pytest.approx(value)


def test_an_address_in_a_box_is_not_a_product() -> None:
    assert parse_answer("So it is \\boxed{1.2.3}.").status != "ok"
