"""What a distillation method is: terms that declare what they need, and a module that computes their losses.

Legend: B examples with attention, E examples, T tokens, L layers, S steps, K keys, D width of a value state, V
vocabulary; M positions at which next tokens are compared, there K tokens with a probability of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from torch import Tensor, nn

from molsaki.methods.losses import LossParts, weighted_loss
from molsaki.spans.views import STEPS, View

Task = Literal["predict", "explain", "reason"]
"""A sequence that a student trains on, by its prompt: the label, the rationale, or both in one."""
Schedule = Literal["constant", "falling", "rising"]
Target = Literal["teacher", "uniform", "shuffled", "oracle"]
"""What the attention loss pulls towards: the teacher's attention, or a control; see `molsaki.training.targets`."""


class MethodSettings(BaseModel):
    """Base of a method's settings. Unknown keys are refused, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GradientShare(MethodSettings):
    """A weight that is set once at the start of a training, so that the term has this share of gradient.

    Attributes:
        gradient: the norm of the weighted term's gradient over the sum of those of all terms.
    """

    gradient: float = Field(gt=0, lt=1)


WEIGHT_TAGS = ("<number>", "<share of gradient>")
"""The two forms of a weight in the location of pydantic's errors."""


def _weight_tag(value: object) -> str:
    return WEIGHT_TAGS[isinstance(value, (Mapping, GradientShare))]


Weight = Annotated[
    Annotated[float, Field(ge=0), Tag(WEIGHT_TAGS[0])] | Annotated[GradientShare, Tag(WEIGHT_TAGS[1])],
    Discriminator(_weight_tag),
]
"""The setting of a term's weight: a number, or `{gradient: share}`."""

S = TypeVar("S", bound=MethodSettings)


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """A term that needs the stepwise attention of teacher and student: which part of it.

    Attributes:
        view: rows and columns. If the view keeps heads apart, the heads of all layers take the place of the layers.
        question_keys: only columns of the question.
        other_words: only columns that are no keys.
        rationale_steps: only rows of the rationale.
        step_means: means over the tokens of a step instead of sums, on each side over its own tokens.
        target: the teacher's attention, or a control in its place.
        values: the student's value states too.
    """

    view: View = STEPS
    question_keys: bool = False
    other_words: bool = False
    rationale_steps: bool = False
    step_means: bool = False
    target: Target = "teacher"
    values: bool = False


@dataclass(frozen=True, slots=True)
class NextTokens:
    """A term that needs the next-token distributions of teacher and student, at this temperature."""

    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class PooledOutputs:
    """A term that needs the student's output distributions in two tasks, pooled over positions."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a method's loss: its weight, and what it needs.

    Attributes:
        name: its name in logs, unique within a method.
        weight: its weight in the loss.
        tasks: the sequences that it is computed from.
        needs: what it compares; None for the cross-entropy of its task's tokens.
        schedule: over the training steps the weight is "constant", "falling" linearly to 0, or "rising" from 0.
    """

    name: str
    weight: float | GradientShare
    tasks: tuple[Task, ...]
    needs: AttentionChoice | NextTokens | PooledOutputs | None = None
    schedule: Schedule = "constant"

    def scale_at(self, progress: float) -> float:
        """The factor of the weight after this share of the training steps, from 0 to 1."""
        return {"constant": 1.0, "falling": 1.0 - progress, "rising": progress}[self.schedule]


class Terms(tuple[Term, ...]):
    """The terms of a method's loss, and what they need together."""

    __slots__ = ()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The sequences that the student trains on."""
        return tuple(dict.fromkeys(task for term in self for task in term.tasks))

    @property
    def attention(self) -> AttentionChoice | None:
        """The part of the attention that is compared, if any."""
        return next((term.needs for term in self if isinstance(term.needs, AttentionChoice)), None)

    @property
    def next_tokens(self) -> NextTokens | None:
        """The next tokens that are compared, if any."""
        return next((term.needs for term in self if isinstance(term.needs, NextTokens)), None)

    @property
    def pooled_outputs(self) -> PooledOutputs | None:
        """The pooled outputs that are compared, if any."""
        return next((term.needs for term in self if isinstance(term.needs, PooledOutputs)), None)


def label_and_rationale(alpha: float) -> tuple[Term, Term]:
    """α·L_pre + (1 − α)·L_exp: answer after `predict:`, rationale after `explain:` (Distilling step-by-step)."""
    return Term("label", alpha, ("predict",)), Term("rationale", 1 - alpha, ("explain",))


@dataclass(frozen=True, slots=True)
class StudentShape:
    """What a method may need to know to create its own parameters.

    Attributes:
        value_sizes: width of the value states of each of the student's layers that are read, all value heads side by
            side.
        teacher_layers: number of layers in the stored attention of the teacher (of heads of all layers, if heads are
            kept apart); 0 if none is read.
        heads: number of attention heads of each of the student's layers.
        layer_numbers: the student's layers that are read, from 0; empty for all. A hybrid model's layers without
            attention have none.
        teacher_layer_numbers: the teacher's, likewise.
    """

    value_sizes: tuple[int, ...]
    teacher_layers: int = 0
    heads: tuple[int, ...] = ()
    layer_numbers: tuple[int, ...] = ()
    teacher_layer_numbers: tuple[int, ...] = ()

    @property
    def student_numbers(self) -> tuple[int, ...]:
        """The numbers of the student's layers that are read."""
        return self.layer_numbers or tuple(range(len(self.value_sizes)))

    @property
    def teacher_numbers(self) -> tuple[int, ...]:
        """The numbers of the teacher's layers in its stored attention."""
        return self.teacher_layer_numbers or tuple(range(self.teacher_layers))


