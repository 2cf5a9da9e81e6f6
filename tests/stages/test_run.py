"""A recipe from its first stage to its results, stopped, repeated and mixed up in every way that loses work."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from commands import SMALL, Shown, files, molsaki, recipe, run, start, stop_when
from transformers import AutoModelForCausalLM, AutoTokenizer

from molsaki.evaluation.score import Prediction
from molsaki.stages import pipeline
from molsaki.stages.check import open_workspace, prepare_recipe
from molsaki.stages.data import IN_TEST_SET, IN_VALIDATION, load_sets, scored_problems
from molsaki.store.run_directory import RunDirectory

METHODS = ("label-only", "dss", "molsaki")
TESTS = ("in-domain", "chains")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Shown]:
    """A finished run: its recipe, its directory and what it showed."""
    folder = tmp_path_factory.mktemp("finished")
    path = recipe(folder)
    shown = run(path, folder / "run")
    assert shown.code == 0, shown.error
    return path, folder / "run", shown


@pytest.fixture
def finished(world: tuple[Path, Path, Shown], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the finished run, to spoil."""
    shutil.copytree(world[1], tmp_path / "run")
    return world[0], tmp_path / "run"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def predictions(run_folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(run_folder).items() if name.startswith("predictions/")}


# ---- what a run leaves ----


def test_results_have_a_row_for_each_task_set_method_and_seed(world: tuple[Path, Path, Shown]) -> None:
    results = json.loads((world[1] / "results.json").read_text(encoding="utf-8"))
    assert len(results) == len(METHODS) * len(TESTS)
    columns = (
        "task",
        "split",
        "method",
        "seed",
        "correct",
        "n",
        "accuracy",
        "router_collapsed_at",
        "terms",
        "compared_tokens",
    )
    assert {tuple(row) for row in results} == {columns}
    assert {(row["split"], row["method"], row["seed"]) for row in results} == {
        (test, method, 1) for test in TESTS for method in METHODS
    }
    for row in results:
        kept = [Prediction.from_dict(p) for p in rows(world[1] / f"predictions/{row['method']}-1/{row['split']}.jsonl")]
        assert (row["task"], row["n"]) == ("pocket-math", 8)
        assert row["correct"] == sum(p.correct for p in kept)
        assert row["accuracy"] == row["correct"] / row["n"]
        assert len({p.id for p in kept}) == 8


def test_a_run_prints_its_stages_and_tables(world: tuple[Path, Path, Shown]) -> None:
    text = world[2].text
    assert "small: label-only, dss, molsaki × 1 seed" in text
    assert "rationales: " in text
    assert " of 8 kept" in text
    assert "layers" in text
    for method in METHODS:
        assert f"{method}, seed 1: trained in" in text
    for heading in ("method", *TESTS, "molsaki − dss"):
        assert heading in text
    assert "\x1b" not in world[2].out, "no control characters in a file"


def test_a_run_records_versions_and_fingerprints(world: tuple[Path, Path, Shown]) -> None:
    manifest = json.loads((world[1] / "manifest.json").read_text(encoding="utf-8"))
    assert {"python", "torch", "transformers", "molsaki", "tokenizers"} <= set(manifest["versions"])
    attend = json.loads((world[1] / "stages/attend.json").read_text(encoding="utf-8"))
    assert list(attend["signals"]) == ["steps"]
    read = attend["signals"]["steps"]
    assert {"signal", "teacher", "prompt", "keys", "span rules", "weights", "tokenizer"} <= set(read["fingerprint"])
    assert read["row"] == "4 layers"


