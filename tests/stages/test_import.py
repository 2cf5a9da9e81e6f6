"""Rationales that exist already: matched by id, text or place, read as they are read by hand, counted, never mixed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import SMALL, files, molsaki, recipe
from hand_count import REASONS
from hypothesis import given
from hypothesis import strategies as st

from molsaki.config.load import override
from molsaki.data import load_palm_completions, load_problems
from molsaki.data.row_files import read_rows
from molsaki.errors import DataError
from molsaki.records import Problem, hash_text
from molsaki.stages.check import prepare_values
from molsaki.stages.generate import import_rationales, read_rationales
from molsaki.stages.import_rationales import (
    OTHER_CHOICES,
    SECOND,
    UNKNOWN,
    completion_columns,
    count_palm,
    match_completions,
)
from molsaki.store.row_log import RowLog
from molsaki.store.run_directory import RunDirectory

SETS = {"svamp-dss": ("svamp/dss", 1000), "commonsenseqa-dss": ("cqa/dss", 10962)}
# What molsaki import --count prints, and docs/experiments.md has.
COUNTS = {
    "svamp-dss": {
        "right": 750,
        "wrong answer": 211,
        "unparsable": 16,
        "no answer": 13,
        "ambiguous": 7,
        "cut off": 3,
    },
    "commonsenseqa-dss": {"right": 8300, "wrong answer": 2336, "ambiguous": 323, "unparsable": 3},
}
PROBLEMS = [Problem(f"train/{i}", f"What is {i} and 1?", str(i + 1), f"( {i} + 1 )") for i in range(4)]
BY_ID = {"completion": "completion", "id": "id"}
IMPORTING = {**SMALL, "rationales": {"source": "imported"}, "teacher": {"reader": {"name": "pocket:teacher"}}}


@pytest.fixture(scope="module")
def palm(shared_data: Path) -> dict[str, tuple[dict[str, str], list[Problem]]]:
    """PaLM's completions and their problems, both splits of both data sets."""
    found = {}
    for source, (folder, _) in SETS.items():
        raw: dict[str, str] = {}
        problems: list[Problem] = []
        for split in ("train", "test"):
            raw |= load_palm_completions(source, shared_data / folder, split)
            problems += load_problems(source, path=shared_data / folder, split=split).problems
        found[source] = raw, problems
    return found


def match(rows: Any, columns: dict[str, Any] = BY_ID, problems: list[Problem] = PROBLEMS) -> Any:
    return match_completions(rows, completion_columns(columns), problems, "here")


# ---- PaLM's completions ----


@pytest.mark.shared_data
def test_the_import_agrees_with_a_count_by_hand_of_a_hundred_rows(palm: Any, tmp_path: Path) -> None:
    expected = {row_id: (text, reason) for row_id, text, reason in (x.split(" ", 2) for x in REASONS.split("\n") if x)}
    assert len(expected) == 100
    for source, (raw, problems) in palm.items():
        chosen = [problem for problem in problems if problem.id in expected]
        assert len(chosen) == 50
        log = RowLog(tmp_path / f"{source}.jsonl")
        report = import_rationales({p.id: raw[p.id] for p in chosen}, chosen, log)
        assert report.problems == 50
        for row in log.rows():
            text, reason = expected[row["id"]]
            assert hash_text(row["output"]) == text, "another completion is in this row"
            assert (row["id"], row["reason"]) == (row["id"], reason)
        for kept in read_rationales(log, chosen):
            text = raw[kept.problem.id].split("So the answer is" if kept.problem.choices else "The answer is")[0]
            assert kept.rationale == text.strip()


@pytest.mark.shared_data
@pytest.mark.parametrize("source", SETS)
def test_every_row_has_its_reason(source: str, palm: Any, tmp_path: Path) -> None:
    raw, problems = palm[source]
    report = import_rationales(raw, problems, RowLog(tmp_path / "log.jsonl"))
    assert len(raw) == report.problems == SETS[source][1]
    assert report.reasons == COUNTS[source]


# ---- rows of any tool ----


