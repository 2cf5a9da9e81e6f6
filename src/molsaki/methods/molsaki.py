"""MoLSAKI: the rationale, and the stepwise attention on key information behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from molsaki.errors import InputError
from molsaki.methods.attention import AttentionMethod, AttentionSettings
from molsaki.methods.base import AttentionChoice, AttentionPair, MethodSettings, StudentShape
from molsaki.mixture import LayerRouter, mix_layers, teacher_layer_weights


class MoLSAKISettings(AttentionSettings):
    """Settings of MoLSAKI; every default is the paper's, every other value a named departure.

    Attributes:
        teacher_weights: the teacher's layers weigh by the "change" of their attention from key to key (paper), are
            "uniform", or weigh as "learned" with the student, one logit a layer over τ1.
        teacher_temperature: τ1 of the teacher's layer weights (paper: 0.1).
        layer_change: "mean" divides G by |steps|·(|keys| − 1) (paper), "sum" does not (released code).
        student_weights: the student's layers weigh as the "router" says that reads its value states (paper), or are
            "uniform"; the settings of the router then mean nothing and are refused.
        router_temperature: τ2 of the student's layer weights (paper: 0.5).
        gate: the router's gate over "concatenated" layers (paper), "per-layer", or "shared" (released code).
        router_norm: RMSNorm "before" the sum over tokens (paper) or "after" it (released code).
        router_pool: "sum" over tokens (paper) or "mean".
        detach_values: the router learns but does not push on the student's values (released code).
        heads: what is mixed on both sides: layers, each the "mean" over its heads (paper), or "each" head of every
            layer, the router with one output for each.
    """

    teacher_weights: Literal["change", "uniform", "learned"] = "change"
    teacher_temperature: float = Field(default=0.1, gt=0)
    layer_change: Literal["mean", "sum"] = "mean"
    student_weights: Literal["router", "uniform"] = "router"
    router_temperature: float = Field(default=0.5, gt=0)
    gate: Literal["concatenated", "per-layer", "shared"] = "concatenated"
    router_norm: Literal["before", "after"] = "before"
    router_pool: Literal["sum", "mean"] = "sum"
    detach_values: bool = False
    heads: Literal["mean", "each"] = "mean"

    @property
    def scale_of_rows_matters(self) -> bool:
        """It does for how much the teacher's attention changes from key to key."""
        return self.teacher_weights == "change"

    @model_validator(mode="after")
    def _every_setting_does_something(self) -> Self:
        router = ["router_temperature", "gate", "router_norm", "router_pool", "detach_values"]
        idle: dict[str, list[str]] = {"student_weights": router if self.student_weights == "uniform" else []}
        idle["teacher_weights"] = {
            "change": [],
            "uniform": ["teacher_temperature", "layer_change"],
            "learned": ["layer_change"],
        }[self.teacher_weights]
        for chosen, without in idle.items():
            changed = [name for name in without if getattr(self, name) != type(self).model_fields[name].default]
            if changed:
                raise ValueError(
                    f"expected no {' or '.join(changed)} with `{chosen}: {getattr(self, chosen)}`, which has no use "
                    "for it"
                )
        return self


class MoLSAKI(AttentionMethod):
    """L = α·L_pre + (1 − α)·L_exp + β·L_att with the layers of both sides mixed (Eq. 2 to 8).

    Chen, Sheng, Zhang, Liu, EMNLP 2025, arXiv 2604.15701. The teacher's layers are weighed by how much their
    attention changes from key to key (Eq. 4), the student's by a router that reads its value states (Eq. 5).

    With `heads: each` the heads of all layers stand in the layers' place on both sides: A^t = Σ_l Σ_h p^t_lh · A^t_lh
    with p^t over all L·H of them, and A^s likewise. That is no setting of the paper, which has means over heads.

    Raises:
        InputError: the teacher's weights are to be learned, and it is not said how many layers it has.
    """

    name = "molsaki"
    summary = "answer, rationale, and the teacher's stepwise attention through a mixture of layers"
    Settings = MoLSAKISettings

    def __init__(self, settings: MethodSettings, student: StudentShape) -> None:
        super().__init__(settings, student)
        chosen = cast(MoLSAKISettings, settings)
        self.wants_heads = chosen.heads == "each"
        self.router: LayerRouter | None = None
        if chosen.student_weights == "router":
            self.router = LayerRouter(
                student.value_sizes,
                chosen.router_temperature,
                gate=chosen.gate,
                normalise=chosen.router_norm,
                pool=chosen.router_pool,
                detach_values=chosen.detach_values,
                heads=student.heads if self.wants_heads else None,
            )
        self.wants_values = self.router is not None
        self.teacher_logits: nn.Parameter | None = None
        if chosen.teacher_weights == "learned":
            if student.teacher_layers < 1:
                raise InputError(
                    "Expected the number of the teacher's layers to learn their weights; got none. Make the method "
                    "with `StudentShape(value_sizes, teacher_layers)`."
                )
            self.teacher_logits = nn.Parameter(torch.zeros(student.teacher_layers))
        self.teacher_learns = self.teacher_logits is not None
        self._layer_weights: Tensor | None = None
        self._weighed = 0

    @classmethod
    def attention_choice(cls, settings: MethodSettings) -> AttentionChoice:
        """Each head apart too, where the settings want it."""
        each = cast(MoLSAKISettings, settings).heads == "each"
        return replace(super().attention_choice(settings), view="heads" if each else "steps")

    def watched(self) -> dict[str, float]:
        """The router's mean weight of every layer, `layer_weight_0` and on, over this process's batches.

        Where each head has a weight, a layer's is the sum of its heads'.
        """
        if self._layer_weights is None:
            return {}
        means = (self._layer_weights / self._weighed).tolist()
        self._layer_weights, self._weighed = None, 0
        return {f"layer_weight_{layer}": weight for layer, weight in enumerate(means)}

    def compared(self, teacher_BLSK: Tensor, student_BLSK: Tensor, pair: AttentionPair) -> tuple[Tensor, Tensor]:
        """The two mixtures."""
        teacher_BL, student_BL = self._teacher_weights(teacher_BLSK, pair), self._student_weights(student_BLSK, pair)
        return mix_layers(teacher_BLSK, teacher_BL), mix_layers(student_BLSK, student_BL)

    def _teacher_weights(self, teacher_BLSK: Tensor, pair: AttentionPair) -> Tensor:
        settings = cast(MoLSAKISettings, self.settings)
        if settings.teacher_weights == "uniform":
            return _uniform(teacher_BLSK)
        if self.teacher_logits is not None:
            weights_L = torch.softmax(self.teacher_logits / settings.teacher_temperature, dim=0)
            return weights_L.expand(teacher_BLSK.shape[0], -1)
        return teacher_layer_weights(
            teacher_BLSK,
            pair.step_mask_BS,
            pair.key_mask_BK,
            settings.teacher_temperature,
            normalise=settings.layer_change == "mean",
            check=False,
        )

    def _student_weights(self, student_BLSK: Tensor, pair: AttentionPair) -> Tensor:
        if self.router is None:
            return _uniform(student_BLSK)
        weights_BL: Tensor = self.router(pair.values, pair.token_mask_BT, check=False)
        if self.training:
            summed_L = self.router.by_layer(weights_BL.detach()).sum(0)
            self._layer_weights = summed_L if self._layer_weights is None else self._layer_weights + summed_L
            self._weighed += weights_BL.shape[0]
        return weights_BL


def _uniform(attention_BLSK: Tensor) -> Tensor:
    examples, layers = attention_BLSK.shape[:2]
    return attention_BLSK.new_full((examples, layers), 1 / layers)
