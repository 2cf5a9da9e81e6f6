"""The notebook runs from its first cell to its last, and is kept without what it printed."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs").glob("*.ipynb"))


SHOWN = {"looking.ipynb": "change from first to last sentence", "signals.ipynb": "right"}
"""What the last cells print."""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLSAKI_ROWS", "8")
    monkeypatch.setenv("MOLSAKI_STEPS", "21")  # more than the recipe's warm-up
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert len(cells) > 4
    names = {"__name__": "__main__"}
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        for number, cell in enumerate(cells):
            exec(compile("".join(cell["source"]), f"<{path.name}, cell {number}>", "exec"), names)  # noqa: S102
    assert SHOWN[path.name] in shown.getvalue()


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS
