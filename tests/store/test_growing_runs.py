"""A run that gets more methods and seeds keeps what it has; one that is stopped while it grows opens all the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import fail_writes, names_in

from molsaki.errors import ArtefactError, StageError
from molsaki.records import hash_json
from molsaki.store import run_directory as module
from molsaki.store.locks import LOCK_NAME
from molsaki.store.run_directory import RunDirectory

RECIPE: dict[str, Any] = {"name": "pocket", "steps": 5, "seeds": [1]}


def more_seeds(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """A rule such as `preparation.with_more`: seeds may be added, the rest must be the same."""
    if {**there, "seeds": 0} != {**wanted, "seeds": 0}:
        return None
    return {**wanted, "seeds": sorted({*there["seeds"], *wanted["seeds"]})}


def with_seeds(*seeds: int) -> dict[str, Any]:
    return {**RECIPE, "seeds": list(seeds)}


def grow(path: Path, *seeds: int) -> RunDirectory:
    return RunDirectory.open_or_create(path, with_seeds(*seeds), grow=more_seeds)


class Killed(BaseException):
    """What the process does not survive."""


def killed_before(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the process die before a file of this name is written."""

    def dying(real: Callable[..., None]) -> Callable[..., None]:
        def write(path: Path, *arguments: Any) -> None:
            if path.name == name:
                raise Killed
            real(path, *arguments)

        return write

    for function in ("write_whole", "write_json"):
        monkeypatch.setattr(module, function, dying(getattr(module, function)))


def test_a_run_takes_what_its_rule_lets_in_and_keeps_the_rest(tmp_path: Path) -> None:
    first = grow(tmp_path, 1)
    made, created = first.manifest["versions"], first.manifest["created"]
    (tmp_path / "student").write_text("trained")
    again = grow(tmp_path, 2)
    assert again.recipe == with_seeds(1, 2)
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text()) == with_seeds(1, 2)
    assert (again.manifest["created"], again.manifest["versions"]) == (created, made), "it was made when it was made"
    assert again.manifest["recipe_hash"] == hash_json(with_seeds(1, 2))
    assert again.manifest["earlier_recipe_hash"] == hash_json(with_seeds(1))
    assert (tmp_path / "student").read_text() == "trained"
    assert RunDirectory(tmp_path).recipe == with_seeds(1, 2)
    assert grow(tmp_path, 1).recipe == with_seeds(1, 2), "what it has it keeps"


def test_a_run_that_gets_nothing_new_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(tmp_path, 1, 2)
    fail_writes(monkeypatch)
    assert grow(tmp_path, 1).recipe == with_seeds(1, 2)
    assert grow(tmp_path, 2, 1).recipe == with_seeds(1, 2)


def test_what_the_rule_does_not_let_in_is_refused_as_ever(tmp_path: Path) -> None:
    grow(tmp_path, 1)
    (tmp_path / "student").write_text("trained")
    before = (tmp_path / "recipe.yaml").read_bytes(), (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(ArtefactError, match="steps: found 5, requested 6"):
        RunDirectory.open_or_create(tmp_path, {**with_seeds(1, 2), "steps": 6}, grow=more_seeds)
    with pytest.raises(ArtefactError, match="seeds"):
        RunDirectory.open_or_create(tmp_path, with_seeds(1, 2))
    assert ((tmp_path / "recipe.yaml").read_bytes(), (tmp_path / "manifest.json").read_bytes()) == before
    other = {"name": "b", "seeds": [7]}
    assert RunDirectory.open_or_create(tmp_path, other, overwrite=True, grow=more_seeds).recipe == other


def test_one_that_is_killed_before_its_manifest_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(tmp_path, 1)
    with monkeypatch.context() as patch:
        killed_before(patch, "manifest.json")
        with pytest.raises(Killed):
            grow(tmp_path, 2)
    assert RunDirectory(tmp_path).recipe == with_seeds(1)
    assert grow(tmp_path, 2).recipe == with_seeds(1, 2)


def test_one_that_is_killed_between_manifest_and_recipe_opens_and_grows_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often, and with whatever it was to grow by."""
    grow(tmp_path, 1)
    for seed in (2, 3, 4):
        with monkeypatch.context() as patch:
            killed_before(patch, "recipe.yaml")
            with pytest.raises(Killed):
                grow(tmp_path, seed)
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert manifest["recipe_hash"] == hash_json(with_seeds(1, seed)), "the new manifest, the old recipe"
        assert RunDirectory(tmp_path).recipe == with_seeds(1)
    assert grow(tmp_path, 5).recipe == with_seeds(1, 5)
    assert RunDirectory(tmp_path).recipe == with_seeds(1, 5)


def test_a_full_disk_leaves_the_run_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(tmp_path, 1)
    files = names_in(tmp_path)
    for after in (0, 10, 600, 2000):
        with monkeypatch.context() as patch:
            fail_writes(patch, after)
            try:
                grown = grow(tmp_path, 2).recipe
            except StageError:
                grown = with_seeds(1)
        assert RunDirectory(tmp_path).recipe == grown
        assert [name for name in names_in(tmp_path) if name != LOCK_NAME] == [n for n in files if n != LOCK_NAME]
    assert grow(tmp_path, 2).recipe == with_seeds(1, 2)


def test_a_recipe_of_neither_hash_was_changed_by_hand(tmp_path: Path) -> None:
    grow(tmp_path, 1)
    grow(tmp_path, 2)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(with_seeds(1, 2, 3)))
    with pytest.raises(ArtefactError, match="changed afterwards"):
        grow(tmp_path, 4)


def test_two_processes_do_not_make_it_grow_together(tmp_path: Path) -> None:
    run = grow(tmp_path, 1)
    with run.lock(), pytest.raises(StageError, match="this same process"):
        grow(tmp_path, 2)
    assert RunDirectory(tmp_path).recipe == with_seeds(1)