def test_ids_are_whole_or_without_the_name_of_the_set() -> None:
    rows = [{"id": "train/0", "completion": "one"}, {"id": 1, "completion": "two"}, {"id": "3", "completion": " four "}]
    found, report = match(rows)
    assert found == {"train/0": "one", "train/1": "two", "train/3": "four"}
    assert (report.read, report.kept) == (3, 3)


def test_a_short_id_of_two_problems_matches_neither() -> None:
    twins = [PROBLEMS[0], Problem("other/0", "What is 0?", "0", "0")]
    rows = [{"id": "0", "completion": "whose?"}, {"id": "other/0", "completion": "mine"}]
    found, report = match(rows, problems=twins)
    assert found == {"other/0": "mine"}
    assert report.skipped == {UNKNOWN: 1}


def test_questions_match_by_unique_text() -> None:
    twins = [*PROBLEMS, Problem("train/9", PROBLEMS[0].question, "9", "9")]
    rows = [{"q": f" {PROBLEMS[2].question}\n", "t": "three"}, {"q": "What is 0 and 1?", "t": "whose?"}]
    found, report = match(rows, {"completion": "t", "question": "q"}, twins[1:4] + twins[:1] + twins[4:])
    assert found["train/2"] == "three"
    assert report.read == 2


def test_an_invalid_row_is_counted_and_others_are_kept() -> None:
    rows = [
        "no object",
        {"id": "0"},
        {"id": "0", "completion": 7},
        {"id": "0", "completion": "  "},
        {"id": "0", "completion": "x" * 100_001},
        {"id": "0", "completion": "\ud800"},
        {"completion": "nobody's"},
        {"id": "99", "completion": "of another"},
        {"id": "0", "completion": "first"},
        {"id": "train/0", "completion": "second"},
    ]
    found, report = match(rows)
    assert found == {"train/0": "first"}
    assert (report.read, report.kept, sum(report.skipped.values())) == (10, 1, 9)
    assert report.skipped[SECOND] == report.skipped[UNKNOWN] == 1


def test_a_file_without_a_completion_says_which_columns_it_has() -> None:
    with pytest.raises(DataError, match=r"'completion' \(completion\)\. .* names there are row, output"):
        match([{"row": "0", "output": "one"}])
    with pytest.raises(DataError, match="did you mean 'id'"):
        match([{"id": "0", "completion": "one"}], {"completion": "completion", "id": "idd"})
    with pytest.raises(DataError, match=r"ids look like 'train/0'.*rationales\.columns.*--completion"):
        match([{"id": "none", "completion": "one"}])


CHOOSE = [Problem("sets/0", "Where do fish live?", "sea", "sea", ("sea", "sky"))]


def test_chats_and_choices_written_into_the_question_are_matched() -> None:
    columns = {"completion": "turns[gpt]", "question": "turns[human]", "choices": "turns[human]"}
    asked = "Q: Where do fish  live? Answer choices: A: sea, B: sky"

    def row(question: str) -> dict[str, Any]:
        return {"turns": [{"from": "human", "value": question}, {"from": "gpt", "value": "The answer is A"}]}

    found, report = match([row(asked)], columns, CHOOSE)
    assert found == {"sets/0": "The answer is A"}
    with pytest.raises(DataError, match="its choices are not those of the problem"):
        match([row(asked.replace("A: sea, B: sky", "A: sky, B: sea"))], columns, CHOOSE)
    found, report = match([row(asked), row("Where do birds live? A: sea, B: sky"), row("Why?")], columns, CHOOSE)
    assert sum(report.skipped.values()) == 2
    assert OTHER_CHOICES not in report.skipped


@pytest.mark.parametrize(
    ("columns", "wrong"),
    [
        ({"completion": "c"}, "'id' .or 'question'. is missing"),
        ({"id": "i"}, "'completion' is missing"),
        ({**BY_ID, "question": "q"}, "'id' and 'question' are both there"),
        ({**BY_ID, "choices": "c"}, "'choices' needs the column of 'question'"),
        ({**BY_ID, "answer": "c"}, "'answer' is not part of a row"),
        ({**BY_ID, "delimiter": 5}, "'delimiter' is not text"),
    ],
)
def test_a_wrong_mapping_of_completions_is_refused(columns: dict[str, Any], wrong: str) -> None:
    with pytest.raises(DataError, match=wrong):
        completion_columns(columns)


