"""What is installed: the wheel has all that it needs, the constraints are exact and fit, the make targets are there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins), "every line is name==version"
    return {normalised(name): version for name, version in pins}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirements: list[str]) -> set[str]:
    return {normalised(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}


def test_constraints_pin_everything_that_is_asked_for() -> None:
    pins = constraints()
    wanted = named(PROJECT["dependencies"]).union(*map(named, PROJECT["optional-dependencies"].values()))
    assert wanted <= set(pins)
    assert pins["torch"] == "2.13.0"
    assert "molsaki" not in pins
    assert not any("+" in version for version in pins.values()), "a local version would fit one machine only"


def test_make_says_what_there_is() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    for target in ("make demo", "make test", "make lint", "make clean"):
        assert target in shown


def test_ci_runs_what_the_readme_says() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in script
    assert re.search(r"^make test ", script, re.MULTILINE)
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_refuses_an_old_python(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\necho 'molsaki needs Python 3.11 or later' >&2\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    command = ["make", "demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode != 0
    assert "molsaki needs Python 3.11 or later" in shown.stderr
    assert not (tmp_path / "venv").exists()


def test_the_wheel_has_recipes_prompts_weights_and_types(tmp_path: Path) -> None:
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True, timeout=120, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src/molsaki"
    for pattern in ("py.typed", "**/recipes/*.yaml", "**/prompts/*.txt", "data/pocket/weights/*/*", "**/*.py"):
        found = [path.relative_to(package.parent).as_posix() for path in package.glob(pattern)]
        assert found
        assert set(found) <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
    assert wheel.stat().st_size < 8_000_000
