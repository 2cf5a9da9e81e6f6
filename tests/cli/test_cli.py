"""The command line: fast help with pinned summaries and options, and errors as messages."""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import molsaki
from typer.testing import CliRunner

from molsaki._version import __version__
from molsaki.cli.app import app
from molsaki.config.load import RECIPES, recipe_names

HEAVY = (
    "torch", "transformers", "pydantic", "yaml", "rich", "numpy", "safetensors", "scipy", "pyarrow", "datasets",
    "httpx2", "tenacity", "jinja2",
)  # fmt: skip
RECIPE = {"--out", "-o", "--tiny", "--set", "--data", "--help"}
COMMON = RECIPE | {"--models"}
COMMANDS = {
    "": ("Distil a large language model's reasoning into a small one", {"--help", "--version"}),
    "run": (
        "Run all stages of a recipe, from data to results and a report. Continues where it stopped.",
        COMMON | {"--overwrite", "--workers", "--partial", "--report", "--no-report"},
    ),
    "generate": (
        "Generate rationales that reach the right answer, and key words.",
        COMMON | {"--overwrite", "--partial", "--show", "--rows"},
    ),
    "doctor": (
        "Check a recipe, and print what a run will read, skip, store and cost. Keeps no files.",
        {"--models", "--tiny", "--set", "--data", "--help"},
    ),
    "import": (
        "Import rationales from a file and keep those that reach the right answer.",
        RECIPE | {"--overwrite", "--completion", "--id", "--question", "--count"},
    ),
    "attend": (
        "Read what methods compare of the teacher on the rationales: stepwise attention, next tokens.",
        COMMON | {"--check"},
    ),
    "train": ("Train one student for each method and seed.", COMMON | {"--workers"}),
    "evaluate": (
        "Test the students, or with --model any model, and print accuracies with intervals.",
        COMMON
        | {"--workers", "--model", "--server", "--server-set", "--protocol", "--api-key-env", "--name", "--prompt"}
        | {"--samples", "--temperature", "--max-new-tokens"},
    ),
    "study": (
        "Train and test the missing students of a study, and print its tables. Continues where it stopped.",
        COMMON | {"--workers", "--part", "--prepare", "--tables", "--list"},
    ),
    "export": (
        "Write a student as a whole model with a model card; an adapter is merged into its base.",
        {"--license", "--models", "--trust-remote-code", "--help"},
    ),
    "report": (
        "Write a run as report.html, one page that needs no network, and its figures as PNG and SVG.",
        {"--rows", "--problems", "--models", "--trust-remote-code", "--help"},
    ),
    "look": (
        "Ask a model one question, and show its attention as a table and, with --page, as an HTML page.",
        {"--rationale", "--key", "--models", "--prompt", "--max-new-tokens", "--page", "-o", "--help"},
    ),
    "bench": (
        "Measure the cost of reading attention on this machine, as ratios to a step without it.",
        {
            "--reading",
            "--repeats",
            "--precision",
            "--layers",
            "--way",
            "--out",
            "-o",
            "--help",
            "--checkpointing",
            "--device",
            "--longest",
            "--model",
        },
    ),
    "signals": ("Export a teacher's signals, share them and check them.", {"--help"}),
    "signals export": (
        "Export a run's signals to a self-contained folder. The run is not changed.",
        {"--signal", "--rows", "--hashes", "--mixed", "--half", "--license", "--models", "--help"},
    ),
    "signals verify": (
        "Open every file of exported signals, and check every row and number.",
        {"--tokenizer", "--help"},
    ),
    "signals push": (
        "Upload exported signals to the Hugging Face hub, after every file was checked.",
        {"--private", "--help"},
    ),
    "signals pull": (
        "Download exported signals from the Hugging Face hub, and check every file.",
        {"--help"},
    ),
    "recipes": ("List, show and check recipes.", {"--help"}),
    "recipes list": ("List the recipes that ship with molsaki.", {"--help"}),
    "recipes show": ("Print the file of a recipe.", {"--help"}),
    "recipes check": (
        "Check the keys, values, files and models of a recipe, and print it with all defaults.",
        {"--tiny", "--set", "--data", "--models", "--help"},
    ),
}


def help_of(command: str) -> str:
    result = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_the_summary_and_the_options_of_a_command(command: str) -> None:
    summary, options = COMMANDS[command]
    text = help_of(command)
    assert summary in " ".join(text.split())
    assert set(re.findall(r"(?:^  |, | / )(--?[a-z]+(?:-[a-z]+)*)\b", text, re.MULTILINE)) == options


