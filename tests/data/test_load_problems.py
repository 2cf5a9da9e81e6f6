"""Loading by name: the registry, the usual files of a folder, and the counts of every real data set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from molsaki.answers.parse import parse_label
from molsaki.answers.right import is_right
from molsaki.data import SOURCES, load_palm_completions, load_problems
from molsaki.errors import DataError

SUM = '{"question": "q?", "answer": "r\\n#### 1"}\n'

NAMES = {
    "svamp": "svamp",
    "svamp-dss": "svamp/dss",
    "asdiv": "asdiv",
    "singleeq": "singleeq",
    "gsm8k": "gsm8k",
    "commonsenseqa": "cqa",
    "commonsenseqa-dss": "cqa/dss",
}
REAL = [
    ("svamp", None, 1000, 999),
    ("svamp-dss", "train", 800, 800),
    ("svamp-dss", "test", 200, 200),
    ("asdiv", None, 2305, 2093),
    ("singleeq", None, 508, 508),
    ("gsm8k", "train", 7473, 7473),
    ("gsm8k", "test", 1319, 1319),
    ("commonsenseqa", "train", 9741, 9741),
    ("commonsenseqa", "validation", 1221, 1221),
    ("commonsenseqa-dss", "train", 9741, 9741),
    ("commonsenseqa-dss", "test", 1221, 1221),
]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"svamp, svamp-dss, asdiv, .*table or hub:owner/name; got 'gsm'"):
        load_problems("gsm")


def test_every_source_says_what_it_is() -> None:
    for name, source in SOURCES.items():
        assert source.description
        assert "\n" not in source.description
        assert source.needs <= source.takes
        assert name.islower()


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("svamp", {}, "Expected path for 'svamp'"),
        ("svamp", {"path": "x", "split": "train"}, "got split too"),
        ("gsm8k", {"path": "x", "columns": {"question": "q"}}, "got columns too"),
        ("table", {"path": "x"}, "Expected columns for 'table'"),
        ("hub:ChilleD/SVAMP", {"path": "x"}, "got path too"),
        ("gsm8k", {"path": "absent.jsonl"}, "there is none"),
        ("gsm8k", {"path": "absent.jsonl", "limit": 0}, "at least one row; got 0"),
        ("gsm8k", {"path": "absent.jsonl", "limit": True}, "at least one row; got True"),
    ],
)
def test_arguments_that_do_not_fit(source: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_problems(source, **arguments)  # type: ignore[arg-type]


def test_the_split_chooses_the_file_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(SUM)
    (tmp_path / "mine.jsonl").write_text(SUM)
    assert load_problems("gsm8k", tmp_path, split="test").problems[0].id == "gsm8k/test/0"
    assert load_problems("gsm8k", str(tmp_path / "test.jsonl")).problems[0].id == "gsm8k/test/0"
    assert load_problems("gsm8k", tmp_path / "mine.jsonl").problems[0].id == "gsm8k/mine/0"
    assert load_problems("gsm8k", tmp_path / "mine.jsonl", split="dev").problems[0].id == "gsm8k/dev/0"
    with pytest.raises(DataError, match=r"'train' \(train\.jsonl\), 'test' \(test\.jsonl\); got None"):
        load_problems("gsm8k", tmp_path)
    with pytest.raises(DataError, match="got 'dev'"):
        load_problems("gsm8k", tmp_path, split="dev")
    with pytest.raises(DataError, match="there is none"):
        load_problems("gsm8k", tmp_path, split="train")
    with pytest.raises(DataError, match="name the file itself"):
        load_problems("table", tmp_path, columns={"question": "q", "answer": "a"})


def test_a_test_file_is_not_taken_for_the_training_split(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(SUM)
    with pytest.raises(DataError, match="Test rows could end up in training"):
        load_problems("gsm8k", tmp_path / "test.jsonl", split="train")


def test_loading_imports_no_model_library(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(SUM)
    code = (
        "import sys; from molsaki.data import load_problems; load_problems('gsm8k', sys.argv[1], "
        "split='test');print([m for m in ('torch', 'transformers', 'datasets', 'pyarrow') if m in "
        "sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.shared_data
@pytest.mark.parametrize(("source", "split", "read", "kept"), REAL)
def test_real_data(shared_data: Path, source: str, split: str | None, read: int, kept: int) -> None:
    loaded = load_problems(source, shared_data / NAMES[source], split=split)
    assert (loaded.report.read, loaded.report.kept, len(loaded)) == (read, kept, kept)
    assert read - kept == sum(loaded.report.skipped.values())
    for problem in loaded:
        assert not problem.choices or problem.answer in problem.choices
        assert is_right(parse_label(problem.label, problem.choices), problem), problem
        assert problem.question == problem.question.strip()
        assert "<<" not in (problem.rationale or "")


@pytest.mark.shared_data
def test_real_rows_that_are_left_out(shared_data: Path) -> None:
    svamp = load_problems("svamp", shared_data / "svamp").report
    assert svamp.examples == {"the equation does not solve to the answer": ["svamp/chal-680"]}
    asdiv = load_problems("asdiv", shared_data / "asdiv").report
    assert dict(asdiv.skipped) == {
        "the answer is several values": 90,
        "the answer is a word or a name": 59,
        "the answer is a ratio": 43,
        "the answer is a time": 18,
        "the answer is an ordinal": 2,
    }


@pytest.mark.shared_data
def test_both_files_of_svamp_hold_the_same_problems(shared_data: Path) -> None:
    labels = {problem.question: problem.label for problem in load_problems("svamp", shared_data / "svamp")}
    folder = shared_data / "svamp" / "dss"
    both = [problem for split in ("train", "test") for problem in load_problems("svamp-dss", folder, split=split)]
    assert len(both) == 1000
    assert sum(labels.get(problem.question) == problem.label for problem in both) == 999


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("source", "split", "rows"),
    [
        ("svamp-dss", "train", 800),
        ("svamp-dss", "test", 200),
        ("commonsenseqa-dss", "train", 9741),
        ("commonsenseqa-dss", "test", 1221),
    ],
)
def test_real_completions_are_about_their_rows(shared_data: Path, source: str, split: str, rows: int) -> None:
    folder = shared_data / NAMES[source]
    completions = load_palm_completions(source, folder, split)
    problems = load_problems(source, folder, split=split).problems
    assert list(completions) == [problem.id for problem in problems]
    assert len(completions) == rows
    words = [set(problem.text.lower().split()) for problem in problems]
    replies = [set(completions[problem.id].split("\n\n")[0].lower().split()) for problem in problems]
    here = sum(len(w & r) for w, r in zip(words, replies, strict=True))
    shifted = sum(len(w & r) for w, r in zip(words, replies[1:], strict=False))
    assert here > 1.5 * shifted
