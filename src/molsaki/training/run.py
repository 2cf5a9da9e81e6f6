"""Training one student, from its base model to a plain model directory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback, TrainerCallback, set_seed

from molsaki.attention import find_model
from molsaki.config.student_settings import TrainingSettings
from molsaki.distributed import on_main_process
from molsaki.methods import Method, MethodSettings, Task
from molsaki.methods.router import router_collapsed_at
from molsaki.models.adapters import trained_parameters
from molsaki.models.memory import peak_bytes
from molsaki.training.arguments import training_arguments
from molsaki.training.batch_plan import BatchPlan, plan_batch, settle_plan
from molsaki.training.checkpoints import Checkpoint, last_checkpoint
from molsaki.training.checks import require_examples, require_no_student, require_selection, require_vocabulary
from molsaki.training.example import Example
from molsaki.training.interrupt import StopOnInterrupt
from molsaki.training.made_from import require_same_training
from molsaki.training.make_method import make_method
from molsaki.training.prepare_student import compile_layers, set_special_tokens
from molsaki.training.saving import save_student
from molsaki.training.too_large import outline_student
from molsaki.training.trainer import DistillationTrainer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def train_student(
    student: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    method: type[Method[Any]],
    settings: MethodSettings,
    examples: Sequence[Example],
    training: TrainingSettings,
    *,
    seed: int,
    output: Path,
    validation: Sequence[Example] | None = None,
    validate: Callable[[PreTrainedModel], Mapping[str, float]] | None = None,
    max_new_tokens: int = 64,
    card: Callable[[], str] | None = None,
    finish: Callable[[PreTrainedModel | PeftModel, Path], None] | None = None,
    notes: Mapping[str, int] | None = None,
    compared_tokens: Mapping[str, Mapping[str, int]] | None = None,
    teacher_layers: Sequence[int] = (),
    callbacks: Sequence[TrainerCallback] = (),
    show_progress: bool = True,
    memory: int | None = None,
    print_line: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Train one student and write it to `output`, completely or not at all.

    Checkpoints are kept in a folder beside it while training runs. If there are some, training resumes from the newest
    complete one, on the same trajectory as without an interruption.

    Args:
        student: the base model, or one with an adapter of peft; it is changed.
        tokenizer: its tokenizer.
        method: the distillation method.
        settings: the method's settings.
        examples: the training examples; must not be empty.
        training: steps, rates and the rest.
        seed: of the order of examples, dropout and the method's own parameters.
        output: the student's directory; must not exist.
        validation: examples for the validation losses.
        validate: measures the student on the validation split; see `DistillationTrainer`.
        max_new_tokens: goes into the saved generation settings.
        card: returns the model card.
        finish: called with the trained student and its directory, before the directory gets its name.
        notes: counts of examples with reasons, for the metrics.
        compared_tokens: how many tokens of the rationales are compared with the teacher's, by kind, for the metrics.
        teacher_layers: the numbers of the layers in the examples' attention, if the teacher is a hybrid that has others
            too; empty for all layers, or for heads.
        callbacks: of the Trainer.
        show_progress: draw a progress bar.
        memory: bytes that the training may take, by which it is chosen how a batch is computed; None if unknown.
        print_line: called with a line that says what was chosen, if it is not one part without checkpointing.

    Returns:
        The metrics: steps, the number of parameters and of those that are trained, seconds of this session, the peak
        memory of this process (on a GPU, of its tensors), examples, training tokens, compared tokens, the parts of a
        batch and whether its layers are checkpointed, forward passes a part and the share of padding in them, the
        checkpoint that it resumed from, the best one, the terms' weights, the step at which the router collapsed, and
        the Trainer's log (null for a number that is not finite).

    Raises:
        InputError: there is no example, or no validation to select the best student by, or the examples are of
            another vocabulary.
        ArtefactError: the output exists, or the checkpoints beside it belong to another training.
        StageError: the loss or a parameter is not finite.
        KeyboardInterrupt: training was interrupted; a checkpoint was saved.
    """
    terms = method.terms_of(settings)
    require_examples(method, terms, examples, notes or {})
    require_selection(method, terms, training, validation, validate)
    require_no_student(output)
    require_vocabulary(student, [*examples, *(validation or ())])
    set_seed(seed)
    stored = next((e.teacher.load().shape[0] for e in examples if e.teacher is not None), 0)
    made = make_method(method, settings, student, teacher_layers or stored)
    set_special_tokens(student, tokenizer, examples, max_new_tokens)
    if training.compile:
        compile_layers(student)
    working = output.with_name(f"{output.name}.training")
    checkpoint = last_checkpoint(working)
    plan = _plan(working, checkpoint is not None, student, training, _lengths(examples, made.terms.tasks), memory)
    if plan.parts > 1 or plan.checkpointing:
        print_line(plan.describe(training.batch_size))
    stop = StopOnInterrupt()
    trainer = DistillationTrainer(
        student,
        made,
        training_arguments(training, working, seed, show_progress, validation is not None, plan),
        examples,
        tokenizer,
        eval_dataset=validation,
        validate=validate,
        callbacks=[stop, *callbacks],
    )
    # The console shows progress; the parent's printing of every line of the log would break it up.
    trainer.remove_callback(PrinterCallback)
    if trainer.args.should_save:
        begun, processes = checkpoint is not None, trainer.args.world_size
        require_same_training(working, begun, method, settings, examples, training, seed, student, processes)
    seconds = _fit(trainer, checkpoint, stop)
    metrics = {
        "seconds": seconds,
        "notes": dict(notes or {}),
        "compared_tokens": dict(compared_tokens or {}),
        **_metrics(trainer, checkpoint, plan, examples),
    }
    save_student(trainer, output, metrics, card, finish)
    return metrics


