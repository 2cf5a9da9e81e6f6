"""The order of the folders, and what follows from it: a file imports only from folders above its own.

`FOLDERS` is the one place where the order is written for machines; CONTRIBUTING has it for people.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "molsaki"
FOLDERS = (
    "",  # the root
    *("spans", "answers", "encoding", "attention", "methods", "store", "data", "config", "models", "teacher"),
    *("evaluation", "training", "analysis", "integrations", "stages", "report", "study", "cli"),
)
WITHOUT_TORCH = ("", "spans", "answers", "store", "data", "config", "models", "teacher", "stages", "study", "cli")
"""Folders that have modules which a command imports before it is known whether it needs torch."""


def folder_of(module: str) -> str:
    return module.split(".")[0] if "." in module or (PACKAGE / module).is_dir() else ""


@cache
def modules() -> dict[str, Path]:
    """Every module by its name without `molsaki.`; the package itself is left out, since its names are lazy."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del found[""]
    return found


@cache
def imports(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """All that a module imports, in functions and for type checking too: our own modules, and other packages."""
    own, others = set[str](), set[str]()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written out in full"
            package, _, rest = (node.module or "").partition(".")
            if package != "molsaki":
                others.add(package)
                continue
            for name in (f"{rest}.{alias.name}".removeprefix(".") for alias in node.names):
                own.add(name if name in modules() else rest)
    return frozenset(own - {module, ""}), frozenset(others - {"__future__"})


def test_the_list_has_every_folder() -> None:
    there = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert there == set(FOLDERS) - {""}
    assert len(list(PACKAGE.glob("*.py"))) <= 8


@pytest.mark.parametrize("module", modules())
def test_a_file_imports_only_from_folders_above_its_own(module: str) -> None:
    own = FOLDERS.index(folder_of(module))
    below = {target for target in imports(module)[0] if FOLDERS.index(folder_of(target)) > own}
    assert not below, f"{module} imports {', '.join(sorted(below))}, which stand below it"


def test_training_needs_no_code_that_reads_a_teacher() -> None:
    for module in modules():
        if folder_of(module) == "training":
            assert not {target for target in imports(module)[0] if folder_of(target) == "teacher"}, module


def test_there_are_no_circles() -> None:
    # A package's __init__ stands for its own re-exports, so it may import its files, and they not it.
    TopologicalSorter({module: imports(module)[0] for module in modules()}).prepare()


def test_contributing_tells_the_same_order() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = [guide.index(f"`{folder}/`") for folder in FOLDERS if folder]
    assert places == sorted(places)


def test_other_packages_are_those_that_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {requirement.split(">")[0].split("=")[0].lower() for requirement in project["dependencies"]}
    called = {"yaml": "pyyaml", "math_verify": "math-verify"}
    extras = set(project["optional-dependencies"]) & {"trl"}  # each is named after its package
    # Triton comes with PyTorch for CUDA; without it no module that imports it is imported.
    used = {name for module in modules() for name in imports(module)[1]} - sys.stdlib_module_names - {"triton"}
    assert {called.get(name, name) for name in used - {"molsaki_benchmarks"}} == declared | extras
