"""How a recipe trains and tests its students."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from molsaki.config.parts import Count, Name, RecipePart
from molsaki.encoding.prompts import PromptTemplate


class TrainingSettings(RecipePart):
    """How students are trained.

    Attributes:
        steps: optimizer steps.
        batch_size: examples per batch and device; an example has one sequence for each task of the method.
        accumulation: batches per optimizer step.
        learning_rate: the learning rate after warm-up.
        schedule: the schedule of the learning rate after warm-up; "constant" and "constant_with_warmup" are the same.
        warmup_steps: steps in which the learning rate rises from 0; fewer than `steps`.
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
        save_every: steps between two checkpoints; with 0, only an interrupt saves one. With `select: best`, every
            validation saves one instead.
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
    def _warm_up_ends(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"expected fewer `warmup_steps` than `steps`, since the rate never reaches its value otherwise; "
                f"got {self.warmup_steps} beside `steps: {self.steps}`. Set both"
            )
        return self

    @model_validator(mode="after")
    def _best_needs_validation(self) -> Self:
        if self.select == "best" and not self.evaluate_every:
            raise ValueError("expected `evaluate_every` of at least 1 with `select: best`; got 0")
        if self.select == "best" and self.save_every not in (0, self.evaluate_every):
            raise ValueError(
                f"expected no `save_every` with `select: best`, which saves a checkpoint at every validation; got "
                f"{self.save_every} beside `evaluate_every: {self.evaluate_every}`"
            )
        return self


class EvaluationSettings(RecipePart):
    """How students are tested.

    Attributes:
        max_new_tokens: maximum number of tokens of a label; longer outputs count as cut off.
        max_rationale_tokens: maximum number of tokens of a rationale.
        batch_size: prompts in a batch.
        dtype: precision of the students' weights while they are tested; by default as they were saved, and
            always so if the base is quantised. bfloat16 halves
            the memory, and the time where the processor supports it; ties between tokens may then be broken otherwise.
            "auto" is bfloat16 where `training.precision: auto` would be "bf16", and else as they were saved.
        rows: test on at most this many problems of each set, chosen by a hash of their text; all by default.
        explain: also generate and keep rationales, with the prompt that the method's students learn them after.
        untrained: also test the student before its training, with the prompt that students of the first method are
            tested with.
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
