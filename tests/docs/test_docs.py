"""The documentation is true: its code runs, its commands exist, its tables are the code's, its links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import recipe_table
from typer.testing import CliRunner

from molsaki.cli.app import app
from molsaki.config.load import recipe_names
from molsaki.data import SOURCES
from molsaki.methods import METHODS
from molsaki.stages import check as preparation

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = ["data.train.limit=4", "evaluation.rows=4", "training.steps=2", "seeds=[1]"]


def blocks(page: str, language: str) -> list[str]:
    return [code for found, code in FENCE.findall(PAGES[page]) if found == language]


def command_lines() -> Iterator[str]:
    """Every `molsaki …` line of a bash block, and every command in backticks."""
    for text in PAGES.values():
        for language, code in FENCE.findall(text):
            if language == "bash":
                yield from (line for line in code.splitlines() if line.startswith("molsaki "))
        yield from re.findall(r"`(molsaki [a-z][^`]*)`", FENCE.sub("", text))


def execute(code: str, page: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, f"<{page}>", "exec"), {"__name__": "documentation"})  # noqa: S102


def invoke(line: str) -> str:
    result = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def small_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes run small, in a folder of their own."""
    prepare: Callable[..., Any] = preparation.prepare_recipe

    def prepare_small(name: str, *, settings: Any = (), **options: Any) -> Any:
        return prepare(name, settings=[*SMALL, *settings], **options)

    monkeypatch.setattr(preparation, "prepare_recipe", prepare_small)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("small_recipes")
@pytest.mark.parametrize(
    ("page", "number"),
    [(page, i) for page in PAGES if page != "docs/quickstart.md" for i in range(len(blocks(page, "python")))],
)
def test_python_on_the_pages_runs(page: str, number: int) -> None:
    execute(blocks(page, "python")[number], page)


@pytest.mark.usefixtures("small_recipes")
def test_the_quick_start_runs_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    page = "docs/quickstart.md"
    for code in blocks(page, "bash"):
        if code.startswith("cat >"):
            subprocess.run(["bash", "-euc", code], cwd=tmp_path, check=True, timeout=60)
            continue
        for line in code.splitlines():
            parts = shlex.split(line)
            workers = " --workers 1" if parts[1] in ("run", "train", "evaluate") else ""
            invoke(line + workers + " --no-report" * (parts[1] == "run"))
    for code in blocks(page, "python"):
        execute(code, page)


def test_every_command_on_the_pages_exists() -> None:
    lines = list(command_lines())
    assert len(lines) > 20
    for line in lines:
        words = shlex.split(line.replace("…", ""))[1:]
        depth = 2 if words[0] == "recipes" and len(words) > 1 else 1
        shown = invoke(shlex.join(["molsaki", *words[:depth], "--help"]))
        options = set(re.findall(r"--?[a-z]+\b", shown))
        assert {word for word in words[depth:] if word.startswith("-")} <= options, line


def test_recipes_that_the_pages_check_are_right() -> None:
    for line in command_lines():
        if line.startswith(("molsaki recipes check pocket", "molsaki recipes show", "molsaki recipes list")):
            assert invoke(line)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_that_are_there(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", FENCE.sub("", PAGES[page])):
        if not target.startswith("https://"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_files_and_modules_that_the_pages_name_are_there() -> None:
    for page in ("CONTRIBUTING.md", "docs/index.md"):
        for name in re.findall(r"`([\w./]+\.(?:py|toml|md|txt))`", PAGES[page]):
            assert (ROOT / name).exists() or (ROOT / "src/molsaki" / name).exists(), name


def test_the_table_of_recipe_keys_is_the_codes() -> None:
    assert recipe_table.on_the_page() == recipe_table.tables(), "run: python tests/docs/recipe_table.py"


def test_tables_name_every_recipe_source_method_and_command() -> None:
    for name in recipe_names():
        assert f"| `{name}` |" in PAGES["docs/recipes.md"]
    for name in SOURCES:
        assert f"| `{name}` |" in PAGES["docs/data.md"]
    for name in METHODS:
        assert f"| `{name}` |" in PAGES["docs/methods.md"]
    for command in ("run", "doctor", "generate", "import", "attend", "train", "evaluate", "report", "look", "bench"):
        assert re.search(rf"\| `molsaki {command}[ `]", PAGES["README.md"])


def test_the_readme_keeps_a_place_for_the_demos_output() -> None:
    assert PAGES["README.md"].count("<!-- demo:begin -->") == PAGES["README.md"].count("<!-- demo:end -->") == 1
