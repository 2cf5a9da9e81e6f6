"""Anybody's rows with a column mapping: what is taken, and that nothing is guessed."""

from __future__ import annotations

import contextlib
import csv
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molsaki.answers.parse import parse_answer
from molsaki.answers.right import is_right
from molsaki.data import load_problems
from molsaki.data.choices import read_choices, split_options
from molsaki.data.rows import UnusableRowError
from molsaki.errors import DataError
from molsaki.records import LoadedProblems, Problem

MATHS = {"question": "q", "answer": "a"}
CHOICE = {**MATHS, "choices": "options"}
FULL = {**CHOICE, "id": "key", "rationale": "why", "keywords": "words"}
NO_CHOICES = "the choices are neither a list nor options with letters from A on"
ROW: dict[str, Any] = {
    "key": "r1",
    "q": "where is seaweed from?",
    "options": ["beach", "sea", "ocean"],
    "a": "ocean",
    "why": "It grows in water.",
    "words": ["seaweed", "from", "seaweed"],
}
PROBLEM = Problem(
    "rows/r1",
    "where is seaweed from?",
    "ocean",
    "ocean",
    ("beach", "sea", "ocean"),
    "It grows in water.",
    ("seaweed", "from"),
)


def load(folder: Path, rows: list[Any], columns: dict[str, str], limit: int | None = None) -> LoadedProblems:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_problems("table", path, columns=columns, limit=limit)


def test_the_same_row_from_json_lines_csv_and_parquet(tmp_path: Path) -> None:
    assert load(tmp_path, [ROW], FULL).problems == (PROBLEM,)
    flat = {name: json.dumps(value) if isinstance(value, list) else value for name, value in ROW.items()}
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(flat))
        writer.writeheader()
        writer.writerow(flat)
    assert load_problems("table", tmp_path / "rows.csv", columns=FULL).problems == (PROBLEM,)
    pq.write_table(pa.Table.from_pylist([ROW]), tmp_path / "rows.parquet")
    assert load_problems("table", tmp_path / "rows.parquet", columns=FULL).problems == (PROBLEM,)


def test_rows_without_ids_are_numbered(tmp_path: Path) -> None:
    loaded = load(tmp_path, [{"q": "1+1?", "a": 2}, {"q": "2+2?", "a": "4.0"}], MATHS)
    assert [(p.id, p.answer, p.label) for p in loaded] == [("rows/0", "2", "2"), ("rows/1", "4", "4")]


@pytest.mark.parametrize(
    ("answer_is", "answer", "expected"),
    [
        ("letter", "b", "sea"),
        ("letter", "(C)", "ocean"),
        ("index", 0, "beach"),
        ("index", "2", "ocean"),
        ("index", 1.0, "sea"),
        ("text", "sea", "sea"),
    ],
)
def test_how_the_answer_points_at_its_choice(tmp_path: Path, answer_is: str, answer: Any, expected: str) -> None:
    (problem,) = load(tmp_path, [{**ROW, "a": answer}], {**CHOICE, "answer_is": answer_is})
    assert (problem.answer, problem.label) == (expected, expected)


def test_a_letter_is_text_unless_the_mapping_says_otherwise(tmp_path: Path) -> None:
    row = {"q": "Which letter?", "options": ["B", "A"], "a": "A"}
    assert load(tmp_path, [row], CHOICE).problems[0].answer == "A"
    assert load(tmp_path, [row], {**CHOICE, "answer_is": "letter"}).problems[0].answer == "B"


