"""What a recipe is: everything a run needs, each value with its bounds.

Unknown keys are refused. `recipe_files` reads recipes; a recipe that is read and resolved is written into the run's
directory, so what was run is what stands there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from molsaki.config.model_spec import ModelSpec, RecipePart, WriterSpec
from molsaki.encoding import prompts
from molsaki.encoding.prompts import PromptTemplate

DATA_ROOTS = ("data", "../shared/data")
"""Where relative paths of data are looked for when neither the recipe nor MOLSAKI_DATA says where: the first of these
that is there. The second is where the project's own tests have their data."""

Count = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""What names files and folders of a run too."""


class DataSpec(RecipePart):
    """One set of problems; see `molsaki.data.load_problems`.

    Attributes:
        source: the data set's name, `table` for a file of your own, or `hub:owner/name[/config][@revision]`.
        path: its file or folder, from the data root.
        split: which part of it.
        columns: for `table` and `hub:`, which columns hold the question, the answer and so on, and how the file reads;
            see `molsaki.data.table.load_table`.
        limit: use the first so many usable rows only.
    """

    source: str
    path: str | None = None
    split: str | None = None
    columns: dict[str, str | tuple[str, ...]] | None = None
    limit: Count | None = None


class DataSettings(RecipePart):
    """Training, validation and test problems.

    Attributes:
        task: what the results call it.
        root: folder that relative paths start from; by default MOLSAKI_DATA, else the folder `data` where the command
            is run, else `../shared/data` beside it, where the project's own tests have theirs.
        train: the problems that rationales are made for and students learn from.
        validation: problems that students are validated on while they train, never tested on.
        validation_rows: instead, how many training problems to set aside for that, by the hash of their text.
        tests: test sets by name; the first is the in-domain one.
    """

    task: str
    root: str | None = None
    train: DataSpec
    validation: DataSpec | None = None
    validation_rows: Annotated[int, Field(ge=0)] = 0
    tests: Annotated[dict[Name, DataSpec], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_validation(self) -> Self:
        if self.validation is not None and self.validation_rows:
            raise ValueError("expected either `validation` or `validation_rows`, got both")
        return self


class TeacherSettings(RecipePart):
    """Who writes the rationales and whose attention is read; two models may do the two.

    Attributes:
        writer: the model that writes rationales, a local one (`name`) or a served one (`base_url`); not needed where
            they are imported.
        reader: the model whose attention is read, a local one; the writer by default, if that is local.
    """

    writer: WriterSpec | None = None
    reader: ModelSpec | None = None

    @property
    def attending(self) -> ModelSpec | None:
        """The model whose attention is read."""
        return self.reader or (self.writer if isinstance(self.writer, ModelSpec) else None)


class RationaleSettings(RecipePart):
    """Where rationales and key words come from.

    Attributes:
        source: "teacher" writes them; "palm" are PaLM-540B's completions beside the data of Distilling
            step-by-step; "dataset" are those that come with the problems; "file" are those of a file of any tool;
            "imported" those that `molsaki import` brings from one.
        path: that file, from the data root.
        columns: its columns: `completion`, and `id` or `question` (and `choices`) to find the problem by.
        keep: "right" keeps what reaches the right answer; "all" keeps wrong ones too (only to try things out).
        keywords: for multiple choice: "teacher" is asked for them, "question-words" takes the question's content
            words, "dataset" those that come with the problems.
        second_pass: ask the teacher again where it was wrong, with the right answer given, for reasons that lead
            there; what leads there then is kept.
        samples: how often each question is asked; of several right rationales the one is kept that most agree with.
        temperature: of sampling; 0 always takes the likeliest token.
        max_new_tokens: the bound on one rationale with its answer.
        batch_size: questions that a local model answers together.
    """

    source: Literal["teacher", "palm", "dataset", "file", "imported"] = "teacher"
    path: str | None = None
    columns: dict[str, str | tuple[str, ...]] | None = None
    keep: Literal["right", "all"] = "right"
    keywords: Literal["teacher", "question-words", "dataset"] = "teacher"
    second_pass: bool = False
    samples: Annotated[int, Field(ge=1, le=100)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_new_tokens: Count = 256
    batch_size: Count = 32

    @model_validator(mode="after")
    def _file_has_columns(self) -> Self:
        given = [name for name in ("path", "columns") if getattr(self, name) is not None]
        if self.source == "file" and len(given) < 2:
            raise ValueError("expected `path` and `columns` with `source: file`")
        if self.source != "file" and given:
            raise ValueError(f"expected no {' and '.join(given)} with `source: {self.source}`")
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and not self.temperature:
            raise ValueError("expected a `temperature` above 0 with several `samples`, got 0: all would be the same")
        return self


class AttentionSettings(RecipePart):
    """How the teacher's attention is read and stored.

    Attributes:
        dtype: precision on disk; float16 halves the space.
        layers: "all" stores every layer; "mixed" only their mixture by Eq. 4, as many times smaller as the model has
            layers, for methods that mix whole layers so.
        temperature: τ1 of what is stored mixed; the methods' own must be the same.
        layer_change: G of what is stored mixed; likewise.
        max_length: longer sequences are cut and counted; the model's context by default.
        batch_tokens: how many tokens are read together, padding included; a longer sequence is read alone.
    """

    dtype: Literal["float32", "float16"] = "float32"
    layers: Literal["all", "mixed"] = "all"
    temperature: Annotated[float, Field(gt=0)] = 0.1
    layer_change: Literal["mean", "sum"] = "mean"
    max_length: Count | None = None
    batch_tokens: Count = 8192


class LogitSettings(RecipePart):
    """What is kept of the teacher's next tokens, for a method that compares them.

    Attributes:
        top: how many of the likeliest tokens at each token of a rationale; all of a smaller vocabulary.
    """

    top: Annotated[int, Field(ge=1, le=4096)] = 32


class PromptSettings(RecipePart):
    """The prompts; in a recipe file each is a template as it stands, or the path of a file with one.

    Attributes:
        predict: the student's first task, which it is tested on.
        explain: its second.
        reason: the one task of `cot`, a rationale with its answer, which that is tested on.
        teacher: what the teacher writes rationales from and is read in.
        second_pass: what it writes them from where it was wrong: with `{answer}`, the right answer.
        keywords: what the teacher names key words from.
    """

    predict: str = prompts.PREDICT
    explain: str = prompts.EXPLAIN
    reason: str = prompts.REASON
    teacher: str = prompts.TEACHER
    second_pass: str = prompts.GIVEN_ANSWER
    keywords: str = prompts.KEYWORDS

    @model_validator(mode="after")
    def _slots(self) -> Self:
        wanted = {
            "predict": "label",
            "explain": "rationale",
            "reason": "reasoning",
            "teacher": "rationale",
            "second_pass": "rationale",
            "keywords": "keywords",
        }
        for name, slot in wanted.items():
            template = self.template(name)
            if template.slot != slot:
                raise ValueError(f"expected the {name} prompt to end with {{{slot}}}, got {{{template.slot}}}")
            if name in ("predict", "explain", "reason") and template.is_chat:
                raise ValueError(f"expected the student's {name} prompt to be text; got a chat's turns")
            if name == "second_pass" and not template.gives_answer:
                raise ValueError("expected the second_pass prompt to have one {answer} behind its {question}")
        return self

    def template(self, name: str) -> PromptTemplate:
        """One of the prompts, read."""
        return PromptTemplate.parse(getattr(self, name))


class TrainingSettings(RecipePart):
    """How every student is trained, whatever the method.

    Attributes:
        steps: optimiser steps.
        batch_size: examples a step on each device; an example is a sequence for each task of the method.
        accumulation: batches accumulated to one step.
        learning_rate: the rate after warming up.
        schedule: how the rate goes on from there.
        warmup_steps: steps in which it rises from 0.
        weight_decay: AdamW's.
        max_grad_norm: gradients are clipped to this norm.
        precision: "float32", or "bf16" for mixed precision.
        checkpointing: recompute activations in the backward pass to save memory.
        compile: compile the student's layers with torch.compile; a minute or more at first, and faster steps after.
        max_length: longer sequences are cut and counted; the model's context by default.
        log_every: steps between logs of the loss and its parts.
        evaluate_every: steps between validations; 0 never validates.
        save_every: steps between checkpoints; 0 keeps none, and an interrupt saves one all the same.
        select: keep the "last" student, or the "best" on the validation split.
        best_by: what makes it the best: most right answers, or the least loss.
        trackers: any that transformers' Trainer knows, such as "tensorboard" or "wandb".
    """

    steps: Count = 1000
    batch_size: Count = 16
    accumulation: Count = 1
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-5
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["float32", "bf16"] = "float32"
    checkpointing: bool = False
    compile: bool = False
    max_length: Count | None = None
    log_every: Count = 50
    evaluate_every: Annotated[int, Field(ge=0)] = 0
    save_every: Annotated[int, Field(ge=0)] = 0
    select: Literal["last", "best"] = "last"
    best_by: Literal["accuracy", "loss"] = "accuracy"
    trackers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _best_needs_validation(self) -> Self:
        if self.select == "best" and not self.evaluate_every:
            raise ValueError("expected `evaluate_every` of at least 1 with `select: best`, got 0")
        return self


class EvaluationSettings(RecipePart):
    """How students are tested.

    Attributes:
        max_new_tokens: an answer that is not over by then is counted as cut off.
        max_rationale_tokens: the same bound for a prompt that is answered with a rationale.
        batch_size: prompts decoded together.
        rows: test on at most this many problems of each set, or of the sets that are named, chosen by the hash of
            their text; all by default.
        explain: also decode the `explain:` prompt and keep what is written.
    """

    max_new_tokens: Count = 64
    max_rationale_tokens: Count = 256
    batch_size: Count = 128
    rows: Count | dict[Name, Count] | None = None
    explain: bool = False

    def rows_of(self, name: str) -> int | None:
        """How many problems of a test set are tested on at most; None for all."""
        return self.rows.get(name) if isinstance(self.rows, dict) else self.rows

    def bound_for(self, template: PromptTemplate) -> int:
        """How many tokens may be written for a prompt."""
        return self.max_new_tokens if template.slot == "label" else self.max_rationale_tokens


class MethodSpec(BaseModel):
    """One method with its settings, or just its name.

    Attributes:
        name: the method.
        label: its name in tables and folders; tells two entries of one method apart, and is the name by default.
        examples: learn from the first so many problems that have a rationale; from all of them by default.
        training: training settings that are other ones than the recipe's, for this entry alone.
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
        """The method's own settings, checked by the method itself."""
        return dict(self.model_extra or {})