@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["id", "completion", "x"]), st.text() | st.integers() | st.none()))
)
def test_all_rows_are_counted(rows: list[Any]) -> None:
    try:
        found, report = match(rows)
    except DataError:
        return
    assert report.read == len(rows)
    assert len(found) == report.kept
    assert set(found) <= {problem.id for problem in PROBLEMS}


# ---- the command ----


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A recipe that imports, the directory of its run, and a tool's file for half of its problems and for others."""
    path, out = recipe(tmp_path, base=IMPORTING), tmp_path / "run"
    problems = load_problems("pocket-math", split="train", limit=8).problems
    rows = [{"name": p.id, "text": f"So it is. The answer is {p.label}."} for p in problems[:4]]
    rows[3]["text"] = "So it is. The answer is 123456."
    lines = [json.dumps(row) for row in [*rows, {"name": "nobody", "text": "The answer is 1."}]]
    (tmp_path / "tool.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path, out, tmp_path / "tool.jsonl"


def bring(path: Path, out: Path, *more: str | Path) -> Any:
    return molsaki("import", path, *more, "--out", out, "--id", "name", "--completion", "text")


def test_the_command_prints_counts_by_reason(written: tuple[Path, Path, Path]) -> None:
    path, out, tool = written
    shown = bring(path, out, tool)
    assert shown.code == 0, shown.error
    for line in ("no completion │ 4 │ 50.0 %", "right │ 3 │ 37.5 %", "wrong answer │ 1 │ 12.5 %", "all │ 8 │ 100.0 %"):
        assert line in shown.text
    assert f"rows of the file: {UNKNOWN}: 1" in shown.text
    before = files(out)
    again = bring(path, out, tool)
    assert again.code == 0, again.error
    assert files(out) == before
    assert molsaki("generate", path, "--out", out).code == 0, "the stage counts as done"


def from_file(path: Path, **columns: str) -> str:
    """A recipe whose rationales are those of a file, as a file of its own."""
    rationales = {"source": "file", "path": str(path), "columns": columns}
    return str(recipe(path.parent / "from-file", base={**IMPORTING, "rationales": rationales}))


def test_a_recipe_that_names_the_file_needs_no_import(written: tuple[Path, Path, Path]) -> None:
    _, out, tool = written
    named = from_file(tool, completion="text", id="name")
    shown = molsaki("generate", named, "--out", out)
    assert shown.code == 0, shown.error
    assert "right: 3" in shown.text
    assert f"rows of the file: {UNKNOWN}: 1" in shown.text
    before = files(out)
    assert molsaki("generate", named, "--out", out).code == 0
    assert files(out) == before
    (out / "stages/generate.json").unlink()
    rest = (out / "rationales.jsonl").read_bytes().splitlines(keepends=True)[:5]
    (out / "rationales.jsonl").write_bytes(b"".join(rest))
    tool.write_text(tool.read_text(encoding="utf-8").replace("So", "Now"), encoding="utf-8")
    changed = molsaki("generate", named, "--out", out)
    assert changed.code == 2, "the file changed under a run that has some of its rows"
    assert "Two sources would be mixed" in changed.error
    tool.write_text(tool.read_text(encoding="utf-8").replace("Now", "So"), encoding="utf-8")
    assert molsaki("generate", named, "--out", out).code == 0
    made_again = ("stages/", "costs/")
    assert {path: data for path, data in files(out).items() if not path.startswith(made_again)} == {
        path: data for path, data in before.items() if not path.startswith(made_again)
    }


def test_a_recipe_that_names_a_file_wrongly_is_refused_before_it_runs(written: tuple[Path, Path, Path]) -> None:
    _, out, tool = written
    shown = molsaki("generate", from_file(tool.with_name("none.jsonl"), complition="said", id="name"), "--out", out)
    assert shown.code == 2
    assert "rationales.path: expected a file" in shown.error
    assert "'completion' is" in shown.error
    assert not out.exists()
    shown = molsaki("generate", from_file(tool, completion="txet", id="name"), "--out", out)
    assert "did you mean 'text'" in shown.error


def test_import_takes_the_columns_of_the_recipe(written: tuple[Path, Path, Path]) -> None:
    _, out, tool = written
    named = from_file(tool, completion="text", id="name")
    shown = molsaki("import", named, tool, "--out", out)
    assert shown.code == 0, shown.error
    assert "right │ 3" in shown.text
    for options, columns in {
        ("--id", "name"): {"completion": "text", "question": "none"},
        ("--completion", "text"): {"completion": "none", "id": "name"},
    }.items():
        shown = molsaki("import", from_file(tool, **columns), tool, *options, "--out", out, "--overwrite")
        assert "right │ 3" in shown.text, "an option replaces the column of the recipe, and no other"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["FILE", "--id", "name", "--question", "q"], "--question"),
        (["--id", "name"], "--id"),
        (["--count", "--completion", "text"], "--completion"),
        (["FILE", "--count"], "FILE"),
        (["FILE", "--id", ""], "'id'"),
    ],
)
def test_options_without_effect_are_refused(written: tuple[Path, Path, Path], options: list[str], named: str) -> None:
    path, out, tool = written
    shown = molsaki("import", path, *[str(tool) if option == "FILE" else option for option in options], "--out", out)
    assert shown.code == 2
    assert named in shown.error
    assert not out.exists()