@pytest.mark.parametrize(
    ("columns", "row", "reason"),
    [
        (MATHS, {"q": "q?", "a": "Paris"}, "the answer is not a number"),
        (MATHS, {"q": "q?", "a": ""}, "the answer is missing"),
        (MATHS, {"q": "q?", "a": None}, "the answer is missing"),
        (MATHS, {"q": "q?", "a": "NaN"}, "the answer is not a number"),
        (
            MATHS,
            {"q": "q?", "a": True},
            "the answer is a truth value and there are no choices: write `choices_are: yes-no`",
        ),
        (MATHS, {"q": "", "a": "1"}, "the field 'q' is empty"),
        (MATHS, {"q": 5, "a": "1"}, "the field 'q' is not text"),
        (MATHS, ["q", "a"], "the row is not an object with named fields"),
        (CHOICE, {**ROW, "a": "river"}, "the answer is none of the choices"),
        (CHOICE, {**ROW, "a": None}, "the answer is missing"),
        (CHOICE, {**ROW, "options": "beach, sea"}, NO_CHOICES),
        (
            CHOICE,
            {**ROW, "options": '{"q": 1, "r": 2}'},
            "the choices are an object whose keys are not the letters from A",
        ),
        (CHOICE, {**ROW, "options": "[" * 90_000}, NO_CHOICES),
        (CHOICE, {**ROW, "options": ["sea"]}, "there are not between 2 and 26 choices"),
        ({**CHOICE, "answer_is": "letter"}, ROW, "the answer is not a letter"),
        ({**CHOICE, "answer_is": "letter"}, {**ROW, "a": "d"}, "the answer points at no choice"),
        ({**CHOICE, "answer_is": "index"}, {**ROW, "a": 3}, "the answer points at no choice"),
        ({**CHOICE, "answer_is": "index"}, {**ROW, "a": -1}, "the answer points at no choice"),
        ({**CHOICE, "answer_is": "index"}, {**ROW, "a": True}, "the answer is not an index"),
        (
            {**CHOICE, "answer_is": "index"},
            {**ROW, "a": "1", "options": None},
            "there are no choices for the answer to point at",
        ),
        (FULL, {**ROW, "key": "r2", "words": "seaweed"}, "the key words are not a list"),
        (FULL, {**ROW, "key": "r2", "words": [1]}, "a key word is not text"),
        (FULL, {**ROW, "key": "r2", "words": ["w"] * 101}, "there are more than 100 key words"),
        (FULL, {**ROW, "key": "r2", "why": ["a", 2]}, "a step of the rationale is not text"),
        (
            FULL,
            {**ROW, "key": None},
            "the id in 'key' is missing, or is neither a whole number nor a short text",
        ),
        (
            {**MATHS, "label": "l"},
            {"q": "q?", "a": 3, "l": "( 1 + 1 )"},
            "the label does not solve to the answer",
        ),
        (
            {"question": "q", "label": "l"},
            {"q": "q?", "l": "one"},
            "the label is not an arithmetic expression with a value",
        ),
        ({**CHOICE, "label": "l"}, {**ROW, "l": "sea"}, "the label is not the right choice's text"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_with_its_reason(
    tmp_path: Path, columns: dict[str, str], row: Any, reason: str
) -> None:
    good: dict[str, Any] = {**ROW, "l": "ocean"} if "choices" in columns else {"q": "q?", "a": 2, "l": "( 1 + 1 )"}
    if columns.get("answer_is") in ("letter", "index"):
        good["a"] = {"letter": "a", "index": 0}[columns["answer_is"]]
    loaded = load(tmp_path, [good, row], columns)
    assert loaded.report.kept == 1
    assert dict(loaded.report.skipped) == {reason: 1}


def test_a_label_gives_the_answer_where_there_is_no_column_for_it(tmp_path: Path) -> None:
    (problem,) = load(tmp_path, [{"q": "q?", "l": "( 84.0 / 2.0 )"}], {"question": "q", "label": "l"})
    assert (problem.answer, problem.label) == ("42", "( 84.0 / 2.0 )")


def test_parts_that_some_rows_lack_are_none(tmp_path: Path) -> None:
    bare = {"key": "r2", "q": "1+1?", "a": "2", "why": "", "options": None}
    second = load(tmp_path, [ROW, bare], FULL).problems[1]
    assert (second.choices, second.rationale, second.keywords) == ((), None, None)


@pytest.mark.parametrize(
    "said",
    [
        "10-3",
        "2024-01",
        "3/4/24",
        "1.234,5",
        "3,5",
        "#5",
        "12 34",
        "3:15",
        "5;6",
        "'5'",
        "~5",
        "5?",
        "555-1234",
    ],
)
def test_a_score_a_date_or_an_id_is_no_value(tmp_path: Path, said: str) -> None:
    loaded = load(tmp_path, [{"q": "q?", "a": 2}, {"q": "r?", "a": said}], MATHS)
    assert [problem.answer for problem in loaded] == ["2"]
    assert sum(loaded.report.skipped.values()) == 1


@pytest.mark.parametrize("said", ["2 1/2", "(3, 4)", "1,234", "2019 - 12", "10 - 3", "1 + 2", "20%", "-3"])
def test_a_value_in_signs_is_loaded(tmp_path: Path, said: str) -> None:
    assert len(load(tmp_path, [{"q": "q?", "a": said}], MATHS)) == 1


@pytest.mark.parametrize(
    ("said", "answer"),
    [("20%.", "20%"), ("20 percent.", "20%"), ("$\\boxed{12.5\\%}$", "12.5%"), ("0.2.", "0.2"), ("7/2.", "3.5")],
)
def test_a_stated_percentage_stays_one(tmp_path: Path, said: str, answer: str) -> None:
    (problem,) = load(tmp_path, [{"q": "q?", "a": f"So. The answer is {said}"}], {**MATHS, "answer_is": "stated"})
    assert problem.answer == answer
    assert is_right(parse_answer(f"The answer is {said}"), problem)
    if answer.endswith("%"):
        assert is_right(parse_answer(f"The answer is {answer[:-1]}."), problem)


def test_a_blank_part_of_a_question_counts_as_empty(tmp_path: Path) -> None:
    columns = {"question": ["q", "input"], "answer": "a"}
    assert load(tmp_path, [{"q": "1+1?", "input": " \n", "a": 2}], columns).problems[0].question == "1+1?"


@pytest.mark.parametrize(
    ("cells", "choices"),
    [
        (["sea", "sky", "land"], ("sea", "sky", "land")),
        (["sea", "sky", " "], ("sea", "sky")),
        (["sea", "sky", None], ("sea", "sky")),
        (["sea", "", "sky"], None),
        ([None, "sea", "sky"], None),
    ],
)
def test_only_the_last_choices_may_be_empty(
    tmp_path: Path, cells: list[str | None], choices: tuple[str, ...] | None
) -> None:
    columns = {**MATHS, "choices": ["A", "B", "C"]}
    rows = [dict(zip("ABC", given, strict=True)) | {"q": "q?", "a": "sea"} for given in (["sea", "sky", ""], cells)]
    loaded = load(tmp_path, rows, columns)
    assert [problem.choices for problem in loaded] == [("sea", "sky"), *([choices] if choices else [])]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Where? A) sea B) sky", ["sea", "sky"]),
        ("Where?\n(A) sea\n(B) sky\nAnswer:", ["sea", "sky"]),
        ("Where? A: sea, B: sky A:", ["sea", "sky"]),
        ("Where?\nA. sea\nB. sky\nA: Let's think step by step.", ["sea", "sky"]),
        ("Where?\nA. sea\nB. sky\n\nSolution", ["sea", "sky"]),
        ("Where? A) sea B) land D) sky", None),
        ("Where?\nA) sea\nB) sky\nWrite one letter.", None),
        ("Vitamin A: where?", []),
    ],
)
def test_options_in_a_question_end_where_they_end(text: str, options: list[str] | None) -> None:
    if options is None:
        with pytest.raises(UnusableRowError):
            split_options(text)
    else:
        assert split_options(text)[1] == options


