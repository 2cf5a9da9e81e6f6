"""Pretrained models on real data, end to end: eight rationales, two steps, four test problems of each set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import molsaki

SMALL = (
    *(
        "data.train.limit=10",
        "data.validation_rows=2",
        "seeds=[1]",
        "evaluation.rows=4",
        "evaluation.max_new_tokens=24",
    ),
    *("training.steps=2", "training.batch_size=4", "training.log_every=1", "training.save_every=0"),
)


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["smollm2-svamp", "smollm2-strategyqa"])
def test_a_recipe_runs_with_pretrained_models(name: str, shared_data: Path, real_models: Path, tmp_path: Path) -> None:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    out = tmp_path / "run"
    places = ("--data", str(shared_data), "--models", str(real_models), "--out", str(out), "--workers", "1")
    shown = molsaki("run", name, *places, *settings)
    assert shown.code == 0, shown.error
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {row["method"] for row in rows} == {"label-only", "dss", "molsaki"}
    assert all(row["n"] == 4 for row in rows)
    assert (out / "report.html").is_file()
    assert "Qwen/Qwen2.5-Coder-1.5B-Instruct" in (out / "recipe.yaml").read_text(encoding="utf-8")


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["smollm2-svamp-llama", "smollm2-gsm8k-llama", "smollm2-csqa", "smollm2-strategyqa"])
def test_the_rationales_of_a_recipe_are_kept(name: str, shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ("--set", "data.train.limit=200", "--set", "data.validation_rows=20")
    shown = molsaki("generate", name, "--data", str(shared_data), "--out", str(out), *settings)
    assert shown.code == 0, shown.error
    manifest = json.loads((out / "stages/generate.json").read_text(encoding="utf-8"))
    assert manifest["problems"] == 180
    assert manifest["kept"] > 100


@pytest.mark.shared_data
def test_a_problem_of_a_test_set_is_not_trained_on(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train = "data.train={source: svamp, path: svamp}"  # all thousand, the test problems among them
    shown = molsaki("generate", "smollm2-svamp-llama", "--data", str(shared_data), "--out", str(out), "--set", train)
    assert shown.code == 0, shown.error
    report = json.loads((out / "stages/data.json").read_text(encoding="utf-8"))["train"]
    assert report["skipped"]["its text is in a test set too"] == 200
    tested, kept = (
        {" ".join(json.loads(line)["question"].split()) for line in path.read_text(encoding="utf-8").splitlines()}
        for path in (out / "data/svamp.jsonl", out / "data/train.jsonl")
    )
    assert (len(tested), len(kept)) == (200, 719)
    assert not tested & kept
