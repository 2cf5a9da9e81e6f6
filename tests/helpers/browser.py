"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from molsaki.report.page import render

HOSTILE = [
    "<script>window.hacked = 1</script> Ada has 3 apples and buys 14 more apples. How many apples does Ada have now?",
    'Ada\'s "box" holds 7 <b>pens</b> & 2 &amp; <img src=x onerror="window.hacked=2"> pens. How many? </script><!--',
    "🍎🍏 Ada has 5 🍎 and 6 more \u202e ten \u202c apples. كم تفاحة لدى آدا الآن؟ How many?",
    "W" * 3000 + " 12 and 13. How many?",
]

SCREENSHOTS = Path(__file__).resolve().parents[2] / ".screenshots"


def find_chromium() -> str:
    """The path of Chromium. Skips the test if there is none."""
    pytest.importorskip("playwright", reason="Playwright is not installed")
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return found


def large_page(problems: int) -> str:
    """A page with many problems and nine students."""
    students = [[method, seed] for method in ("label-only", "dss", "molsaki") for seed in (1, 2, 3)]
    question = "There are {} beads on the table of Zoe. Zoe gives 7 beads to Eva. Zoe is 13 years old. How many beads?"
    data = {
        "sets": ["in-domain"], "students": students, "methods": ["label-only", "dss", "molsaki"], "baseline": "dss",
        "problems": [
            [0, f"problem-{i}", question.format(i), str(i - 7), f"( {i} - 7 )",
             [[f"( {i} - {j} )", (i + j) % 2, ""] for j in range(9)], -1]
            for i in range(problems)
        ],
        "looks": [], "models": [], "before": [], "teacher": [],
    }  # fmt: skip
    return render("look.html.jinja", {"model": "many"}, data)


@contextmanager
def opened(browser: Any, path: Path, *, all_parts: bool = True, **options: Any) -> Iterator[Any]:
    """Open a page in the browser, with all of its sections open. There must be no request, no error and no message."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    events: list[str] = []
    page.on("console", lambda message: events.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: events.append(f"error: {error}"))
    page.on(
        "request", lambda request: events.append(f"request: {request.url}") if request.url != path.as_uri() else None
    )
    page.on("dialog", lambda dialog: (events.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    if all_parts:
        page.evaluate("document.querySelectorAll('details.part').forEach((part) => { part.open = true; })")
    yield page
    context.close()
    assert not events


def keep(page: Any, name: str) -> None:
    """Keep a screenshot of the whole page."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=str(SCREENSHOTS / f"{name}.png"), full_page=True)
