"""What a run has lost after its stages had finished is noticed, and made again by the stage that made it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import Shown, files, recipe, run

from molsaki.errors import ArtefactError
from molsaki.stages import pipeline
from molsaki.stages.workspace import Workspace
from molsaki.store.signal_reader import SignalStore

SETTINGS = (
    "methods=[dss, molsaki, logits]",
    "training.steps=2",
    "data.validation_rows=2",
    "evaluation={max_new_tokens: 6, max_rationale_tokens: 6, explain: true}",
)
EXPLAINED = "in-domain.explain"
"""The name of a test set that an earlier version kept explanations under."""

TEST = "{source: pocket-math, split: %s, limit: 8}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe and a finished run of it."""
    folder = tmp_path_factory.mktemp("lost")
    tests = f"data.tests={{in-domain: {TEST % 'test'}, {EXPLAINED}: {TEST % 'chains'}}}"
    path = recipe(folder, *SETTINGS, tests)
    shown = run(path, folder / "run")
    assert shown.code == 0, shown.error
    return path, folder / "run"


@pytest.fixture
def finished(world: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the finished run, to spoil."""
    shutil.copytree(world[1], tmp_path / "run")
    return world[0], tmp_path / "run"


def keep_lines(path: Path, wanted: int) -> None:
    """Cut a file after some lines, in the middle of the next."""
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) > wanted
    path.write_bytes(b"".join(lines[:wanted]) + lines[wanted][:20])


def contents(folder: Path, *names: str) -> dict[str, bytes]:
    return {name: data for name, data in files(folder).items() if name.startswith(names)}


def error_of(shown: Shown) -> str:
    return " ".join(shown.error.split())


# ---- the teacher's rows ----


def lose_shard(folder: Path) -> None:
    for file in list(folder.glob("shard-*")):
        file.unlink()


@pytest.mark.parametrize(("store", "lose"), [("steps", lose_shard), ("next-tokens", shutil.rmtree)])
def test_lost_rows_of_a_store_are_read_again(
    store: str, lose: Callable[[Path], None], finished: tuple[Path, Path]
) -> None:
    path, out = finished
    folder = out / "attention" / store
    whole = SignalStore(folder)
    expected = {row_id: whole.get(row_id, text) for row_id, text in whole.text_hashes().items()}
    others = contents(out, "attention/next-tokens" if store == "steps" else "attention/steps")
    lose(folder)
    shutil.rmtree(out / "students/molsaki-1")
    shown = run(path, out, command="train")
    assert shown.code == 2
    assert f"{len(expected)} are missing" in error_of(shown)
    assert "`molsaki attend`" in error_of(shown)
    assert not (out / "students/molsaki-1").exists()
    assert run(path, out, command="attend").code == 0
    assert run(path, out, "--check", command="attend").code == 0
    again = SignalStore(folder)
    assert set(again.ids()) == set(expected)
    for row_id, text in again.text_hashes().items():
        for part, tensor in again.get(row_id, text).items():
            torch.testing.assert_close(tensor, expected[row_id][part], atol=1e-6, rtol=1e-6)
    assert contents(out, *others) == others, "what is there is left alone"
    shown = run(path, out, command="train")
    assert shown.code == 0, shown.error
    written = (out / "stages/attend.json").stat().st_mtime_ns
    assert run(path, out, command="attend").code == 0
    assert (out / "stages/attend.json").stat().st_mtime_ns == written, "nothing is read twice"


def test_a_truncated_shard_can_be_deleted_and_read_again(finished: tuple[Path, Path]) -> None:
    path, out = finished
    shard = out / "attention/steps/shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    shutil.rmtree(out / "students/molsaki-1")
    for command in ("attend", "train"):
        shown = run(path, out, command=command)
        assert shown.code == 2
        assert "shard-00000" in error_of(shown)
    lose_shard(out / "attention/steps")
    shown = run(path, out)
    assert shown.code == 0, shown.error
    assert "molsaki, seed 1: trained in" in shown.text


def test_rationales_that_were_added_later_are_read_too(finished: tuple[Path, Path]) -> None:
    path, out = finished
    stage = out / "stages/attend.json"
    manifest = json.loads(stage.read_text(encoding="utf-8"))
    rows = len(SignalStore(out / "attention/steps"))
    fewer = {
        name: {**entry, "read": entry["read"] - 1, "kept": entry["kept"] - 1}
        for name, entry in manifest["signals"].items()
    }
    stage.write_text(json.dumps({"signals": fewer}), encoding="utf-8")
    shown = run(path, out, command="attend")
    assert shown.code == 0, shown.error
    assert json.loads(stage.read_text(encoding="utf-8")) == manifest
    assert len(SignalStore(out / "attention/steps")) == rows


# ---- rationales ----


def test_a_lost_rationale_is_generated_before_training(finished: tuple[Path, Path]) -> None:
    path, out = finished
    before = contents(out, "rationales", "completions", "predictions")
    keep_lines(out / "rationales.jsonl", 5)
    shutil.rmtree(out / "students/dss-1")
    shown = run(path, out, command="train")
    assert shown.code == 2
    assert "1 are missing" in error_of(shown)
    assert "`molsaki generate`" in error_of(shown)
    assert not (out / "students/dss-1").exists()
    stage = out / "stages/generate.json"
    stage.write_text(json.dumps({**json.loads(stage.read_text(encoding="utf-8")), "kept": -1}), encoding="utf-8")
    shown = run(path, out, command="generate")
    assert shown.code == 0, shown.error
    assert "(5 from earlier runs)" in shown.text
    assert json.loads(stage.read_text(encoding="utf-8"))["kept"] > 0, "the manifest is rewritten"
    shutil.rmtree(out / "predictions/dss-1")
    assert run(path, out).code == 0
    assert contents(out, "rationales", "completions", "predictions") == before


def test_a_finished_run_trains_nothing_and_needs_no_rows(finished: tuple[Path, Path]) -> None:
    path, out = finished
    shutil.rmtree(out / "attention")  # users may delete it to save space
    shown = run(path, out, command="train")
    assert shown.code == 0, shown.error


# ---- problems ----


@pytest.mark.parametrize(("name", "all_of_it"), [("train", False), ("validation", False), ("in-domain", True)])
def test_lost_problems_are_counted_and_can_be_loaded_again(
    name: str, all_of_it: bool, finished: tuple[Path, Path]
) -> None:
    path, out = finished
    before = contents(out, "data", "predictions")
    file = out / f"data/{name}.jsonl"
    rows = len(file.read_bytes().splitlines())
    if all_of_it:
        file.unlink()
    else:
        keep_lines(file, rows - 1)
    shutil.rmtree(out / "students/dss-1")
    shutil.rmtree(out / "predictions/dss-1")
    for command in ("generate", "train", "evaluate", "run"):
        shown = run(path, out, command=command)
        assert shown.code == 2
        assert f"{rows} problems of {name!r}" in error_of(shown)
        assert f"{file}; {rows if all_of_it else 1} are missing" in error_of(shown)
    with pytest.raises(ArtefactError, match=f"{name}"):
        Workspace.open(out).read_problems(name)
    file.unlink(missing_ok=True)
    (out / "stages/data.json").unlink()
    assert run(path, out, command="generate").code == 0
    assert run(path, out).code == 0
    assert contents(out, "data", "predictions") == before


# ---- predictions ----


@pytest.mark.parametrize("damage", ["cut", "other text", "doubled", "empty"])
def test_predictions_that_do_not_match_the_set_are_replaced(damage: str, finished: tuple[Path, Path]) -> None:
    path, out = finished
    before = contents(out, "predictions", "results")
    file = out / "predictions/dss-1/in-domain.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    if damage == "other text":
        lines[0] = json.dumps({**json.loads(lines[0]), "text_hash": "0" * 16}) + "\n"
    spoilt = {"cut": lines[:3], "other text": lines, "doubled": [*lines, lines[0]], "empty": []}[damage]
    file.write_text("".join(spoilt), encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"in-domain\.jsonl.*`molsaki evaluate`"):
        pipeline.results(Workspace.open(out))
    shown = run(path, out, command="evaluate")
    assert shown.code == 0, shown.error
    assert "dss, seed 1: trained earlier" in shown.text
    assert "students: 2 already" in shown.text
    assert contents(out, "predictions", "results") == before


def test_explanations_do_not_clash_with_a_set_of_that_name(world: tuple[Path, Path]) -> None:
    out = world[1]
    workspace = Workspace.open(out)
    for name in ("in-domain", EXPLAINED):
        ids = [problem.id for problem in workspace.read_tests(name)]
        assert [row.id for row in workspace.read_predictions("dss", 1, name)] == ids
        kept = (out / f"predictions/dss-1/explanations/{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["id"] for line in kept] == ids
    assert len(list((out / "predictions/dss-1").glob("*.jsonl"))) == 2


def test_a_student_with_truncated_weights_is_an_error(finished: tuple[Path, Path]) -> None:
    path, out = finished
    weights = out / "students/dss-1/model.safetensors"
    shutil.rmtree(out / "predictions/dss-1")
    for size in (-100, 4):
        weights.write_bytes(weights.read_bytes()[:size])
        shown = run(path, out, command="evaluate")
        assert shown.code == 2
        assert str(weights.parent) in error_of(shown)
    shutil.rmtree(weights.parent)
    assert run(path, out).code == 0
