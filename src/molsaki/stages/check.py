"""From a recipe's name and a few options to a checked recipe and an open run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from molsaki.config.load import LONGEST_SHOWN, describe, override, parse_recipe, raise_all, read_form, read_recipe
from molsaki.config.methods import parse_run_recipe, resolve_methods
from molsaki.config.model_spec import POCKET_MODELS, ModelSpec
from molsaki.config.recipe import DataSpec, Recipe
from molsaki.data import SOURCES
from molsaki.errors import RecipeError
from molsaki.methods import METHODS, terms_of
from molsaki.methods.base import WEIGHT_TAGS
from molsaki.stages.next_tokens import require_temperatures
from molsaki.stages.workspace import TRAIN, VALIDATION, Workspace
from molsaki.store.run_directory import RunDirectory

TINY_OVERRIDES: dict[str, dict[str, Any]] = {
    "training": {"steps": 30, "batch_size": 4, "log_every": 5, "warmup_steps": 0, "accumulation": 1},
    "rationales": {"max_new_tokens": 24, "keep": "all"},
    "evaluation": {"max_new_tokens": 12, "max_rationale_tokens": 24, "batch_size": 64, "rows": 24},
    "attention": {"max_length": 512, "batch_tokens": 8192},
}
"""What `--tiny` sets besides the models. A random teacher is never right, so what it writes is kept all the same;
a tiny run shows that everything works and nothing about learning."""
TINY_GENERATED_ROWS = 32
MAY_GROW = {"methods", "seeds", "baseline", "description"}
"""What a run's recipe may have more of, or say otherwise, without anything that was made becoming another thing."""
TRACKER_CHECKS = {"azure_ml": "azureml", "comet_ml": "comet", "flyte": "flytekit"}
"""Trackers that transformers asks for by another name: `is_comet_available` for `comet_ml`."""
_NUMBER = TypeAdapter(int)


def prepare_recipe(name: str, *, tiny: bool = False, settings: Sequence[str] = (), data: str | None = None) -> Recipe:
    """Read a recipe, apply the options, and check all that can be checked without loading anything.

    Raises:
        RecipeError: all problems at once, each with what was expected.
    """
    return prepare_values(read_recipe(name), tiny=tiny, settings=settings, data=data)


def prepare_values(
    values: Mapping[str, Any], *, tiny: bool = False, settings: Sequence[str] = (), data: str | None = None
) -> Recipe:
    """As `prepare_recipe`, for a recipe that has been read already.

    Raises:
        RecipeError: all problems at once, each with what was expected.
    """
    values = dict(values)
    if tiny:
        values = _make_tiny(values)
    values = override(values, settings)
    if data is not None:
        part = values.get("data")
        values = {**values, "data": {**part, "root": data} if isinstance(part, dict) else part}
    recipe, problems = read_form(values)
    if recipe is not None:
        problems += _wrong_names(recipe)
        # What does not fit together is only looked for where every part is as it was written.
        problems += _misfits(recipe) if not problems else []
    raise_all(problems)
    assert recipe is not None
    specs = (recipe.data.train, recipe.data.validation, *recipe.data.tests.values())
    if recipe.data.root is None and any(spec is not None and spec.path is not None for spec in specs):
        values["data"]["root"] = str(recipe.data_root())
        recipe = parse_recipe(values)
    return resolve_methods(recipe)


def open_workspace(recipe: Recipe, folder: Path, *, overwrite: bool = False) -> Workspace:
    """Open the run directory of a recipe, or make it; a run that is there may get more methods and seeds."""

    def grow(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any] | None:
        together = with_more(there, wanted)
        if together is not None and together != there:
            require_temperatures(folder, parse_recipe(together))
        return together

    run = RunDirectory.open_or_create(folder, recipe.model_dump(mode="json"), overwrite, grow)
    return Workspace(run, parse_run_recipe(run.recipe))