class Recipe(RecipePart):
    """Everything a run needs.

    Attributes:
        name: the run's name, and its folder's under `runs`.
        description: a line for `molsaki recipes list`.
        seeds: one student of every method for each.
        keys: what a step can look at: "numbers", or the "keywords" that `rationales.keywords` provides.
        data: see below, as the next ones are.
        teacher, rationales, attention, logits, prompts, student, methods, training, evaluation: see below.
        baseline: the label of the method that the others are compared with.
        tiny: small random models in the place of those named, as `--tiny` sets it.
    """

    name: Name
    description: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1, 2, 3)
    keys: Literal["numbers", "keywords"] = "numbers"
    data: DataSettings
    teacher: TeacherSettings = TeacherSettings()
    rationales: RationaleSettings = RationaleSettings()
    attention: AttentionSettings = AttentionSettings()
    logits: LogitSettings = LogitSettings()
    prompts: PromptSettings = PromptSettings()
    student: ModelSpec
    methods: Annotated[tuple[MethodSpec, ...], Field(min_length=1)]
    baseline: str | None = None
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    tiny: bool = False

    def data_root(self) -> Path:
        """The folder that relative data paths start from."""
        if self.data.root is not None:
            return Path(self.data.root)
        if "MOLSAKI_DATA" in os.environ:
            return Path(os.environ["MOLSAKI_DATA"])
        return next((Path(root) for root in DATA_ROOTS if Path(root).is_dir()), Path(DATA_ROOTS[0]))

    def data_path(self, path: str | None) -> Path | None:
        """A data path, resolved."""
        return None if path is None else self.data_root() / path

    def training_of(self, method: MethodSpec) -> TrainingSettings:
        """How the students of one entry are trained.

        Raises:
            ValidationError: what the entry sets is not a training setting, or out of its bounds.
        """
        if not method.training:
            return self.training
        return TrainingSettings.model_validate({**self.training.model_dump(), **method.training})
