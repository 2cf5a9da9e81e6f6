"""Names in a recipe that pydantic cannot check: of methods, their settings, data sets, files, models and trackers.

Each check returns the problems that it finds, one line each: the key, what was expected and what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from molsaki.config.load import MAX_SHOWN, list_errors
from molsaki.config.model_spec import POCKET_MODELS, SEED, ModelSpec
from molsaki.config.recipe import MethodSpec, Recipe
from molsaki.config.student_settings import TrainingSettings
from molsaki.data import SOURCES
from molsaki.data.mapping import Columns, completion_columns
from molsaki.data.table import table_columns
from molsaki.errors import DataError
from molsaki.methods import METHODS

TRACKER_CHECKS = {"azure_ml": "azureml", "comet_ml": "comet", "flyte": "flytekit"}
"""Trackers whose check in transformers has another name: `is_comet_available` for `comet_ml`."""


def check_names(recipe: Recipe) -> list[str]:
    """Find unknown methods, settings, data sets, files, models and trackers."""
    return [
        *(problem for i, spec in enumerate(recipe.methods) for problem in _check_method(recipe, i, spec)),
        *_check_data(recipe),
        *_check_models(recipe),
        *_check_trackers(recipe),
    ]


def _check_method(recipe: Recipe, i: int, spec: MethodSpec) -> list[str]:
    method = METHODS.get(spec.name)
    if method is None:
        return [f"methods.{i}.name: expected one of {', '.join(METHODS)}; got {spec.name!r}"]
    checks: dict[type[BaseModel], tuple[tuple[str, ...], Callable[[], object]]] = {
        method.Settings: (("methods", str(i)), lambda: method.Settings(**spec.settings)),
        TrainingSettings: (("methods", str(i), "training"), lambda: recipe.training_of(spec)),
    }
    problems = []
    for model, (prefix, check) in checks.items():
        try:
            check()
        except ValidationError as error:
            problems += list_errors(error, model, prefix)
    return problems


def _check_data(recipe: Recipe) -> list[str]:
    problems: list[str] = []
    for key, spec in recipe.data.specs.items():
        source = SOURCES.get(spec.source)
        if source is None:
            if spec.source.startswith("hub:"):
                problems += _check_columns(f"{key}.columns", spec.columns, table_columns)
            else:
                known = ", ".join(SOURCES)
                problems.append(f"{key}.source: expected one of {known} or hub:owner/name; got {spec.source!r}")
            continue
        given = {name for name in ("path", "split", "columns") if getattr(spec, name) is not None}
        problems += [
            f"{key}.{name}: expected a value; {spec.source} requires one" for name in sorted(source.needs - given)
        ]
        problems += [
            f"{key}.{name}: expected no value; {spec.source} does not use it. Got {getattr(spec, name)!r}"
            for name in sorted(given - source.takes)
        ]
        if "columns" in source.takes:
            problems += _check_columns(f"{key}.columns", spec.columns, table_columns)
        path = recipe.data_path(spec.path)
        if path is not None and "path" in source.takes:
            problems += _check_path(key, path, source.file_of_split.get(spec.split or "", ""))
    rationales = recipe.data_path(recipe.rationales.path)
    if rationales is not None:
        problems += _check_columns("rationales.columns", recipe.rationales.columns, completion_columns)
        problems += _check_path("rationales", rationales)
    return problems


def _check_columns(key: str, columns: Columns | None, check: Callable[[Columns], object]) -> list[str]:
    try:
        if columns is not None:
            check(columns)
    except DataError as error:
        return [f"{key}: {error}"]
    return []


def _check_path(key: str, path: Path, usual_name: str = "") -> list[str]:
    try:
        if path.is_dir():
            path /= usual_name
        error = "" if path.exists() else "it does not exist"
    except OSError as os_error:  # a name that is too long, a folder without permission
        error = f"the system reports: {os_error.strerror}"
    shown = str(path)[:MAX_SHOWN]
    expected = (
        f"{key}.path: expected a file or folder at {shown}; {error}. Set the data folder with --data or MOLSAKI_DATA"
    )
    return [expected] if error else []


def _check_models(recipe: Recipe) -> list[str]:
    models = {**recipe.teacher.models, "student": recipe.student}
    drawn = [
        f"{key}.name: expected a name without {SEED}, since all seeds have one teacher; got {model.name!r}"
        for key, model in models.items()
        if key != "student" and isinstance(model, ModelSpec) and SEED in model.name
    ]
    return drawn + [
        f"{key}.name: expected one of {', '.join(POCKET_MODELS)}; got {model.name!r}"
        for key, model in models.items()
        if isinstance(model, ModelSpec) and model.name.startswith("pocket:") and model.name not in POCKET_MODELS
    ]


def _check_trackers(recipe: Recipe) -> list[str]:
    """Check trackers now: transformers' Trainer would refuse them only after the teacher has done all its work."""
    given: dict[str, Any] = {"training": recipe.training.trackers}
    given |= {f"methods.{i}.training": spec.training.get("trackers") for i, spec in enumerate(recipe.methods)}
    problems: list[str] = []
    for key, names in given.items():
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            problems += _check_tracker_names(f"{key}.trackers", names)
    return problems


def _check_tracker_names(key: str, names: Sequence[str]) -> list[str]:
    if not names or list(names) in (["all"], ["none"]):
        return []
    from transformers import integrations

    problems, known = [], integrations.INTEGRATION_TO_CALLBACK
    for i, name in enumerate(names):
        # The check of the callback; creating the callback itself would print errors when it is deleted.
        available = getattr(integrations, f"is_{TRACKER_CHECKS.get(name, name)}_available", None)
        if name not in known:
            problems.append(f"{key}.{i}: expected one of {', '.join(known)}, or only all or none; got {name!r}")
        elif available is not None and not available():
            problems.append(
                f"{key}.{i}: expected an installed tracker; transformers does not find {name!r}. Install it and set it "
                "up, or remove it from the recipe"
            )
    return problems
