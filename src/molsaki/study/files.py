"""What a study file says, and which recipe's run with which entries it stands for.

A study takes one recipe or several, and runs each with every method, data size, setting and seed that it names. All
students of a recipe share one run directory: its problems, its rationales and its attention. An entry of that run is
one method at one size with one setting; `Cell.label` is its name there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from molsaki.config.load import find_recipe as recipe_file
from molsaki.config.load import list_errors, override, raise_problems, read_prompts, read_yaml_file, recipe_names
from molsaki.config.model_spec import RecipePart
from molsaki.config.recipe import Count, MethodSpec, Name, Recipe, Seed
from molsaki.errors import RecipeError
from molsaki.stages.check import prepare_values

MEAN = "mean of sets"
"""The name of the mean of a recipe's test sets, among the sets' own."""
STUDIES = Path(__file__).parent / "recipes"


class StudyRecipe(RecipePart):
    """One recipe of a study.

    Attributes:
        recipe: a shipped recipe's name, or a YAML file, from the study file's folder.
        set: values of it that are other ones, as `--set` takes them.
    """

    recipe: str
    set: tuple[str, ...] = ()


class Study(RecipePart):
    """A study.

    Attributes:
        name: the study's name, and its folder's under `runs`.
        description: a line for `molsaki study --list`.
        recipes: by the name that tables give each; a list of recipes' names does too.
        set: values that are other ones in all of them.
        seeds: one student of everything for each.
        methods: as in a recipe.
        sizes: how many training problems students learn from; all that a recipe has by default.
        settings: training settings by a name of their own; the recipe's by default.
        baseline: the label of the method that all others are compared with.
        compare: more pairs of labels to compare, the first with the second.
        curve: the labels that are drawn against the number of examples; all by default.
        published: numbers to show beside, in percent: by recipe, label and test set.
        attention_rows: problems of each test set on which teacher and students are read, at the largest size and
            with the first setting; 0 reads nothing.
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
    compare: tuple[tuple[str, str], ...] = ()
    curve: tuple[str, ...] = ()
    published: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)
    attention_rows: Annotated[int, Field(ge=0)] = 0

    @field_validator("recipes", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            if not all(isinstance(name, str) for name in value) or len(set(value)) < len(value):
                raise ValueError("expected a list of different names of recipes, or recipes by names of their own")
            value = {name: name for name in value}
        if isinstance(value, Mapping):
            return {key: {"recipe": one} if isinstance(one, str) else one for key, one in value.items()}
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        labels = [method.label for method in self.methods]
        if len(set(labels)) < len(labels):
            raise ValueError(f"expected methods with labels of their own, got {labels}")
        named = {self.baseline, *self.curve, *(label for pair in self.compare for label in pair)}
        unknown = sorted(named - set(labels))
        if unknown:
            raise ValueError(f"expected baseline, compare and curve to name methods of {labels}, got {unknown}")
        if any(method.examples is not None or method.training for method in self.methods):
            raise ValueError("expected `sizes` and `settings` of the study in the place of a method's own")
        for what, values in (("seeds", self.seeds), ("sizes", self.sizes)):
            if len(set(values)) < len(values):
                raise ValueError(f"expected different {what}, got {list(values)}")
        beside = [label for cells in self.published.values() for label in cells]
        if set(self.published) - set(self.recipes) or set(beside) - set(labels):
            raise ValueError("expected `published` to name recipes and methods of this study")
        return self

    @property
    def groups(self) -> list[Group]:
        """What is compared among itself: every size with every setting, the largest size last."""
        sizes: list[int | None] = [*sorted(self.sizes)] or [None]
        settings: list[str | None] = [*self.settings] or [None]
        return [Group(size, setting) for size in sizes for setting in settings]

    @property
    def cells(self) -> list[Cell]:
        """Every entry of a run, group by group."""
        return [Cell(method.label, group) for group in self.groups for method in self.methods]


@dataclass(frozen=True, slots=True)
class Group:
    """Entries of one data size (None: all problems) and one setting (None: the recipe's)."""

    size: int | None = None
    setting: str | None = None

    def __str__(self) -> str:
        shown = [] if self.size is None else [f"{self.size} training problems"]
        return ", ".join(shown if self.setting is None else [*shown, self.setting])


@dataclass(frozen=True, slots=True)
class Cell:
    """One method in one group."""

    method: str
    group: Group

    @property
    def label(self) -> str:
        """Its label in the run."""
        size = "" if self.group.size is None else f"-n{self.group.size}"
        return f"{self.method}{size}" + ("" if self.group.setting is None else f"-{self.group.setting}")


def study_names() -> list[str]:
    """The studies that ship with molsaki."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def find_study(name_or_path: str) -> Path:
    """The file of a study: one that ships with molsaki by its name, else a path as it stands."""
    return STUDIES / f"{name_or_path}.yaml" if name_or_path in study_names() else Path(name_or_path)


def read_study(name_or_path: str, settings: Sequence[str] = ()) -> tuple[Study, Path]:
    """Read a study by the name of one that ships with molsaki, or from a YAML file.

    Args:
        name_or_path: the study.
        settings: values of the study that are other ones, `key=value`.

    Returns:
        The study and its file, from whose folder its recipes' paths start.

    Raises:
        RecipeError: it cannot be read, or all that is wrong with it at once.
    """
    path = find_study(name_or_path)
    values = override(read_yaml_file(path, f"a study's name ({', '.join(study_names())})"), settings)
    try:
        return Study.model_validate(values), path
    except ValidationError as error:
        raise_problems(list_errors(error, top=path.name), "study")
        raise AssertionError from error


def study_recipe(
    study: Study, path: Path, name: str, *, tiny: bool = False, settings: Sequence[str] = (), data: str | None = None
) -> Recipe:
    """The recipe of a study's run: one entry for every cell, all seeds, and the problems of the largest size.

    Args:
        study: the study.
        path: its file.
        name: which of its recipes.
        tiny: small random models, as `--tiny` has it.
        settings: values of the recipe that are other ones, over all that the study and `tiny` set.
        data: folder that relative data paths start from.

    Raises:
        RecipeError: all that is wrong with it at once.
    """
    entry = study.recipes[name]
    file = recipe_file(entry.recipe)
    if entry.recipe not in recipe_names():
        file = path.parent / entry.recipe
    values = read_prompts(read_yaml_file(file, f"a recipe's name ({', '.join(recipe_names())})"), file)
    values = override(values, [*study.set, *entry.set])
    by_label = {method.label: method for method in study.methods}
    entries = []
    for cell in study.cells:
        own = by_label[cell.method].model_dump() | {"label": cell.label, "examples": cell.group.size}
        entries.append(own | {"training": dict(study.settings.get(cell.group.setting or "", {}))})
    values |= {"methods": entries, "seeds": list(study.seeds), "name": values.get("name", name)}
    values.pop("baseline", None)
    train = values.get("data", {}).get("train") if isinstance(values.get("data"), dict) else None
    if study.sizes and isinstance(train, dict):
        train["limit"] = max(study.sizes)
    try:
        recipe = prepare_values(values, tiny=tiny, settings=settings, data=data)
    except RecipeError as error:
        raise RecipeError(f"The study {study.name!r}, recipe {name!r}. {error}") from error
    known = [*recipe.data.tests, MEAN]
    beside = {test for cells in study.published.get(name, {}).values() for test in cells}
    raise_problems(
        [f"published.{name}: expected test sets of {known}, got {test!r}" for test in sorted(beside - set(known))],
        "study",
    )
    return recipe
