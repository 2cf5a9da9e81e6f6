"""A run that is asked for more methods or seeds trains those alone; whatever else differs is another run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import SMALL, Shown, files, recipe, run

from molsaki.config.load import override, parse_recipe
from molsaki.config.methods import resolve_methods
from molsaki.errors import ArtefactError
from molsaki.records import hash_json
from molsaki.stages.check import merge_recipes, open_workspace, prepare_recipe
from molsaki.store.run_directory import RunDirectory

ONE = ("methods=[label-only]", "baseline=null", "training.steps=2", "data.tests.chains.limit=4")


def resolved(*settings: str) -> dict[str, Any]:
    return resolve_methods(parse_recipe(override(SMALL, settings))).model_dump(mode="json")


def trained(shown: Shown) -> list[str]:
    """The students that a command trained, such as `dss, seed 1`."""
    return [line.split(": trained in")[0].strip() for line in shown.out.splitlines() if ": trained in" in line]


# ---- the rule ----


def test_methods_and_seeds_are_added_at_the_end() -> None:
    existing = resolved("seeds=[1, 2]", "methods=[dss, molsaki]")
    found = merge_recipes(existing, resolved("seeds=[3, 1]", "methods=[cot, dss]", "description=again", "baseline=cot"))
    assert found is not None
    assert [method["label"] for method in found["methods"]] == ["dss", "molsaki", "cot"]
    assert found["seeds"] == [1, 2, 3]
    assert (found["description"], found["baseline"]) == ("again", "cot")
    assert merge_recipes(existing, existing) == existing
    assert merge_recipes(existing, resolved("seeds=[1]", "methods=[dss]")) == existing, "nothing is removed"


@pytest.mark.parametrize(
    "setting",
    [
        "name=other",
        "keys=keywords",
        "data.train.limit=9",
        "data.tests.chains.split=test",
        "teacher.writer.dtype=float16",
        "rationales.max_new_tokens=9",
        "attention.dtype=float16",
        "logits.top=9",
        "student.name=pocket:teacher",
        "training.steps=9",
        "evaluation.rows=9",
        "tiny=true",
        "methods=[dss, {name: molsaki, beta: 0.5}]",
        "methods=[{name: cot, label: dss}]",
        "methods=[{name: dss, examples: 3}]",
        "methods=[{name: dss, training: {steps: 3}}]",
    ],
)
def test_other_differences_cannot_be_merged(setting: str) -> None:
    existing = resolved("methods=[dss, molsaki]")
    assert merge_recipes(existing, resolved("methods=[dss, molsaki]", "seeds=[5]", setting)) is None


def test_new_keys_have_their_defaults_and_unknown_keys_cannot_be_merged() -> None:
    existing = resolved("methods=[dss]")
    old = {key: value for key, value in existing.items() if key not in ("logits", "tiny")}
    old["methods"] = [{key: value for key, value in existing["methods"][0].items() if key != "examples"}]
    assert merge_recipes(old, existing) == existing
    assert merge_recipes(old, resolved("methods=[dss]", "logits.top=9")) is None, "the run had the default"
    assert merge_recipes({**existing, "gone": 1}, existing) is None


def test_a_run_from_before_presets_keeps_its_molsaki_as_written() -> None:
    """Read as run, its students would be of two methods under one label, and their routers of another shape."""
    there = resolved("methods=[molsaki, {name: molsaki, label: half, beta: 0.5}]")
    old = {**there, "methods": [{"name": "molsaki", "label": "molsaki"}, {"name": "dss", "label": "dss"}]}
    as_written = "methods=[{name: molsaki, preset: as-written}, dss]"
    assert merge_recipes(old, resolved("methods=[molsaki, dss]")) is None
    found = merge_recipes(old, resolved(as_written))
    assert found is not None
    assert found["methods"] == resolved(as_written)["methods"]


# ---- as a command ----


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run of one student, and its recipe."""
    folder = tmp_path_factory.mktemp("growing")
    path = recipe(folder, *ONE)
    shown = run(path, folder / "run", "--set", "seeds=[1]")
    assert shown.code == 0, shown.error
    assert trained(shown) == ["label-only, seed 1"]
    return path, folder / "run"