def test_two_sources_are_never_mixed(written: tuple[Path, Path, Path]) -> None:
    path, out, tool = written
    assert bring(path, out, tool).code == 0
    before = files(out)
    other = tool.with_name("other.jsonl")
    other.write_text(tool.read_text(encoding="utf-8").replace("So", "Now"), encoding="utf-8")
    shown = bring(path, out, other)
    assert shown.code == 2
    assert str(out) in shown.error
    assert files(out) == before


def test_generate_refuses_a_recipe_that_imports(written: tuple[Path, Path, Path]) -> None:
    path, out, _ = written
    shown = molsaki("generate", path, "--out", out)
    assert shown.code == 2
    assert "`molsaki import`" in shown.error


def test_a_truncated_file_is_refused_and_leaves_no_row(written: tuple[Path, Path, Path]) -> None:
    path, out, tool = written
    tool.write_bytes(tool.read_bytes()[:-20])
    shown = bring(path, out, tool)
    assert shown.code == 2
    assert tool.name in shown.error
    assert not (out / "rationales.jsonl").exists()


def test_a_corrected_file_can_be_imported_into_the_same_run(
    written: tuple[Path, Path, Path],
) -> None:
    path, out, tool = written
    whole = tool.read_bytes()
    for spoilt in (whole[:-20], whole.replace(b'"name"', b'"who"')):
        tool.write_bytes(spoilt)
        assert bring(path, out, tool).code == 2
        assert not (out / "imported.json").exists()
    tool.write_bytes(whole)
    # An earlier version wrote this file before it read the completions.
    (out / "imported.json").write_text('{"from": "sha256:0"}', encoding="utf-8")
    shown = bring(path, out, tool)
    assert shown.code == 0, shown.error
    assert "right │ 3" in shown.text


def test_a_teacher_does_not_continue_a_killed_import(written: tuple[Path, Path, Path], tmp_path: Path) -> None:
    path = recipe(tmp_path / "teacher")
    _, out, tool = written
    assert bring(path, out, tool).code == 0
    done = (out / "rationales.jsonl").read_bytes()
    cut = b"".join(done.splitlines(keepends=True)[:5])
    # Rows lost after the stage had finished, and a kill before it: the teacher must write neither.
    for finished in (True, False):
        (out / "rationales.jsonl").write_bytes(cut)
        if not finished:
            (out / "stages/generate.json").unlink()
        for command in ("generate", "run"):
            shown = molsaki(command, path, "--out", out)
            assert shown.code == 2
            assert "`molsaki import`" in shown.error
            assert (out / "rationales.jsonl").read_bytes() == cut
        assert not (out / "completions.jsonl").exists()
        assert bring(path, out, tool).code == 0
        assert (out / "rationales.jsonl").read_bytes() == done
        assert json.loads((out / "stages/generate.json").read_text(encoding="utf-8"))["unanswered"] == 0
    assert molsaki("generate", path, "--out", out).code == 0