def test_every_student_is_a_plain_model_directory(world: tuple[Path, Path, Shown]) -> None:
    for method in METHODS:
        folder = world[1] / "students" / f"{method}-1"
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        first = rows(world[1] / "data/in-domain.jsonl")[0]
        ids = tokenizer(f"predict: {first['question']}\n", return_tensors="pt")
        model.generation_config.max_new_tokens = SMALL["evaluation"]["max_new_tokens"]
        written = tokenizer.decode(model.generate(**ids)[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        kept = rows(world[1] / f"predictions/{method}-1/in-domain.jsonl")[0]
        assert (kept["id"], kept["output"].strip()) == (first["id"], written.strip())
        assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= {
            path.name for path in folder.iterdir()
        }
    left = [name for name in files(world[1]) if ".training" in name or ".saving" in name or "unfinished" in name]
    assert not left, "no temporary files are left"


# ---- again ----


def test_a_second_run_does_nothing(finished: tuple[Path, Path]) -> None:
    path, out = finished
    before = files(out)
    written = {name: (out / name).stat().st_mtime_ns for name in before}
    shown = run(path, out)
    assert shown.code == 0, shown.error
    assert "students: 3 already trained and tested" in shown.text
    assert "trained in" not in shown.text
    assert files(out) == before
    again = {name for name in before if (out / name).stat().st_mtime_ns != written[name]}
    assert again <= {"results.json", "scores.json"}, "only the results are rewritten"


def test_stage_by_stage_equals_a_run(world: tuple[Path, Path, Shown], tmp_path: Path) -> None:
    for stage in ("generate", "attend", "train", "evaluate"):
        shown = run(world[0], tmp_path / "run", command=stage)
        assert shown.code == 0, shown.error
    assert predictions(tmp_path / "run") == predictions(world[1])
    assert (tmp_path / "run/results.json").read_bytes() == (world[1] / "results.json").read_bytes()


def test_a_stage_names_the_missing_one_before_it(world: tuple[Path, Path, Shown], tmp_path: Path) -> None:
    for stage, wanted in (("attend", "generate"), ("train", "generate"), ("evaluate", "train")):
        shown = run(world[0], tmp_path / "run", command=stage)
        assert shown.code == 2
        assert f"`molsaki {wanted}`" in shown.error


def test_only_missing_students_and_predictions_are_made(
    finished: tuple[Path, Path], world: tuple[Path, Path, Shown]
) -> None:
    path, out = finished
    shutil.rmtree(out / "students/dss-1")
    (out / "predictions/dss-1/in-domain.jsonl").unlink()
    (out / "predictions/dss-1/chains.jsonl").unlink()
    (out / "predictions/molsaki-1/chains.jsonl").unlink()
    shown = run(path, out)
    assert "dss, seed 1: trained in" in shown.text
    assert "molsaki, seed 1: trained earlier" in shown.text
    assert "students: 1 already" in shown.text
    assert predictions(out) == predictions(world[1])


# ---- directories of other runs ----


def test_the_directory_of_another_recipe_is_refused_with_both_values(finished: tuple[Path, Path]) -> None:
    path, out = finished
    before = files(out)
    shown = run(path, out, "--set", "training.steps=7", "--set", "teacher.writer.dtype=bfloat16")
    assert shown.code == 2
    assert re.search(r"training\.steps.*\b6\b.*\b7\b", shown.error)
    assert re.search(r"teacher\.writer\.dtype.*float32.*bfloat16", shown.error)
    assert files(out) == before


def test_only_overwrite_starts_over(finished: tuple[Path, Path]) -> None:
    path, out = finished
    shown = run(path, out, "--overwrite", "--set", "data.train.limit=4", command="generate")
    assert shown.code == 0, shown.error
    assert len(rows(out / "rationales.jsonl")) == 4
    assert not (out / "students").exists()


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_directory_without_a_run_is_never_changed(
    world: tuple[Path, Path, Shown], more: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    shown = run(world[0], tmp_path, *more)
    assert shown.code == 2
    assert "Traceback" not in shown.error
    assert files(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_locked_directory_is_refused(finished: tuple[Path, Path]) -> None:
    path, out = finished
    before = files(out)
    with RunDirectory(out).lock():
        shown = run(path, out)
    assert shown.code == 2
    assert f"process {os.getpid()}" in shown.error
    assert files(out) == before
    assert run(path, out).code == 0, "the lock goes with who held it"


# ---- data that is not as it should be ----

TABLE = "{source: table, path: train.jsonl, columns: {question: q, answer: a, rationale: why}}"
ROWS = [
    {"q": "Ada has 3 pens. She buys 4 more. How many pens does she have?", "a": "7", "why": "She has 3 and 4 come."},
    {"q": "Ben has 9 nuts. He eats 2 nuts. How many nuts are left?", "a": 7, "why": "There were 9. He ate 2."},
    {"q": "Cal has 5 hats. He loses 1 hat. How many hats are left?", "a": "4", "why": "There were 5. He lost 1."},
]


def own_data(folder: Path, lines: list[str]) -> Path:
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    where = (f"data.train={TABLE}", f"data.root={folder}", "rationales.source=dataset")
    return recipe(folder, *where, "teacher={reader: {name: pocket:teacher}}", "methods=[dss]", "training.steps=2")


def test_a_truncated_data_file_is_refused_and_can_be_corrected(tmp_path: Path) -> None:
    whole = [json.dumps(row) for row in ROWS]
    path = own_data(tmp_path, [*whole[:2], whole[2][:40]])
    shown = run(path, tmp_path / "run")
    assert shown.code == 2
    assert "train.jsonl" in shown.error
    assert set(files(tmp_path / "run")) <= {"manifest.json", "recipe.yaml", "data/in-domain.jsonl", "data/chains.jsonl"}
    own_data(tmp_path, whole)
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    assert len(rows(tmp_path / "run/data/train.jsonl")) == 3


def test_rows_without_an_answer_or_a_rationale_are_counted_with_their_reasons(tmp_path: Path) -> None:
    bad = [{"q": "How many?", "a": None, "why": "No idea."}, {"q": "How much?", "a": "many", "why": "No idea."}]
    empty = {"q": "Dan has 8 maps and 2 pins. How many maps?", "a": "8", "why": "   "}
    path = own_data(tmp_path, [json.dumps(row) for row in (*ROWS, *bad, empty)])
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    manifest = json.loads((tmp_path / "run/stages/data.json").read_text(encoding="utf-8"))["train"]
    assert (manifest["read"], manifest["kept"], sum(manifest["skipped"].values())) == (6, 4, 2)
    for reason in manifest["skipped"]:
        assert reason in shown.text
    assert "rationales: 3 of 4 kept" in shown.text
    assert "empty rationale: 1" in shown.text


def test_no_training_examples_is_an_error(tmp_path: Path) -> None:
    path = own_data(tmp_path, [json.dumps({**row, "why": ""}) for row in ROWS])
    shown = run(path, tmp_path / "run")
    assert shown.code == 2
    assert "rationale" in shown.error


@pytest.mark.parametrize(
    ("setting", "name", "reason"),
    [("data.tests.leak", "leak", IN_TEST_SET), ("data.validation", "validation", IN_VALIDATION)],
    ids=["test", "validation"],
)
def test_a_training_problem_in_another_set_is_left_out(setting: str, name: str, reason: str, tmp_path: Path) -> None:
    path = own_data(tmp_path, [json.dumps(row) for row in ROWS])
    (tmp_path / "some.jsonl").write_text(json.dumps({**ROWS[0], "q": ROWS[0]["q"].upper()}) + "\n", encoding="utf-8")
    table = TABLE.replace("train.jsonl", "some.jsonl")
    shown = run(path, tmp_path / "run", "--set", f"{setting}={table}", command="generate")
    assert shown.code == 0, shown.error
    assert len(rows(tmp_path / "run/data/train.jsonl")) == 2
    assert len(rows(tmp_path / f"run/data/{name}.jsonl")) == 1
    assert reason in shown.text


def test_a_text_that_is_held_out_for_validation_is_trained_on_nowhere(tmp_path: Path) -> None:
    """A data set may have a text twice."""
    path = own_data(tmp_path, [json.dumps(row) for row in (*ROWS, *ROWS)])
    shown = run(path, tmp_path / "run", "--set", "data.validation_rows=1", command="generate")
    assert shown.code == 0, shown.error
    trained, (held_out,) = (rows(tmp_path / f"run/data/{name}.jsonl") for name in ("train", "validation"))
    assert len(trained) == 4
    assert held_out["question"] not in {row["question"] for row in trained}
    assert IN_VALIDATION in shown.text


def test_studies_know_the_validation_problems_that_a_run_sets_aside(tmp_path: Path) -> None:
    """Test problems among the training ones are removed before any is set aside."""
    path = own_data(tmp_path, [json.dumps(row) for row in ROWS])
    leaks = [json.dumps({**row, "q": row["q"].upper()}) + "\n" for row in ROWS]
    for leak in leaks:
        (tmp_path / "test.jsonl").write_text(leak, encoding="utf-8")
        settings = [f"data.tests.leak={TABLE.replace('train.jsonl', 'test.jsonl')}", "data.validation_rows=1"]
        workspace = open_workspace(prepare_recipe(str(path), settings=settings), tmp_path / f"run-{leaks.index(leak)}")
        load_sets(workspace)
        prepared = prepare_recipe(str(path), settings=[*settings, "evaluation.on=validation"])
        assert scored_problems(prepared) == workspace.read_problems("validation")


def test_a_validation_set_of_all_training_problems_is_refused(tmp_path: Path) -> None:
    path = own_data(tmp_path, [json.dumps(row) for row in ROWS])
    shown = run(path, tmp_path / "run", "--set", f"data.validation={TABLE}", command="generate")
    assert shown.code == 2
    assert IN_VALIDATION in " ".join(shown.error.split())


# ---- artefacts of something else ----


def test_attention_from_another_prompt_is_refused(world: tuple[Path, Path, Shown], tmp_path: Path) -> None:
    path, out = recipe(tmp_path, "prompts.teacher='Question: {question}\nAnswer: {rationale}'"), tmp_path / "run"
    assert run(path, out, command="generate").code == 0
    shutil.copytree(world[1] / "attention", out / "attention")
    shown = run(path, out, command="attend")
    assert shown.code == 2
    assert "prompt: " in shown.error
    shutil.copy(world[1] / "stages/attend.json", out / "stages/attend.json")
    shown = run(path, out, command="train")
    assert shown.code == 2
    assert "prompt: " in shown.error
    assert not (out / "students/molsaki-1").exists()


def test_rationales_of_other_questions_are_refused(finished: tuple[Path, Path]) -> None:
    path, out = finished
    kept = rows(out / "rationales.jsonl")
    kept[0]["text_hash"] = "0" * 16
    (out / "rationales.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    shutil.rmtree(out / "students/dss-1")
    shown = run(path, out)
    assert shown.code == 2
    assert kept[0]["id"] in shown.error


# ---- stopped in the middle ----


def test_ctrl_c_exits_with_a_message(
    world: tuple[Path, Path, Shown], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "generate", interrupt)
    shown = run(world[0], tmp_path / "run")
    assert shown.code == 130
    assert "interrupted" in shown.error
    monkeypatch.undo()
    with RunDirectory(tmp_path / "run").lock():
        pass  # it is free again


def test_an_interrupted_training_continues_to_the_same_student(tmp_path: Path) -> None:
    settings = ("methods=[molsaki]", "baseline=null", "training.steps=30", "training.save_every=5")
    path = recipe(tmp_path, *settings)
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    assert run(path, undisturbed).code == 0
    process = start("run", path, "--out", out, "--workers", "1", "--no-report")
    begun = out / "students/molsaki-1.training/checkpoint-5/trainer_state.json"
    _, error = stop_when(process, begun.exists, signal.SIGINT)
    assert process.returncode == 130, error
    assert "interrupted" in error
    assert not (out / "students/molsaki-1").exists()
    shown = run(path, out)
    assert shown.code == 0, shown.error
    metrics = json.loads((out / "students/molsaki-1/metrics.json").read_text(encoding="utf-8"))
    assert metrics["resumed_from"].startswith("checkpoint-")
    assert predictions(out) == predictions(undisturbed)


def test_a_killed_generation_continues_to_the_same_rows(tmp_path: Path) -> None:
    path = recipe(tmp_path, "data.train.limit=24", "rationales.batch_size=4")
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    assert run(path, undisturbed, command="generate").code == 0
    process = start("generate", path, "--out", out)
    log = out / "rationales.jsonl"
    stop_when(process, lambda: log.exists() and log.stat().st_size > 0, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with log.open("ab") as file:
        file.write(b'{"id": "cut in the mid')
    done = len(log.read_bytes().splitlines()) - 1
    assert 0 < done < 24, "it was killed in the middle"
    shown = run(path, out, command="generate")
    assert shown.code == 0, shown.error
    assert f"({done} from earlier runs)" in shown.text
    by_id = [{row["id"]: row for row in rows(folder / "rationales.jsonl")} for folder in (undisturbed, out)]
    assert by_id[0] == by_id[1]


# ---- no space left ----


def limit_file_size(n: int) -> None:
    """What a full disk looks like to a process: no file may grow beyond n bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, n))


@pytest.mark.parametrize("space", [3_000, 600_000])
def test_a_full_disk_is_an_error_and_the_run_continues_later(
    space: int, world: tuple[Path, Path, Shown], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(
        "run", world[0], "--out", out, "--workers", "1", "--no-report", before=lambda: limit_file_size(space)
    )
    try:
        _, error = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 2, error
    assert "Traceback" not in error
    assert "space" in error
    for name, data in files(out).items():
        if name.endswith(".json"):
            json.loads(data)
    shown = run(world[0], out)
    assert shown.code == 0, shown.error
    assert predictions(out) == predictions(world[1])


def test_a_row_log_that_cannot_grow_keeps_its_rows(
    world: tuple[Path, Path, Shown], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    path = recipe(tmp_path, "rationales.batch_size=4")
    written = os.write
    room = 2

    def write(descriptor: int, data: Any) -> int:
        nonlocal room
        if b'"output"' in bytes(data):
            room -= 1
            if room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return written(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    shown = run(path, out, command="generate")
    assert shown.code == 2
    assert "rationales.jsonl" in shown.error
    monkeypatch.undo()
    assert len(rows(out / "rationales.jsonl")) == 4, "the first batch is complete, the second is missing"
    shown = run(path, out, command="generate")
    assert "(4 from earlier runs)" in shown.text


# ---- several students at a time, small random models ----


def test_two_students_at_a_time(tmp_path: Path) -> None:
    path = recipe(tmp_path, "methods=[label-only, dss]", "training.steps=3")
    shown = molsaki("run", path, "--out", tmp_path / "run", "--workers", "2", "--no-report")
    assert shown.code == 0, shown.error
    assert len(predictions(tmp_path / "run")) == 4


def test_tiny_runs_the_pocket_recipe_end_to_end(tmp_path: Path) -> None:
    small = ("--set", "training.steps=2", "--set", "evaluation.rows=4", "--set", "data.train.limit=6")
    for name, report in (("pocket", "--no-report"), ("pocket-commonsense", "--report")):
        shown = molsaki("run", name, "--tiny", "--out", tmp_path / name, "--workers", "1", report, *small)
        assert shown.code == 0, shown.error
        assert "--tiny" in shown.text
        assert (tmp_path / name / "report.html").is_file() == (report == "--report")


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("svamp-palm", {"train": (800, None), "singleeq": (508, 508), "asdiv": (2305, 2093), "gsm8k": (1319, 1319)}),
        ("csqa-palm", {"train": (9741, None), "commonsenseqa": (1221, 1221)}),
    ],
)
def test_tiny_runs_the_palm_recipes_on_the_real_rows(
    name: str, counts: dict[str, tuple[int, int | None]], shared_data: Path, tmp_path: Path
) -> None:
    small = ("--set", "training.steps=2", "--set", "evaluation.rows=4", "--set", "methods=[dss]")
    options = ("--tiny", "--data", shared_data, "--out", tmp_path / "run", "--workers", "1", "--no-report")
    shown = molsaki("run", name, *options, *small)
    assert shown.code == 0, shown.error
    manifest = json.loads((tmp_path / "run/stages/data.json").read_text(encoding="utf-8"))
    for set_name, (read, kept) in counts.items():
        assert manifest[set_name]["read"] == read
        assert kept is None or manifest[set_name]["kept"] == kept
        assert str(read) in shown.text
