"""A recipe's methods with all their settings written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from molsaki.config.load import parse_recipe
from molsaki.config.recipe import MethodSpec, Recipe
from molsaki.methods import METHODS


def resolve_methods(recipe: Recipe) -> Recipe:
    """The recipe with every setting of its methods, defaults and those of a preset included.

    Raises:
        pydantic.ValidationError: a setting is unknown or impossible.
    """
    resolved = []
    for spec in recipe.methods:
        settings = METHODS[spec.name].Settings(**spec.settings).model_dump(mode="json")
        resolved.append(MethodSpec.model_validate({**spec.model_dump(), **settings}))
    return recipe.model_copy(update={"methods": tuple(resolved)})


def parse_run_recipe(values: Mapping[str, Any]) -> Recipe:
    """The recipe of a run directory.

    Runs have all settings of their methods written out. One of a version before presets does not; its `molsaki` and
    `single-layer` were as written.

    Raises:
        RecipeError: all problems at once.
    """
    methods = values.get("methods")
    if isinstance(methods, list):
        methods = [{"preset": "as-written", **entry} if _before_presets(entry) else entry for entry in methods]
    return parse_recipe({**values, "methods": methods})


def _before_presets(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("name") in ("molsaki", "single-layer") and "preset" not in entry
