"""The tools run from a checkout as `python tools/…` and do what their pages say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from make_example_signals import EXAMPLES, Example, commands, make
from safetensors import safe_open
from typer.testing import CliRunner

import molsaki
from molsaki.cli.app import app
from molsaki.config.load import recipe_names

ROOT = Path(__file__).resolve().parents[2]


def run_tool(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300).stdout


def test_weights_are_made_with_tokenizer_and_manifest_where_asked(tmp_path: Path) -> None:
    run_tool("make_pocket_weights.py", "student", "--steps", "1", "--out", tmp_path)
    made = tmp_path / "student"
    assert {"config.json", "tokenizer.json"} <= {path.name for path in made.iterdir()}
    manifest = json.loads((made / "pocket.json").read_text(encoding="utf-8"))
    assert (manifest["steps"], manifest["made_by"]) == (1, "python tools/make_pocket_weights.py student")
    with safe_open(made / "model.safetensors", framework="pt") as file:
        assert any(name.startswith("model.layers.1.") for name in file.keys())  # noqa: SIM118


def test_the_shipped_teacher_is_scored_on_every_set() -> None:
    lines = run_tool("check_pocket_weights.py", "1").splitlines()
    assert len(lines) == 5
    assert all("of 1," in line and "%" in line for line in lines)


def test_examples_are_made_once_and_verified(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small = ("data.train.limit=4", "methods=[molsaki]", "baseline=null")
    example = Example("some", "pocket", small, ("--rows", "3"))
    size = make(tmp_path, [example])
    shown = capfd.readouterr().out
    assert [shown.count(f"$ molsaki signals {command}") for command in ("export", "verify")] == [2, 2]
    assert shown.count("error at most") == 2
    whole, mixed = (molsaki.load_signals(tmp_path / part / "some") for part in ("", "mixed"))
    assert (len(whole), whole.teacher_layers, mixed.teacher_layers) == (3, 4, 1)
    assert make(tmp_path, [example]) == size
    shown = capfd.readouterr().out
    assert [shown.count(f"$ molsaki signals {command}") for command in ("export", "verify")] == [0, 2]


def test_the_published_examples_name_recipes_and_options_that_are_there(tmp_path: Path) -> None:
    for example in EXAMPLES:
        lines = commands(example, tmp_path, ["--models", "m"], ["--data", "d"])
        assert example.recipe in recipe_names()
        for line in lines:
            depth = 2 if line[0] == "signals" else 1
            shown = CliRunner().invoke(app, [*line[:depth], "--help"]).output
            assert all(word in shown for word in line if word.startswith("--")), line
