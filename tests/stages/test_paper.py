"""The paper's recipe end to end on the real data, with small random models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import molsaki


@pytest.mark.shared_data
def test_tiny_runs_the_papers_recipe_end_to_end(shared_data: Path, tmp_path: Path) -> None:
    small = ("--set", "training.steps=2", "--set", "evaluation.rows=4")
    options = ("--tiny", "--data", shared_data, "--out", tmp_path / "run", "--workers", "1", "--no-report")
    shown = molsaki("run", "paper-gpt2-large", *options, *small)
    assert shown.code == 0, shown.error
    assert "of 24 kept" in shown.text, "8 of 32 problems are set aside for validation"
    results = json.loads((tmp_path / "run/results.json").read_text(encoding="utf-8"))
    assert {(row["split"], row["method"], row["n"]) for row in results} == {
        (test, method, 4)
        for test in ("svamp", "singleeq", "asdiv", "gsm8k")
        for method in ("label-only", "dss", "molsaki", "molsaki-as-written")
    }
