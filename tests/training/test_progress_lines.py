"""A training prints its step, loss, rate and the time that is left."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import recipe, run

from molsaki.stages import train_student
from molsaki.training.progress import TrainingLines


def test_a_line_has_step_loss_rate_and_time_left() -> None:
    said: list[str] = []
    lines, nothing = TrainingLines(said.append, "run: dss, seed 1", every=0.0), SimpleNamespace()
    state: Any = SimpleNamespace(global_step=4, max_steps=10, log_history=[])
    lines.on_train_begin(nothing, state, nothing)
    state.global_step, state.log_history = 5, [{"loss": 1.25}, {"eval_loss": 9.0}]
    lines.on_step_end(nothing, state, nothing)
    assert said[-1].startswith("run: dss, seed 1: 5 of 10 steps, loss 1.25, ")
    assert said[-1].endswith(" left")


def test_a_run_shows_the_progress_of_its_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_student, "TrainingLines", partial(TrainingLines, every=0.0))
    path = recipe(tmp_path, "methods=[label-only]", "baseline=null", "training.steps=2")
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    assert "run: label-only, seed 1: 2 of 2 steps, loss " in shown.text
