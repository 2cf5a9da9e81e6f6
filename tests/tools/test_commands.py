"""The tools run from a checkout as `python tools/…` and do what their pages say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from safetensors import safe_open

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
