"""`--models FOLDER`: which directory a name is, and that nothing but the name is recorded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import SMALL, molsaki, recipe
from transformers import AutoModelForCausalLM, AutoTokenizer

from molsaki.data.pocket import STUDENT, TEACHER
from molsaki.models.folder import VARIABLE, find_in_folder, model_location, models_in

HERE = Path(__file__)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two models under the last parts of the hub's names."""
    monkeypatch.delenv(VARIABLE, raising=False)
    models = tmp_path / "models"
    for name, source in {"Reader-1B": TEACHER, "Student-0.1B": STUDENT}.items():
        AutoModelForCausalLM.from_pretrained(source).save_pretrained(models / name)
        AutoTokenizer.from_pretrained(source).save_pretrained(models / name)
    return models


def test_the_last_part_of_a_name_is_looked_for(folder: Path) -> None:
    assert find_in_folder("owner/Reader-1B") == "owner/Reader-1B"
    with models_in(folder):
        assert find_in_folder("owner/Reader-1B") == str(folder / "Reader-1B")
        assert find_in_folder("Reader-1B") == str(folder / "Reader-1B")
        assert model_location("owner/Student-0.1B") == str(folder / "Student-0.1B")
        assert model_location("pocket:student") == str(STUDENT)
        with models_in(None):
            assert find_in_folder("owner/Reader-1B") == str(folder / "Reader-1B"), "no folder leaves the variable"
    assert VARIABLE not in os.environ


@pytest.mark.parametrize(
    "name", ["owner/..", "..", ".", "owner/.hidden", "a/b/Reader-1B", "owner/Reader-1B/", "/Reader-1B"]
)
def test_a_name_that_is_none_of_the_hubs_leads_nowhere_else(name: str, folder: Path) -> None:
    with models_in(folder):
        assert find_in_folder(name) == name


def test_a_directory_is_taken_before_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "owner" / "Reader-1B").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with models_in(folder):
        assert find_in_folder("owner/Reader-1B") == "owner/Reader-1B"


def test_a_name_that_is_not_in_the_folder_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with models_in(folder):
        assert find_in_folder("owner/Another") == "owner/Another"
    assert "owner/Another is not in" in caplog.text


def test_a_run_finds_its_models_in_the_folder_and_records_their_names(folder: Path, tmp_path: Path) -> None:
    base = {**SMALL, "teacher": {"writer": {"name": "owner/Reader-1B"}}, "student": {"name": "owner/Student-0.1B"}}
    path, out = recipe(tmp_path, base=base), tmp_path / "run"
    shown = molsaki("run", path, "--out", out, "--models", folder, "--workers", "2", "--no-report")
    assert shown.code == 0, shown.error
    kept = [file for file in out.rglob("*") if file.suffix in (".yaml", ".json", ".md", ".jsonl")]
    assert "owner/Student-0.1B" in (out / "recipe.yaml").read_text(encoding="utf-8")
    assert [file for file in kept if str(folder) in file.read_text(encoding="utf-8")] == []
    assert molsaki("doctor", path, "--models", folder).code == 0
    assert molsaki("look", "owner/Reader-1B", "2 and 3?", "--rationale", "It is 5.", "--models", folder).code == 0
    assert VARIABLE not in os.environ


def test_every_command_that_loads_models_has_the_option(tmp_path: Path) -> None:
    for command in ("run", "generate", "attend", "train", "evaluate", "study", "doctor", "look", "report"):
        assert "--models" in molsaki(command, "--help").out
    assert "does not exist" in molsaki("run", "pocket", "--models", tmp_path / "none").error
