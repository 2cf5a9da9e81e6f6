"""The schema of recipes: all settings of a run with their defaults and bounds.

`molsaki.config.load` reads recipes. The resolved recipe, with all defaults, is written to the run directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from molsaki.config.model_spec import ModelSpec, RecipePart, ServerSpec, StudentSpec, WriterSpec
from molsaki.encoding import prompts
from molsaki.encoding.prompts import PromptTemplate

DATA_ROOTS = ("data", "../shared/data")
"""Folders that relative data paths start from if neither the recipe nor MOLSAKI_DATA names one. The first that exists
is used; the second holds the data of the project's own tests."""

TRAIN, VALIDATION = "train", "validation"
"""The names of the sets that are not tested on, in files and folders of a run."""

Count = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A name that is safe as the name of a file or folder."""


class DataSpec(RecipePart):
    """One set of problems; see `molsaki.data.load_problems`.

    Attributes:
        source: the name of a data set, `table` for any file with columns, or `hub:owner/name[/config][@revision]`.
        path: the file or folder, relative to the data root.
        split: the split.
        columns: for `table` and `hub:`, the columns of the question, the answer and so on, and the form of the file;
            see `molsaki.data.table.load_table`.
        limit: use at most this many rows, the first ones.
    """

    source: str
    path: str | None = None
    split: str | None = None
    columns: dict[str, str | tuple[str, ...]] | None = None
    limit: Count | None = None


class DataSettings(RecipePart):
    """Training, validation and test problems.

    Attributes:
        task: the name of the task in the results.
        root: the folder that relative paths start from; by default MOLSAKI_DATA, or the first folder that exists of
            `data` and `../shared/data`.
        train: the problems that get rationales and that students are trained on.
        validation: problems to validate students on during training.
        validation_rows: instead of `validation`, the number of training problems to hold out, by a hash of their text.
        tests: test sets by name; the first is the in-domain set.
        draws: with "shared", all seeds have the same problems. With "independent", each seed draws its own. Of data
            that are made on the spot, each seed has training, validation and test problems of its own, `limit` of each
            set. Of other data, each seed trains on its own `rows` problems; the other sets stay the same.
        rows: number of training problems that each seed draws from those with a rationale, by a hash of seed and text.
    """

    task: str
    root: str | None = None
    train: DataSpec
    validation: DataSpec | None = None
    validation_rows: Annotated[int, Field(ge=0)] = 0
    tests: Annotated[dict[Name, DataSpec], Field(min_length=1)]
    draws: Literal["shared", "independent"] = "shared"
    rows: Count | None = None

    @property
    def specs(self) -> dict[str, DataSpec]:
        """All sets by their keys in a recipe."""
        specs = {f"data.tests.{name}": spec for name, spec in self.tests.items()} | {"data.train": self.train}
        return specs if self.validation is None else specs | {"data.validation": self.validation}

    @model_validator(mode="after")
    def _one_validation(self) -> Self:
        if self.validation is not None and self.validation_rows:
            raise ValueError("expected `validation` or `validation_rows`; got both")
        return self


class TeacherSettings(RecipePart):
    """The teacher: the model that writes rationales, and the model whose attention is read.

    Attributes:
        writer: the model that writes rationales, local (`name`) or served (`base_url`); not needed for imported
            rationales.
        reader: the local model whose attention is read; by default the writer, if it is local.
        original: the model that a quantised reader was made from. Before the reader is loaded, its attention is read on
            8 texts, and the difference stands in the manifest.
    """

    writer: WriterSpec | None = None
    reader: ModelSpec | None = None
    original: ModelSpec | None = None

    @property
    def models(self) -> dict[str, ModelSpec | ServerSpec | None]:
        """The models by their keys in a recipe."""
        return {"teacher.writer": self.writer, "teacher.reader": self.reader, "teacher.original": self.original}

    @property
    def attending(self) -> ModelSpec | None:
        """The model whose attention is read."""
        return self.reader or (self.writer if isinstance(self.writer, ModelSpec) else None)


class RationaleSettings(RecipePart):
    """Where rationales and key words come from.

    Attributes:
        source: "teacher" generates rationales; "palm" uses the completions of PaLM-540B in the data of Distilling
            step-by-step; "dataset" uses the rationales of the data set; "file" uses those of the file `path`;
            "imported" uses those that `molsaki import` reads from a file.
        path: the file of rationales, relative to the data root.
        columns: its columns: `completion`, and `id` or `question` (and `choices`) to find the problem by.
        keep: "right" keeps rationales that reach the right answer; "all" also keeps wrong ones, for testing.
        learn: of completions with thinking, the student learns the "summary" behind it, the "thinking", or "both".
        steps: a step of a rationale is one of its "sentences" (a line break ends one too), "lines" or "paragraphs".
        keywords: for multiple choice, "teacher" asks the teacher for key words, "question-words" uses the content
            words of the question, "dataset" uses those of the data set.
        second_pass: where the teacher was wrong, give it the right answer and ask for a rationale that reaches it.
        samples: rationales per question; of several right ones, the one whose answer most samples agree with is kept.
        temperature: of sampling; 0 decodes greedily.
        max_new_tokens: maximum number of tokens of a rationale with its answer.
        batch_size: batch size of a local model.
    """

    source: Literal["teacher", "palm", "dataset", "file", "imported"] = "teacher"
    path: str | None = None
    columns: dict[str, str | tuple[str, ...]] | None = None
    keep: Literal["right", "all"] = "right"
    learn: Literal["summary", "thinking", "both"] = "summary"
    steps: Literal["sentences", "lines", "paragraphs"] = "sentences"
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
            raise ValueError("expected a `temperature` above 0 with several `samples`; got 0: all would be equal")
        return self


class AttentionSettings(RecipePart):
    """How the teacher's attention is read and stored.

    Attributes:
        dtype: precision on disk; float16 halves the size.
        top: store only this number of keys of each step and layer, those with the most attention, and the rest as one
            number; by default all keys.
        layers: "all" stores every layer; of a hybrid model those with softmax attention, the others are named. "every"
            also refuses a teacher or student with layers that have none. "mixed" stores only the layers' mixture
            (Eq. 4), which is as many times smaller as the model has layers, for methods that use this mixture.
        temperature: τ1 of the stored mixture; it must equal the setting of the methods.
        layer_change: G of the stored mixture; it must equal the setting of the methods.
        max_length: longer sequences are cut and counted; by default the model's context length.
        batch_tokens: tokens in a batch, including padding; a longer sequence forms its own batch.
        chunk_tokens: tokens of a long sequence that go through the model at once, with those before in its cache; by
            default as many as one layer needs 1 GiB for, or on a GPU an eighth of its memory if that is more.
        max_row_mb: refuse to read if a row of a store would be larger than this number of megabytes.
        max_store_gb: refuse to read if a store would be larger than this number of gigabytes.
    """

    dtype: Literal["float32", "float16"] = "float32"
    top: Annotated[int, Field(ge=1, le=4096)] | None = None
    layers: Literal["all", "every", "mixed"] = "all"
    temperature: Annotated[float, Field(gt=0)] = 0.1
    layer_change: Literal["sum", "mean"] = "sum"
    max_length: Count | None = None
    batch_tokens: Count = 8192
    chunk_tokens: Count | None = None
    max_row_mb: Annotated[float, Field(gt=0)] = 20.0
    max_store_gb: Annotated[float, Field(gt=0)] = 50.0


class LogitSettings(RecipePart):
    """What is stored of the teacher's next-token distributions, for methods that compare them.

    Attributes:
        top: number of most likely tokens at each token of a rationale; all tokens of a smaller vocabulary.
    """

    top: Annotated[int, Field(ge=1, le=4096)] = 32


class PromptSettings(RecipePart):
    """The prompts. In a recipe file, each is a template or the path of a file with one.

    Attributes:
        predict: the student's first task, a label; students are tested with it. For this, `explain` and `reason`,
            `chat` puts the default prompt into the user's turn of the student's own chat template.
        explain: the student's second task, a rationale.
        reason: the task of `cot`, a rationale with its answer; its students are tested with it.
        teacher: the prompt for rationales, in which attention is read too.
        second_pass: the prompt for rationales with the right answer in `{answer}`.
        keywords: the prompt for key words.
    """

    predict: str = prompts.PREDICT
    explain: str = prompts.EXPLAIN
    reason: str = prompts.REASON
    teacher: str = prompts.TEACHER
    second_pass: str = prompts.GIVEN_ANSWER
    keywords: str = prompts.KEYWORDS

    @field_validator(*prompts.CHATS, mode="before")
    @classmethod
    def _short_name(cls, value: Any, info: ValidationInfo) -> Any:
        return prompts.CHATS[str(info.field_name)] if value == prompts.CHAT else value

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
                raise ValueError(f"expected the {name} prompt to end with {{{slot}}}; got {{{template.slot}}}")
            if name == "second_pass" and not template.gives_answer:
                raise ValueError("expected one {answer} after the {question} of the second_pass prompt")
        return self

    def template(self, name: str) -> PromptTemplate:
        """The template of one of the prompts."""
        return PromptTemplate.parse(getattr(self, name))


class TrainingSettings(RecipePart):
    """How students are trained.

    Attributes:
        steps: optimizer steps.
        batch_size: examples per batch and device; an example has one sequence for each task of the method.
        accumulation: batches per optimizer step.
        learning_rate: the learning rate after warm-up.
        schedule: the schedule of the learning rate after warm-up.
        warmup_steps: steps in which the learning rate rises from 0.
        weight_decay: weight decay of AdamW.
        max_grad_norm: gradients are clipped to this norm.
        precision: "float32", or "bf16" for mixed precision; "auto" measures when the run begins and takes "bf16" where
            a matrix product in bfloat16 is at least 1.5 times as fast. The run keeps what was chosen.
        checkpointing: recompute activations in the backward pass to save memory; "auto" does so where the batch,
            divided into parts, does not fit otherwise by estimate. A training keeps what was chosen.
        compile: compile the student's layers with torch.compile, which takes a minute or more.
        max_length: longer sequences are cut and counted; by default the model's context length.
        log_every: steps between two logs of the loss and its terms.
        evaluate_every: steps between two validations; 0 for no validation.
        save_every: steps between two checkpoints; with 0, only an interrupt saves one.
        select: keep the "last" student, or the "best" one on the validation split.
        best_by: the best student has the highest "accuracy" or the lowest "loss".
        trackers: trackers of transformers' Trainer, such as "tensorboard" or "wandb".
    """

    steps: Count = 1000
    batch_size: Count = 16
    accumulation: Count = 1
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-5
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["float32", "bf16", "auto"] = "float32"
    checkpointing: bool | Literal["auto"] = "auto"
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
            raise ValueError("expected `evaluate_every` of at least 1 with `select: best`; got 0")
        return self


class EvaluationSettings(RecipePart):
    """How students are tested.

    Attributes:
        max_new_tokens: maximum number of tokens of a label; longer outputs count as cut off.
        max_rationale_tokens: maximum number of tokens of a rationale.
        batch_size: prompts in a batch.
        dtype: precision of the students' weights while they are tested; by default as they were saved. bfloat16 halves
            the memory, and the time where the processor supports it; ties between tokens may then be broken otherwise.
            "auto" is bfloat16 where `training.precision: auto` would be "bf16", and else as they were saved.
        rows: test on at most this many problems of each set, chosen by a hash of their text; all by default.
        explain: also generate and keep rationales, with the `explain` prompt.
        untrained: also test the student before its training, as the students are tested.
        teacher_rows: let the teacher answer this many problems of each set too, chosen by a hash of their text; 0 for
            none. By default 100 for a local teacher, and 0 for a server, whose answers may cost money.
        on: test on the "tests", or on the "validation" problems to choose settings by; the test sets are then not used.
        keep_weights: keep the students' weights after their tests. Without them, a study of many students needs little
            disk; predictions, metrics, routers and model cards stay, and nothing can be tested later.
    """

    max_new_tokens: Count = 64
    max_rationale_tokens: Count = 256
    batch_size: Count = 128
    dtype: Literal["float32", "bfloat16", "float16", "auto"] | None = None
    rows: Count | dict[Name, Count] | None = None
    explain: bool = False
    untrained: bool = True
    teacher_rows: Annotated[int, Field(ge=0)] | None = None
    on: Literal["tests", "validation"] = "tests"
    keep_weights: bool = True

    def rows_of(self, name: str) -> int | None:
        """How many problems of a test set are tested on at most; None for all."""
        return self.rows.get(name) if isinstance(self.rows, dict) else self.rows

    def bound_for(self, template: PromptTemplate) -> int:
        """The maximum number of new tokens for a prompt."""
        return self.max_new_tokens if template.slot == "label" else self.max_rationale_tokens


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
        if self.data.root is not None:
            return Path(self.data.root)
        if "MOLSAKI_DATA" in os.environ:
            return Path(os.environ["MOLSAKI_DATA"])
        return next((Path(root) for root in DATA_ROOTS if Path(root).is_dir()), Path(DATA_ROOTS[0]))

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
