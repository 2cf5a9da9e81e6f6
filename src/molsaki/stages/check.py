"""From the name of a recipe and command-line options to a checked recipe and an open run directory."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from molsaki.config.check_consistency import check_consistency
from molsaki.config.check_names import check_names
from molsaki.config.load import check_values, override, parse_recipe, raise_problems, read_recipe
from molsaki.config.methods import parse_run_recipe, resolve_methods
from molsaki.config.model_spec import ModelSpec
from molsaki.config.precision import asks_precision, in_precision
from molsaki.config.recipe import Recipe
from molsaki.config.tiny import tiny_values
from molsaki.errors import RecipeError
from molsaki.methods import METHODS
from molsaki.models.load import pick_device
from molsaki.models.precision import PrecisionChoice, measure_precision
from molsaki.models.quantization import quantization_refusal
from molsaki.stages.signals import require_temperatures
from molsaki.stages.workspace import Workspace
from molsaki.store.run_directory import RunDirectory, is_run

logger = logging.getLogger(__name__)

MAY_DIFFER = {"methods", "seeds", "baseline", "description"}
"""Keys of a recipe that may change in an existing run, because no artefact depends on them."""

PRECISION = "precision"
"""The key of a run's manifest with what was measured for a precision of "auto"."""
EXEMPT = (("teacher", "original"), ("training", "checkpointing"))
"""Keys in sections of a recipe that may change in an existing run: no stored row depends on the first, and the second
changes students by rounding alone."""
LIMITS = {"max_row_mb", "max_store_gb"}
"""Keys of `attention` that may change at any time; its other keys may change until the first row is stored."""
_STUDENT = re.compile(r"(.+)-\d+(?:\.training)?")
"""The folders of a student, from the beginning of its training."""


def prepare_recipe(name: str, *, tiny: bool = False, settings: Sequence[str] = (), data: str | None = None) -> Recipe:
    """Read a recipe, apply the options, and check everything that needs no model.

    Args:
        name: the name of a shipped recipe, or a YAML file.
        tiny: apply `--tiny`.
        settings: overrides of the form `key=value`.
        data: the folder that relative data paths start from.

    Raises:
        RecipeError: lists all errors.
    """
    return prepare_values(read_recipe(name), tiny=tiny, settings=settings, data=data)


def prepare_values(
    values: Mapping[str, Any], *, tiny: bool = False, settings: Sequence[str] = (), data: str | None = None
) -> Recipe:
    """As `prepare_recipe`, from the values of a recipe.

    Raises:
        RecipeError: lists all errors.
    """
    values = dict(values)
    if tiny:
        values = tiny_values(values)
    values = override(values, settings)
    if data is not None:
        section = values.get("data")
        values = {**values, "data": {**section, "root": data} if isinstance(section, dict) else section}
    recipe, problems = check_values(values)
    if recipe is not None:
        problems += check_names(recipe)
        problems += [] if problems else [*check_consistency(recipe), *_check_quantization(recipe)]
    raise_problems(problems)
    assert recipe is not None
    needs_root = recipe.signals is not None or any(spec.path is not None for spec in recipe.data.specs.values())
    if recipe.data.root is None and needs_root:
        values["data"]["root"] = str(recipe.data_root())
        recipe = parse_recipe(values)
    for i, spec in enumerate(recipe.methods):
        if METHODS[spec.name].deprecated:
            logger.warning("methods.%d: %s is deprecated; %s", i, spec.name, METHODS[spec.name].deprecated)
    return resolve_methods(recipe)


def _check_quantization(recipe: Recipe) -> list[str]:
    """Find models that are to be quantised where that cannot be done."""
    specs = {**recipe.teacher.models, "student": recipe.student}
    keys = [key for key, spec in specs.items() if isinstance(spec, ModelSpec) and spec.quantize is not None]
    reason = quantization_refusal() if keys else None
    return [] if reason is None else [f"{key}.quantize: expected none, since {reason}" for key in keys]