@pytest.mark.parametrize("filler", [" ", "\n", "\nLet's think ", " A: "])
def test_long_text_behind_options_takes_little_time(filler: str) -> None:
    began = time.process_time()
    with contextlib.suppress(UnusableRowError):
        split_options("A) sea B) sky" + filler * (90_000 // len(filler)) + "x")
    assert time.process_time() - began < 2


@pytest.mark.parametrize("options", [["B) sky", "A) sea"], ["A) sea", "C) sky"], ["a. sea", "B. sky"]])
def test_choices_whose_letters_are_out_of_order_are_refused(options: list[str]) -> None:
    with pytest.raises(UnusableRowError, match="order"):
        read_choices(options)


def test_initials_are_no_letters_of_options() -> None:
    assert read_choices(["E. coli", "B. subtilis"]) == ("E. coli", "B. subtilis")


def test_a_column_that_no_row_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'wy' \(rationale\).*did you mean 'why'"):
        load(tmp_path, [ROW], {**CHOICE, "rationale": "wy"})
    with pytest.raises(DataError, match=r"'question' \(question\)"):
        load(tmp_path, [ROW], {"question": "question", "answer": "a"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "'question' is missing; 'answer' .or 'label'. is missing"),
        ({"question": "q"}, "'answer' .or 'label'. is missing"),
        ({**MATHS, "reason": "why"}, "'reason' is not part of a row"),
        ({**MATHS, "label": ""}, "the column of 'label' is not a name"),
        ({**MATHS, "label": 3}, "the column of 'label' is not a name"),
        ({**CHOICE, "answer_is": "number"}, "'answer_is' is 'number', not one of text, letter, index"),
        ({**MATHS, "answer_is": "letter"}, "'answer_is: letter' needs the columns of 'answer' and 'choices'"),
    ],
)
def test_a_wrong_mapping_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, [ROW], columns)


