"""Checks before the first training step, of mistakes that would show late or never."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from torch.optim import Optimizer
from transformers import TrainingArguments

from molsaki.config.student_settings import TrainingSettings
from molsaki.errors import ArtefactError, InputError
from molsaki.methods import Method, Terms
from molsaki.models.adapters import require_one_adapter, trained_parameters
from molsaki.training.example import Example
from molsaki.training.examples import TOO_LONG

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def require_examples(
    method: type[Method[Any]], terms: Terms, examples: Sequence[Example], notes: Mapping[str, int]
) -> None:
    """Check that there are examples, and that each term of the loss has something to compare in one of them.

    Args:
        method: the distillation method, for its name.
        terms: its terms.
        examples: the training examples.
        notes: counts of examples by what was left out, for the message.

    Raises:
        InputError: there is no example, or none with the teacher's attention or next tokens that the method compares.
    """
    counted = "; ".join(f"{reason}: {n}" for reason, n in notes.items() if n)
    counted = f" ({counted})" if counted else ""
    if not examples:
        way_out = (
            "raise training.max_length, or choose a student with a longer context."
            if notes.get(TOO_LONG)
            else "look at the counts of `molsaki generate` for why rows were left out."
        )
        raise InputError(
            f"Expected at least one training example; got none{counted}. There is nothing to learn; {way_out}"
        )
    if terms.attention is not None and all(example.teacher is None for example in examples):
        raise InputError(
            f"Expected the teacher's attention for {method.name}; no example has any{counted}. It would be trained as "
            "if it did not read attention; run `molsaki attend`, or look at its counts."
        )
    if terms.next_tokens is not None and all(example.agreed is None for example in examples):
        raise InputError(
            f"Expected the teacher's next tokens for {method.name} that both tokenizers have; no example has any"
            f"{counted}. It would be trained as if it did not read them; run `molsaki attend`, or look at the counts."
        )


def require_tasks(examples: Sequence[Example], terms: Terms) -> None:
    """Check that every example was encoded with all tasks of the method, and its steps and keys on the compared one.

    Raises:
        InputError: an example lacks a task, or its steps and keys are the tokens of another one.
    """
    for example in examples:
        for task in terms.tasks:
            if task not in example.sequences:
                raise InputError(
                    f"Expected examples with the tasks {', '.join(terms.tasks)} of this method; the one of "
                    f"{example.problem_id!r} has {', '.join(example.sequences)}. Encode them with a template for "
                    f"{task!r} too."
                )
        if terms.attention is not None and example.tokens is not None and example.attended != terms.attention.task:
            raise InputError(
                f"Expected examples with steps and keys on `{terms.attention.task}`, where this method compares "
                f"attention; those of {example.problem_id!r} are on `{example.attended}`. Encode them with the "
                "`attention` of the method's terms as `choice`."
            )


def require_vocabulary(student: PreTrainedModel | PeftModel, examples: Sequence[Example]) -> None:
    """Check that the examples' token ids are the student's.

    Raises:
        InputError: an id is beyond the student's embeddings.
    """
    known = student.get_input_embeddings().num_embeddings
    largest = max(max(text.input_ids) for example in examples for text in example.sequences.values())
    if largest >= known:
        raise InputError(
            f"Expected token ids below {known}, the student's vocabulary; the examples have one of {largest}. They "
            "were made with another model's tokenizer; load the student's own, or resize its embeddings."
        )


def require_selection(
    method: type[Method[Any]],
    terms: Terms,
    training: TrainingSettings,
    validation: Sequence[Example] | None,
    validate: object | None,
) -> None:
    """Check that what the best student is selected by can be measured, if the settings ask for the best one.

    Raises:
        InputError: there is no validation split, nothing that measures accuracy on it, or no loss on it.
    """
    if training.select != "best":
        return
    if not validation or (training.best_by == "accuracy" and validate is None):
        raise InputError(
            f"Expected a validation split to choose the best student by its {training.best_by}; got none that is "
            "usable. Name one in the recipe, or use `select: last`."
        )
    labels = [term for term in terms if term.tasks == ("predict",)]
    if training.best_by == "loss" and all(term.weight == 0 for term in labels):
        raise InputError(
            f"Expected a validation loss to choose the best student by; with these settings {method.name} learns no "
            "label after `predict:`, and the validation split has no rationales. Nothing was trained; use "
            "`best_by: accuracy`, or `select: last`."
        )


def require_no_student(output: Path) -> None:
    """Check that a student's directory does not exist yet.

    Raises:
        ArtefactError: there is a file or folder of that name.
    """
    if output.exists():
        raise ArtefactError(
            f"Expected no student at {output} yet; the path exists. It is left as it is and nothing was trained; "
            "choose another path, or move it away."
        )


def require_trainable(student: PreTrainedModel | PeftModel) -> None:
    """Check that a student has parameters to train, and that the change of them can be saved.

    Raises:
        InputError: all parameters are frozen, quantised weights have no adapter, or the adapter is not peft's.
    """
    adapted = isinstance(student, PeftModel)
    if isinstance(student, PeftModel):
        require_one_adapter(student)
    elif getattr(student, "_hf_peft_config_loaded", False):
        raise InputError(
            f"Expected an adapter around the student; got a {type(student).__name__} with one from its `add_adapter`, "
            "which would be saved without a way to resume. Nothing was trained; use peft's get_peft_model."
        )
    elif getattr(student, "is_quantized", False):
        raise InputError(
            f"Expected an adapter on a quantised student; got a bare {type(student).__name__}, whose weights "
            "have no gradient. Nothing was trained; use peft's get_peft_model, or student.lora in a recipe."
        )
    trained, every = trained_parameters(student)
    if not trained:
        way_out = "load the adapter with `is_trainable=True`" if adapted else "set requires_grad"
        raise InputError(
            f"Expected a student with parameters to train; all {every} of this {type(student).__name__} are frozen. It "
            f"would learn nothing; {way_out}."
        )


def warn_of_rounding(student: PreTrainedModel | PeftModel) -> None:
    """Warn once if weights that are trained have 16 bits: AdamW's small changes of them are rounded away."""
    short = {p.dtype for p in student.parameters() if p.requires_grad and p.dtype in (torch.bfloat16, torch.float16)}
    if short:
        logger.warning(
            "Expected weights in float32 to be trained; some are in %s, so small changes of them are rounded away. "
            "Load the model in float32, and use bf16=True for mixed precision.",
            ", ".join(sorted(str(dtype) for dtype in short)),
        )


