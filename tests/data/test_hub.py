"""The hub's rows become the same problems as the files' rows; no test reaches the network."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from molsaki.data import hub, load_problems
from molsaki.data.hub import convert_hub_rows, load_hub
from molsaki.errors import DataError

datasets = pytest.importorskip("datasets")

SVAMP = {
    "ID": "chal-777",
    "Body": "There are 87 oranges and 290 bananas in Philip's collection. If the bananas are organized "
    "into 2 groups and oranges are organized into 93 groups",
    "Question": "How big is each group of bananas?",
    "Equation": "( 290.0 / 2.0 )",
    "Answer": "145",
    "Type": "Common-Division",
}
CSQA: dict[str, Any] = {
    "id": "075e483d21c29a511267ef62bedc0461",
    "question": "The sanctions against the school were a punishing blow, and they seemed to what the "
    "efforts the school had made to change?",
    "question_concept": "punishing",
    "choices": {"label": list("ABCDE"), "text": ["ignore", "enforce", "authoritarian", "yell at", "avoid"]},
    "answerKey": "A",
}


def in_memory(*rows: dict[str, Any]) -> Any:
    return datasets.Dataset.from_list(list(rows))


def test_svamp_is_the_files_problem(tmp_path: Path) -> None:
    path = tmp_path / "SVAMP.json"
    path.write_text(json.dumps([{**SVAMP, "Answer": 145.0}]))
    row = {**SVAMP, "question_concat": f"{SVAMP['Body']} {SVAMP['Question']}"}
    loaded = convert_hub_rows(in_memory(row), "hub:ChilleD/SVAMP", "train")
    assert loaded.problems == load_problems("svamp", path).problems
    assert loaded.problems[0].id == "svamp/chal-777"


def test_gsm8k_is_the_files_problem(tmp_path: Path) -> None:
    row = {"question": "q?", "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 24"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    loaded = convert_hub_rows(in_memory(row), "hub:openai/gsm8k", "test")
    assert loaded.problems == load_problems("gsm8k", tmp_path, split="test").problems
    assert loaded.problems[0].id == "gsm8k/test/0"


def test_configurations_of_one_repository_have_ids_of_their_own() -> None:
    row = in_memory({"question": "q?", "answer": "1 + 1 = 2\n#### 2"})
    ids = {
        source: convert_hub_rows(row, source, "test").problems[0].id
        for source in ("hub:openai/gsm8k", "hub:openai/gsm8k/main@e53f048", "hub:openai/gsm8k/socratic")
    }
    assert list(ids.values()) == ["gsm8k/test/0", "gsm8k/test/0", "socratic/gsm8k/test/0"]
    columns = {"question": "question", "answer": "answer"}
    rows = in_memory({"question": "q?", "answer": "2"})
    given = {convert_hub_rows(rows, f"hub:a/b{config}", "train", columns).problems[0].id for config in ("", "/c", "/d")}
    assert given == {"a/b/train/0", "a/b/c/train/0", "a/b/d/train/0"}


def test_commonsenseqa_is_the_files_problem(tmp_path: Path) -> None:
    choices = [{"label": a, "text": b} for a, b in zip(CSQA["choices"]["label"], CSQA["choices"]["text"], strict=True)]
    question = {"stem": CSQA["question"], "choices": choices, "question_concept": "punishing"}
    path = tmp_path / "dev_rand_split.jsonl"
    path.write_text(json.dumps({"id": CSQA["id"], "answerKey": "A", "question": question}) + "\n")
    loaded = convert_hub_rows(in_memory(CSQA), "hub:tau/commonsense_qa", "validation")
    assert loaded.problems == load_problems("commonsenseqa", path).problems


def test_the_hubs_test_split_of_commonsenseqa_has_no_answers() -> None:
    with pytest.raises(DataError, match="the answer is not given"):
        convert_hub_rows(in_memory({**CSQA, "answerKey": ""}), "hub:tau/commonsense_qa", "test")


def test_asdiv() -> None:
    row = {
        "body": "Seven red apples and two green apples are in the basket.",
        "question": "How many apples are in the basket?",
        "solution_type": "Addition",
        "answer": "9 (apples)",
        "formula": "7+2=9",
    }
    ratio = {**row, "solution_type": "Ratio", "answer": "5:6", "formula": "15:18=5:6"}
    loaded = convert_hub_rows(in_memory(row, ratio), "hub:EleutherAI/asdiv", "validation")
    assert [(p.id, p.answer, p.label) for p in loaded] == [("asdiv/validation/0", "9", "( 7 + 2 )")]
    assert dict(loaded.report.skipped) == {"the answer is a ratio": 1}


def test_any_other_with_a_mapping() -> None:
    rows = in_memory({"prompt": "1+1?", "target": 2.0}, {"prompt": "2+2?", "target": float("nan")})
    columns = {"question": "prompt", "answer": "target"}
    loaded = convert_hub_rows(rows, "hub:some-one/some.sums/easy@v1.0", "train", columns)
    assert [(p.id, p.answer) for p in loaded] == [("some-one/some.sums/easy/train/0", "2")]
    assert dict(loaded.report.skipped) == {"the answer is not a finite number within bounds": 1}


@pytest.mark.parametrize(
    ("source", "split", "columns", "asked"),
    [
        ("hub:ChilleD/SVAMP", "test", None, ("ChilleD/SVAMP", None, "test", None)),
        ("hub:openai/gsm8k", "test", None, ("openai/gsm8k", "main", "test", None)),
        ("hub:openai/gsm8k/socratic@e53f048", "test", None, ("openai/gsm8k", "socratic", "test", "e53f048")),
        ("hub:EleutherAI/asdiv", None, None, ("EleutherAI/asdiv", "asdiv", "validation", None)),
        ("hub:a/b@refs/pr/1", "train", {"question": "q", "answer": "a"}, ("a/b", None, "train", "refs/pr/1")),
    ],
)
def test_what_is_asked_of_the_hub(
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    split: str | None,
    columns: dict[str, str] | None,
    asked: tuple[Any, ...],
) -> None:
    calls: list[tuple[Any, ...]] = []
    rows = [{"question": "q?", "q": "q?", "a": 1, "answer": "r\n#### 1", "body": "", "formula": "1=1"}]

    def fetch(*arguments: Any) -> Iterable[Any]:
        calls.append(arguments)
        return rows

    monkeypatch.setattr(hub, "_fetch", fetch)
    with pytest.raises(DataError) if columns is None and "gsm8k" not in source else nullcontext():
        load_problems(source, split=split, columns=columns)
    assert calls == [asked]


@pytest.mark.parametrize(
    "source",
    [
        "hub:",
        "hub:gsm8k",
        "hub:/etc/passwd",
        "hub:../../etc",
        "hub:a/b/c/d",
        "hub:a/b@",
        "hub:a b/c",
        "hub:a/..\n",
    ],
)
def test_malformed_names(source: str) -> None:
    with pytest.raises(DataError, match="Expected hub:owner/name"):
        load_hub(source, "train")


def test_what_must_be_given() -> None:
    with pytest.raises(DataError, match="Expected a column mapping for hub:a/b"):
        load_hub("hub:a/b", "train")
    with pytest.raises(DataError, match=r"one of train, test; got none"):
        load_hub("hub:ChilleD/SVAMP")
    with pytest.raises(DataError, match="for example train; got none"):
        load_hub("hub:a/b", columns={"question": "q", "answer": "a"})


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConnectionError("Couldn't reach 'ChilleD/SVAMP' on the Hub"),
            "Expected to reach .* connect to the network",
        ),
        (TimeoutError(""), "Expected to reach .* got: TimeoutError"),
        (
            FileNotFoundError("Dataset 'x' doesn't exist"),
            "Expected the hub to have ChilleD/SVAMP, split test; it answers",
        ),
        (
            ValueError('Unknown split "tests".\nShould be one of'),
            'it answers: Unknown split "tests"\\.\\. Nothing',
        ),
        (RuntimeError("Dataset scripts are no longer supported"), "check the names"),
    ],
)
def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=message):
        load_problems("hub:ChilleD/SVAMP", split="test")