def test_a_limit(tmp_path: Path) -> None:
    rows = [{"q": f"{i}?", "a": i} for i in range(9)]
    assert [problem.answer for problem in load(tmp_path, rows, MATHS, limit=3)] == ["0", "1", "2"]


def test_latex_answers_are_loaded_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "maths.jsonl"
    rows = [{"q": "Half?", "a": "\\frac{1}{2}"}, {"q": "Root?", "a": "2\\sqrt{5}"}, {"q": "Who?", "a": "red and blue"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded = load_problems("table", path=path, columns={"question": "q", "answer": "a"})
    assert [problem.answer for problem in loaded] == ["\\frac{1}{2}", "2\\sqrt{5}"]
    assert [problem.label for problem in loaded] == ["\\frac{1}{2}", "2\\sqrt{5}"]
    assert loaded.report.skipped.total() == 1


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Who flies?\nOptions:\n- A) bird\n- B) stone\n- C) sea", "Who flies?", ["bird", "stone", "sea"]),
        ("Who flies?\n• A. bird\n• B. stone", "Who flies?", ["bird", "stone"]),
        ("A) sea | B) sky | C) sun", "", ["sea", "sky", "sun"]),
        ("Which? | A) sea | B) sky |", "Which?", ["sea", "sky"]),
        ("(A) bird / (B) stone / (C) sea", "", ["bird", "stone", "sea"]),
        ("Is it (A) bird, (B) stone, or (C) sea?", "Is it", ["bird", "stone", "sea"]),
        ("Where is it, or where and (A) bird (B) sea", "Where is it, or where and", ["bird", "sea"]),
        ("Which? (A) x - y (B) 6 km/h (C) an either or", "Which?", ["x - y", "6 km/h", "an either or"]),
    ],
)
def test_what_stands_between_options_is_no_part_of_them(text: str, question: str, options: list[str]) -> None:
    assert split_options(text) == (question, options)


def test_bullets_before_the_letters_of_a_list_are_left_out() -> None:
    assert read_choices(["- A. sea", "- B. sky"]) == ("sea", "sky")
    assert read_choices(["- 5", "- 6"]) == ("- 5", "- 6")


def test_the_texts_of_an_object_of_lists_are_named() -> None:
    with pytest.raises(UnusableRowError, match=r"such as `column\.text`"):
        read_choices({"label": ["A", "B"], "text": ["sea", "sky"]})


def test_a_long_cell_that_no_column_names_costs_no_row(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("q,a,html\nHow many?,5," + "x" * 140_000 + "\n", encoding="utf-8")
    assert len(load_problems("table", path=path, columns={"question": "q", "answer": "a"}).problems) == 1