def require_supported_arguments(args: TrainingArguments, more: Mapping[str, object]) -> None:
    """Check that no argument of a Trainer changes the loss or the batches, and that its process has one device.

    Args:
        args: the training arguments.
        more: the other arguments of the Trainer, by name.

    Raises:
        InputError: an argument would change the loss or the batches, or have no effect, or the process has several
            GPUs.
    """
    if args.n_gpu > 1:
        raise InputError(
            f"Expected one process a device; this process has {args.n_gpu} GPUs and would split batches between "
            "them by threads, in which attention cannot be read. Start with `accelerate launch`, or set "
            "CUDA_VISIBLE_DEVICES to one."
        )
    for name, given in (
        ("label_smoothing_factor", args.label_smoothing_factor),
        ("neftune_noise_alpha", args.neftune_noise_alpha),
        ("compute_loss_func", more.get("compute_loss_func")),
        ("auto_find_batch_size", args.auto_find_batch_size),
        ("train_sampling_strategy", args.train_sampling_strategy != "random" and args.train_sampling_strategy),
    ):
        if given:
            raise InputError(
                f"Expected no {name}; got {given!r}. Loss, batches and their order are the method's, and this would "
                "not change them; leave it out, or write a method (see `molsaki.methods`)."
            )
    for name in ("compute_metrics", "preprocess_logits_for_metrics"):
        if more.get(name) is not None:
            raise InputError(
                f"Expected no {name}, which would not be called: evaluation computes the loss alone. No trainer was "
                "made; give `validate`, which is called with the student at each evaluation."
            )


def require_whole_optimizer(method: Method[Any], optimizer: Optimizer | None) -> None:
    """Check that an optimizer that was given trains the method's own parameters, such as a router's.

    Raises:
        InputError: it does not, or the method has a learning rate of its own for some.
    """
    if optimizer is None:
        return
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, parameter in method.named_parameters() if id(parameter) not in trained]
    if missing:
        raise InputError(
            f"Expected an optimizer with all parameters of the method; it lacks {', '.join(missing)}, which would stay "
            "as they are. No trainer was made; add `method.parameters()`, or give no `optimizers`."
        )
    if method.learning_rates():
        raise InputError(
            f"Expected no `optimizers` with a learning rate of its own for {', '.join(method.learning_rates())}, which "
            "an optimizer that exists already does not know. No trainer was made; leave one of them out."
        )
