"""What each term of the loss does: the norm of its gradient on the student, beside that of the other terms.

A term's share of the loss says little, since a loss can be large and flat. Its gradient says how strongly it pulls on
the student. It is measured at a few steps of a training, by extra forward and backward passes over all batches of the
step that leave the training as it is: random states and each `.grad` are restored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from molsaki.errors import InputError, StageError
from molsaki.methods import GradientShare, Term, Terms
from molsaki.training.arguments import CHECKPOINTING
from molsaki.training.model import DistillationModel

logger = logging.getLogger(__name__)

MEASUREMENTS = 5
"""Number of steps of a training at which gradients are measured."""
GRADIENT = "_gradient"
"""The suffix of the names of gradient norms in the log, after the name of a term."""


def measured_steps(steps: int, log_every: int) -> frozenset[int]:
    """The steps at which gradients are measured: the first one, and others spread over those that are logged.

    Args:
        steps: number of training steps.
        log_every: steps between two lines of the log, which has the first step too; 0 without a log.

    Returns:
        The numbers of the steps, from 1; none without a log.
    """
    if log_every < 1:
        return frozenset()
    logged = sorted({1, *range(log_every, steps + 1, log_every)})
    last = len(logged) - 1
    return frozenset(logged[round(i * last / (MEASUREMENTS - 1))] for i in range(MEASUREMENTS))


class GradientMeter:
    """Measures gradients before some steps of a training, and sets weights that are shares of gradient.

    Args:
        model: the student and its method, not wrapped.
    """

    def __init__(self, model: DistillationModel) -> None:
        self._model = model
        self._steps: frozenset[int] | None = None
        self._measured: dict[str, float] = {}
        self._set = {term.name for term in model.method.terms if not isinstance(term.weight, GradientShare)}

    def before_step(
        self, batches: Sequence[Mapping[str, Any]], totals: Tensor, step: int, steps: int, log_every: int
    ) -> None:
        """Measure, if that is due at a step, and set weights that are not set yet.

        Args:
            batches: all accumulated batches of the step, as the model takes them.
            totals: the number of items of each term in all of them.
            step: the step, from 1.
            steps: number of training steps.
            log_every: steps between two lines of the log; 0 without a log.

        Raises:
            StageError: a weight is to be set, and no finite weight gives its term that share.
        """
        if self._steps is None:
            self._steps = measured_steps(steps, log_every)
        for i, term in enumerate(self._model.method.terms):
            if term.name not in self._set:
                self._set_weight(term, batches, totals, has_items=bool(totals[i]))
                if step == steps and term.name not in self._set:
                    logger.warning(
                        "No step had a gradient of the %s term, by which its weight could be set. The student was "
                        "trained without the term.",
                        term.name,
                    )
        if step in self._steps:
            self._measured = term_gradients(self._model, batches, totals, (step - 1) / steps)

    def take(self) -> dict[str, float]:
        """`<term>_gradient` of the last measurement, for a line of the log; empty after that."""
        measured, self._measured = self._measured, {}
        return {f"{name}{GRADIENT}": norm for name, norm in measured.items()}

    def _set_weight(self, term: Term, batches: Sequence[Mapping[str, Any]], totals: Tensor, *, has_items: bool) -> None:
        """Set a weight by the first step in which its term has a gradient, unless it comes from a checkpoint."""
        method = self._model.method
        if method.weights()[term.name]:
            self._set.add(term.name)
        elif has_items and isinstance(term.weight, GradientShare):
            method.set_weight(term.name, 1.0)
            progress = 1.0 if term.schedule == "rising" else 0.0  # where the schedule's factor is 1
            norms = term_gradients(self._model, batches, totals, progress)
            # Without a gradient, such as of attention on a single key, the step says nothing: wait for another one.
            weight = weight_of_share(term.name, term.weight, norms) if norms[term.name] else 0.0
            method.set_weight(term.name, weight)
            if weight:
                self._set.add(term.name)


def why_unmeasured(trainer: Trainer) -> str | None:
    """Why the gradients of single terms cannot be measured in a Trainer's training; None if they can."""
    if trainer.accelerator.num_processes > 1 or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        # A process would not have the whole student, or not all batches of a step.
        return f"FSDP, DeepSpeed or several processes ({trainer.accelerator.num_processes} processes)"
    of_checkpointing = getattr(trainer.args, f"{CHECKPOINTING}_kwargs") or {}
    if getattr(trainer.args, CHECKPOINTING) and of_checkpointing.get("use_reentrant"):
        return "gradient checkpointing with use_reentrant=True"
    return None


