"""The untrained student and the teacher in the tables of a run."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Shown, files, molsaki, recipe, run
from servers import Server

from molsaki.models.decode import Completion
from molsaki.report import readings
from molsaki.stages import evaluate_student
from molsaki.stages.references import TEACHER, UNTRAINED, read_references, teacher_rows
from molsaki.stages.workspace import Workspace
from molsaki.teacher.writer import Request

BOTH = ("evaluation.untrained=true", "evaluation.teacher_rows=4", "methods=[label-only]", "baseline=null")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Shown]:
    """A finished run with both rows."""
    folder = tmp_path_factory.mktemp("references")
    path = recipe(folder, *BOTH)
    shown = run(path, folder / "run")
    assert shown.code == 0, shown.error
    return path, folder / "run", shown


def scored(folder: Path) -> list[tuple[str, str, Any, int]]:
    rows = json.loads((folder / "references.json").read_text(encoding="utf-8"))
    return [(row["model"], row["split"], row["seed"], row["n"]) for row in rows]


def test_a_student_that_was_no_better_before_its_training_is_a_row(world: tuple[Path, Path, Shown]) -> None:
    path, folder, shown = world
    assert scored(folder) == [
        (UNTRAINED, "chains", 1, 8),
        (UNTRAINED, "in-domain", 1, 8),
        (TEACHER, "chains", None, 4),
        (TEACHER, "in-domain", None, 4),
    ]
    table = [line.split("│")[1].strip() for line in shown.out.splitlines() if line.startswith("│")]
    first = table.index(UNTRAINED)
    assert table[first : first + 3] == [UNTRAINED, "label-only", TEACHER]
    assert "the teacher model on a sample of 4 problems of each set" in shown.text
    # The same answers as a model that is scored alone.
    alone = molsaki("evaluate", path, "--out", folder, "--model", "pocket:student", "--max-new-tokens", "12")
    assert alone.code == 0, alone.error
    scores = json.loads((folder / "evaluations/pocket-student/scores.json").read_text(encoding="utf-8"))
    untrained = [one.score for one in read_references(Workspace.open(folder)) if one.model == UNTRAINED]
    assert [one["outcomes"] for one in scores] == [
        {name: getattr(one, name) for name in ("correct", "wrong", "unparsable", "cut", "too_long")}
        for one in untrained
    ]


def test_answers_without_a_score_are_counted_for_them_too(world: tuple[Path, Path, Shown]) -> None:
    for one in read_references(Workspace.open(world[1])):
        failed = one.score.unparsable + one.score.cut
        if failed:
            assert f"answers of {one.model}: " in world[2].text


def test_a_finished_run_needs_neither_model_again(world: tuple[Path, Path, Shown], tmp_path: Path) -> None:
    shutil.copytree(world[1], tmp_path / "run")
    before = files(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("molsaki.stages.references.load_placed_model", None)
        patch.setattr("molsaki.stages.references.score_model", None)
        shown = run(world[0], tmp_path / "run")
    assert shown.code == 0, shown.error
    assert files(tmp_path / "run") == before


def test_the_report_asks_the_teacher_nothing_that_it_answered_for_its_row(
    world: tuple[Path, Path, Shown], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.open(shutil.copytree(world[1], tmp_path / "run"))
    asked: list[str] = []

    class Silent:
        def __init__(self) -> None:
            self.notes: Counter[str] = Counter()

        def require(self, _template: object) -> None:
            """Anything can be asked."""

        def complete(self, requests: list[Request], **_: object) -> Iterator[list[Completion]]:
            asked.extend(one.prompt.text for one in requests)
            return iter(())

    monkeypatch.setattr(readings, "open_writer", lambda _recipe: Silent())
    found = readings.Readings()
    readings._sample_texts(workspace, 4, found, lambda _: None)
    assert asked == []
    right = {one.test: one.score.correct for one in read_references(workspace) if one.model == TEACHER}
    assert {name: len(texts) for name, texts in found.texts.items()} == right
    readings._sample_texts(workspace, 6, found, lambda _: None)
    assert len(asked) == 2 * len(right), "of six, four are there"


def test_a_teacher_that_is_gone_costs_its_row_and_not_the_run(world: tuple[Path, Path, Shown], tmp_path: Path) -> None:
    shutil.copytree(world[1], tmp_path / "run")
    rows = json.loads((tmp_path / "run/references.json").read_text(encoding="utf-8"))
    (tmp_path / "run/references.json").write_text(json.dumps([row for row in rows if row["model"] != TEACHER]))
    (tmp_path / "run/evaluations/references/teacher/settings.json").write_text('{"model": "another"}')
    shown = run(world[0], tmp_path / "run")
    assert shown.code == 0, shown.error
    assert "warning: the tables have no row of the teacher model" in shown.text
    assert {row[0] for row in scored(tmp_path / "run")} == {UNTRAINED}


def test_each_seed_with_a_draw_of_its_own_has_its_own_row(tmp_path: Path) -> None:
    path = recipe(tmp_path, *BOTH, "data.draws=independent", "seeds=[1, 2]", "training.steps=1")
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    assert [row for row in scored(tmp_path / "run") if row[1] == "chains"] == [
        (UNTRAINED, "chains", 1, 8),
        (UNTRAINED, "chains", 2, 8),
        (TEACHER, "chains", None, 4),
    ]


@pytest.mark.parametrize(("given", "rows"), [("null", 0), ("3", 3)])
def test_a_server_is_not_asked_about_test_problems_by_default(given: str, rows: int, tmp_path: Path) -> None:
    with Server(lambda *_: "so ( 1 + 1 )") as server:
        path = recipe(
            tmp_path,
            f"teacher.writer={{base_url: '{server.url}', model: m, protocol: completions}}",
            f"evaluation.teacher_rows={given}",
            "methods=[label-only]",
            "baseline=null",
        )
        shown = molsaki("generate", path, "--out", tmp_path / "run")
        assert shown.code in (0, 2), shown.error
    assert teacher_rows(Workspace.open(tmp_path / "run").recipe) == rows


def test_models_are_tested_in_the_precision_that_the_recipe_names(tmp_path: Path, monkeypatch: Any) -> None:
    seen = []

    def spy(model: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(model.dtype)
        return predict(model, *args, **kwargs)

    predict = evaluate_student.predict
    monkeypatch.setattr(evaluate_student, "predict", spy)
    path = recipe(tmp_path, "methods=[label-only]", "baseline=null", "training.steps=1", "evaluation.dtype=bfloat16")
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    assert set(seen) == {torch.bfloat16}
