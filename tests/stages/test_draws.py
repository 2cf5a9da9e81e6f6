"""Each seed draws its own problems: they differ between seeds, are those of all methods of a seed, and can grow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import SMALL, files, recipe, run
from safetensors.torch import load_file, save_file

from molsaki.config.load import override
from molsaki.data.pocket import STUDENT
from molsaki.errors import ArtefactError, RecipeError
from molsaki.stages.check import prepare_values
from molsaki.stages.workspace import Workspace

INDEPENDENT = (
    "data.draws=independent",
    "seeds=[1, 2]",
    "methods=[label-only, molsaki]",
    "baseline=label-only",
    "training.steps=1",
    "training.log_every=1",
    "data.tests.chains.limit=4",
    "evaluation.max_new_tokens=2",
    "rationales.keep=all",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("draws")
    path = recipe(folder, *INDEPENDENT)
    shown = run(path, folder / "run")
    assert shown.code == 0, shown.error
    return path, folder / "run"


def asked(out: Path, label: str, seed: int, test: str) -> list[str]:
    lines = (out / f"predictions/{label}-{seed}/{test}.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted(json.loads(line)["id"] for line in lines)


def test_seeds_have_no_problem_in_common_and_methods_all(world: tuple[Path, Path]) -> None:
    workspace = Workspace.open(world[1])
    for test, n in (("in-domain", 8), ("chains", 4)):
        one, two = (set(asked(world[1], "molsaki", seed, test)) for seed in (1, 2))
        assert len(one) == len(two) == n
        assert not one & two
        assert asked(world[1], "label-only", 1, test) == asked(world[1], "molsaki", 1, test)
        assert {p.id for p in workspace.read_tests(test)} == one | two
    texts = [{problem.text for problem in workspace.read_training(seed)[0]} for seed in (1, 2)]
    tested = {problem.text for test in workspace.test_names for problem in workspace.read_tests(test)}
    assert [len(own) for own in texts] == [8, 8]
    assert len(texts[0] & texts[1]) < 2, "a text may be drawn twice by chance"
    assert not (texts[0] | texts[1]) & tested
    results = json.loads((world[1] / "results.json").read_text(encoding="utf-8"))
    assert {(row["split"], row["n"]) for row in results} == {("in-domain", 8), ("chains", 4)}


def test_a_seed_more_gets_problems_rationales_and_attention_of_its_own(
    world: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(world[1], out)
    before = {name: data for name, data in files(out).items() if name.startswith(("students/", "predictions/"))}
    shown = run(world[0], out, "--set", "seeds=[1, 2, 7]")
    assert shown.code == 0, shown.error
    assert files(out).items() >= before.items(), "what was there is there byte for byte"
    workspace = Workspace.open(out)
    assert len(workspace.read_training(7)[0]) == 8
    assert len(asked(out, "molsaki", 7, "chains")) == 4
    assert workspace.read_metrics("molsaki", 7)["notes"] == {}
    assert not workspace.undrawn_seeds()


def test_a_seed_without_a_draw_is_refused(world: tuple[Path, Path]) -> None:
    with pytest.raises(ArtefactError, match="seed 9"):
        Workspace.open(world[1]).read_tests("chains", 9)


def test_the_validation_problems_stand_in_for_the_tests(tmp_path: Path) -> None:
    """Settings are chosen without one prediction for a test problem; each seed has validation problems of its own."""
    path = recipe(
        tmp_path,
        *INDEPENDENT,
        "methods=[label-only]",
        "evaluation.on=validation",
        "data.validation={source: pocket-math, split: validation, limit: 3}",
    )
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    names = [path.name for path in (tmp_path / "run/predictions").rglob("*.jsonl")]
    assert names == ["validation.jsonl"] * 2
    one, two = (asked(tmp_path / "run", "label-only", seed, "validation") for seed in (1, 2))
    assert all("/validation/1-" in row_id for row_id in one)
    assert all("/validation/2-" in row_id for row_id in two)
    assert len(one) == len(two) == 3


def test_seeds_draw_from_the_problems_of_a_file_and_share_its_tests(tmp_path: Path) -> None:
    rows = [
        {"q": f"Ada has {i} pens and buys {i + 3}. How many?", "a": str(2 * i + 3), "r": f"{i} + {i + 3}."}
        for i in range(30)
    ]
    for name, some in (("train", rows[:20]), ("test", rows[20:])):
        text = "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    columns = "columns: {question: q, answer: a, rationale: r}"
    path = recipe(
        tmp_path,
        *INDEPENDENT,
        "methods=[label-only, {name: dss, label: few, examples: 4}]",
        "rationales={source: dataset}",
        f"data.train={{source: table, path: {tmp_path}/train.jsonl, {columns}}}",
        f"data.tests={{own: {{source: table, path: {tmp_path}/test.jsonl, {columns}}}}}",
        "data.rows=6",
    )
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    workspace = Workspace.open(tmp_path / "run")
    drawn = [[problem.id for problem in workspace.read_training(seed)[0]] for seed in (1, 2)]
    assert [len(ids) for ids in drawn] == [6, 6]
    assert set(drawn[0]) != set(drawn[1])
    assert drawn[0] == [problem.id for problem in workspace.read_training(1)[0]]
    for seed in (1, 2):
        assert workspace.read_metrics("label-only", seed)["examples"] == 6
        assert workspace.read_metrics("few", seed)["examples"] == 4
    assert asked(workspace.run.folder, "few", 1, "own") == asked(workspace.run.folder, "few", 2, "own")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (["data.rows=4"], "data.rows"),
        (["data.draws=independent", "data.rows=4"], "data.rows"),
        (["data.draws=independent", "data.validation_rows=2"], "data.validation_rows"),
        (["data.draws=independent", "data.train.split=train:3"], "data.train.split"),
        (["evaluation.on=validation"], "evaluation.on"),
    ],
    ids=str,
)
def test_draws_without_effect_or_independence_are_refused(settings: list[str], key: str) -> None:
    with pytest.raises(RecipeError, match=key):
        prepare_values(override(SMALL, settings))


def test_each_seed_starts_from_the_base_student_of_its_own(tmp_path: Path) -> None:
    """One base model for all seeds would make a result that of this model."""
    torch.manual_seed(1)
    for seed in (1, 2):
        base = shutil.copytree(STUDENT, tmp_path / f"bases/student-{seed}")
        weights = load_file(base / "model.safetensors")
        save_file(
            {name: tensor + 0.01 * seed for name, tensor in weights.items()},
            base / "model.safetensors",
            {"format": "pt"},
        )
    path = recipe(
        tmp_path,
        *INDEPENDENT,
        "methods=[label-only]",
        "training.learning_rate=1e-9",
        "student.name=" + json.dumps(f"{tmp_path}/bases/student-{{seed}}"),
    )
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    for seed in (1, 2):
        before = load_file(tmp_path / f"bases/student-{seed}/model.safetensors")
        after = load_file(tmp_path / f"run/students/label-only-{seed}/model.safetensors")
        torch.testing.assert_close(after["model.norm.weight"], before["model.norm.weight"], atol=1e-4, rtol=0)
        card = (tmp_path / f"run/students/label-only-{seed}/README.md").read_text(encoding="utf-8")
        assert f"bases/student-{seed}" in card


def test_a_teacher_of_each_seed_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"teacher\.reader\.name: .*{seed}"):
        prepare_values(override(SMALL, ["teacher.reader={name: 'reader-{seed}'}"]))
