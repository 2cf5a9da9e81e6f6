"""Checks of a recipe that pydantic cannot do: names of methods, data and models, and combinations of settings.

Each check returns the problems that it finds, one line each: the key, what was expected and what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from molsaki.config.data_settings import TRAIN, VALIDATION
from molsaki.config.load import LONGEST_SHOWN, list_errors
from molsaki.config.model_spec import POCKET_MODELS, SEED, ModelSpec, is_gguf
from molsaki.config.recipe import MethodSpec, Recipe
from molsaki.config.student_settings import TrainingSettings
from molsaki.data import EXPORTED, SOURCES, is_generated
from molsaki.data.mapping import Columns, completion_columns
from molsaki.data.table import table_columns
from molsaki.encoding.prompts import CHATS
from molsaki.errors import DataError
from molsaki.methods import METHODS, terms_of

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
        problems += [f"{key}.{name}: expected a value; {spec.source} requires one" for name in source.needs - given]
        problems += [
            f"{key}.{name}: expected no value; {spec.source} does not use it. Got {getattr(spec, name)!r}"
            for name in given - source.takes
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
    shown = str(path)[:LONGEST_SHOWN]
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


def check_consistency(recipe: Recipe) -> list[str]:
    """Find settings that contradict each other. All names must be valid."""
    problems: list[str] = []
    labels = [method.label for method in recipe.methods]
    problems += [
        f"methods.{i}.label: expected unique labels; got {label!r} more than once"
        for i, label in enumerate(labels)
        if labels.count(label) > 1 and labels.index(label) == i
    ]
    if recipe.baseline is not None and recipe.baseline not in labels:
        problems.append(f"baseline: expected one of the methods' labels {labels}; got {recipe.baseline!r}")
    if len(set(recipe.seeds)) < len(recipe.seeds):
        problems.append(f"seeds: expected different seeds; got {list(recipe.seeds)}")
    problems += [
        f"data.tests.{name}: expected another name; {name!r} is the name of the {name} set"
        for name in (TRAIN, VALIDATION)
        if name in recipe.data.tests
    ]
    if isinstance(recipe.evaluation.rows, dict):
        problems += [
            f"evaluation.rows.{name}: expected one of the test sets {list(recipe.data.tests)}"
            for name in recipe.evaluation.rows
            if name not in recipe.data.tests
        ]
    problems += _check_draws(recipe)
    if recipe.evaluation.on == "validation" and not recipe.has_validation:
        problems.append(
            "evaluation.on: expected validation problems to test on; got neither data.validation nor "
            "data.validation_rows"
        )
    if recipe.student.device_map is not None:
        problems.append(
            "student.device_map: expected none, since a student trains on one device or, with `accelerate launch`, on "
            f"several; got {recipe.student.device_map!r}"
        )
    if recipe.student.quantize is not None and recipe.student.lora is None:
        problems.append(
            f"student.quantize: expected lora with {recipe.student.quantize}, since packed weights have no gradient; "
            "add `lora: {}` to the student"
        )
    problems += _check_quantised(recipe)
    problems += _check_chat_settings(recipe)
    if recipe.attention.layers == "mixed":
        problems += _check_mixed_layers(recipe)
    if recipe.rationales.source == "teacher" and recipe.teacher.writer is None:
        problems.append("teacher.writer: expected a model, since rationales.source is teacher; got none")
    methods = [terms_of(spec.name, spec.settings) for spec in recipe.methods]
    problems += _check_signals(recipe)
    if recipe.teacher.original is not None and not any(terms.attention for terms in methods):
        problems.append("teacher.original: expected none, since no method compares attention; leave it out")
    unread = recipe.teacher.attending is None and recipe.signals is None
    if unread and any(terms.attention for terms in methods):
        problems.append("teacher.reader: expected a model, since a method compares attention; got none")
    elif unread and any(terms.next_tokens for terms in methods):
        problems.append("teacher.reader: expected a model, since a method compares next tokens; got none")
    problems += [
        f"methods.{i}.target: expected no oracle, since the problems of {recipe.data.train.source} do not say which "
        "numbers their solutions use; those of pocket-math do"
        for i, terms in enumerate(methods)
        if terms.attention is not None
        and terms.attention.target == "oracle"
        and not (recipe.data.train.source in SOURCES and SOURCES[recipe.data.train.source].knows_sources)
    ]
    return problems


def _check_draws(recipe: Recipe) -> list[str]:
    """Find settings of draws that would have no effect, or make draws that are not independent."""
    data = recipe.data
    independent, generated = data.draws == "independent", is_generated(data.train.source)
    problems = []
    if data.rows is not None and (generated or not independent):
        way_out = "set data.train.limit" if generated else "set data.draws to independent"
        problems.append(
            f"data.rows: expected none here, where it has no effect; got {data.rows}. Leave it out, or {way_out}"
        )
    if independent and not generated and data.rows is None:
        problems.append("data.rows: expected the number of training problems that each seed draws; got none")
    if independent and generated and data.validation_rows:
        problems.append(
            f"data.validation_rows: expected none, since each seed draws its own problems; got {data.validation_rows}. "
            "Name a set in data.validation"
        )
    problems += [
        f"{key}.split: expected a split without a seed, since each seed draws its own problems; got {spec.split!r}"
        for key, spec in data.specs.items()
        if independent and is_generated(spec.source) and ":" in (spec.split or "")
    ]
    return problems


def _check_signals(recipe: Recipe) -> list[str]:
    """Find a reader beside exported signals, and problems of signals that the recipe does not name."""
    named = {"teacher.reader": recipe.teacher.reader, "teacher.original": recipe.teacher.original}
    beside = [(key, model) for key, model in named.items() if model is not None]
    if recipe.signals is not None and beside:
        return [
            f"{key}: expected none, since `signals` takes its place; got {model.name!r}. Leave one of them out"
            for key, model in beside
        ]
    return [
        f"{key}.path: expected the folder of exported signals, here or as the recipe's `signals`; got none"
        for key, spec in recipe.data.specs.items()
        if spec.source == EXPORTED and spec.path is None and recipe.signals is None
    ]


def _check_quantised(recipe: Recipe) -> list[str]:
    """Find GGUF files that are to be trained or quantised once more, and settings of an original without effect."""
    problems, original = [], recipe.teacher.original
    if original is not None and original.chat_template_kwargs:
        problems.append(
            "teacher.original.chat_template_kwargs: expected none, since it is read in the reader's prompt; got "
            f"{original.chat_template_kwargs}"
        )
    if is_gguf(recipe.student.name):
        problems.append(
            f"student.name: expected a model with its weights in safetensors; got the GGUF file {recipe.student.name}, "
            "which is read and not trained. Name the model that it was made from"
        )
    return problems + [
        f"{key}.quantize: expected none for a GGUF file, whose weights are dequantised; got {model.quantize}"
        for key, model in recipe.teacher.models.items()
        if isinstance(model, ModelSpec) and is_gguf(model.name) and model.quantize is not None
    ]


def _check_chat_settings(recipe: Recipe) -> list[str]:
    """Find settings of chat templates that no prompt is rendered with."""
    asked = {
        "teacher.writer": (recipe.teacher.writer, ("teacher", "second_pass", "keywords")),
        "teacher.reader": (recipe.teacher.reader, ("teacher",)),
        "student": (recipe.student, tuple(CHATS)),
    }
    return [
        f"{key}.chat_template_kwargs: expected a chat as one of the prompts {', '.join(names)}, since no text is "
        f"rendered with a chat template; got {model.chat_template_kwargs} and texts"
        for key, (model, names) in asked.items()
        if isinstance(model, ModelSpec)
        and model.chat_template_kwargs
        and not any(recipe.prompts.template(name).is_chat for name in names)
    ]


def _check_mixed_layers(recipe: Recipe) -> list[str]:
    """Find methods that need another mixture of the teacher's layers than the stored one, or all layers."""
    problems: list[str] = []
    stored = {
        "teacher_weights": "change",
        "teacher_temperature": recipe.attention.temperature,
        "layer_change": recipe.attention.layer_change,
        # G is computed from sums over a step's tokens and from all keys.
        "step_pool": "sum",
        "keys": "all",
        "steps": "all",
        # G would be that of the control.
        "target": "teacher",
        # The heads of a layer are averaged before layers are mixed.
        "heads": "mean",
    }
    for i, spec in enumerate(recipe.methods):
        method = METHODS[spec.name]
        settings = method.Settings(**spec.settings)
        if method.terms_of(settings).attention is None:
            continue
        if "teacher_weights" not in method.Settings.model_fields:
            problems.append(
                f"methods.{i}.name: expected a method that mixes the teacher's layers, since attention.layers is "
                f"mixed; got {spec.name!r}. Store all layers"
            )
            continue
        if getattr(settings, "columns", "") == "all-but-keys":
            stored = {**stored, "columns": "all"}
        for name, value in stored.items():
            requested = getattr(settings, name, value)
            if requested != value:
                problems.append(
                    f"methods.{i}.{name}: expected {value!r}, since attention.layers is mixed; got {requested!r}. "
                    "Store all layers, or use the same value"
                )
    return problems
