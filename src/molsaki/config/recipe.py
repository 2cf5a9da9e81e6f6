"""The schema of recipes: all settings of a run with their defaults and bounds.

The parts of a recipe are in the files beside this one, `data_settings.py`, `teacher_settings.py` and so on.
`molsaki.config.load` reads recipes. The resolved recipe, with all defaults, is written to the run directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from molsaki.config.data_settings import DataSettings
from molsaki.config.model_spec import StudentSpec
from molsaki.config.parts import Count, Name, RecipePart, Seed
from molsaki.config.prompt_settings import PromptSettings
from molsaki.config.student_settings import EvaluationSettings, TrainingSettings
from molsaki.config.teacher_settings import AttentionSettings, LogitSettings, RationaleSettings, TeacherSettings

if TYPE_CHECKING:
    from molsaki.methods import Terms

DATA_ROOTS = ("data", "../shared/data")
"""Folders that relative data paths start from if neither the recipe nor MOLSAKI_DATA names one. The first that exists
is used; the second holds the data of the project's own tests."""


def data_root(named: str | None = None) -> Path:
    """The folder that relative data paths start from.

    Args:
        named: the folder, if it was named; else MOLSAKI_DATA names it, or it is the first of `DATA_ROOTS` that exists.
    """
    named = named or os.environ.get("MOLSAKI_DATA")
    if named:
        return Path(named)
    return next((Path(root) for root in DATA_ROOTS if Path(root).is_dir()), Path(DATA_ROOTS[0]))


class MethodSpec(BaseModel):
    """A method with its settings, or only its name.

    Attributes:
        name: the name of the method.
        label: the name in tables and folders, which must be unique; by default the name of the method.
        examples: train on at most this many problems with a rationale, the first ones; on all by default.
        training: training settings of this entry that differ from the recipe's.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    label: Name = ""
    examples: Count | None = None
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, Mapping) and "name" in value and not value.get("label"):
            value = {**value, "label": value["name"]}
        return value

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the method, which the method checks."""
        return dict(self.model_extra or {})

    @property
    def terms(self) -> Terms:
        """The terms of its loss.

        Raises:
            pydantic.ValidationError: a setting is unknown or impossible.
        """
        from molsaki.methods import terms_of  # which loads torch

        return terms_of(self.name, self.settings)


class Recipe(RecipePart):
    """All settings of a run.

    Attributes:
        name: the name of the run and of its folder in `runs`.
        description: a line for `molsaki recipes list`.
        seeds: each method trains one student per seed.
        keys: the keys of the attention: "numbers", or "keywords" (see `rationales.keywords`).
        signals: exported signals instead of a `teacher.reader`: their folder, relative to the data root, or
            owner/name[@revision] on the hub. `data.train.source: signals` with `rationales.source: dataset` uses their
            questions and rationales too.
        data: see below.
        teacher, rationales, attention, logits, prompts, student, methods, training, evaluation: see below.
        baseline: the label of the method that the others are compared with.
        tiny: use small random models instead of those named; set by `--tiny`.
    """

    name: Name
    description: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1, 2, 3)
    keys: Literal["numbers", "keywords"] = "numbers"
    signals: str | None = None
    data: DataSettings
    teacher: TeacherSettings = TeacherSettings()
    rationales: RationaleSettings = RationaleSettings()
    attention: AttentionSettings = AttentionSettings()
    logits: LogitSettings = LogitSettings()
    prompts: PromptSettings = PromptSettings()
    student: StudentSpec
    methods: Annotated[tuple[MethodSpec, ...], Field(min_length=1)]
    baseline: str | None = None
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    tiny: bool = False

    def data_root(self) -> Path:
        """The folder that relative data paths start from."""
        return data_root(self.data.root)

    def data_path(self, path: str | None) -> Path | None:
        """A data path, relative to the data root."""
        return None if path is None else self.data_root() / path

    def training_of(self, method: MethodSpec) -> TrainingSettings:
        """The training settings of a method's students.

        Raises:
            ValidationError: the method overrides an unknown setting, or sets a value that is out of bounds.
        """
        if not method.training:
            return self.training
        return TrainingSettings.model_validate({**self.training.model_dump(), **method.training})

    def student_of(self, seed: int) -> StudentSpec:
        """The base model of the students of a seed."""
        return self.student.for_seed(seed)

    @property
    def has_validation(self) -> bool:
        """Whether there are validation problems."""
        return self.data.validation is not None or self.data.validation_rows > 0
