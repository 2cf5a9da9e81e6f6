"""What each stage of a run took is kept, added up over sessions, and shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import recipe, run

from molsaki.report.run_tables import stage_table
from molsaki.stages.costs import Cost, costs_of, read_cost, stage_costs
from molsaki.stages.workspace import Workspace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    folder = tmp_path_factory.mktemp("costs")
    path = recipe(
        folder, "methods=[dss, molsaki]", "rationales.keep=all", "data.train.limit=4", "evaluation.untrained=true"
    )
    shown = run(path, folder / "run")
    assert shown.code == 0, shown.text
    return Workspace.open(folder / "run"), shown.text


def test_every_stage_of_a_run_keeps_its_time_and_memory(finished: tuple[Workspace, str]) -> None:
    costs = stage_costs(finished[0])
    assert list(costs) == ["data", "generate", "attend", "train", "evaluate", "references"]
    assert [len(costs[stage]) for stage in ("data", "train", "evaluate")] == [1, 2, 2]
    for stage, some in costs.items():
        for cost in some:
            assert cost.seconds > 0, stage
            assert cost.peak_memory_bytes > 10_000_000, stage
            assert cost.peak_gpu_bytes >= 0, stage
            assert cost.sessions >= 1, stage


def test_the_run_prints_what_the_report_has(finished: tuple[Workspace, str]) -> None:
    workspace, shown = finished
    table = stage_table(workspace)
    assert table is not None
    assert table.caption in shown
    assert [row[0] for row in table.rows][3] == "train, 2 students"


def test_a_stage_that_was_done_before_adds_nothing(finished: tuple[Workspace, str], tmp_path: Path) -> None:
    workspace, _ = finished
    before = {name: read_cost(workspace, name) for name in ("data", "generate", "attend")}
    assert run(workspace.run.folder / "recipe.yaml", workspace.run.folder).code == 0
    assert {name: read_cost(workspace, name) for name in before} == before


def test_sessions_add_up_and_the_largest_memory_stays(finished: tuple[Workspace, str]) -> None:
    workspace, _ = finished
    with pytest.raises(KeyboardInterrupt), costs_of(workspace, "attend", "x"):
        raise KeyboardInterrupt
    with costs_of(workspace, "attend", "x"):
        pass
    assert read_cost(workspace, "attend", "x").sessions == 2
    assert Cost(1, 2, 30, 4, 1).and_then(Cost(10, 20, 3, 40, 2)) == Cost(11, 22, 30, 40, 3)
    with costs_of(workspace, "attend", "x", again=True):
        pass
    assert read_cost(workspace, "attend", "x").sessions == 1


def test_a_first_stage_that_fails_leaves_the_run_open_for_another_recipe(tmp_path: Path) -> None:
    bad = recipe(tmp_path / "a", "data.train.source=svamp-dss", "data.train.path=nowhere", "data.train.split=train")
    assert run(bad, tmp_path / "run").code != 0
    good = recipe(tmp_path / "b", "data.train.limit=2")
    assert run(good, tmp_path / "run", command="generate").code == 0
