"""What each term of the loss does: the norm of its gradient on the student, beside that of the other terms.

A term's share of the loss says little, since a loss can be large and flat. Its gradient says how strongly it pulls on
the student. It is measured at a few steps of a training, by extra forward and backward passes over one batch that leave
the training as it is: random states are restored, and no `.grad` is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from molsaki.errors import StageError
from molsaki.methods import GradientShare, Term
from molsaki.training.model import DistillationModel

MEASUREMENTS = 5
"""Number of steps of a training at which gradients are measured."""
GRADIENT = "_gradient"
"""The end of the names of gradient norms in the log, behind the name of a term."""


def measured_steps(steps: int, log_every: int) -> frozenset[int]:
    """The steps at which gradients are measured: the first one, and others spread over those that are logged.

    Args:
        steps: number of training steps.
        log_every: steps between two lines of the log, which has the first step too.
    """
    logged = sorted({1, *range(log_every, steps + 1, log_every)})
    last = len(logged) - 1
    return frozenset(logged[round(i * last / (MEASUREMENTS - 1))] for i in range(MEASUREMENTS))


class GradientMeter:
    """Measures gradients before some steps of a training, and sets weights that are shares of gradient.

    Args:
        model: the student and its method, not wrapped.
        context: of a forward pass, for mixed precision.
    """

    def __init__(self, model: DistillationModel, context: Callable[[], AbstractContextManager[Any]]) -> None:
        self._model = model
        self._context = context
        self._steps: frozenset[int] | None = None
        self._last = 0
        self._measured: dict[str, float] = {}
        self._set = {term.name for term in model.method.terms if not isinstance(term.weight, GradientShare)}

    def before_batch(self, inputs: Mapping[str, Any], step: int, steps: int, log_every: int) -> None:
        """Measure, if a batch is the first one of a step at which that is due.

        Args:
            inputs: the batch, as the model takes it.
            step: the step that the batch belongs to, from 1.
            steps: number of training steps.
            log_every: steps between two lines of the log.

        Raises:
            StageError: a weight is to be set, and its term has no gradient.
        """
        if self._steps is None:
            self._steps = measured_steps(steps, log_every)
        for i, term in enumerate(self._model.method.terms):
            if term.name not in self._set:
                self._set_weight(term, inputs, has_items=bool(inputs["batch"].counts[i]))
        if step in self._steps and step != self._last:
            self._last = step
            self._measured = term_gradients(self._model, inputs, (step - 1) / steps, self._context)

    def take(self) -> dict[str, float]:
        """`<term>_gradient` of the last measurement, for a line of the log; empty after that."""
        measured, self._measured = self._measured, {}
        return {f"{name}{GRADIENT}": norm for name, norm in measured.items()}

    def _set_weight(self, term: Term, inputs: Mapping[str, Any], *, has_items: bool) -> None:
        """Set a weight by the first batch with items of its term, unless it comes from a checkpoint."""
        method = self._model.method
        if method.weights()[term.name]:
            self._set.add(term.name)
        elif has_items and isinstance(term.weight, GradientShare):
            method.set_weight(term.name, 1.0)
            progress = 1.0 if term.schedule == "rising" else 0.0  # where the schedule's factor is 1
            norms = term_gradients(self._model, inputs, progress, self._context)
            method.set_weight(term.name, weight_of_share(term.name, term.weight, norms))
            self._set.add(term.name)


def term_gradients(
    model: DistillationModel,
    inputs: Mapping[str, Any],
    progress: float,
    context: Callable[[], AbstractContextManager[Any]],
) -> dict[str, float]:
    """The norm of each weighted term's gradient on the student's trainable parameters, over one batch.

    Args:
        model: the student and its method, not wrapped.
        inputs: the batch, as `model` takes it.
        progress: share of the training steps that are done.
        context: of the forward pass, for mixed precision.
    """
    parameters = [parameter for parameter in model.student.parameters() if parameter.requires_grad]
    device = model.student.device
    norms: dict[str, Tensor] = {}
    # The method's own metrics, such as mean layer weights, are over training steps alone.
    model.method.eval()
    for term in model.method.terms:
        # One forward pass for each term: compiled layers allow no second backward pass over the same graph.
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type), context():
            loss = model(**inputs, progress=progress, term=term.name)["loss"]
        norms[term.name] = _gradient_norm(loss, parameters)
    model.method.train()
    return dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True))


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


def _gradient_norm(loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    if not loss.requires_grad:  # nothing in the batch for this term
        return loss.detach().new_zeros(())
    gradients = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    norms = [gradient.detach().float().norm() for gradient in gradients if gradient is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm
