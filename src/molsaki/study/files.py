"""The schema of study files, and the recipes that a study runs.

A study runs one or several recipes with every combination of its methods, data sizes, settings and seeds. All students
of a recipe share one run directory, with the same problems, rationales and attention. Each combination of method, size
and setting (`Cell`) is an entry of that run; `Cell.label` is its label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from molsaki.config.load import (
    find_recipe,
    list_errors,
    override,
    raise_problems,
    read_prompts,
    read_yaml_file,
    recipe_names,
)
from molsaki.config.parts import Count, Name, RecipePart, Seed
from molsaki.config.recipe import MethodSpec, Recipe
from molsaki.data import is_generated
from molsaki.errors import RecipeError
from molsaki.stages.check import prepare_values

MEAN = "mean of sets"
"""The column of the mean of a recipe's test sets, beside the columns of the sets."""
TRAINING = "training."
"""The prefix of settings of the training among those that are tried."""
STUDIES = Path(__file__).parent / "recipes"
TRIALS = "tuning"
"""The folder, beside the runs, of the runs that settings are chosen by."""
OF_THE_STUDY = ("seeds", "methods", "baseline")
"""Keys of a recipe that a study sets itself."""


class StudyRecipe(RecipePart):
    """A recipe of a study.

    Attributes:
        recipe: the name of a shipped recipe, or a YAML file, relative to the folder of the study file.
        set: overrides of its values, as in `--set`.
    """

    recipe: str
    set: tuple[str, ...] = ()


class Tuning(RecipePart):
    """The settings that are tried for each method, to choose by the accuracy on the validation problems.

    Attributes:
        methods: by label, the values to try of each setting: one of the method's, or `training.` and one of the
            training's. Every combination is tried. Of equal ones the first is chosen.
        budget: the number of combinations, the same for every method.
        seeds: one student per seed for every combination; none of the study's seeds.
        follow: further methods by label, such as a control of a method, each with the label of the tuned method whose
            chosen settings it takes too.
        untuned: report every method with the study's settings too, beside the chosen ones. Otherwise the methods of
            the study have the chosen settings.
    """

    methods: Annotated[dict[Name, dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]]], Field(min_length=1)]
    budget: Count
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    follow: dict[Name, Name] = Field(default_factory=dict)
    untuned: bool = True


