"""Single layer: the attention of chosen layers in the place of the mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

from pydantic import Field
from torch import Tensor

from molsaki.errors import InputError
from molsaki.methods.attention import AttentionMethod, AttentionSettings
from molsaki.methods.base import AttentionPair, MethodSettings, StudentShape

Depth = Annotated[float, Field(gt=0, lt=1)]
Layers = Annotated[tuple[int | Depth, ...], Field(min_length=1)]


class SingleLayerSettings(AttentionSettings):
    """Settings of the single-layer method.

    Attributes:
        teacher_layers: which of the teacher's layers, from 0, or from −1 backwards; the mean of several. A number
            between 0 and 1 is a share of the depth: 0.5 is the middle layer.
        student_layers: which of the student's, likewise.
    """

    teacher_layers: Layers = (-1,)
    student_layers: Layers = (-1,)


class SingleLayer(AttentionMethod):
    """L = α·L_pre + (1 − α)·L_exp + β·L_att with A^t and A^s each the mean of chosen layers.

    The ablation of the MoLSAKI paper: any pair of one teacher layer and one student layer, or the last ones, which
    are the default; with several layers on a side A = (1/n) Σ_l A_l.

    Raises:
        InputError: a layer is chosen that the model does not have, or twice.
    """

    name = "single-layer"
    summary = "answer, rationale, and the attention of chosen teacher layers on chosen student layers"
    Settings = SingleLayerSettings

    def __init__(self, settings: MethodSettings, student: StudentShape) -> None:
        super().__init__(settings, student)
        chosen = cast(SingleLayerSettings, settings)
        self.teacher_layers = find_layers("teacher", chosen.teacher_layers, student.teacher_layers)
        self.student_layers = find_layers("student", chosen.student_layers, len(student.value_sizes))

    def compared(
        self,
        teacher_BLSK: Tensor,
        student_BLSK: Tensor,
        pair: AttentionPair,  # noqa: ARG002 - the interface's
    ) -> tuple[Tensor, Tensor]:
        """The means of the chosen layers."""
        return mean_of_layers(teacher_BLSK, self.teacher_layers), mean_of_layers(student_BLSK, self.student_layers)


def mean_of_layers(attention_BLSK: Tensor, layers: Sequence[int]) -> Tensor:
    """The mean [B, S, K] of some layers, A = (1/n) Σ_l A_l."""
    chosen = [attention_BLSK[:, layer] for layer in layers]
    total = chosen[0]
    for attention_BSK in chosen[1:]:
        total = total + attention_BSK
    return total / len(chosen)


def find_layers(whose: str, chosen: Sequence[int | float], count: int) -> tuple[int, ...]:
    """The layers that were chosen, from 0.

    Raises:
        InputError: there is no such layer, or one is chosen twice.
    """
    places = tuple(_place(layer, count) for layer in chosen)
    if any(not 0 <= place < count for place in places) or len(set(places)) < len(places):
        raise InputError(
            f"Expected {whose}_layers to be different layers from 0 to {count - 1}, from -{count} to -1, or shares of "
            f"the depth; got {list(chosen)}. The {whose} has {count} layers with attention; choose among them."
        )
    return places


def _place(layer: int | float, count: int) -> int:
    if isinstance(layer, float):
        return round(layer * (count - 1))
    return layer + count if layer < 0 else layer