def with_more(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recipe of a run with the methods and seeds of another one added, which it keeps beside its own.

    Returns:
        None where anything else differs, or an entry of the same label: results of the two would be mixed.
    """
    try:
        # Keys and settings that are new since have their defaults.
        there = resolve_methods(parse_run_recipe(there)).model_dump(mode="json")
    except (RecipeError, ValidationError):
        return None
    if any(there.get(key) != wanted.get(key) for key in (there.keys() | wanted.keys()) - MAY_GROW):
        return None
    methods = {entry["label"]: entry for entry in there["methods"]}
    if any(methods.get(entry["label"], entry) != entry for entry in wanted["methods"]):
        return None
    methods |= {entry["label"]: entry for entry in wanted["methods"]}
    seeds = list(dict.fromkeys([*there["seeds"], *wanted["seeds"]]))
    return {**wanted, "methods": list(methods.values()), "seeds": seeds}


def _make_tiny(values: dict[str, Any]) -> dict[str, Any]:
    """Apply what `--tiny` sets; whatever has a wrong form is left for the check to find."""
    made = override(values, [])
    made["tiny"] = True
    made["seeds"] = [1]
    for section, changes in TINY_OVERRIDES.items():
        given = made.get(section) or {}
        if isinstance(given, dict):
            made[section] = {**given, **changes}
    for entry in made["methods"] if isinstance(made.get("methods"), list) else ():
        if isinstance(entry, dict) and isinstance(own := entry.get("training"), dict):
            entry["training"] = {name: own[name] for name in own if name not in TINY_OVERRIDES["training"]}
    data, rationales = made.get("data"), made.get("rationales")
    train = data.get("train") if isinstance(data, dict) else None
    written = isinstance(rationales, dict) and rationales.get("source", "teacher") == "teacher"
    random = written and not _is_served(made)
    if random and made.get("keys") == "keywords" and made["rationales"].get("keywords", "teacher") == "teacher":
        made["rationales"]["keywords"] = "question-words"  # what a random teacher names is in no text
    if written and isinstance(train, dict):
        # A recipe that was resolved before says null where it has no limit.
        limit = train.get("limit")
        train["limit"] = TINY_GENERATED_ROWS if limit is None else _at_most(limit, TINY_GENERATED_ROWS)
        assert isinstance(data, dict)
        if "validation_rows" in data:
            data["validation_rows"] = _at_most(data["validation_rows"], TINY_GENERATED_ROWS // 4)
    return made


def _at_most(value: Any, most: int) -> Any:
    """A number as the check reads it (a text of digits is one), but no larger; what is none is left for the check."""
    try:
        return min(_NUMBER.validate_python(value), most)
    except ValidationError:
        return value


def _is_served(values: Mapping[str, Any]) -> bool:
    """Whether the teacher that writes is behind a server, which `--tiny` cannot replace."""
    teacher = values.get("teacher")
    writer = teacher.get("writer") if isinstance(teacher, dict) else None
    return isinstance(writer, dict) and "base_url" in writer


def _wrong_names(recipe: Recipe) -> list[str]:
    """Names of methods, settings, data sets, files and models that there are none of."""
    found: list[str] = []
    for i, spec in enumerate(recipe.methods):
        method = METHODS.get(spec.name)
        if method is None:
            found.append(f"methods.{i}.name: expected one of {', '.join(METHODS)}; got {spec.name!r}")
            continue
        checks: tuple[tuple[str, Callable[[], object]], ...] = (
            (f"methods.{i}", lambda: method.Settings(**spec.settings)),  # noqa: B023 - called before the next turn
            (f"methods.{i}.training", lambda: recipe.training_of(spec)),  # noqa: B023
        )
        for where, check in checks:
            try:
                check()
            except ValidationError as error:
                found += [
                    f"{'.'.join([where, *(str(part) for part in problem['loc'] if part not in WEIGHT_TAGS)])}: "
                    f"{describe(problem)}"
                    for problem in error.errors(include_url=False)
                ]
    specs = {f"data.tests.{name}": spec for name, spec in recipe.data.tests.items()} | {"data.train": recipe.data.train}
    if recipe.data.validation is not None:
        specs["data.validation"] = recipe.data.validation
    for where, data in specs.items():
        found += _data_problems(recipe, where, data)
    for where, model in (
        ("teacher.writer", recipe.teacher.writer),
        ("teacher.reader", recipe.teacher.reader),
        ("student", recipe.student),
    ):
        if isinstance(model, ModelSpec) and model.name.startswith("pocket:") and model.name not in POCKET_MODELS:
            found.append(f"{where}.name: expected one of {', '.join(POCKET_MODELS)}; got {model.name!r}")
    found += _tracker_problems("training", recipe.training.trackers)
    for i, spec in enumerate(recipe.methods):
        own = spec.training.get("trackers")
        if isinstance(own, list | tuple) and all(isinstance(name, str) for name in own):
            found += _tracker_problems(f"methods.{i}.training", own)
    return found


def _tracker_problems(where: str, trackers: Sequence[str]) -> list[str]:
    """Trackers that transformers' Trainer would refuse, which it only does when the teacher has done all its work."""
    if not trackers or list(trackers) in (["all"], ["none"]):
        return []
    from transformers import integrations

    found, known = [], integrations.INTEGRATION_TO_CALLBACK
    for i, name in enumerate(trackers):
        # As its callback asks; the callback itself is not made, since a failed one is noisy when it goes.
        available = getattr(integrations, f"is_{TRACKER_CHECKS.get(name, name)}_available", None)
        if name not in known:
            found.append(
                f"{where}.trackers.{i}: expected one of {', '.join(known)}, or all or none alone; got {name!r}"
            )
        elif available is not None and not available():
            found.append(
                f"{where}.trackers.{i}: expected a tracker that is installed and set up; transformers does not find "
                f"{name!r} here. Install and set it up, or take it out"
            )
    return found


def _data_problems(recipe: Recipe, where: str, spec: DataSpec) -> list[str]:
    entry = SOURCES.get(spec.source)
    if entry is None:
        if spec.source.startswith("hub:"):
            return []
        return [f"{where}.source: expected one of {', '.join(SOURCES)} or hub:owner/name; got {spec.source!r}"]
    given = {name for name in ("path", "split", "columns") if getattr(spec, name) is not None}
    found = [
        f"{where}.{name}: expected a value, since {spec.source} needs one; got none" for name in entry.needs - given
    ]
    found += [
        f"{where}.{name}: expected none, since {spec.source} has no use for it; got {getattr(spec, name)!r}"
        for name in given - entry.takes
    ]
    path = recipe.data_path(spec.path)
    if path is None or "path" not in entry.takes:
        return found
    try:
        if path.is_dir():
            path /= entry.file_of_split.get(spec.split or "", "")
        wrong = "" if path.exists() else "there is none"
    except OSError as error:  # a name that is too long, a folder that may not be entered
        wrong = f"the system says: {error.strerror}"
    if wrong:
        found.append(
            f"{where}.path: expected a file or folder at {str(path)[:LONGEST_SHOWN]}; {wrong}. Say where the data is "
            "with --data or MOLSAKI_DATA"
        )
    return found


def _misfits(recipe: Recipe) -> list[str]:
    """Parts of a recipe that do not fit together."""
    found: list[str] = []
    labels = [method.label for method in recipe.methods]
    found += [
        f"methods.{i}.label: expected labels of their own; {label!r} occurs more than once"
        for i, label in enumerate(labels)
        if labels.count(label) > 1 and labels.index(label) == i
    ]
    if recipe.baseline is not None and recipe.baseline not in labels:
        found.append(f"baseline: expected one of the methods' labels {labels}; got {recipe.baseline!r}")
    if len(set(recipe.seeds)) < len(recipe.seeds):
        found.append(f"seeds: expected different seeds; got {list(recipe.seeds)}")
    found += [
        f"data.tests.{name}: expected another name; {name!r} is the name of a set that is not tested on"
        for name in (TRAIN, VALIDATION)
        if name in recipe.data.tests
    ]
    if recipe.student.device_map is not None:
        found.append(
            "student.device_map: expected none, since a student is trained on one device, or on many by `accelerate "
            f"launch`; got {recipe.student.device_map!r}"
        )
    if recipe.attention.layers == "mixed":
        found += _mixed_otherwise(recipe)
    if recipe.rationales.source == "teacher" and recipe.teacher.writer is None:
        found.append("teacher.writer: expected a model, since rationales.source is teacher; got none")
    terms = [terms_of(method.name, method.settings) for method in recipe.methods]
    if recipe.teacher.attending is None and any(of_method.attention for of_method in terms):
        found.append("teacher.reader: expected a model, since a method reads attention; got none")
    elif recipe.teacher.attending is None and any(of_method.next_tokens for of_method in terms):
        found.append("teacher.reader: expected a model, since a method reads its next tokens; got none")
    return found


def _mixed_otherwise(recipe: Recipe) -> list[str]:
    """Methods that would mix the teacher's layers in another way than they are stored, or not at all."""
    found: list[str] = []
    stored = {
        "teacher_weights": "change",
        "teacher_temperature": recipe.attention.temperature,
        "layer_change": recipe.attention.layer_change,
        # G would be another one of means, or of fewer keys.
        "step_pool": "sum",
        "keys": "all",
        # Every head has been averaged with the others of its layer by then.
        "heads": "mean",
    }
    for i, spec in enumerate(recipe.methods):
        method = METHODS[spec.name]
        settings = method.Settings(**spec.settings)
        if method.terms_of(settings).attention is None:
            continue
        if "teacher_weights" not in method.Settings.model_fields:
            found.append(
                f"methods.{i}.name: expected a method that mixes the teacher's layers, as they are stored mixed "
                f"(attention.layers: mixed); got {spec.name!r}. Store them all"
            )
            continue
        for name, value in stored.items():
            wanted = getattr(settings, name, value)
            if wanted != value:
                found.append(
                    f"methods.{i}.{name}: expected {value!r}, as the teacher's layers are stored mixed "
                    f"(attention.layers: mixed); got {wanted!r}. Store them all, or mix them alike"
                )
    return found
