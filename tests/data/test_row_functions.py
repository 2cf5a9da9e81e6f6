"""Fields, numbers and the loop that counts what becomes of each row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.answers.parse import same_number
from molsaki.data.rows import (
    MAX_TEXT_CHARACTERS,
    Note,
    UnusableRowError,
    answer_of,
    checked_choices,
    collect,
    identifier_of,
    joined_question,
    note_repeated,
    number_of,
    same_value,
    text_of,
)
from molsaki.errors import DataError
from molsaki.records import LoadedProblems, Problem


def to_problem(row_id: str, row: Mapping[str, Any], note: Note) -> Problem:
    if row.get("odd"):
        note("odd")
    answer = number_of(row.get("a"))
    return Problem(row_id, text_of(row, "q"), answer, answer)


def load(rows: list[Any], limit: int | None = None) -> LoadedProblems:
    return collect(rows, lambda index, row: f"x/{row.get('id', index)}", to_problem, "rows.jsonl", limit)


@pytest.mark.parametrize(
    ("given_value", "text"),
    [
        (51.0, "51"),
        (0.5, "0.5"),
        (0, "0"),
        (-0.0, "0"),
        ("1,080", "1080"),
        (" -47 ", "-47"),
        ("$1.80", "1.8"),
        ("9.80", "9.8"),
        (".5", "0.5"),
        ("12.", "12"),
        ("5/2", "2.5"),
        ("-(1/3)", "-0.333333333333"),
        (1_234_567, "1234567"),
    ],
)
def test_numbers_become_their_shortest_text(given_value: object, text: str) -> None:
    assert number_of(given_value) == text


@pytest.mark.parametrize(
    "given_value",
    [
        None,
        True,
        float("nan"),
        float("inf"),
        "nan",
        "inf",
        "1e400",
        10**400,
        1e16,
        "",
        "  ",
        "nine",
        "9 apples",
        "3:2",
        "1,2",
        "12,34",
        "1 2",
        "12-15",
        "1/0",
        "7x",
        "--3",
        [],
        {},
        b"3",
        "9" * 200_000,
    ],
)
def test_what_is_no_number_makes_a_row_unusable(given_value: object) -> None:
    with pytest.raises(UnusableRowError):
        number_of(given_value)


@given(st.floats(-1e15, 1e15))
def test_a_numbers_text_has_its_value(value: float) -> None:
    assert math.isclose(float(number_of(value)), value, rel_tol=1e-11)
    assert same_number(float(number_of(number_of(value))), float(number_of(value)))


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_unusable(text: str) -> None:
    try:
        number = number_of(text)
    except UnusableRowError:
        return
    assert same_number(float(number), float(number_of(number)))


@pytest.mark.parametrize("value", [None, 3, "", " \n", ["q"], "\ud800", "x" * (MAX_TEXT_CHARACTERS + 1)])
def test_text_that_is_missing_empty_or_unusable(value: object) -> None:
    with pytest.raises(UnusableRowError):
        text_of({"q": value}, "q")


@pytest.mark.parametrize("value", [None, "", True, 1.5, " a", "a\n", "a\0b", "x" * 201, 10**20, ["a"]])
def test_ids_are_short_and_printable(value: object) -> None:
    with pytest.raises(UnusableRowError):
        identifier_of({"id": value}, "id")


def test_ids_may_be_numbers() -> None:
    assert identifier_of({"id": 17}, "id") == "17"


def test_story_and_question_stand_on_two_lines() -> None:
    assert joined_question({"b": " Dan had $ 3 ", "q": "How much?"}, "b", "q") == "Dan had $ 3\nHow much?"
    assert joined_question({"b": "", "q": "How much?"}, "b", "q") == "How much?"
    with pytest.raises(UnusableRowError, match="'b' is missing"):
        joined_question({"q": "How much?"}, "b", "q")


@pytest.mark.parametrize("values", [None, "ab", [], ["a"], ["a"] * 27, ["a", 1], ["a", ""], ["a", None]])
def test_choices_that_cannot_be_used(values: object) -> None:
    with pytest.raises(UnusableRowError):
        checked_choices(values)


def test_repeated_choices_are_noted() -> None:
    notes: list[str] = []
    note_repeated(("a", "b"), "a", notes.append)
    assert notes == []
    note_repeated(("a", "b", "a "), "a", notes.append)
    note_repeated(("a", "b", "b"), "a", notes.append)
    assert [note[:10] for note in notes] == ["the answer", "a wrong ch"]


def test_labels_are_compared_as_predictions_are() -> None:
    assert same_value("( 0.1 * 3 )", "0.3")
    assert not same_value("( 40 / 7 )", "5")
    assert not same_value("( 1 / 0 )", "5")


def test_every_row_is_counted() -> None:
    loaded = load([{"q": "a?", "a": 1}, {"q": "", "a": 2}, {"a": 3}, 7, {"q": "b?", "a": "x", "id": "b"}])
    assert [problem.id for problem in loaded] == ["x/0"]
    report = loaded.report
    assert (report.read, report.kept, sum(report.skipped.values())) == (5, 1, 4)
    assert report.examples["the field 'q' is empty"] == ["x/1"]
    assert report.examples["the row is not an object with named fields"] == ["row 3"]
    assert report.examples["the answer is not a number"] == ["x/b"]


def test_nothing_usable_is_an_error_with_the_reasons() -> None:
    with pytest.raises(DataError, match=r"none of its 2 rows .*'q' is missing \(2 rows, for example row 0"):
        load([{"a": 1}, {"a": 2}])
    with pytest.raises(DataError, match="it has none"):
        load([])


def test_ids_must_differ() -> None:
    with pytest.raises(DataError, match=r"rows 0 and 1 .* have the same"):
        load([{"q": "a?", "a": 1, "id": 7}, {"q": "b?", "a": 1, "id": 7}])


def test_a_limit_stops_after_usable_rows_and_says_so() -> None:
    rows = [{"q": "", "a": 1}, {"q": "a?", "a": 1}, {"q": "b?", "a": 1}, {"q": "c?", "a": 1}]
    loaded = load(rows, limit=2)
    assert [problem.id for problem in loaded] == ["x/1", "x/2"]
    assert loaded.report.read == 3
    assert any("stopped after 2" in note for note in loaded.report.notes)
    assert not load(rows[:3], limit=2).report.notes


@pytest.mark.parametrize(
    "value", ["\\frac{1}{2}", "52\\%", "(0, \\infty)", "$2\\sqrt{5}$", "90^\\circ", "\\text{Tuesday}"]
)
def test_an_answer_may_be_a_latex_value(value: str) -> None:
    assert answer_of(value) == value


@pytest.mark.parametrize(
    "value", ["nine apples", "5 apples", "\\frac{1}{2", "\\text{Tuesday", "see \\alpha and red", None, True]
)
def test_what_is_no_value_is_no_answer(value: object) -> None:
    with pytest.raises(UnusableRowError):
        answer_of(value)


def test_a_label_may_solve_to_a_latex_answer() -> None:
    assert same_value("( 1.0 / 2.0 )", "\\frac{1}{2}")
    assert not same_value("( 1.0 / 2.0 )", "\\sqrt{2}")


@pytest.mark.parametrize(
    ("value", "number"), [("12,34,567", "1234567"), ("₹12,34,567", "1234567"), ("-1,23,456.5", "-123456.5")]
)
def test_indian_digit_groups_are_a_number(value: str, number: str) -> None:
    assert answer_of(value) == number


@pytest.mark.parametrize("value", ["1,000,00", "10,200,30", "5+", "5-", "1/0", "3 ×"])
def test_a_number_that_is_wrongly_grouped_or_unfinished_is_no_answer(value: str) -> None:
    with pytest.raises(UnusableRowError):
        answer_of(value)
