"""Pipes and devices instead of files: each is refused at once, and never waited for or read into memory."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
import yaml
from commands import SMALL, molsaki

from molsaki.config.load import parse_recipe, read_prompt
from molsaki.data import load_problems
from molsaki.data.row_files import read_rows
from molsaki.errors import InputError
from molsaki.stages.check import prepare_recipe
from molsaki.store.exported_files import read_file
from molsaki.store.row_log import RowLog
from molsaki.store.run_directory import RunDirectory
from molsaki.store.whole_files import read_json
from molsaki.study.files import read_study, study_recipe

COLUMNS = {"question": "q", "answer": "a"}
SECONDS = 5


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Fail a test that waits for a pipe, instead of waiting with it."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def study_of(path: Path) -> object:
    file = path.parent / "study.yaml"
    values = {"name": "x", "recipes": {"main": path.name}, "seeds": [1], "methods": ["dss"], "baseline": "dss"}
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    study, _ = read_study(str(file))
    return study_recipe(study, file, "main")


def recipe_with(key: str) -> Callable[[Path], object]:
    """A recipe that names the file."""

    def read(path: Path) -> object:
        recipe = path.parent / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
        return prepare_recipe(str(recipe), settings=[f"{key}={path}"])

    return read


def run_with(name: str) -> Callable[[Path], object]:
    """A run directory in which a file is replaced."""

    def read(path: Path) -> object:
        run = path.parent / "run"
        RunDirectory.open_or_create(run, SMALL)
        (run / name).unlink()
        path.rename(run / name)
        return RunDirectory(run)

    return read


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    **{
        f"data {suffix}": (f"x.{suffix}", lambda path: load_problems("table", path, columns=COLUMNS))
        for suffix in ("jsonl", "json", "csv", "tsv", "parquet")
    },
    "data of ASDiv": ("x.xml", lambda path: load_problems("asdiv", path)),
    "rationales": ("x.jsonl", lambda path: list(read_rows(path))),
    "a recipe": ("x.yaml", lambda path: prepare_recipe(str(path))),
    "a prompt of a recipe": ("x.txt", recipe_with("prompts.teacher")),
    "a prompt of evaluate": ("x.txt", lambda path: read_prompt(str(path), parse_recipe(SMALL))),
    "a study": ("x.yaml", lambda path: read_study(str(path))),
    "a recipe of a study": ("x.yaml", study_of),
    "exported signals": ("rows.jsonl", lambda path: read_file(path.parent, path.name)),
    "a stage's file": ("x.json", lambda path: read_json(path, "a manifest")),
    "a log of rows": ("x.jsonl", RowLog),
    "the manifest of a run": ("x", run_with("manifest.json")),
    "the recipe of a run": ("x", run_with("recipe.yaml")),
}


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_or_a_device_is_refused_at_once(reader: str, kind: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError):
        read(path)


def test_show_prints_no_recipe_that_it_did_not_check(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.yaml")
    assert molsaki("recipes", "show", tmp_path / "x.yaml").code == 2
