"""Anybody's rows with a column mapping: what is taken, and that nothing is guessed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molsaki.data import load_problems
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
        (FULL, {**ROW, "key": "r2", "why": ["a", "b"]}, "the field 'why' is not text"),
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
            "the label is no arithmetic expression with a value",
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
        ({**MATHS, "reason": "why"}, "'reason' is no part of a row"),
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