def test_a_killed_import_continues_to_the_same_rows(
    written: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, tool = written
    assert bring(path, out.with_name("undisturbed"), tool).code == 0
    monkeypatch.setattr("molsaki.stages.generate.ROWS_PER_WRITE", 3)
    append = RowLog.append

    class Killed(BaseException):
        """Like a kill: no handler of ours runs."""

    def append_twice(log: RowLog, rows: Any) -> None:
        if sum(1 for _ in log.rows()) == 6:
            with log.path.open("ab") as file:
                file.write(b'{"id": "cut in the mid')
            raise Killed
        append(log, rows)

    monkeypatch.setattr(RowLog, "append", append_twice)
    with pytest.raises(Killed):
        bring(path, out, tool)
    monkeypatch.setattr(RowLog, "append", append)
    shown = bring(path, out, tool)
    assert shown.code == 0, shown.error
    expected = (out.with_name("undisturbed") / "rationales.jsonl").read_bytes()
    assert (out / "rationales.jsonl").read_bytes() == expected


def test_a_second_process_is_refused(written: tuple[Path, Path, Path]) -> None:
    path, out, tool = written
    assert bring(path, out, tool).code == 0
    shutil.rmtree(out / "stages")
    (out / "rationales.jsonl").unlink()
    with RunDirectory(out).lock():
        shown = bring(path, out, tool)
    assert shown.code == 2
    assert str(out) in shown.error
    assert not (out / "rationales.jsonl").exists()


JOINED = {
    # Of the 800 training problems of SVAMP and the 7473 of GSM8K, 9741 of CommonsenseQA: how many a file has.
    "SVAMP_llama_level3_ranked.json": ("svamp-dss", "svamp/dss", 564, 136),
    "SVAMP_gemini_level3_ranked.json": ("svamp-dss", "svamp/dss", 564, 136),
    "SVAMP_ChatGPT_level3_ranked.json": ("svamp-dss", "svamp/dss", 564, 135),
    "gsm8k_llama_level2_ranked.json": ("gsm8k", "gsm8k", 7439, 3),
    "csqa_llama_level2_ranked.json": ("commonsenseqa", "cqa", 9732, 0),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", JOINED)
def test_rationales_without_answers_are_joined_by_the_question(name: str, shared_data: Path) -> None:
    source, folder, matched, others = JOINED[name]
    problems = list(load_problems(source, shared_data / folder, split="train").problems)
    columns = {"completion": "output", "question": "instruction"}
    if source == "commonsenseqa":
        columns["choices"] = "instruction"
    found, report = match(read_rows(shared_data / "eit" / name), columns, problems)
    assert (len(found), sum(report.skipped.values())) == (matched, others)
    if source != "commonsenseqa":
        assert report.skipped == {UNKNOWN: others}, "test problems, which may not be trained on, are among these"


@pytest.mark.shared_data
def test_palms_rows_are_counted_from_a_file_as_from_its_folder(shared_data: Path) -> None:
    def counted(path: str) -> dict[str, dict[str, int]]:
        train = f"{{source: svamp-dss, path: {path}, split: train}}"
        settings = [f"data.train={train}", f"data.root={shared_data}", "rationales.source=palm"]
        recipe = prepare_values(override(SMALL, [*settings, "teacher={reader: {name: 'pocket:teacher'}}"]))
        return {split: dict(report.reasons) for split, report in count_palm(recipe).items()}

    assert counted("svamp/dss/svamp_train.json") == counted("svamp/dss")