@dataclass(frozen=True, slots=True)
class AttentionPair:
    """Stepwise attention of teacher and student on the same steps and keys of the same examples.

    Attributes:
        teacher_BLSK: the teacher's, all layers; sums over the tokens of a step, or means if the term's
            `AttentionChoice` says so.
        student_BLSK: the student's sums, all layers, with gradient.
        values: the student's value states [B, T, D] of each layer; empty if no term needs them.
        token_mask_BT: True at real tokens.
        step_mask_BS, key_mask_BK: True at real steps and keys.
        visible_BSK: True where a step can see a key.
        step_tokens_BS: the student's number of tokens of each step; 1 where there is no step.
        share: number of these examples over the number of examples with attention in the optimiser step; below 1 if
            gradients are accumulated, so that the step's loss is the mean over all of them.
    """

    teacher_BLSK: Tensor
    student_BLSK: Tensor
    values: tuple[Tensor, ...]
    token_mask_BT: Tensor
    step_mask_BS: Tensor
    key_mask_BK: Tensor
    visible_BSK: Tensor
    step_tokens_BS: Tensor
    share: float | Tensor = 1.0


@dataclass(frozen=True, slots=True)
class OutputPair:
    """The student's output distributions after `predict:` and after `explain:`, for the same examples.

    Attributes:
        label_EV: log of the largest probability of each token of the vocabulary over the positions of the label.
        rationale_EV: the same over the positions of the rationale.
        share: number of these examples over that of the optimiser step.
    """

    label_EV: Tensor
    rationale_EV: Tensor
    share: float | Tensor = 1.0


@dataclass(frozen=True, slots=True)
class NextTokenPair:
    """Log-probabilities of the next token, or of the next span, by teacher and student, where both tokenizers agree.

    Attributes:
        teacher_MK: the teacher's, of the tokens that it has stored; −inf behind a position's last one.
        student_MK: the student's, of the same tokens, with gradient.
        student_rest_M: the student's, of all other tokens together, with gradient.
        share: number of these positions over that of the optimiser step.
    """

    teacher_MK: Tensor
    student_MK: Tensor
    student_rest_M: Tensor
    share: float | Tensor = 1.0


@dataclass(frozen=True, slots=True)
class MethodInputs:
    """What the forward passes over one batch give to a method.

    Attributes:
        cross_entropies: for each term without needs, by its task, the mean cross-entropy of the completions' tokens
            (scalar); a method has at least one such term.
        attention: None if no example of the batch has the teacher's attention.
        outputs: None if no term needs them.
        next_tokens: None if no example of the batch has a position to compare.
        progress: share of the training steps that are done.
    """

    cross_entropies: Mapping[Task, Tensor]
    attention: AttentionPair | None = None
    outputs: OutputPair | None = None
    next_tokens: NextTokenPair | None = None
    progress: float = 0.0


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
        answers_with: the prompt that its students are tested with.
        explains_with: the prompt after which its students write a rationale.
        terms: the terms of its loss.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    deprecated: ClassVar[str] = ""
    Settings: ClassVar[type[MethodSettings]]
    answers_with: ClassVar[Literal["predict", "reason"]] = "predict"
    explains_with: ClassVar[Literal["explain", "reason"]] = "explain"

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
        """The loss of the term that compares attention: this batch's share of the optimiser step's mean."""
        raise NotImplementedError

    def output_loss(self, outputs: OutputPair) -> Tensor:
        """The loss of the term that compares pooled outputs: this batch's share of the optimiser step's mean."""
        raise NotImplementedError

    def next_token_loss(self, pair: NextTokenPair) -> Tensor:
        """The loss of the term that compares next tokens: this batch's share of the optimiser step's mean."""
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
