"""The documentation is true: its code runs, its commands and names exist, its links resolve, its tables are whole."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import runpy
import shlex
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import recipe_table
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

import molsaki
from molsaki.cli.app import app
from molsaki.config.load import parse_recipe, read_recipe, recipe_names
from molsaki.config.recipe import Recipe
from molsaki.data import SOURCES
from molsaki.methods import METHODS
from molsaki.stages import check as preparation
from molsaki.study.files import read_study, study_names

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/**/*.md")
    for path in sorted(ROOT.glob(pattern))
}
STUDIES = [page for page in PAGES if page.startswith("docs/experiments/")]
QUICK_START = "docs/quickstart.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SMALL = ["data.train.limit=4", "evaluation.rows=4", "training.steps=2", "training.warmup_steps=0", "seeds=[1]"]


def blocks(page: str, language: str) -> list[str]:
    return [code for found, code in FENCE.findall(PAGES[page]) if found == language]


def prose(page: str) -> str:
    return FENCE.sub("", PAGES[page])


def command_lines(program: str) -> Iterator[str]:
    """Every line of a bash block that starts with this program, and every such command in backticks."""
    for page in PAGES:
        for code in blocks(page, "bash"):
            lines = code.replace("\\\n", " ").splitlines()
            yield from (line for line in lines if line.startswith(f"{program} "))
        yield from re.findall(rf"`({program} [^`]+)`", prose(page))


def execute(code: str, page: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, f"<{page}>", "exec"), {"__name__": "documentation"})  # noqa: S102


@cache
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


# Code


@pytest.mark.usefixtures("small_recipes")
@pytest.mark.parametrize(
    ("page", "number"), [(page, i) for page in PAGES if page != QUICK_START for i in range(len(blocks(page, "python")))]
)
def test_python_on_the_pages_runs(page: str, number: int, request: pytest.FixtureRequest) -> None:
    code = blocks(page, "python")[number]
    if "load_signals" in code:
        request.getfixturevalue("beside_a_run")
    execute(code, page)


@pytest.mark.usefixtures("small_recipes")
def test_the_quick_start_runs_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    for code in blocks(QUICK_START, "bash"):
        if code.startswith("cat >"):
            subprocess.run(["bash", "-euc", code], cwd=tmp_path, check=True, timeout=60)
            continue
        for line in code.splitlines():
            parts = shlex.split(line)
            workers = " --workers 1" if parts[1] in ("run", "train", "evaluate") else ""
            invoke(line + workers + " --no-report" * (parts[1] == "run"))
    for code in blocks(QUICK_START, "python"):
        execute(code, QUICK_START)


@pytest.mark.parametrize(("page", "number"), [(page, i) for page in PAGES for i in range(len(blocks(page, "yaml")))])
def test_yaml_on_the_pages_is_part_of_a_recipe_or_a_study(page: str, number: int, tmp_path: Path) -> None:
    code = blocks(page, "yaml")[number]
    values = yaml.safe_load(code)
    if "recipes" in values:
        (tmp_path / "study.yaml").write_text(code, encoding="utf-8")
        read_study(str(tmp_path / "study.yaml"))
    elif "tune" in values:
        read_study("pocket-tuned", [f"tune={yaml.safe_dump(values['tune'], default_flow_style=True)}"])
    else:
        parse_recipe({**read_recipe("pocket"), "baseline": None, **values})


# Commands


def test_every_molsaki_command_exists_with_its_options() -> None:
    lines = [line for line in command_lines("molsaki") if line != "molsaki --help"]
    assert len(lines) > 20
    for line in lines:
        words = shlex.split(line.replace("…", ""), comments=True)[1:]
        depth = 2 if words[0] in ("recipes", "signals") and len(words) > 1 else 1
        options = set(re.findall(r"--?[a-z]+(?:-[a-z]+)*", invoke(shlex.join(["molsaki", *words[:depth], "--help"]))))
        assert {word for word in words[depth:] if word.startswith("-")} <= options, line


def test_every_study_and_recipe_in_a_command_ships() -> None:
    ships = {"study": study_names(), "run": recipe_names(), "generate": recipe_names(), "import": recipe_names()}
    for line in command_lines("molsaki"):
        words = shlex.split(line.replace("…", ""), comments=True)[1:]
        named = words[1] if len(words) > 1 else ""
        if words[0] in ships and re.fullmatch(r"[a-z][a-z-]+", named):
            assert named in ships[words[0]], line


def test_recipes_that_the_pages_check_are_right() -> None:
    for line in command_lines("molsaki"):
        if line.startswith(("molsaki recipes check pocket", "molsaki recipes show pocket", "molsaki recipes list")):
            assert invoke(line)


def test_every_script_exists_with_its_options() -> None:
    lines = list(command_lines("python"))
    assert len(lines) > 5
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        if words[:2] == ["-m", "pytest"]:
            assert (ROOT / words[2]).is_file(), line
            continue
        if words[0] == "-m":
            module = words[1].replace(".", "/")
            script = next(ROOT.glob(f"*/{module}.py"), ROOT / "src" / module / "__main__.py")
        else:
            script = ROOT / words[0]
        assert script.is_file(), line
        sources = script.parent.glob("*.py") if words[0] == "-m" else [script]
        options = {one for path in sources for one in re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8"))}
        assert {word for word in words if word.startswith("--")} <= options, line


PROGRAMS = sorted((*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py")))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_every_program_loads(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "gguf" in program.read_text(encoding="utf-8"):
        pytest.importorskip("gguf")
    monkeypatch.setattr(sys, "path", [str(program.parent), *sys.path])
    runpy.run_path(str(program), run_name="loaded")


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in command_lines("make"):
        assert line.split()[1] in targets, line


# Links


def anchors(page: str) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def linked(page: str) -> Iterator[tuple[str, str]]:
    """Where a page's links go: the path from the root, and the heading."""
    for target in LINK.findall(prose(page)):
        if not target.startswith("https://"):
            path, _, heading = target.partition("#")
            full = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
            assert full.exists(), f"{page}: {target}"
            yield full.relative_to(ROOT).as_posix(), heading


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_are_there(page: str) -> None:
    for target, heading in linked(page):
        assert not heading or heading in anchors(target), f"{target}#{heading}"


