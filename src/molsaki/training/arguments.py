"""The training settings of a recipe as transformers' `TrainingArguments`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from transformers import TrainingArguments

from molsaki.config.student_settings import TrainingSettings
from molsaki.errors import RecipeError
from molsaki.training.batch_plan import BatchPlan

_ARGUMENTS = {field.name for field in dataclasses.fields(TrainingArguments)}
# transformers 5.23 renamed `gradient_checkpointing` and its kwargs.
CHECKPOINTING = "activation_checkpointing" if "activation_checkpointing" in _ARGUMENTS else "gradient_checkpointing"


def training_arguments(
    training: TrainingSettings,
    folder: Path,
    seed: int,
    show_progress: bool,
    validating: bool,
    plan: BatchPlan | None = None,
) -> TrainingArguments:
    """Convert training settings to `TrainingArguments`.

    Args:
        training: the settings.
        folder: the directory for checkpoints and the files of trackers.
        seed: seeds the order of examples, dropout, and the initial values of the method's own parameters.
        show_progress: whether to draw a progress bar.
        validating: whether there is a validation split.
        plan: how a batch is computed; by default in one part, with checkpointing only if the settings have it.

    Raises:
        RecipeError: the precision is "auto".
    """
    if training.precision == "auto":
        raise RecipeError(
            'Expected a precision of "float32" or "bf16"; got "auto", which is chosen when a run directory is made. '
            "Nothing was trained; choose one, for example with molsaki.models.precision.measure_precision."
        )
    evaluating = bool(validating and training.evaluate_every)
    best = training.select == "best"
    save_every = training.evaluate_every if best else training.save_every
    plan = plan or BatchPlan(checkpointing=training.checkpointing is True)
    checkpointing = (
        {CHECKPOINTING: True, f"{CHECKPOINTING}_kwargs": {"use_reentrant": False}} if plan.checkpointing else {}
    )
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=training.steps,
        per_device_train_batch_size=training.batch_size // plan.parts,
        per_device_eval_batch_size=training.batch_size,
        gradient_accumulation_steps=training.accumulation * plan.parts,
        learning_rate=training.learning_rate,
        # transformers' own "constant" ignores the warm-up.
        lr_scheduler_type="constant_with_warmup" if training.schedule == "constant" else training.schedule,
        warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        bf16=training.precision == "bf16",
        **checkpointing,
        logging_steps=training.log_every,
        logging_first_step=True,
        eval_strategy="steps" if evaluating else "no",
        eval_steps=training.evaluate_every or None,
        save_strategy="steps" if save_every else "no",
        save_steps=save_every or 500,
        save_total_limit=2,
        load_best_model_at_end=best,
        metric_for_best_model=("eval_accuracy" if training.best_by == "accuracy" else "eval_loss") if best else None,
        greater_is_better=(training.best_by == "accuracy") if best else None,
        report_to=list(training.trackers) or "none",
        disable_tqdm=not show_progress,
        seed=seed,
        use_cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        dataloader_pin_memory=torch.cuda.is_available(),
    )
