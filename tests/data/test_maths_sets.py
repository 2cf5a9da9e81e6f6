"""SVAMP, ASDiv, SingleEq and GSM8K, row by row: real rows, and what is wrong in malformed ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from molsaki.data import load_problems
from molsaki.errors import DataError
from molsaki.records import LoadedProblems

SVAMP: dict[str, Any] = {
    "ID": "chal-2",
    "Body": "Dan had $ 3 left with him after he bought a candy bar. If he had $ 4 at the start",
    "Question": "How much did the candy bar cost?",
    "Equation": "( 4.0 - 3.0 )",
    "Answer": 1.0,
    "Type": "Subtraction",
}
SVAMP_DSS: dict[str, Any] = {
    "input": "Faye was placing her pencils and crayons into 7 rows with 36 pencils and 30 crayons "
    "in each row.\nHow many crayons does she have?",
    "label": "( 7.0 * 30.0 )",
}
SINGLEEQ: dict[str, Any] = {
    "lEquations": ["70-x=27"],
    "lSolutions": [43.0],
    "sQuestion": "Joan found 70 seashells on the beach. she gave Sam some of her seashells. She has "
    "27 seashell left. How many seashells did she give to Sam ?",
    "iIndex": 0,
}
GSM8K: dict[str, Any] = {
    "question": "Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. "
    "How much did she earn?",
    "answer": "Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.\n"
    "Working 50 minutes, she earned 0.2 x 50 = $<<0.2*50=10>>10.\n#### 10",
}


def one(source: str, row: dict[str, Any], folder: Path, keep: dict[str, Any] | None = None) -> LoadedProblems:
    """Load a row, with a good one before it if `keep` is given."""
    rows = [row] if keep is None else [keep, row]
    lines = source in ("svamp-dss", "gsm8k")
    path = folder / "rows.json"
    path.write_text("\n".join(json.dumps(r) for r in rows) if lines else json.dumps(rows))
    return load_problems(source, path, split="test" if lines else None)


def test_svamp(tmp_path: Path) -> None:
    (problem,) = one("svamp", SVAMP, tmp_path)
    assert problem.id == "svamp/chal-2"
    assert problem.question == f"{SVAMP['Body']}\n{SVAMP['Question']}"
    assert (problem.answer, problem.label, problem.choices) == ("1", "( 4.0 - 3.0 )", ())


def test_svamp_dss(tmp_path: Path) -> None:
    (problem,) = one("svamp-dss", SVAMP_DSS, tmp_path)
    assert (problem.id, problem.answer, problem.label) == ("svamp-dss/test/0", "210", "( 7.0 * 30.0 )")


def test_gsm8k(tmp_path: Path) -> None:
    (problem,) = one("gsm8k", GSM8K, tmp_path)
    assert (problem.id, problem.answer, problem.label) == ("gsm8k/test/0", "10", "10")
    assert problem.rationale == ("Weng earns 12/60 = $0.2 per minute.\nWorking 50 minutes, she earned 0.2 x 50 = $10.")


@pytest.mark.parametrize(("final", "answer"), [("#### 1,080", "1080"), ("#### -7", "-7"), ("####5.50", "5.5")])
def test_gsm8k_final_answers(tmp_path: Path, final: str, answer: str) -> None:
    (problem,) = one("gsm8k", {"question": "q?", "answer": f"Reason.\n{final}"}, tmp_path)
    assert (problem.answer, problem.rationale) == (answer, "Reason.")


def test_gsm8k_without_a_solution_is_noted(tmp_path: Path) -> None:
    loaded = one("gsm8k", {"question": "q?", "answer": "#### 5"}, tmp_path)
    assert loaded.problems[0].rationale is None
    assert list(loaded.report.notes) == ["no rationale: the solution is empty"]


@pytest.mark.parametrize(
    ("source", "change", "reason"),
    [
        ("svamp", {"Answer": None}, "the answer is missing"),
        ("svamp", {"Answer": "NaN"}, "the answer is not a number"),
        ("svamp", {"Answer": [1.0]}, "the answer is neither a number nor text"),
        ("svamp", {"Answer": 5.0}, "the equation does not solve to the answer"),
        ("svamp", {"Equation": "__import__('os')"}, "the equation does not solve to the answer"),
        ("svamp", {"Question": ""}, "the field 'Question' is empty"),
        ("svamp", {"Body": 7}, "the field 'Body' is not text"),
        ("svamp-dss", {"input": " "}, "the field 'input' is empty"),
        ("svamp-dss", {"label": "( 7.0 * "}, "the label is not an arithmetic expression with a value"),
        ("svamp-dss", {"label": "9**9**9**9"}, "the label is not an arithmetic expression with a value"),
        ("svamp-dss", {"label": "( 1.0 / 0.0 )"}, "the label is not an arithmetic expression with a value"),
        ("gsm8k", {"answer": "It is 10."}, "the answer has no line that begins with ####"),
        ("gsm8k", {"answer": "It is 10. #### ten"}, "the answer is not a number"),
        ("gsm8k", {"question": None}, "the field 'question' is missing"),
        ("singleeq", {"lSolutions": []}, "the field 'lSolutions' is not a list of one"),
        ("singleeq", {"lSolutions": [1.0, 2.0]}, "the field 'lSolutions' is not a list of one"),
        ("singleeq", {"lEquations": "70-x=27"}, "the field 'lEquations' is not a list of one"),
        ("singleeq", {"lSolutions": [True]}, "the solution is neither a number nor text"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_with_its_reason(
    tmp_path: Path, source: str, change: dict[str, Any], reason: str
) -> None:
    good = {"svamp": SVAMP, "svamp-dss": SVAMP_DSS, "gsm8k": GSM8K, "singleeq": SINGLEEQ}[source]
    other_id = {"ID": "chal-3", "iIndex": 1}
    loaded = one(source, {**good, **other_id, **change}, tmp_path, keep=good)
    assert loaded.report.kept == 1
    assert dict(loaded.report.skipped) == {reason: 1}
    with pytest.raises(DataError, match="none of its 1 rows can be used"):
        one(source, {**good, **change}, tmp_path)


@pytest.mark.parametrize(
    ("equation", "solution", "label", "note"),
    [
        ("70-x=27", 43.0, "( 70 - 27 )", None),
        ("(12*0.25)+(7*0.01)=x", 3.07, "( ( 12 * 0.25 ) + ( 7 * 0.01 ) )", None),
        ("40/7=x", 5.0, "5", "does not give the annotated solution"),
        ("9=3+6", 6.0, "6", "not plain arithmetic with one x"),
    ],
)
def test_singleeq(tmp_path: Path, equation: str, solution: float, label: str, note: str | None) -> None:
    loaded = one("singleeq", {**SINGLEEQ, "lEquations": [equation], "lSolutions": [solution]}, tmp_path)
    (problem,) = loaded
    assert (problem.id, problem.label) == ("singleeq/0", label)
    assert [note is not None and note in found for found in loaded.report.notes] == [True] * (note is not None)


def asdiv(folder: Path, *problems: tuple[str, str, str, str, str]) -> LoadedProblems:
    items = "".join(
        f'<Problem ID="nluds-{i:04}" Grade="1"><Body>{body}</Body><Question>{question}</Question>'
        f"<Solution-Type>{kind}</Solution-Type><Answer>{answer}</Answer><Formula>{formula}</Formula></Problem>"
        for i, (body, question, kind, answer, formula) in enumerate(problems)
    )
    path = folder / "ASDiv.xml"
    path.write_text(f'<?xml version="1.0" encoding="UTF-8" ?>\n<A><ProblemSet>{items}</ProblemSet></A>')
    return load_problems("asdiv", path)


APPLES = (
    "Seven red apples and two green apples are in the basket.",
    "How many?",
    "Addition",
    "9 (apples)",
    "7+2=9",
)


@pytest.mark.parametrize(
    ("row", "answer", "label", "note"),
    [
        (APPLES, "9", "( 7 + 2 )", None),
        (("Bill had 3:2.", "q?", "x", "383", "383"), "383", "383", "does not state"),
        (
            ("He had 95 and 6.", "q?", "Floor-Division", "15 (large barrels)", "95/6=15 r5"),
            "15",
            "15",
            "one step",
        ),
        (
            ("3 and 12 and 2.", "q?", "Sum", "25 (chairs)", "3*4=12; 12-2=10; 3+12+10=25"),
            "25",
            "25",
            "one step",
        ),
        (("Scores 2 and 5.", "q?", "x", "16.3 (dollars)", "2+5=7"), "16.3", "16.3", "does not solve"),
        (("8:5. There are 30 girls.", "q?", "x", "18 (boys)", "48-30=18"), "18", "18", "does not state"),
        (
            ("It is 1.80 and 0.45.", "q?", "x", "1.35 (dollars)", "1.80-0.45=1.35"),
            "1.35",
            "( 1.80 - 0.45 )",
            None,
        ),
        (
            (
                "14 (L) minus 9500 is 4500 and 1000.",
                "q?",
                "x",
                "4500 (mL of it)",
                "(14 (L) * 1000 (mL/L)) - 9500 (mL) = 4500",
            ),
            "4500",
            "( ( 14 * 1000 ) - 9500 )",
            None,
        ),
        (
            ("x", "q?", "Algebra-2", "3/7", "x:The denominator; x=y*2+1; y=3"),
            "0.428571428571",
            None,
            "one step",
        ),
        (
            ("x", "q?", "Algebra-1", "-(1/3)", "n:The unknown number; 5n+7=2n+6"),
            "-0.333333333333",
            None,
            "one step",
        ),
        (("x", "q?", "Geometry", "36 (sq. inches)", "(24/4)^2=36"), "36", "36", "one step"),
        (("x", "q?", "x", "14  (seats)", ""), "14", "14", "no formula"),
    ],
)
def test_asdiv(
    tmp_path: Path, row: tuple[str, str, str, str, str], answer: str, label: str | None, note: str | None
) -> None:
    loaded = asdiv(tmp_path, row)
    (problem,) = loaded
    assert (problem.id, problem.answer, problem.label) == ("asdiv/nluds-0000", answer, label or answer)
    assert [note is not None and note in found for found in loaded.report.notes] == [True] * (note is not None)


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        ("Ratio", "5:6", "the answer is a ratio"),
        ("Sum", "5:45", "the answer is a time"),
        ("Addition", "9:03:36 a.m.", "the answer is a time"),
        ("Algebra-1", "17 (years old); 12 (years old)", "the answer is several values"),
        ("Comparison", "Yes", "the answer is a word or a name"),
        ("Comparison", "The men's track team", "the answer is a word or a name"),
        ("Sequential-Operation", "6th", "the answer is an ordinal"),
        ("Addition", "nan", "the answer is a word or a name"),
        ("Addition", "?", "the answer is not a number"),
        ("Addition", "", "the field 'answer' is empty"),
    ],
)
def test_asdiv_answers_that_are_no_number(tmp_path: Path, kind: str, answer: str, reason: str) -> None:
    loaded = asdiv(tmp_path, APPLES, ("Body.", "q?", kind, answer, "1+1=2"))
    assert dict(loaded.report.skipped) == {reason: 1}


def test_asdiv_cut_or_hostile_xml(tmp_path: Path) -> None:
    asdiv(tmp_path, APPLES)
    path = tmp_path / "ASDiv.xml"
    text = path.read_text()
    path.write_text(text[:-40])
    with pytest.raises(DataError, match=r"line 2, column \d+: .*cut or damaged"):
        load_problems("asdiv", path)
    path.write_text('<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>')
    with pytest.raises(DataError, match="document type or entities"):
        load_problems("asdiv", path)
    path.write_text("<a/>")
    with pytest.raises(DataError, match="it has none"):
        load_problems("asdiv", path)
