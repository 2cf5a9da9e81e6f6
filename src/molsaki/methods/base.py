"""What every method of distillation is: a module from what one forward pass shows to a loss and its parts.

Legend: B examples whose attention is compared, T tokens, L layers, S steps, K keys, D width of a value state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from molsaki.objectives import LossParts

Task = Literal["predict", "explain"]


class MethodSettings(BaseModel):
    """Base of a method's own settings: unknown keys are refused, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class StudentShape:
    """What a method may need to know of the student to build its own parameters.

    Attributes:
        value_sizes: width of the value states of every layer, all value heads side by side.
    """

    value_sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AttentionPair:
    """Teacher's and student's stepwise attention on the same steps and keys of the same examples.

    Attributes:
        teacher_BLSK: the teacher's, of all its layers.
        student_BLSK: the student's, of all its layers, with gradient.
        values: the student's value states [B, T, D] of every layer.
        token_mask_BT: True at real tokens.
        step_mask_BS, key_mask_BK: True at real steps and keys.
        visible_BSK: True where a step can see a key.
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
    share: float | Tensor = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What one forward pass shows.

    Attributes:
        label_loss: mean cross-entropy of the labels' tokens after `predict:`; scalar.
        rationale_loss: mean cross-entropy of the rationales' tokens after `explain:`; scalar, or None.
        attention: stepwise attention of both sides, or None where no example of the batch has it.
    """

    label_loss: Tensor
    rationale_loss: Tensor | None = None
    attention: AttentionPair | None = None


class Method(nn.Module, ABC):
    """One way to distil.

    Subclasses set the class attributes and define `forward`. Parameters of their own (a router) are trained with
    the student's and saved in a file of their own beside it, which nobody needs who only asks the student.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    tasks: ClassVar[tuple[Task, ...]]
    reads_attention: ClassVar[bool] = False
    Settings: ClassVar[type[MethodSettings]] = MethodSettings

    def __init__(self, settings: MethodSettings, student: StudentShape) -> None:  # noqa: ARG002 - for subclasses
        super().__init__()
        self.settings = settings

    @abstractmethod
    def forward(self, seen: Seen) -> LossParts:
        """The loss of one batch and its parts."""

    def watched(self) -> dict[str, float]:
        """What else belongs into a line of the training's log, over the batches since the last; nothing here."""
        return {}
