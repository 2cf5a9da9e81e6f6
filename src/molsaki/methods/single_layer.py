"""Single layer: the attention of chosen layers instead of mixtures.

Legend: B examples, L layers, S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator
from torch import Tensor

from molsaki.errors import InputError
from molsaki.methods.attention_loss import (
    RowsLeftOut,
    StepSettings,
    attention_choice,
    attention_divergence,
    attention_terms,
    pool_steps,
)
from molsaki.methods.base import Method
from molsaki.methods.inputs import AttentionPair, StudentShape
from molsaki.methods.terms import Terms

Depth = Annotated[float, Field(gt=0, lt=1)]
Layers = Annotated[
    Annotated[tuple[int | Depth, ...], Field(min_length=1), Tag("<layers>")] | Annotated[Literal["all"], Tag("<all>")],
    Discriminator(lambda value: "<all>" if isinstance(value, str) else "<layers>"),
]


class SingleLayerSettings(StepSettings):
    """Settings of the single-layer method.

    Attributes:
        teacher_layers: which of the teacher's layers, from 0, or from −1 backwards; the mean of several, or of "all". A
            number between 0 and 1 is a share of the depth: 0.5 is the middle layer. In a hybrid model, −1 is the last
            layer with attention, and shares are of the layers with attention.
        student_layers: which of the student's, likewise.
    """

    teacher_layers: Layers = (-1,)
    student_layers: Layers = (-1,)

    @model_validator(mode="after")
    def _every_setting_does_something(self) -> Self:
        self.require_rows_with_a_scale()
        return self


class SingleLayer(Method[SingleLayerSettings]):
    """L = α·L_pre + (1 − α)·L_exp + β·L_att with A^t and A^s each the mean of chosen layers.

    The ablation of the MoLSAKI paper: any pair of one teacher layer and one student layer, or the last ones, which
    are the default; with several layers on a side A = (1/n) Σ_l A_l.

    Raises:
        InputError: a layer is chosen that the model does not have, or twice.
    """

    name = "single-layer"
    summary = "answer, rationale, and the attention of chosen teacher layers on chosen student layers"
    Settings = SingleLayerSettings

    def __init__(self, settings: SingleLayerSettings, student: StudentShape) -> None:
        super().__init__(settings, student)
        self.teacher_layers = find_layers("teacher", settings.teacher_layers, student.teacher_numbers)
        self.student_layers = find_layers("student", settings.student_layers, student.student_numbers)
        self.left_out = RowsLeftOut()

    @classmethod
    def terms_of(cls, settings: SingleLayerSettings) -> Terms:
        """L = α·L_pre + (1 − α)·L_exp + β·L_att."""
        return attention_terms(settings, attention_choice(settings))

    def attention_loss(self, pair: AttentionPair) -> Tensor:
        """L_att between the means of the chosen layers."""
        return attention_divergence(
            mean_of_layers(pair.teacher_BLSK, self.teacher_layers),
            mean_of_layers(pool_steps(pair, self.settings), self.student_layers),
            pair,
            temperature=self.settings.kl_temperature,
            normalisation=self.settings.normalisation,
            left_out=self.left_out if self.training else None,
        )

    def log_metrics(self) -> dict[str, float]:
        """The share of rows that were left out of L_att, if any can be."""
        return self.left_out.take()


def mean_of_layers(attention_BLSK: Tensor, layers: Sequence[int]) -> Tensor:
    """The mean [B, S, K] of some layers, A = (1/n) Σ_l A_l."""
    chosen = [attention_BLSK[:, layer] for layer in layers]
    total = chosen[0]
    for attention_BSK in chosen[1:]:
        total = total + attention_BSK
    return total / len(chosen)


def find_layers(whose: str, chosen: Sequence[int | float] | Literal["all"], numbers: Sequence[int]) -> tuple[int, ...]:
    """The positions, among the layers that are read, of those that were chosen.

    Args:
        whose: "teacher" or "student", for the message.
        chosen: numbers of the model's layers from 0, or from −1 backwards among those that are read, or shares of
            their depth.
        numbers: the layers of the model that are read.

    Raises:
        InputError: there is no such layer, or one is chosen twice.
    """
    if chosen == "all":
        return tuple(range(len(numbers)))
    positions = tuple(_position(layer, numbers) for layer in chosen)
    if None in positions or len(set(positions)) < len(positions):
        count = len(numbers)
        named = f"from 0 to {count - 1}" if tuple(numbers) == tuple(range(count)) else f"among {list(numbers)}"
        raise InputError(
            f"Expected {whose}_layers to be different layers {named}, from -{count} to -1, or shares of "
            f"the depth; got {list(chosen)}. The {whose} has {count} layers with attention; choose among them."
        )
    return tuple(position for position in positions if position is not None)


def _position(layer: int | float, numbers: Sequence[int]) -> int | None:
    if isinstance(layer, float):
        return round(layer * (len(numbers) - 1))
    if layer < 0:
        return layer + len(numbers) if layer >= -len(numbers) else None
    return numbers.index(layer) if layer in numbers else None
