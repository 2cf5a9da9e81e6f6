"""CommonsenseQA in its three forms, and PaLM's completions that are matched to rows by place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from molsaki.data import load_palm_completions, load_problems
from molsaki.errors import DataError
from molsaki.records import LoadedProblems

CHOICES = ["race track", "populated areas", "the desert", "apartment", "roadblock"]
ORIGINAL: dict[str, Any] = {
    "answerKey": "B",
    "id": "61fe6e879ff18686d7552425a36344c8",
    "question": {
        "question_concept": "people",
        "choices": [{"label": label, "text": text} for label, text in zip("ABCDE", CHOICES, strict=True)],
        "stem": "Sammy wanted to go to where the people were.  Where might he go?",
    },
}
DSS: dict[str, Any] = {
    "id": "3a1b3c21a11f4ec53c166b0559df7369",
    "question": "A John is a bum.  Much like the stereotype, he lives near this sort of transportation "
    "infrastructure. Where does he live?",
    "choices": ["bus depot", "beach", "train station", "bridge", "bridge"],
    "answer": "bridge",
    "abstractive_explanation": "bums are well known to take up residence under bridges.",
    "extractive_explanation": "a bum",
}


def one(source: str, folder: Path, *rows: dict[str, Any]) -> LoadedProblems:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_problems(source, path)


def test_an_original_row(tmp_path: Path) -> None:
    loaded = one("commonsenseqa", tmp_path, ORIGINAL)
    (problem,) = loaded
    assert problem.id == "commonsenseqa/61fe6e879ff18686d7552425a36344c8"
    assert problem.question.startswith("Sammy wanted to go to where the people were.  Where")
    assert (problem.answer, problem.label, problem.choices) == (
        "populated areas",
        "populated areas",
        tuple(CHOICES),
    )
    assert not loaded.report.notes


def test_a_dss_row_whose_answer_stands_under_two_letters_is_kept_and_noted(tmp_path: Path) -> None:
    loaded = one("commonsenseqa-dss", tmp_path, DSS)
    (problem,) = loaded
    assert (problem.answer, problem.label) == ("bridge", "bridge")
    assert problem.rationale == DSS["abstractive_explanation"]
    assert list(loaded.report.notes) == ["the answer's text is listed under several letters; each is right"]


def test_both_forms_give_the_same_problem(tmp_path: Path) -> None:
    (original,) = one("commonsenseqa", tmp_path, ORIGINAL)
    stem = ORIGINAL["question"]["stem"]
    row = {"id": ORIGINAL["id"], "question": stem, "choices": CHOICES, "answer": "populated areas"}
    (stored,) = one("commonsenseqa-dss", tmp_path, row)
    assert original == stored


@pytest.mark.parametrize(
    ("source", "change", "reason"),
    [
        ("commonsenseqa", {"answerKey": ""}, "the answer is not given (test questions come without)"),
        ("commonsenseqa", {"answerKey": "F"}, "the answer's letter is not one of the choices' letters"),
        ("commonsenseqa", {"answerKey": ["B"]}, "the answer's letter is not one of the choices' letters"),
        (
            "commonsenseqa",
            {"id": None},
            "the id in 'id' is missing, or is neither a whole number nor a short text",
        ),
        ("commonsenseqa", {"question": None}, "the choices are not a list of objects with label and text"),
        (
            "commonsenseqa",
            {"question": {"stem": "q?", "choices": {"label": ["A"], "text": []}}},
            "the choices have no lists of labels and texts of one length",
        ),
        (
            "commonsenseqa",
            {"question": {"stem": "q?", "choices": [{"label": "A", "text": "a"}]}},
            "there are not between 2 and 26 choices",
        ),
        ("commonsenseqa-dss", {"answer": "tunnel"}, "the answer is none of the choices"),
        ("commonsenseqa-dss", {"answer": None}, "the field 'answer' is missing"),
        ("commonsenseqa-dss", {"choices": "bridge"}, "the choices are not a list"),
        ("commonsenseqa-dss", {"choices": ["bridge", ""]}, "a choice is empty"),
        ("commonsenseqa-dss", {"question": "  "}, "the field 'question' is empty"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_with_its_reason(
    tmp_path: Path, source: str, change: dict[str, Any], reason: str
) -> None:
    good = ORIGINAL if source == "commonsenseqa" else DSS
    loaded = one(source, tmp_path, good, {**good, "id": "another", **change})
    assert loaded.report.kept == 1
    assert dict(loaded.report.skipped) == {reason: 1}


def write_palm(folder: Path, rows: int, *parts: list[Any]) -> None:
    (folder / "palm").mkdir(exist_ok=True)
    (folder / "svamp_train.json").write_text('{"input": "q?", "label": "1"}\n' * rows)
    for number, part in enumerate(parts):
        (folder / "palm" / f"train_CoT_{number}.json").write_text(json.dumps(part))


def test_completions_follow_the_files_numbers_and_not_their_names_order(tmp_path: Path) -> None:
    write_palm(tmp_path, 12, *([f"completion {i}"] for i in range(12)))
    (tmp_path / "palm" / "test_CoT_0.json").write_text("[]")
    (tmp_path / "palm" / "notes.txt").write_text("not a part")
    completions = load_palm_completions("svamp-dss", tmp_path, "train")
    assert completions == {f"svamp-dss/train/{i}": f"completion {i}" for i in range(12)}
    loaded = load_problems("svamp-dss", tmp_path, split="train")
    assert [problem.id for problem in loaded] == list(completions)


def test_completions_that_do_not_fit_their_rows_are_refused(tmp_path: Path) -> None:
    write_palm(tmp_path, 3, ["a"], ["b"])
    with pytest.raises(DataError, match=r"each of the 3 rows .* hold 2\. They are matched by place"):
        load_palm_completions("svamp-dss", tmp_path, "train")
    write_palm(tmp_path, 2, ["a"], [None])
    with pytest.raises(DataError, match="entry 0 is NoneType"):
        load_palm_completions("svamp-dss", tmp_path, "train")
    (tmp_path / "palm" / "train_CoT_0.json").unlink()
    with pytest.raises(DataError, match=r"train_CoT_0\.json is not there"):
        load_palm_completions("svamp-dss", tmp_path, "train")
    with pytest.raises(DataError, match="there is none"):
        load_palm_completions("commonsenseqa-dss", tmp_path, "test")


def test_the_path_of_completions_may_be_their_rows_file(tmp_path: Path) -> None:
    write_palm(tmp_path, 2, ["a"], ["b"])
    path = tmp_path / "svamp_train.json"
    completions = load_palm_completions("svamp-dss", path, "train")
    assert completions == load_palm_completions("svamp-dss", tmp_path, "train")
    assert list(completions) == [problem.id for problem in load_problems("svamp-dss", path, split="train")]


def test_completions_belong_to_the_file_that_is_named_and_not_to_another_of_the_usual_name(tmp_path: Path) -> None:
    write_palm(tmp_path, 2, ["a"], ["b"])
    (tmp_path / "fewer.json").write_text('{"input": "q?", "label": "1"}\n')
    with pytest.raises(DataError, match=r"each of the 1 rows of .*fewer\.json; the 2 files"):
        load_palm_completions("svamp-dss", tmp_path / "fewer.json", "train")
    with pytest.raises(DataError, match=r"'test', or its folder; got .*svamp_train\.json, .* 'train' split's"):
        load_palm_completions("svamp-dss", tmp_path / "svamp_train.json", "test")


def test_a_path_that_is_no_files_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("p" * 300)
    with pytest.raises(DataError, match=r"Expected (to read|a data file at) .*ppp; "):
        load_problems("svamp", path)
    with pytest.raises(DataError, match=r"Expected (to read|a data file at) .*ppp; "):
        load_palm_completions("svamp-dss", path, "train")


@pytest.mark.parametrize(("source", "split"), [("svamp", "train"), ("svamp-dss", "validation"), ("gsm8k", "test")])
def test_only_two_data_sets_have_completions(tmp_path: Path, source: str, split: str) -> None:
    with pytest.raises(DataError, match="svamp-dss train, svamp-dss test, commonsenseqa-dss train"):
        load_palm_completions(source, tmp_path, split)
