"""The precision "auto" of a recipe, which is replaced before anything is run."""

from __future__ import annotations

from typing import Any

from molsaki.config.recipe import MethodSpec, Recipe

AUTO = "auto"


def asks_precision(recipe: Recipe) -> bool:
    """Whether a precision of a recipe is "auto"."""
    own = [method.training.get("precision") for method in recipe.methods]
    return AUTO in (recipe.training.precision, recipe.evaluation.dtype, *own)


def in_precision(recipe: Recipe, *, bfloat16: bool) -> Recipe:
    """A recipe with every "auto" replaced: by bfloat16, or by float32 for training and as saved for tests."""
    training = {"precision": "bf16" if bfloat16 else "float32"}
    update: dict[str, Any] = {"methods": tuple(_method_in(method, training) for method in recipe.methods)}
    if recipe.training.precision == AUTO:
        update["training"] = recipe.training.model_copy(update=training)
    if recipe.evaluation.dtype == AUTO:
        update["evaluation"] = recipe.evaluation.model_copy(update={"dtype": "bfloat16" if bfloat16 else None})
    return recipe.model_copy(update=update)


def _method_in(method: MethodSpec, training: dict[str, Any]) -> MethodSpec:
    if method.training.get("precision") != AUTO:
        return method
    return method.model_copy(update={"training": {**method.training, **training}})