def test_every_page_is_reached_from_the_index() -> None:
    assert "docs/index.md" in {target for target, _ in linked("README.md")}
    seen, waiting = {"docs/index.md"}, ["docs/index.md"]
    while waiting:
        found = {target for target, _ in linked(waiting.pop()) if target in PAGES} - seen
        seen |= found
        waiting += found
    lost = [page for page in PAGES if page.startswith(("docs/", "benchmarks/")) and page not in seen]
    assert not lost


def test_pictures_are_shown_somewhere() -> None:
    shown = {target for page in PAGES for target, _ in linked(page)}
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/pictures").iterdir()} <= shown


# The log of experiments


ENTRY = re.compile(r"^\| (\d{4}-\d\d-\d\d) \| \[[^\n]+?\]\((experiments/[\w-]+\.md)\) \|", re.MULTILINE)
LOG = [(f"docs/{page}", date) for date, page in ENTRY.findall(PAGES["docs/experiments.md"])]
"""Page and date of every line of the log."""


def test_the_log_has_one_line_for_every_study_newest_first() -> None:
    assert sorted(page for page, _ in LOG) == sorted(STUDIES)
    dates = [date for _, date in LOG]
    assert dates == sorted(dates, reverse=True)


@pytest.mark.parametrize("page", STUDIES)
def test_a_study_is_short_and_has_its_date_command_and_table(page: str) -> None:
    assert len(PAGES[page].splitlines()) <= 80
    assert dict(LOG)[page] in PAGES[page]
    assert blocks(page, "bash")
    assert "| --- |" in PAGES[page]


# Names


def resolve(name: str) -> Any:
    """A module, or something in one, by its full name."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            found = importlib.import_module(".".join(parts[:end]))
            for part in parts[end:]:
                found = getattr(found, part)
            return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES)
def test_modules_and_files_that_a_page_names_are_there(page: str) -> None:
    text = prose(page)
    for name in re.findall(r"`(molsaki(?:_benchmarks)?(?:\.\w+)+)", text):
        resolve(name)
    for name in re.findall(r"`((?:[\w-]+/)*\w+\.(?:py|toml))\b", text):
        assert any((ROOT / folder / name).exists() for folder in ("", "src/molsaki")), name


def test_folders_that_contributing_names_are_there() -> None:
    rows = re.findall(r"^\| `(\w+)/` \| (.*)$", PAGES["CONTRIBUTING.md"], re.MULTILINE)
    assert len(rows) > 10
    for name, rest in rows:
        assert (ROOT / "src/molsaki" / name).is_dir() or rest.startswith("(planned)"), name


def models_in(hint: Any) -> Iterator[type[BaseModel]]:
    """The models of a field's type, of every arm of a union."""
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias) and issubclass(hint, BaseModel):
        yield hint
    for arm in typing.get_args(hint):
        yield from models_in(arm)


def has_key(model: type[BaseModel], path: list[str]) -> bool:
    field = model.model_fields.get(path[0])
    if field is None:
        return False
    return len(path) == 1 or any(has_key(inner, path[1:]) for inner in models_in(field.annotation))


@pytest.mark.parametrize("page", PAGES)
def test_keys_of_recipes_that_a_page_names_are_there(page: str) -> None:
    parts = "|".join(name for name in Recipe.model_fields if list(models_in(Recipe.model_fields[name].annotation)))
    for name in re.findall(rf"`((?:{parts})(?:\.[a-z_]+)+)(?=[`:= ])", prose(page)):
        assert name.endswith(".jsonl") or has_key(Recipe, name.split(".")), name


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/methods/")])
def test_settings_of_methods_that_a_page_describes_are_there(page: str) -> None:
    known = {field for method in METHODS.values() for field in method.Settings.model_fields}
    for table in re.findall(r"^\| setting .*\n\|[-| ]+\n((?:\|.*\n)+)", PAGES[page], re.MULTILINE):
        for row in table.splitlines():
            assert set(re.findall(r"`(\w+)`", row.split(" | ")[0])) <= known, row


# Tables


def test_the_table_of_recipe_keys_is_the_codes() -> None:
    assert recipe_table.on_the_page() == recipe_table.tables(), "run: python tests/helpers/recipe_table.py"


def test_tables_name_every_recipe_source_method_study_command_and_public_name() -> None:
    for name in recipe_names():
        assert f"| `{name}` |" in PAGES["docs/recipes.md"]
    for name in SOURCES:
        assert f"| `{name}` |" in PAGES["docs/data.md"]
    for name in METHODS:
        assert f"| `{name}` |" in PAGES["docs/methods.md"]
    for name in study_names():
        assert f"`{name}`" in PAGES["docs/studies.md"]
    for command in app.registered_commands:
        name = command.name or typing.cast("Any", command.callback).__name__
        assert re.search(rf"\| `molsaki {name}[ `]", PAGES["README.md"]), name
    for name in set(molsaki.__all__) - {"__version__"}:
        assert f"`{name}`" in PAGES["docs/python.md"], name


def test_the_readme_begins_with_a_screen_that_can_be_read() -> None:
    first = PAGES["README.md"].partition("\n## ")[0]
    assert len(first.splitlines()) <= 50
    assert first.count("<!-- demo:begin -->") == first.count("<!-- demo:end -->") == 1
