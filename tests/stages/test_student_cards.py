"""What the model card of a student says of its training."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import recipe

from molsaki.stages.check import open_workspace, prepare_recipe
from molsaki.stages.student_cards import student_card


@pytest.mark.parametrize(("processes", "examples"), [(1, 8), (2, 16)])
def test_a_step_has_the_examples_of_its_batches_and_processes(processes: int, examples: int, tmp_path: Path) -> None:
    path = recipe(tmp_path, "training.batch_size=2", "training.accumulation=4")
    workspace = open_workspace(prepare_recipe(str(path)), tmp_path / "run")
    card = student_card(workspace, "dss", 1, 8, None, processes=processes)
    assert f"6 steps of {examples} examples" in card
