"""A small run of the demo's recipe, as examples on the pages and in docstrings open it."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import molsaki

LIMITS = ("data.train.limit=8", "rationales.batch_size=8", "methods=[molsaki]", "baseline=null")


@pytest.fixture(scope="session")
def pocket_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `pocket` whose rationales were written and read."""
    folder = tmp_path_factory.mktemp("documentation") / "runs" / "pocket"
    settings = [part for limit in LIMITS for part in ("--set", limit)]
    for command in ("generate", "attend"):
        shown = molsaki(command, "pocket", "--out", folder, *settings)
        assert shown.code == 0, shown.error
    return folder


@pytest.fixture
def beside_a_run(pocket_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder has `runs/pocket`."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "pocket").symlink_to(pocket_run)
    monkeypatch.chdir(tmp_path)
