"""Answers that are close to the right one, in sign, unit, rounding or words, and those that are it."""

from __future__ import annotations

import pytest

from molsaki.answers.parse import parse_answer
from molsaki.answers.right import is_right
from molsaki.data.choices import read_choices, split_options
from molsaki.data.rows import UnusableRowError
from molsaki.data.table import load_table
from molsaki.records import Problem

RIGHT = {
    "a calculation with its rounded value": [
        ("$100/7 = $14.29", "14.29"),
        ("10/3 = 3.33 dollars", "3.33"),
        ("8/3 = 2.67", "( 8 / 3 )"),
        ("8,000,000 / 3 = 2.67 million", "( 8000000 / 3 )"),
    ],
    "a percentage with words": [
        ("25% of the class", "25"),
        ("a 25% discount", "25"),
        ("25 percent of them", "25"),
        ("25% (1/4)", "25"),
        ("25 pct", "25"),
        ("20%", "0.2"),
        ("50%", "50%"),
    ],
    "few decimals": [("0.3333", "( 1 / 3 )"), ("0.1 + 0.2", "0.3"), ("1.6e-19", "1.6e-19")],
    "totals": [("a total of 42 pens", "42"), ("a total of $42", "42"), ("an average of 42", "42")],
}
WRONG = {
    "a wrong sum": [("1000 + 1000 = 2009", "2000"), ("25000*4 = 100400", "100000"), ("( 7.0 * 30.0 ) = 211", "210")],
    "a percentage of a percent": [("0.5%", "50%"), ("1.5%", "150%"), ("\\boxed{1\\%}", "100\\%")],
    "another small number": [("3.2e-19", "1.6e-19"), ("0", "1e-10")],
    "another amount of money": [("$1,500.10", "1500.20"), ("1999.9", "2000"), ("10.001", "10")],
}
PAIRS = [(kind, *pair, True) for kind, pairs in RIGHT.items() for pair in pairs]
PAIRS += [(kind, *pair, False) for kind, pairs in WRONG.items() for pair in pairs]


@pytest.mark.parametrize(("kind", "said", "gold", "right"), PAIRS)
def test_what_is_close_is_right_only_where_it_is_the_same(kind: str, said: str, gold: str, right: bool) -> None:
    parsed = parse_answer(f"So it is. The answer is {said}.")
    assert is_right(parsed, Problem("1", "?", gold, gold)) is right, (kind, parsed)


@pytest.mark.parametrize(
    "text",
    [
        "答えは42ではない。",
        "정답은 42가 아닙니다.",
        "Ответ: не 42",
        "Ответ: минус 42",
        "Ответ: 42 млн.",
        "La respuesta es menos 42.",
        "La réponse est moins 42.",
        "La réponse est au moins 42.",
        "Die Antwort ist mindestens 42.",
        "Die Antwort ist 42 Dutzend.",
        "答案是42分之一",
        "答案是6打",
    ],
)
def test_words_of_other_languages_change_a_number_too(text: str) -> None:
    assert parse_answer(text).status != "ok"


@pytest.mark.parametrize("text", ["考虑一下。不应选A", "不应该选A", "不該選A"])
def test_a_choice_that_is_advised_against_is_not_chosen(text: str) -> None:
    assert parse_answer(text, ("water", "sand")).status == "none"


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 46 hours (must be incorrect answer).",
        "The answer is 780 (note: mistake in the original question).",
        "The answer is 42. This is likely a mistake in the question. The answer should be 960.",
        "The answer is 57. This solution is wrong!",
        "The answer is 42; actually 43.",
        "The answer is 42, right? No! It's 43.",
    ],
)
def test_an_answer_that_is_doubted_is_revised(text: str) -> None:
    parsed = parse_answer(text)
    assert parsed.revised or parsed.status != "ok"


@pytest.mark.parametrize(
    "text",
    ["The answer is 42, actually.", "The answer is 42. No one else has more.", "The answer is 42, which is a lot."],
)
def test_an_answer_with_a_remark_is_not_revised(text: str) -> None:
    parsed = parse_answer(text)
    assert (parsed.value, parsed.revised) == (42, False)


@pytest.mark.parametrize("text", ["\n\n**42**", "\n\n**42 apples**", "\n42", "$\\frac{84}{2}$", "\\[42\\]"])
def test_a_short_text_after_thinking_is_its_answer(text: str) -> None:
    parsed = parse_answer(f"<think>6*7</think>{text}")
    assert is_right(parsed, Problem("1", "?", "42", "42"))


CHOSEN = [
    ("B 😀", ("water", "sand"), "sand", True),
    ("B ✔️", ("water", "sand"), "sand", True),
    ("(c) both (a) and (b)", ("cat", "dog", "both (a) and (b)"), "both (a) and (b)", True),
    ("(B)", ("+", "*", "-"), "*", True),
    ("(A)", ("__init__", "init"), "__init__", True),
    ("20%", ("10", "20"), "20", True),
    ("0.5%", ("50%", "20%", "5%"), "50%", False),
    ("(A) *args", ("*args", "**kwargs", "args"), "args", False),
    ("absence of water", ("water", "sand"), "water", False),
    ("free of water", ("water", "sand"), "water", False),
]


@pytest.mark.parametrize(("said", "choices", "gold", "right"), CHOSEN)
def test_a_choice_that_is_close_is_right_only_where_it_is_the_same(
    said: str, choices: tuple[str, ...], gold: str, right: bool
) -> None:
    problem = Problem("1", "?", gold, gold, choices)
    assert is_right(parse_answer(f"So it is. The answer is {said}.", choices), problem) is right


def test_choices_that_are_filled_up_with_nulls_are_those_before() -> None:
    assert read_choices({"A": "x", "B": "y", "C": None}) == ("x", "y")
    assert read_choices(["x", "y", None]) == ("x", "y")
    for value in (["x", "y", ""], ["x", None, "y"]):
        with pytest.raises(UnusableRowError):
            read_choices(value)


def test_a_question_of_signs_is_left_out_and_counted(tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "???", "a": "1"}\n{"q": "How many?", "a": "2"}\n', encoding="utf-8")
    loaded = load_table(path, {"question": "q", "answer": "a"})
    assert [problem.answer for problem in loaded] == ["2"]
    assert loaded.report.skipped == {"the question has no letter or digit": 1}


@pytest.mark.parametrize(
    "text",
    [
        "Here are the times.\nExercise: 30 minutes\nReading: 12 minutes\nThe answer is 42.",
        "To solve this, we multiply.\n\nInput: 6 boxes of 7\nThe answer is 42.",
    ],
)
def test_a_label_of_a_line_of_the_solution_starts_no_problem(text: str) -> None:
    parsed = parse_answer(text)
    assert (parsed.value, "minutes" in parsed.rationale or "boxes" in parsed.rationale) == (42, True)


@pytest.mark.parametrize(
    "invented", ["Input: 5 boxes of 2\nThe answer is 10.", "Exercise: How many are 5 and 5?\nThe answer is 10."]
)
def test_a_label_behind_an_answer_starts_another_problem(invented: str) -> None:
    assert parse_answer(f"6*7 = 42. The answer is 42.\n\n{invented}").value == 42


def test_options_that_are_mixed_with_others_are_left_out() -> None:
    assert split_options("Which? A) both B) none") == ("Which?", ["both", "none"])
    assert split_options("Which? A) both a) and b) B) none C) all")[1] == ["both a) and b)", "none", "all"]
    with pytest.raises(UnusableRowError):
        split_options("Which? A) both a) and b) B) none")