class Study(RecipePart):
    """A study.

    Attributes:
        name: the name of the study, and of its folder in `runs`.
        description: a line for `molsaki study --list`.
        recipes: recipes by their names in tables; or a list of names of shipped recipes.
        set: overrides of values in all recipes.
        seeds: one student per seed, for every method, size and setting.
        methods: as in a recipe.
        sizes: numbers of training problems; by default all problems of a recipe.
        settings: training settings by name; by default those of the recipe.
        baseline: the label of the method that all others are compared with.
        baselines: by label, the method that another is compared with instead.
        compare: further pairs of labels to compare, the first with the second.
        curve: the labels in the chart of accuracy against training problems; all by default.
        published: published accuracies in percent, by recipe, label and test set.
        attention_rows: number of problems of each test set on which the attention of teacher and students is compared,
            for the largest size and the first setting; 0 for no comparison.
        tune: settings to choose for some methods, on the validation problems.
        chosen_by: names or files of studies by which settings of this one were chosen. None of their seeds and none of
            the problems that their students were scored on may be this study's.
    """

    name: Name
    description: str = ""
    recipes: Annotated[dict[Name, StudyRecipe], Field(min_length=1)]
    set: tuple[str, ...] = ()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    methods: Annotated[tuple[MethodSpec, ...], Field(min_length=1)]
    sizes: tuple[Count, ...] = ()
    settings: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    baseline: str
    baselines: dict[Name, Name] = Field(default_factory=dict)
    compare: tuple[tuple[str, str], ...] = ()
    curve: tuple[str, ...] = ()
    published: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)
    attention_rows: Annotated[int, Field(ge=0)] = 0
    tune: Tuning | None = None
    chosen_by: tuple[str, ...] = ()

    @field_validator("recipes", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            if not all(isinstance(name, str) for name in value) or len(set(value)) < len(value):
                raise ValueError("expected a list of different recipe names, or a mapping of names to recipes")
            value = {name: name for name in value}
        if isinstance(value, Mapping):
            return {key: {"recipe": one} if isinstance(one, str) else one for key, one in value.items()}
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        labels = [method.label for method in self.methods]
        if len(set(labels)) < len(labels):
            raise ValueError(f"expected methods with unique labels; got {labels}")
        pairs = [*self.compare, *self.baselines.items()]
        unknown = sorted({self.baseline, *self.curve, *(label for pair in pairs for label in pair)} - set(labels))
        if unknown:
            raise ValueError(f"expected methods of {labels} in baseline, baselines, compare and curve; got {unknown}")
        same = [a for a, b in pairs if a == b]
        if same:
            raise ValueError(f"expected two methods in each pair of compare and baselines; got {same} with themselves")
        if any(method.examples is not None for method in self.methods):
            raise ValueError("expected `sizes` in the study; got `examples` in a method")
        for key, values in (("seeds", self.seeds), ("sizes", self.sizes)):
            if len(set(values)) < len(values):
                raise ValueError(f"expected different {key}; got {list(values)}")
        for text in (*self.set, *(text for recipe in self.recipes.values() for text in recipe.set)):
            if text.partition("=")[0].split(".")[0] in OF_THE_STUDY:
                raise ValueError(f"expected {', '.join(OF_THE_STUDY)} in the study itself; got {text!r} in `set`")
        grid = {key for values in self.settings.values() for key in values}
        twice = {method.label: sorted(grid & set(method.training)) for method in self.methods}
        if any(twice.values()):
            twice = {label: keys for label, keys in twice.items() if keys}
            raise ValueError(f"expected training settings in `settings` or in a method; got some in both: {twice}")
        published = {label for cells in self.published.values() for label in cells}
        if set(self.published) - set(self.recipes) or published - set(labels):
            raise ValueError("expected recipes and methods of this study in `published`")
        return self

    @model_validator(mode="after")
    def _tunes_fairly(self) -> Self:
        if self.tune is None:
            return self
        labels, tuned, follow = {method.label for method in self.methods}, set(self.tune.methods), self.tune.follow
        unknown = sorted((tuned | set(follow)) - labels)
        if unknown:
            raise ValueError(f"expected methods of this study in tune.methods and tune.follow; got {unknown}")
        wrong = {label: other for label, other in follow.items() if label in tuned or other not in tuned}
        if wrong:
            raise ValueError(f"expected methods that are not tuned, by one that is, in tune.follow; got {wrong}")
        if self.baseline not in self.tune.methods:
            raise ValueError(f"expected the baseline {self.baseline!r} in tune.methods, to be tuned as the others are")
        if len(set(self.tune.seeds)) < len(self.tune.seeds):
            raise ValueError(f"expected different tune.seeds; got {list(self.tune.seeds)}")
        if TRIALS in self.recipes:
            raise ValueError(f"expected another name than {TRIALS!r} of a recipe; it is that of the folder of trials")
        for label, values in self.tune.methods.items():
            if fixed := sorted({"name", "label", "examples", "training"} & set(values)):
                raise ValueError(
                    f"expected settings of the method, or of the training after `{TRAINING}`, in tune.methods.{label}; "
                    f"got {fixed}"
                )
            repeated = [key for key, some in values.items() if any(one in some[:i] for i, one in enumerate(some))]
            if repeated:
                raise ValueError(f"expected different values in tune.methods.{label}; some repeat in {repeated}")
            combinations = math.prod(len(some) for some in values.values())
            if combinations != self.tune.budget:
                raise ValueError(
                    f"expected {self.tune.budget} combinations of settings for every method (tune.budget); "
                    f"{label} has {combinations}"
                )
        if set(self.tune.seeds) & set(self.seeds):
            raise ValueError(f"expected other seeds to choose by than to confirm on; got {list(self.tune.seeds)} twice")
        if self.settings:
            raise ValueError("expected no `settings` beside `tune`, which tries training settings itself")
        return self

    @property
    def groups(self) -> list[Group]:
        """The groups of students that are compared: every size with every setting, the largest size last."""
        sizes: list[int | None] = [*sorted(self.sizes)] or [None]
        settings: list[str | None] = [*self.settings] or [None]
        return [Group(size, setting) for size in sizes for setting in settings]

    @property
    def cells(self) -> list[Cell]:
        """The entries of a run, group by group."""
        return [Cell(method.label, group) for group in self.groups for method in self.methods]


@dataclass(frozen=True, slots=True)
class Group:
    """Students with one data size (None: all problems) and one setting (None: the recipe's)."""

    size: int | None = None
    setting: str | None = None

    def __str__(self) -> str:
        shown = [] if self.size is None else [f"{self.size} training problems"]
        return ", ".join(shown if self.setting is None else [*shown, self.setting])


@dataclass(frozen=True, slots=True)
class Cell:
    """A method in a group."""

    method: str
    group: Group

    @property
    def label(self) -> str:
        """The label of its entry in the run."""
        size = "" if self.group.size is None else f"-n{self.group.size}"
        return f"{self.method}{size}" + ("" if self.group.setting is None else f"-{self.group.setting}")


def study_names() -> list[str]:
    """The names of the studies that ship with molsaki."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def find_study(name_or_path: str) -> Path:
    """The file of a study that ships with molsaki, or the path as it is given."""
    return STUDIES / f"{name_or_path}.yaml" if name_or_path in study_names() else Path(name_or_path)


def read_study(name_or_path: str, settings: Sequence[str] = ()) -> tuple[Study, Path]:
    """Read a study, by the name of a shipped one or from a YAML file.

    Args:
        name_or_path: the study.
        settings: overrides of its values, of the form `key=value`.

    Returns:
        The study and its file. The paths of its recipes are relative to the folder of the file.

    Raises:
        RecipeError: the file cannot be read, or has errors; lists all of them.
    """
    path = find_study(name_or_path)
    values = override(read_yaml_file(path, f"a study's name ({', '.join(study_names())})"), settings)
    return check_study(values, path.name), path


def check_study(values: Mapping[str, Any], name: str) -> Study:
    """A study from the values of its keys.

    Args:
        values: the values.
        name: of the study or its file, for messages.

    Raises:
        RecipeError: lists all errors.
    """
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise_problems(list_errors(error, Study, top=name), "study")
        raise AssertionError from error


def study_recipe(
    study: Study,
    path: Path,
    name: str,
    *,
    tiny: bool = False,
    settings: Sequence[str] = (),
    data: str | None = None,
    tuned: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe:
    """The recipe of one of a study's runs, with an entry for every cell and the problems of the largest size.

    Args:
        study: the study.
        path: its file.
        name: the name of the recipe in the study.
        tiny: apply `--tiny`.
        settings: overrides of the recipe, of the form `key=value`, which take precedence over the study and `--tiny`.
        data: the folder that relative data paths start from.
        tuned: settings by label that take precedence over the study's; see `Tuning`.

    Raises:
        RecipeError: lists all errors of the recipe.
    """
    _require_effect(study, settings, tuned or {}, tiny=tiny)
    entry = study.recipes[name]
    file = find_recipe(entry.recipe)
    if entry.recipe not in recipe_names():
        file = path.parent / entry.recipe
    values = read_prompts(read_yaml_file(file, f"a recipe's name ({', '.join(recipe_names())})"), file)
    values = override(values, [*study.set, *entry.set])
    entries = _method_entries(study, tuned or {})
    values |= {"methods": entries, "seeds": list(study.seeds), "name": values.get("name", name)}
    values.pop("baseline", None)
    train = values.get("data", {}).get("train") if isinstance(values.get("data"), dict) else None
    if study.sizes and isinstance(train, dict):
        # Of data that are not generated, each seed draws its own from all training problems.
        drawn = values["data"].get("draws") == "independent" and not is_generated(str(train.get("source")))
        (values["data"] if drawn else train).update({"rows" if drawn else "limit": max(study.sizes)})
    try:
        recipe = prepare_values(values, tiny=tiny, settings=settings, data=data)
    except RecipeError as error:
        raise RecipeError(f"Study {study.name!r}, recipe {name!r}: {error}") from error
    _require_columns(study, name, [*recipe.data.tests, MEAN])
    if study.attention_rows and not recipe.evaluation.keep_weights:
        raise RecipeError(
            f"Study {study.name!r}, recipe {name!r}: expected evaluation.keep_weights=true beside `attention_rows`, "
            "which reads where the trained students look; their weights would be deleted after their tests. Nothing "
            "was run; keep them, or set attention_rows=0."
        )
    return recipe


def _require_effect(
    study: Study, settings: Sequence[str], tuned: Mapping[str, Mapping[str, Any]], *, tiny: bool
) -> None:
    """Check that the study does not set what overrides of its recipes are to change.

    Raises:
        RecipeError: it does.
    """
    sources = {f"settings.{name}": values for name, values in study.settings.items()}
    sources |= {f"methods.{i}.training": method.training for i, method in enumerate(study.methods)}
    problems = []
    for text in settings:
        key = text.partition("=")[0]
        if key == "seeds" and not tiny:  # `--tiny` has a seed of its own, which is overridden here
            problems.append(f"recipe.{text}: expected `--set {text}`; the seeds are the study's")
        own = key.removeprefix(TRAINING) if key.startswith(TRAINING) else None
        places = [f"{where}.{own}" for where, values in sources.items() if own in values]
        places += [f"tune.methods.{label}" for label, values in tuned.items() if own is not None and key in values]
        if places:
            problems.append(f"recipe.{text}: it would have no effect where the study sets {', '.join(places)}")
    raise_problems(problems, "settings")


def _method_entries(study: Study, tuned: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An entry of `methods` for every cell of a study."""
    by_label = {method.label: method for method in study.methods}
    entries = []
    for cell in study.cells:
        own = by_label[cell.method].model_dump() | {"label": cell.label, "examples": cell.group.size}
        own["training"] = {**study.settings.get(cell.group.setting or "", {}), **own["training"]}
        entries.append(with_settings(own, tuned.get(cell.method, {})))
    return entries


def _require_columns(study: Study, name: str, columns: Sequence[str]) -> None:
    """Check that published accuracies are of the columns of a recipe's table.

    Raises:
        RecipeError: some are not.
    """
    published = {test for cells in study.published.get(name, {}).values() for test in cells}
    raise_problems(
        [f"published.{name}: expected one of {columns}; got {test!r}" for test in sorted(published - set(columns))],
        "study",
    )


def with_settings(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of `methods` with some settings changed: the method's, or, after `training.`, the training's."""
    of_training = {key.removeprefix(TRAINING): value for key, value in settings.items() if key.startswith(TRAINING)}
    of_method = {key: value for key, value in settings.items() if not key.startswith(TRAINING)}
    return {**entry, **of_method, "training": {**entry.get("training", {}), **of_training}}
