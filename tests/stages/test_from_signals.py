"""A recipe with exported signals trains as the run did that read the teacher, without the teacher."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import SMALL, files, molsaki, recipe, run
from test_exported_signals import edit_json, rows_of, share_a_text, write_rows

from molsaki.data import load_problems
from molsaki.errors import DataError, RecipeError
from molsaki.models.load import tokenizer_at
from molsaki.records import Problem
from molsaki.spans.views import STEPS
from molsaki.stages.check import prepare_recipe
from molsaki.stages.export_signals import ExportForm, export_signals
from molsaki.stages.load_signals import NOT_AMONG
from molsaki.stages.signals import open_store
from molsaki.stages.verify_signals import verify_signals
from molsaki.stages.workspace import Workspace
from molsaki.store.exported_files import write_file_list
from molsaki.store.exported_rows import Export
from molsaki.teacher.filter import FilterResult, check_given

METHODS = "methods=[molsaki, logits]"
FEW = ("training.steps=2", "baseline=null")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reads its teacher and trains."""
    folder = tmp_path_factory.mktemp("trained")
    train(recipe(folder, METHODS, *FEW), folder / "run")
    return folder / "run"


def train(path: Path, out: Path) -> str:
    """Run the stages up to training; returns what they printed."""
    text = ""
    for command in ("generate", "attend", "train"):
        shown = run(path, out, command=command)
        assert shown.code == 0, shown.error
        text += shown.text
    return text


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "out"
    export_signals(trained, folder, ExportForm())
    return folder


def from_signals(folder: Path, exported: Path, *settings: str) -> Path:
    """The same recipe without a teacher."""
    base: dict[str, Any] = {name: value for name, value in SMALL.items() if name != "teacher"}
    base = {**base, "signals": str(exported), "rationales": {"source": "dataset"}}
    base["data"] = {**SMALL["data"], "train": {"source": "signals"}}
    return recipe(folder, METHODS, *FEW, *settings, base=base)


def test_students_are_those_of_the_run_that_read_the_teacher(trained: Path, exported: Path, tmp_path: Path) -> None:
    text = train(from_signals(tmp_path, exported), tmp_path / "run")
    ours, theirs = Workspace.open(trained), Workspace.open(tmp_path / "run")
    assert theirs.read_texts("train")[1] == ours.read_texts("train")[1]
    for label in ("molsaki", "logits"):
        one, other = (
            {name: data for name, data in files(work.student(label, 1)).items() if name.endswith(".safetensors")}
            for work in (ours, theirs)
        )
        assert one == other, label
    assert "exported signals of pocket:teacher" in text
    assert run(tmp_path / "recipe.yaml", tmp_path / "run", "--check", command="attend").code == 0
    assert molsaki("doctor", tmp_path / "recipe.yaml").code == 0
    card = (theirs.student("molsaki", 1) / "README.md").read_text(encoding="utf-8")
    assert "exported signals" in card


def test_a_run_from_signals_can_be_exported_again(exported: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    teacher = {**Export(exported).manifest.teacher, "attention_error": "attention against that of the original: 0.1"}
    edit_json(copy / "signals.json", teacher=teacher)
    write_file_list(copy)
    path = from_signals(tmp_path, copy, "prompts={teacher: 'Look: {question} {rationale}'}")
    for command in ("generate", "attend"):
        assert run(path, tmp_path / "run", command=command).code == 0
    export_signals(tmp_path / "run", tmp_path / "again", ExportForm())
    assert rows_of(tmp_path / "again") == rows_of(exported)
    assert Export(tmp_path / "again").manifest == Export(copy).manifest
    assert {path.name for path in (tmp_path / "again/tokenizer").iterdir()}
    assert verify_signals(tmp_path / "again", tokenizer_at(str(tmp_path / "again/tokenizer"))).ok


def test_hashes_are_joined_to_the_rationales_of_the_recipe(trained: Path, tmp_path: Path) -> None:
    export_signals(trained, tmp_path / "hashed", ExportForm(hashed=True, signals=("steps",), rows=3))
    source = rows_of_run(trained)
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in source), encoding="utf-8")
    columns = "{question: question, answer: answer, label: label, rationale: rationale}"
    path = from_signals(
        tmp_path,
        tmp_path / "hashed",
        "methods=[molsaki]",
        f"data.train={{source: table, path: {tmp_path / 'mine.jsonl'}, columns: {columns}}}",
    )
    for command in ("generate", "attend"):
        shown = run(path, tmp_path / "run", command=command)
        assert shown.code == 0, shown.error
    workspace = Workspace.open(tmp_path / "run")
    entry = workspace.stage("attend")["signals"]["steps"]
    assert (entry["kept"], entry["skipped"]) == (3, {NOT_AMONG: len(source) - 3})
    store = open_store(workspace, STEPS.name)
    _, texts = workspace.read_texts("train")
    for row_id in store.ids():
        found = store.get(row_id, texts[row_id].text_hash)["attention"]
        assert bool(torch.isfinite(found).all())
    (tmp_path / "mine.jsonl").write_text(
        "".join(json.dumps({**row, "rationale": "So " + row["rationale"]}) + "\n" for row in source), encoding="utf-8"
    )
    assert run(path, tmp_path / "other", command="generate").code == 0
    shown = run(path, tmp_path / "other", command="attend")
    assert shown.code == 2
    assert "keys='numbers'" in shown.error
    assert "data.train.source: signals" not in shown.error, "an export with hashes has no rationales to use"
    with pytest.raises(DataError, match="only their hashes"):
        load_problems("signals", tmp_path / "hashed")