def _fit(trainer: DistillationTrainer, checkpoint: Checkpoint | None, stop: StopOnInterrupt) -> float:
    """Train up to the last step, or take over a checkpoint that is there already. Returns the seconds that it took.

    Raises:
        KeyboardInterrupt: training was interrupted; a checkpoint was saved.
    """
    if checkpoint is not None and checkpoint.steps >= trainer.args.max_steps:
        trainer.take_over(checkpoint.folder)
        return 0.0
    with stop.listening():
        result = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.folder))
    if stop.interrupted and trainer.state.global_step < trainer.args.max_steps:
        raise KeyboardInterrupt
    return round(float(result.metrics.get("train_runtime", 0.0)), 2)


def _lengths(examples: Sequence[Example], tasks: Sequence[Task]) -> list[int]:
    """The tokens of each example in all tasks of a method."""
    return [sum(len(e.sequences[task].input_ids) for task in tasks if task in e.sequences) for e in examples]


def _plan(
    working: Path,
    begun: bool,
    student: PreTrainedModel | PeftModel,
    training: TrainingSettings,
    lengths: Sequence[int],
    memory: int | None,
) -> BatchPlan:
    """How the batches of a training are computed, the same in every session and every process."""

    def choose() -> BatchPlan:
        can = training.checkpointing is True or find_model(student).supports_gradient_checkpointing
        settings = training if can else training.model_copy(update={"checkpointing": False})
        on_gpu = student.device.type != "cpu"
        plan = plan_batch(outline_student(student), settings, lengths, on_gpu=on_gpu, memory=memory)
        return replace(plan, setting=training.checkpointing)

    return BatchPlan(**on_main_process(lambda: asdict(settle_plan(working, training.checkpointing, begun, choose))))


def _metrics(
    trainer: DistillationTrainer,
    checkpoint: Checkpoint | None,
    plan: BatchPlan,
    examples: Sequence[Example],
) -> dict[str, Any]:
    """What is known of a finished training; see `train_student`."""
    best = trainer.state.best_model_checkpoint
    trained, parameters = trained_parameters(trainer.student)
    return {
        "steps": trainer.state.global_step,
        "processes": trainer.args.world_size,
        "parameters": parameters,
        "trained_parameters": trained,
        "peak_memory_bytes": _peak_memory(trainer.student.device),
        "examples": len(examples),
        "tokens": _tokens(examples, trainer),
        "parts": plan.parts,
        "checkpointing": plan.checkpointing,
        "passes": len(trainer.method.terms.tasks) if trainer.passes.separate else 1,
        "padding": round(trainer.passes.padding, 4),
        "resumed_from": None if checkpoint is None else checkpoint.folder.name,
        "best_checkpoint": best and Path(best).name,
        "weights": trainer.method.weights(),
        "router_collapsed_at": router_collapsed_at(trainer.state.log_history),
        "history": [_plain(entry) for entry in trainer.state.log_history],
    }


def _tokens(examples: Sequence[Example], trainer: DistillationTrainer) -> int:
    """The tokens of all training steps, without padding: the mean of an example times the number of examples shown.

    The last step of an epoch has the examples that are left.
    """
    lengths = _lengths(examples, trainer.method.terms.tasks)
    args = trainer.args
    step_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    epochs, steps = divmod(trainer.state.global_step, math.ceil(len(lengths) / step_size))
    shown: int = epochs * len(lengths) + steps * step_size
    return round(sum(lengths) / len(lengths) * shown)


def _peak_memory(device: torch.device) -> int:
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else peak_bytes()


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in entry.items()
    }
