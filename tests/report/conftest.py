"""A small finished run with its report, and a browser to open it in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import HOSTILE, find_chromium
from commands import Shown, molsaki, recipe


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shown]:
    """A run whose second test set, `odd`, is hostile, and its output."""
    folder = tmp_path_factory.mktemp("reported")
    lines = [json.dumps({"q": question, "a": "17"}) for question in HOSTILE]
    (folder / "hostile.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = f"{{source: table, path: {folder}/hostile.jsonl, columns: {{question: q, answer: a}}}}"
    path = recipe(
        folder,
        "methods=[dss, molsaki]",
        "training.steps=4",
        "training.log_every=2",
        "data.tests={in-domain: {source: pocket-math, split: test, limit: 8}, odd: " + table + "}",
        "rationales.keep=all",
    )
    shown = molsaki("run", path, "--out", folder / "run", "--workers", "1")
    assert shown.code == 0, shown.error
    return folder / "run", shown


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, without a window and without the network."""
    chromium = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()