def rows_of_run(folder: Path) -> list[dict[str, str]]:
    problems, texts = Workspace.open(folder).read_texts("train")
    return [
        {"question": p.question, "answer": p.answer, "label": p.label, "rationale": texts[p.id].rationale}
        for p in problems
    ]


def test_rows_that_do_not_fit_are_counted_and_the_others_are_used(exported: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    rows = rows_of(copy)
    rows[0]["rationale"] += " So it is 1."
    write_rows(copy, rows)
    path = from_signals(tmp_path, copy, "methods=[molsaki]")
    shown = run(path, tmp_path / "run", command="generate")
    assert shown.code == 0
    assert "the hashes differ" in shown.text
    assert len(Workspace.open(tmp_path / "run").read_texts("train")[0]) == len(rows) - 1


def test_rows_with_the_same_text_keep_their_own_signals(trained: Path, tmp_path: Path) -> None:
    export_signals(trained, tmp_path / "shared", ExportForm(signals=("steps",)))
    first, second, *_ = share_a_text(tmp_path / "shared")
    path = from_signals(tmp_path, tmp_path / "shared", "methods=[molsaki]")
    for command in ("generate", "attend"):
        assert run(path, tmp_path / "run", command=command).code == 0
    workspace = Workspace.open(tmp_path / "run")
    store, (_, texts) = open_store(workspace, STEPS.name), workspace.read_texts("train")
    one, other = (store.get(row_id, texts[row_id].text_hash)["attention"] for row_id in (first, second))
    assert torch.equal(one / 2, other)


def test_signals_of_other_rules_are_refused(exported: Path, tmp_path: Path) -> None:
    path = from_signals(tmp_path, exported, "methods=[molsaki]", "attention.layers=mixed")
    assert run(path, tmp_path / "run", command="generate").code == 0
    shown = run(path, tmp_path / "run", command="attend")
    assert shown.code == 2
    assert "layers" in shown.error
    found = molsaki("doctor", path)
    assert found.code == 1, "what attend refuses is found before"
    assert "layers" in found.text
    copy = shutil.copytree(exported, tmp_path / "copy")
    shutil.rmtree(copy / "attention/next-tokens")
    write_file_list(copy)
    path = from_signals(tmp_path / "other", copy, "methods=[logits]")
    assert run(path, tmp_path / "other/run", command="generate").code == 0
    shown = run(path, tmp_path / "other/run", command="attend")
    assert shown.code == 2
    assert "next-tokens" in shown.error
    assert molsaki("doctor", path).code == 1


def test_a_reader_beside_signals_and_problems_without_signals_are_refused(exported: Path, tmp_path: Path) -> None:
    path = from_signals(tmp_path, exported)
    with pytest.raises(RecipeError, match=r"teacher\.reader"):
        prepare_recipe(str(path), settings=["teacher.reader={name: 'pocket:teacher'}"])
    with pytest.raises(RecipeError, match=r"data\.train\.path"):
        prepare_recipe(str(path), settings=["signals=null", "methods=[dss]"])
    with pytest.raises(RecipeError, match=r"teacher\.reader"):
        prepare_recipe(str(path), settings=["signals=null", f"data.train.path={exported}"])
    shown = run(from_signals(tmp_path, tmp_path / "nothing"), tmp_path / "run", command="generate")
    assert shown.code == 2
    assert "nothing" in shown.error


def test_the_shipped_recipe_runs_in_tiny_form(exported: Path, tmp_path: Path) -> None:
    tests = "data.tests={in-domain: {source: pocket-math, split: test, limit: 4}}"
    settings = [f"signals={exported}", tests, "student={name: 'pocket:student'}", "training.precision=float32"]
    more = [*settings, "training.steps=2", "training.save_every=0", "methods=[molsaki]", "baseline=null"]
    options = [part for setting in more for part in ("--set", setting)]
    shown = molsaki(
        "run", "from-signals", "--tiny", "--out", tmp_path / "run", "--workers", "1", "--no-report", *options,
        "--set", "evaluation.rows=4",
    )  # fmt: skip
    assert shown.code == 0, shown.error
    assert (tmp_path / "run/students/molsaki-1/model.safetensors").is_file()


def test_a_changed_manifest_is_no_way_around_the_rows(exported: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    edit_json(copy / "signals.json", keys="keywords")
    write_file_list(copy)
    with pytest.raises(DataError):
        load_problems("signals", copy)


def test_exported_rationales_are_not_cut_again(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that states its answer twice would lose its attention, which is found by its text."""
    learned = []

    def note(problem: Problem, learn: object) -> FilterResult:
        learned.append(learn)
        return check_given(problem, None)

    monkeypatch.setattr("molsaki.stages.generate.check_given", note)
    assert run(from_signals(tmp_path, exported), tmp_path / "run", command="generate").code == 0
    assert set(learned) == {None}
