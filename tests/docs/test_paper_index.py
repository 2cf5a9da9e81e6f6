"""The index of the paper names files, code and settings that are there, and defaults that are true."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from molsaki.config.load import parse_recipe, read_recipe, recipe_names
from molsaki.config.recipe import Recipe
from molsaki.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "paper_index.md").read_text(encoding="utf-8")
NAMES = re.findall(r"`([^`]+)`", PAGE)
CODE = sorted({name for name in NAMES if re.match(r"[\w/]+\.(py|txt)\b", name)})
METHOD_SETTINGS = sorted(
    {name for name in NAMES if re.match(r"[a-z-]+(, as written)?: [a-z_]+", name) and "method:" not in name}
)
PARTS = "|".join(sorted(Recipe.model_fields))
RECIPE_SETTINGS = sorted({name for name in NAMES if re.match(rf"(?:{PARTS})(?:\.[a-z_]+)*(?: = .+)?$", name)})
PAPER = [name for name in recipe_names() if name.startswith("paper-")]


def test_the_page_has_something_to_check() -> None:
    assert min(len(CODE), len(METHOD_SETTINGS)) > 18
    assert len(RECIPE_SETTINGS) > 10
    assert set(PAPER) <= set(NAMES)


@pytest.mark.parametrize("name", CODE)
def test_code_that_the_page_names_is_there(name: str) -> None:
    path, _, inside = name.partition(":")
    assert (ROOT / "src/molsaki" / path).is_file()
    found: Any = importlib.import_module(f"molsaki.{path.removesuffix('.py').replace('/', '.')}") if inside else None
    for part in filter(None, inside.split(".")):
        found = getattr(found, part)


@pytest.mark.parametrize("name", METHOD_SETTINGS)
def test_settings_of_methods_are_there_with_the_defaults_that_the_page_gives(name: str) -> None:
    found = re.fullmatch(r"([a-z-]+)(, as written)?: ([a-z_]+)(?: = (.+))?", name)
    assert found is not None
    method, written, setting, value = found.groups()
    settings = METHODS[method].Settings(**({"preset": "as-written"} if written else {}))
    assert setting in settings.model_fields_set | set(type(settings).model_fields)
    if value is not None:
        assert yaml.safe_load(value) == getattr(settings, setting)


def test_where_the_two_readings_differ_the_page_has_both() -> None:
    run, written = (METHODS["molsaki"].Settings(preset=preset).model_dump() for preset in ("as-run", "as-written"))
    for setting in (name for name in run if run[name] != written[name] and name != "preset"):
        assert any(name.startswith(f"molsaki: {setting} = ") for name in METHOD_SETTINGS), setting
        assert any(name.startswith(f"molsaki, as written: {setting} = ") for name in METHOD_SETTINGS), setting


@pytest.mark.parametrize("name", RECIPE_SETTINGS)
def test_recipe_settings_are_there_with_the_values_of_the_papers_recipes(name: str) -> None:
    path, _, value = name.partition(" = ")
    for recipe in PAPER:
        found: Any = parse_recipe(read_recipe(recipe))
        for part in path.split("."):
            assert part in type(found).model_fields, name
            found = getattr(found, part)
        if value:
            expected = float(value) if re.fullmatch(r"[\d.e-]+", value) else yaml.safe_load(value)
            assert (list(found) if isinstance(found, tuple) else found) == expected, recipe


def test_every_setting_of_molsaki_has_its_place() -> None:
    named = {name.partition(": ")[2].partition(" =")[0] for name in METHOD_SETTINGS if name.startswith("molsaki: ")}
    assert named == set(METHODS["molsaki"].Settings.model_fields)


def test_every_row_says_which_reading_it_is() -> None:
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] not in ("| in the paper", "| ---")]
    assert len(rows) > 50
    assert {row[1] for row in rows} == {"both", "as run", "as written", "–"}
    assert all(row[0].startswith("| not in the paper") for row in rows if row[1] == "–")