def test_every_command_is_pinned_here() -> None:
    listed = {f"{group} {name}".strip() for group in ("", "recipes", "signals") for name in _listed(help_of(group))}
    assert listed | {""} == set(COMMANDS)


def _listed(text: str) -> list[str]:
    return re.findall(r"^  ([a-z]+) ", text.split("Commands:")[1], re.MULTILINE)


def test_help_imports_nothing_slow() -> None:
    code = f"import sys, molsaki.cli.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert shown.stdout.strip() == "[]"


def test_help_takes_less_than_half_a_second() -> None:
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "molsaki.cli", "--help"], capture_output=True, timeout=120, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(spent) < 0.5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "nonesuch"), "'nonesuch'"),
        (("run", "pocket", "--set", "trainign.steps=3"), "- trainign: "),
        (("run", "pocket", "--set", "training.steps"), "--set training.steps: "),
        (("recipes", "check", "pocket", "--set", "methods=[x]"), "- methods.0.name: "),
        (("recipes", "show", "nonesuch"), "'nonesuch'"),
        (("bench", "2048"), "'2048'"),
        (("run",), "Missing argument 'RECIPE'"),
        (("run", "pocket", "--workers", "0"), "--workers"),
        (("distil", "pocket"), "No such command 'distil'"),
    ],
)
def test_a_mistake_is_a_message_and_writes_nothing(
    arguments: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = molsaki(*arguments)
    assert shown.code == 2
    assert expected in shown.error
    assert not shown.out
    assert not list(tmp_path.iterdir())


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"molsaki {__version__}\n"


def test_recipes_are_listed_shown_and_checked() -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["recipes", "list"])
    assert [line.split()[0] for line in listed.output.splitlines()] == recipe_names()
    shown = runner.invoke(app, ["recipes", "show", "pocket"])
    assert shown.output == (RECIPES / "pocket.yaml").read_text(encoding="utf-8")
    checked = runner.invoke(app, ["recipes", "check", "pocket", "--tiny", "--set", "training.steps=7"])
    resolved = yaml.safe_load(checked.output)
    assert (resolved["tiny"], resolved["training"]["steps"], resolved["seeds"]) == (True, 7, [1])


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_a_character_that_the_encoding_lacks_is_a_question_mark(encoding: str) -> None:
    code = """
import sys
from molsaki.cli import app as cli
from molsaki.cli.console import Console
def app():
    Console().detail("dss − label-only")
    print("café −", file=sys.stderr)
cli.app = app
cli.main()
"""
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=True, env=env)
    assert shown.stdout.decode(encoding) == "  dss ? label-only\n"
    assert shown.stderr.decode(encoding).rstrip() == ("caf? ?" if encoding == "ascii" else "café ?")


def test_utf_8_is_unchanged() -> None:
    code = "from molsaki.cli import app as cli; cli.app = lambda: print('dss − label-only'); cli.main()"
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=True, env=env)
    assert shown.stdout.decode() == "dss − label-only\n"


def test_a_recipe_is_shown_in_an_encoding_that_lacks_some_characters(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndescription: 5 − 3, naïvely\n", encoding="utf-8")
    command = [sys.executable, "-m", "molsaki.cli", "recipes", "show", str(path)]
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    shown = subprocess.run(command, capture_output=True, timeout=120, check=True, env=env)
    assert shown.stdout.decode("latin-1") == "name: mine\ndescription: 5 ? 3, naïvely\n"


def test_a_message_does_not_control_the_terminal(tmp_path: Path) -> None:
    shown = molsaki("recipes", "check", write(tmp_path / "a.yaml", '"\\x1b[2J": 1'))
    assert shown.code == 2
    assert "␛[2J: " in shown.error
    assert "\x1b[2J" not in shown.error


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_recipe_does_not_reverse_the_text_of_the_terminal(command: str, tmp_path: Path) -> None:
    recipe = yaml.safe_load((RECIPES / "pocket.yaml").read_text(encoding="utf-8")) | {"description": "a\u202eb\u2066c"}
    path = write(tmp_path / "a.yaml", yaml.safe_dump(recipe, allow_unicode=True))
    shown = molsaki("recipes", command, path)
    assert shown.code == 0, shown.error
    assert "a\ufffdb\ufffdc" in shown.out


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_commands_pass_on_no_advice_of_bitsandbytes_about_its_kernels() -> None:
    script = (
        "import logging, sys; from molsaki.cli.app import main; sys.argv = ['molsaki', 'recipes', 'list']\n"
        "try: main()\n"
        "finally: logging.getLogger('bitsandbytes.backends.cpu.ops').warning('advice')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pocket" in done.stdout
    assert not done.stderr
