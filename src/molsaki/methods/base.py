"""What every method of distillation is: a module from what one forward pass shows to a loss and its parts.

Legend: B examples whose attention is compared, E examples, T tokens, L layers, S steps, K keys, D width of a value
state, V vocabulary; M positions where next tokens are compared, there K tokens that are told apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from molsaki.methods.losses import LossParts
from molsaki.spans.views import ViewName

Task = Literal["predict", "explain", "reason"]
TERM_OF_TASK: dict[Task, str] = {"predict": "label", "explain": "rationale", "reason": "reasoning"}
TERMS = (*TERM_OF_TASK.values(), "attention", "mutual", "logits")
"""The names of all terms that a method's loss may have, in the order in which their items are counted."""


class MethodSettings(BaseModel):
    """Base of a method's own settings: unknown keys are refused, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class StudentShape:
    """What a method may need to know of the student, and of its teacher's attention, to build its own parameters.

    Attributes:
        value_sizes: width of the value states of every layer, all value heads side by side.
        teacher_layers: how many layers of the teacher (or heads of all its layers, where each is read) the stored
            attention has; 0 where none is read.
        heads: how many attention heads every layer of the student has.
    """

    value_sizes: tuple[int, ...]
    teacher_layers: int = 0
    heads: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """Which part of the attention a method compares.

    Attributes:
        question_keys: only the keys of the question.
        step_means: means over each step's tokens instead of sums, on either side over its own tokens.
        view: which of `molsaki.spans.views` it compares; where that keeps heads apart, the heads of all layers take the
            place of layers.
    """

    question_keys: bool = False
    step_means: bool = False
    view: ViewName = "steps"


@dataclass(frozen=True, slots=True)
class AttentionPair:
    """Teacher's and student's stepwise attention on the same steps and keys of the same examples.

    Attributes:
        teacher_BLSK: the teacher's, of all its layers; sums over each step's tokens, or means where the method's
            `AttentionChoice` wants them.
        student_BLSK: the student's sums, of all its layers, with gradient.
        values: the student's value states [B, T, D] of every layer; none for a method that does not want them.
        token_mask_BT: True at real tokens.
        step_mask_BS, key_mask_BK: True at real steps and keys.
        visible_BSK: True where a step can see a key.
        step_tokens_BS: how many tokens each step has on the student's side; 1 where there is no step.
        share: these examples over all examples with attention of the optimiser step; less than 1 where gradients
            are accumulated, so that the step's loss is the mean over all of them.
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
    """What the student says after `predict:` and after `explain:` about the same examples.

    Attributes:
        label_EV: log of the largest probability that each token of the vocabulary has at any position of the label.
        rationale_EV: the same over the positions of the rationale.
        share: these examples over all such examples of the optimiser step.
    """

    label_EV: Tensor
    rationale_EV: Tensor
    share: float | Tensor = 1.0


@dataclass(frozen=True, slots=True)
class NextTokenPair:
    """Teacher's and student's distributions of the next token, where both tokenizers agree; logarithms.

    Attributes:
        teacher_MK: the teacher's probabilities of the tokens that are told apart; −inf behind a position's last one.
        student_MK: the student's probabilities of the same tokens, with gradient.
        student_rest_M: the student's probability of all other tokens together, with gradient.
        share: these positions over all of the optimiser step.
    """

    teacher_MK: Tensor
    student_MK: Tensor
    student_rest_M: Tensor
    share: float | Tensor = 1.0


@dataclass(frozen=True, slots=True)
class MethodInputs:
    """What one batch shows; what belongs to no task of the method is None.

    Attributes:
        label_loss: mean cross-entropy of the labels' tokens after `predict:`; scalar.
        rationale_loss: mean cross-entropy of the rationales' tokens after `explain:`; scalar.
        attention: stepwise attention of both sides, or None where no example of the batch has it.
        reasoning_loss: mean cross-entropy of the tokens of rationale and answer after `reason:`; scalar.
        outputs: the two tasks' pooled outputs, for a method that asks for them.
        progress: the share of the training's steps that are done.
        logits: both sides' next tokens, or None where no example of the batch has a position to compare.
    """

    label_loss: Tensor | None = None
    rationale_loss: Tensor | None = None
    attention: AttentionPair | None = None
    reasoning_loss: Tensor | None = None
    outputs: OutputPair | None = None
    progress: float = 0.0
    logits: NextTokenPair | None = None


class Method(nn.Module, ABC):
    """One way to distil.

    Subclasses set the class attributes and define `forward`. Parameters of their own (a router) are trained with
    the student's and saved in a file of their own beside it, which nobody needs who only asks the student.

    Attributes:
        name: in recipes.
        summary: in a line.
        tasks: the sequences that it trains on.
        answers_with: the prompt that its students are tested with.
        reads_attention: whether teacher's and student's stepwise attention are compared.
        pools_outputs: whether it wants `MethodInputs.outputs`.
        reads_logits: whether teacher's and student's next tokens are compared, `MethodInputs.logits`.
        wants_values: whether it wants the student's value states with its attention.
        wants_heads: whether it wants each head of the student's layers instead of their mean.
        Settings: its own settings.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]]
    answers_with: ClassVar[Literal["predict", "reason"]] = "predict"
    reads_attention: ClassVar[bool] = False
    pools_outputs: ClassVar[bool] = False
    reads_logits: ClassVar[bool] = False
    wants_values: bool = False
    wants_heads: bool = False
    Settings: ClassVar[type[MethodSettings]] = MethodSettings

    def __init__(self, settings: MethodSettings, student: StudentShape) -> None:  # noqa: ARG002 - for subclasses
        super().__init__()
        self.settings = settings

    @classmethod
    def terms(cls) -> tuple[str, ...]:
        """Which of `TERMS` its loss has."""
        more = {"attention": cls.reads_attention, "mutual": cls.pools_outputs, "logits": cls.reads_logits}
        return (*(TERM_OF_TASK[task] for task in cls.tasks), *(term for term, has in more.items() if has))

    @classmethod
    def explains_after(cls) -> Task:
        """The prompt after which its students write a rationale, where they are shown and compared with the teacher.

        It is `explain:` unless they learned rationales after `reason:` alone; so too where they learned none.
        """
        return "reason" if "reason" in cls.tasks and "explain" not in cls.tasks else "explain"

    @classmethod
    def attention_choice(cls, settings: MethodSettings) -> AttentionChoice:  # noqa: ARG003 - for subclasses
        """Which part of the attention it compares with these settings."""
        return AttentionChoice()

    @classmethod
    def temperature_of(cls, settings: MethodSettings) -> float:  # noqa: ARG003 - for subclasses
        """The temperature of the next tokens that it compares with these settings."""
        return 1.0

    @abstractmethod
    def forward(self, inputs: MethodInputs) -> LossParts:
        """The loss of one batch and its parts."""

    def log_metrics(self) -> dict[str, float]:
        """What else belongs into a line of the training's log, over the batches since the last; nothing here."""
        return {}
