"""A training in a worker says its step, loss, rate and the time that is left."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

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