def require_gradients(trainer: Trainer, terms: Terms) -> None:
    """Check that gradients can be measured where a weight is a share of gradient; warn once where they cannot.

    Raises:
        InputError: a term's weight is a share of gradient, and gradients cannot be measured.
    """
    reason = why_unmeasured(trainer)
    if reason is None:
        return
    shares = [term.name for term in terms if isinstance(term.weight, GradientShare)]
    if shares:
        raise InputError(
            f"Expected a training in which the gradients of single terms can be measured, for a weight that is a "
            f"share of gradient, that of {', '.join(shares)}; got {reason}. Train one student without it, and give "
            "the weight in its metrics as a number."
        )
    if trainer.is_world_process_zero():
        logger.warning("The gradients of single terms are not measured with %s.", reason)


def term_gradients(
    model: DistillationModel,
    batches: Sequence[Mapping[str, Any]],
    totals: Tensor | None,
    progress: float,
) -> dict[str, float]:
    """The norm of each weighted term's gradient on the student's trainable parameters, over one optimizer step.

    Args:
        model: the student and its method, not wrapped. accelerate puts mixed precision into its forward method.
        batches: the accumulated batches of the step, as `model` takes them.
        totals: the number of items of each term in all of them; None for a single batch.
        progress: share of the training steps that are done.
    """
    parameters = [parameter for parameter in model.student.parameters() if parameter.requires_grad]
    device = model.student.device
    norms: dict[str, Tensor] = {}
    # The method's own metrics, such as mean layer weights, are over training steps alone.
    model.method.eval()
    with _own_gradients(parameters):
        for term in model.method.terms:
            # The gradient of the step: batches add up in `.grad`, as in accumulation. One forward pass for each term:
            # compiled layers allow no second backward pass over the same graph.
            with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
                for inputs in batches:
                    loss = model(**inputs, totals=totals, progress=progress, term=term.name)["loss"]
                    if loss.requires_grad:  # else nothing in the batch for this term
                        torch.autograd.backward(loss, inputs=parameters)
            norms[term.name] = _norm([parameter.grad for parameter in parameters], device)
            for parameter in parameters:
                parameter.grad = None
    model.method.train()
    return dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True))


@contextmanager
def _own_gradients(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Take the gradients of parameters away in the block, and put them back after it."""
    earlier = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        yield
    finally:
        for parameter, gradient in zip(parameters, earlier, strict=True):
            parameter.grad = gradient


def weight_of_share(name: str, share: GradientShare, norms: Mapping[str, float]) -> float:
    """The weight w of a term with w·n = share · (w·n + Σ of the other terms' norms), n its own norm at weight 1.

    Args:
        name: of the term.
        share: the share of all norms that its gradient is to have.
        norms: from `term_gradients`.

    Raises:
        StageError: the term has no gradient, or an infinite one.
    """
    others = sum(norm for other, norm in norms.items() if other != name)
    weight = share.gradient / (1 - share.gradient) * others / norms[name] if norms[name] else float("inf")
    if not 0 < weight < float("inf"):
        raise StageError(
            f"Expected gradients to set the weight of the {name} term by; got norms of {dict(norms)}. The term cannot "
            f"have a share of {share.gradient:g}; give its weight as a number."
        )
    return weight


def _norm(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """The norm of all gradients as one vector; None is a gradient of 0."""
    norms = [gradient.float().norm() for gradient in gradients if gradient is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros((), device=device)
    return norm
