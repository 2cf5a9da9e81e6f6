"""What is installed: the wheel has all that it needs, the constraints are exact and fit, the make targets are there."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize("broken", ["", "lint", "test"])
def test_ci_lints_and_tests_in_one_environment_and_fails_when_either_fails(tmp_path: Path, broken: str) -> None:
    """With the installation and the tools replaced by scripts that write down what is called."""
    checkout, python = tmp_path / "checkout", tmp_path / "python"
    (checkout / ".ci").mkdir(parents=True)
    for name in ("Makefile", ".ci/run"):
        shutil.copy(ROOT / name, checkout / name)
    for name in ("pyproject.toml", "constraints.txt", "src/molsaki/_version.py"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    calls = tmp_path / "calls"
    tool = f'#!/bin/sh\necho "$0 $*" >>{calls}\n'
    fails = {"lint": "mypy", "test": "-m pytest"}.get(broken, "nothing")
    ending = f'case "$0 $*" in *"{fails}"*) exit 1;; esac\n'
    make_tools = (
        f'if [ "$2" = venv ]; then mkdir -p "$3/bin"; for t in python ruff mypy; do cp {python} "$3/bin/$t"; done; fi\n'
    )
    python.write_text(tool + make_tools + ending, encoding="utf-8")
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python)}
    done = subprocess.run([checkout / ".ci/run"], env=environment, capture_output=True, timeout=60, check=False)
    assert (done.returncode == 0) == (not broken)
    lines = calls.read_text(encoding="utf-8").splitlines()
    for command in ("-m venv", "-m pip install", "ruff check", "ruff format --check", "mypy", "-m pytest"):
        assert len([line for line in lines if command in line]) == 1, command
    assert len({line.split("/bin/")[0] for line in lines if "/venv/bin/" in line}) == 1, "one environment"


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


def test_the_wheel_has_recipes_prompts_weights_and_types_and_no_tools_or_tests(tmp_path: Path) -> None:
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True, timeout=120, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    patterns = {
        "src/molsaki": (
            "py.typed",
            "config/recipes/*.yaml",
            "config/recipes/prompts/*.txt",
            "study/recipes/*.yaml",
            "data/pocket/weights/*/*",
            "report/assets/*",
            "**/*.py",
        ),
        "benchmarks/molsaki_benchmarks": ("**/*.py",),
    }
    for package, globs in patterns.items():
        for pattern in globs:
            found = {path.relative_to((ROOT / package).parent).as_posix() for path in (ROOT / package).glob(pattern)}
            assert found, pattern
            assert found <= names, pattern
    folders = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert folders == {"molsaki", "molsaki_benchmarks"}
    assert not [name for name in names if "__pycache__" in name]
    assert wheel.stat().st_size < 8_000_000