def open_workspace(recipe: Recipe, folder: Path, *, overwrite: bool = False) -> Workspace:
    """Open or create the run directory of a recipe.

    Methods and seeds may be added to an existing run, and methods may change until one of their students is begun.
    A precision of "auto" is chosen when the run is created, and kept in its recipe and manifest.
    """
    choice = _choose_precision(recipe, folder, overwrite)
    if choice is not None:
        recipe = in_precision(recipe, bfloat16=choice.is_bfloat16)

    def merge(existing: Mapping[str, Any], requested: Mapping[str, Any]) -> Mapping[str, Any] | None:
        existing = _with_exempt(_with_reading(folder, existing, requested), requested)
        existing = _with_unbegun(folder, existing, requested)
        merged = merge_recipes(existing, requested)
        if merged is not None and merged != existing:
            require_temperatures(folder, parse_recipe(merged))
        return merged

    facts = {} if choice is None else {PRECISION: choice.to_dict()}
    run = RunDirectory.open_or_create(folder, recipe.model_dump(mode="json"), overwrite, merge, facts)
    return Workspace(run, parse_run_recipe(run.recipe))


def precision_choice(workspace: Workspace) -> PrecisionChoice | None:
    """What was measured for a precision of "auto" when a run began; None if its recipe had none."""
    return PrecisionChoice.from_dict(workspace.run.manifest.get(PRECISION))


def _choose_precision(recipe: Recipe, folder: Path, overwrite: bool) -> PrecisionChoice | None:
    """What was measured for "auto" when the run began, or is now. None if the recipe has no "auto"."""
    if not asks_precision(recipe):
        return None
    if not overwrite and is_run(folder):
        chosen = PrecisionChoice.from_dict(RunDirectory(folder).manifest.get(PRECISION))
        if chosen is not None:
            return chosen
    return measure_precision(pick_device())


def _with_reading(folder: Path, existing: Mapping[str, Any], requested: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's recipe with those of the requested settings of `attention` that no stored row depends on."""
    have, want = existing.get("attention"), requested.get("attention")
    if not isinstance(have, dict) or not isinstance(want, dict):
        return existing
    stored = next(folder.glob("attention/*/shard-*.jsonl"), None) is not None
    changed = {name: want[name] for name in want if name in LIMITS or not stored}
    return {**existing, "attention": {**have, **changed}}


def _with_exempt(existing: Mapping[str, Any], requested: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's recipe with the requested values of the keys in `EXEMPT`."""
    for section, key in EXEMPT:
        have, want = existing.get(section), requested.get(section)
        if isinstance(have, dict) and isinstance(want, dict):
            existing = {**existing, section: {**have, key: want.get(key)}}
    return existing


def _with_unbegun(folder: Path, existing: Mapping[str, Any], requested: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's recipe with the requested settings of methods of which no student is begun, as after `--prepare`."""
    methods = existing.get("methods")
    if not isinstance(methods, list):
        return existing
    names = [path.name for part in ("students", "predictions") for path in folder.glob(f"{part}/*")]
    begun = {match[1] for name in names if (match := _STUDENT.fullmatch(name))}
    wanted = {entry["label"]: entry for entry in requested["methods"] if entry["label"] not in begun}
    labels = [entry.get("label") if isinstance(entry, dict) else None for entry in methods]
    return {**existing, "methods": [wanted.get(label, entry) for label, entry in zip(labels, methods, strict=True)]}


def merge_recipes(existing: Mapping[str, Any], requested: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recipe of a run with the methods and seeds of another recipe added.

    Returns:
        None if the recipes differ in anything else, or in a method with the same label.
    """
    try:
        # Adds the defaults of keys and settings that are new.
        existing = resolve_methods(parse_run_recipe(existing)).model_dump(mode="json")
    except (RecipeError, ValidationError):
        return None
    if any(existing.get(key) != requested.get(key) for key in (existing.keys() | requested.keys()) - MAY_DIFFER):
        return None
    methods = {entry["label"]: entry for entry in existing["methods"]}
    if any(methods.get(entry["label"], entry) != entry for entry in requested["methods"]):
        return None
    methods |= {entry["label"]: entry for entry in requested["methods"]}
    seeds = list(dict.fromkeys([*existing["seeds"], *requested["seeds"]]))
    return {**requested, "methods": list(methods.values()), "seeds": seeds}
