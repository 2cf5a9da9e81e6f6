"""Imports point down: pure parts know nothing of data, data nothing of training, and only commands know it all."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"

LAYERS: tuple[tuple[str, ...], ...] = (
    # 0: what everything may use
    ("_version", "counts", "errors", "memory", "records"),
    # 1: pure: text and tensors in, text and tensors out; no files, no models to load
    (
        "answer_sentences",
        "answers",
        "arithmetic",
        "attention.*",
        "costs",
        "crossed",
        "keywords",
        "methods.*",
        "mixture",
        "objectives",
        "readings",
        "sentences",
        "span_tokens",
        "spans",
        "statistics",
        "views",
        "words",
    ),
    # 2: data: recipes, problems, tokens, artefacts on disk
    (
        "agreed_tokens",
        "artefacts.*",
        "chats",
        "data.*",
        "encoding",
        "logits",
        "named_words",
        "padding",
        "pocket",
        "pocket.commonsense",
        "pocket.language",
        "pocket.vocabularies",
        "pocket.word_problems",
        "pocket.words",
        "processes",
        "prompts",
        "rationales",
        "recipe",
        "recipe_files",
        "recipe_models",
        "stores.*",
        "token_bytes",
    ),
    # 3: models at work
    (
        "analysis.*",
        "attending",
        "bench",
        "bench_models",
        "bench_reading",
        "bench_training",
        "decoding",
        "estimates",
        "evaluating",
        "evaluation",
        "extraction",
        "generation",
        "importing",
        "interviews",
        "models",
        "next_token_stage",
        "pocket.check",
        "pocket.make",
        "summary",
        "teacher_logits",
        "teachers.*",
        "training.*",
        "verdicts",
        "workspace",
    ),
    # 4: what people call
    (
        "cli",
        "commands.*",
        "console",
        "diagnosis",
        "pipeline",
        "preparation",
        "report.*",
        "students",
        "study.*",
        "workers",
    ),
)
LIGHT = """
    _version answer_sentences answers arithmetic artefacts.* attending chats cli commands.* console costs crossed
    data.* encoding errors generation importing interviews keywords logits models named_words pipeline pocket pocket.*
    processes prompts rationales readings recipe recipe_files recipe_models records sentences span_tokens spans
    statistics summary teachers.* token_bytes verdicts views words workers workspace
""".split()  # noqa: SIM905
"""Modules that can be imported without torch and transformers, which take seconds."""
HEAVY = {"torch", "transformers", "accelerate", "datasets", "peft"}


def modules() -> dict[str, Path]:
    """Every module of the package by its name without `molsaki.`; the package itself is left out."""
    found = {}
    for path in sorted((SOURCE / "molsaki").rglob("*.py")):
        parts = path.relative_to(SOURCE / "molsaki").with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def fits(module: str, patterns: tuple[str, ...] | list[str]) -> bool:
    return any(module == p or (p.endswith(".*") and f"{module}.".startswith(p[:-1])) for p in patterns)


def layer_of(module: str) -> int:
    return next(number for number, patterns in enumerate(LAYERS) if fits(module, patterns))


def type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def statements(tree: ast.AST, *, everywhere: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a module: all of them, or only those that run when it is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif everywhere or not (type_checking(node) or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            yield from statements(node, everywhere=everywhere)


@cache
def imports(module: str, *, everywhere: bool) -> tuple[frozenset[str], frozenset[str]]:
    """What a module imports: modules of this package, and top names of others."""
    known = modules()
    tree = ast.parse(known[module].read_text(encoding="utf-8"))
    own: set[str] = set()
    others: set[str] = set()
    for node in statements(tree, everywhere=everywhere):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
            continue
        assert node.level == 0, f"{module}: imports are written out in full"
        home = node.module or ""
        if home.split(".")[0] != "molsaki":
            others.add(home.split(".")[0])
            continue
        for alias in node.names:
            inside = ".".join([*home.split(".")[1:], alias.name])
            target = inside if inside in known else home.removeprefix("molsaki").removeprefix(".")
            if target:  # "" is the package itself, for its version
                own.add(target)
    return frozenset(own - {module}), frozenset(others - {"__future__"})


def reached(module: str, *, with_packages: bool = True) -> dict[str, tuple[str, ...]]:
    """All modules that importing one runs, each with the way to it; a module's package runs before it."""
    ways: dict[str, tuple[str, ...]] = {module: (module,)}
    pending = [module]
    while pending:
        current = pending.pop()
        parents = {current.rsplit(".", 1)[0]} if with_packages and "." in current else set()
        for target in sorted((imports(current, everywhere=False)[0] | parents) - set(ways)):
            ways[target] = (*ways[current], target)
            pending.append(target)
    return ways


def test_every_module_has_one_layer_and_every_entry_is_a_module() -> None:
    found = modules()
    for module in found:
        assert sum(fits(module, patterns) for patterns in LAYERS) == 1, f"{module} needs one layer in this test"
    for pattern in [entry for patterns in LAYERS for entry in patterns] + LIGHT:
        assert any(fits(module, [pattern]) for module in found), f"{pattern} is no module any more"


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    upward = {
        f"{module} (layer {layer_of(module)}) imports {target} (layer {layer_of(target)})"
        for target in imports(module, everywhere=True)[0]
        if layer_of(target) > layer_of(module)
    }
    assert not upward


def test_there_are_no_import_cycles() -> None:
    for module in modules():
        for target in imports(module, everywhere=False)[0]:
            back = reached(target, with_packages=False).get(module)
            assert back is None, f"{module} → {' → '.join(back)}"


@pytest.mark.parametrize("module", [module for module in modules() if fits(module, LIGHT)])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    for target, way in reached(module).items():
        heavy = imports(target, everywhere=False)[1] & HEAVY
        assert not heavy, f"{' → '.join(way)} imports {', '.join(sorted(heavy))} at once"


def test_other_packages_are_those_that_are_declared() -> None:
    import tomllib

    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {requirement.split(">")[0].split("=")[0].lower() for requirement in project["dependencies"]}
    called = {"yaml": "pyyaml"}
    used = {name for module in modules() for name in imports(module, everywhere=True)[1]} - sys.stdlib_module_names
    brought = {"huggingface_hub"}  # by datasets and transformers; its errors are caught
    assert {called.get(name, name) for name in used} - brought == declared