@pytest.fixture
def finished(world: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the finished run, to add to."""
    shutil.copytree(world[1], tmp_path / "run")
    return world[0], tmp_path / "run"


def test_a_seed_more_is_a_student_more_and_a_method_more_one_for_each_seed(finished: tuple[Path, Path]) -> None:
    path, out = finished
    before = {name: data for name, data in files(out).items() if name.startswith(("students/", "predictions/"))}
    shown = run(path, out, "--set", "seeds=[1, 2]")
    assert shown.code == 0, shown.error
    assert trained(shown) == ["label-only, seed 2"]
    assert not (out / "attention").exists()
    shown = run(path, out, "--set", "seeds=[1]", "--set", "methods=[molsaki]")
    assert shown.code == 0, shown.error
    assert trained(shown) == ["molsaki, seed 1", "molsaki, seed 2"], "beside what the run has; its attention is read"
    assert (out / "stages/attend.json").is_file()
    assert files(out).items() >= before.items(), "what was there is there byte for byte"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {(row["method"], row["seed"]) for row in results} == {
        (method, seed) for method in ("label-only", "molsaki") for seed in (1, 2)
    }


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("training.steps=3", "training.steps: found 2, requested 3"),
        ("data.train.limit=4", "data.train.limit: found 8, requested 4"),
        ("student.name=pocket:teacher", "student.name: "),
        ("methods=[{name: label-only, training: {steps: 3}}]", "methods"),
        ("methods=[{name: dss, label: label-only}]", "methods"),
    ],
)
def test_another_run_is_refused_although_seeds_are_added(setting: str, named: str, world: tuple[Path, Path]) -> None:
    path, out = world
    before = files(out)
    shown = run(path, out, "--set", "seeds=[1, 2]", "--set", setting)
    assert shown.code == 2
    assert named in shown.error
    assert files(out) == before


def test_a_method_changes_until_one_of_its_students_is_begun(world: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = world
    methods = "methods=[label-only, {{name: dss, label: half, alpha: {}}}]"
    shutil.copytree(out, tmp_path / "run")
    run_recipe = prepare_recipe(str(path), settings=["seeds=[1]", methods.format(0.1)])
    open_workspace(run_recipe, tmp_path / "run")
    opened = open_workspace(prepare_recipe(str(path), settings=["seeds=[1]", methods.format(0.2)]), tmp_path / "run")
    assert [method.settings.get("alpha") for method in opened.recipe.methods] == [None, 0.2]
    for folder in ("students/half-1.training", "students/half-1", "predictions/half-7"):
        (tmp_path / "run" / folder).mkdir(parents=True)
        with pytest.raises(ArtefactError, match=r"methods\[half\]\.alpha: found 0.2, requested 0.3"):
            open_workspace(prepare_recipe(str(path), settings=["seeds=[1]", methods.format(0.3)]), tmp_path / "run")
        (tmp_path / "run" / folder).rmdir()


def test_a_run_of_an_older_recipe_opens_and_grows(finished: tuple[Path, Path]) -> None:
    path, out = finished
    whole = yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))
    old = {key: value for key, value in whole.items() if key != "logits"}
    old["methods"] = [{key: value for key, value in entry.items() if key != "training"} for entry in old["methods"]]
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    (out / "recipe.yaml").write_text(yaml.safe_dump(old, sort_keys=False), encoding="utf-8")
    (out / "manifest.json").write_text(json.dumps(manifest | {"recipe_hash": hash_json(old)}), encoding="utf-8")
    shown = run(path, out, "--set", "seeds=[1]")
    assert shown.code == 0, shown.error
    assert trained(shown) == []
    assert RunDirectory(out).recipe == whole, "it says from now on what holds for it"
