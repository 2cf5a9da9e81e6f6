"""What a distillation method is: terms that declare what they need, and a module that computes their losses.

The terms are those of `terms.py`, and what their losses are computed from is in `inputs.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from molsaki.methods.inputs import AttentionPair, MethodInputs, NextTokenPair, OutputPair, StudentShape
from molsaki.methods.losses import LossParts, weighted_loss
from molsaki.methods.terms import AttentionChoice, GradientShare, MethodSettings, NextTokens, PooledOutputs, Term, Terms

S = TypeVar("S", bound=MethodSettings)


class Method(nn.Module, ABC, Generic[S]):
    """A way to distil: L = Σ weight · term over the terms of `terms_of`.

    A subclass sets the class attributes, defines `terms_of`, and defines the loss of each of its terms that is no
    cross-entropy: `attention_loss`, `output_loss` or `next_token_loss`. Parameters of its own (a router) are trained
    with the student and saved in a separate file beside it, which inference does not need.

    Args:
        settings: the method's settings.
        student: the student's shape.

    Attributes:
        name: its name in recipes.
        summary: one line.
        deprecated: what to use instead, for a method that will be removed.
        Settings: the class of its settings.
        terms: the terms of its loss.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    deprecated: ClassVar[str] = ""
    Settings: ClassVar[type[MethodSettings]]

    settings: S
    terms: Terms

    def __init__(self, settings: S, student: StudentShape) -> None:  # noqa: ARG002 - for subclasses
        super().__init__()
        self.settings = settings
        self.terms = self.terms_of(settings)
        for term in self.terms:
            if isinstance(term.weight, GradientShare):
                # 0 until it is set. A buffer is saved with checkpoints and moves with the module.
                self.register_buffer(f"{term.name}_weight", torch.zeros(()))

    @classmethod
    @abstractmethod
    def terms_of(cls, settings: S) -> Terms:
        """The terms of its loss with these settings."""

    def forward(self, inputs: MethodInputs) -> LossParts:
        """The loss of one batch and its terms. A term that the batch has nothing for is 0."""
        zero = next(iter(inputs.cross_entropies.values())).new_zeros(())
        weighted = {}
        for term in self.terms:
            loss = self._loss(term, inputs)
            weight = self._weight(term) * term.scale_at(inputs.progress)
            weighted[term.name] = (weight, zero if loss is None else loss)
        return weighted_loss(weighted)

    def weights(self) -> dict[str, float]:
        """The weight of each term, before its schedule; 0 for one that is a share of gradient and not set yet."""
        return {term.name: float(self._weight(term)) for term in self.terms}

    def set_weight(self, name: str, weight: float) -> None:
        """Set the weight of a term that is a share of gradient."""
        self.get_buffer(f"{name}_weight").fill_(weight)

    def attention_loss(self, pair: AttentionPair) -> Tensor:
        """The loss of the term that compares attention: this batch's share of the optimizer step's mean."""
        raise NotImplementedError

    def output_loss(self, outputs: OutputPair) -> Tensor:
        """The loss of the term that compares pooled outputs: this batch's share of the optimizer step's mean."""
        raise NotImplementedError

    def next_token_loss(self, pair: NextTokenPair) -> Tensor:
        """The loss of the term that compares next tokens: this batch's share of the optimizer step's mean."""
        raise NotImplementedError

    def learning_rates(self) -> dict[str, float]:
        """Learning rates of the method's parameters that differ from the student's, by the start of their names."""
        return {}

    def log_metrics(self) -> dict[str, float]:
        """Further metrics for a line of the training log, over the batches since the last line."""
        return {}

    def _weight(self, term: Term) -> float | Tensor:
        return self.get_buffer(f"{term.name}_weight") if isinstance(term.weight, GradientShare) else term.weight

    def _loss(self, term: Term, inputs: MethodInputs) -> Tensor | None:
        match term.needs:
            case AttentionChoice():
                return None if inputs.attention is None else self.attention_loss(inputs.attention)
            case PooledOutputs():
                return None if inputs.outputs is None else self.output_loss(inputs.outputs)
            case NextTokens():
                return None if inputs.next_tokens is None else self.next_token_loss(inputs.next_tokens)
            case None:
                return inputs.cross_entropies[term.tasks[0]]
