"""What methods share that mix the layers of both sides before they compare their attention."""

from __future__ import annotations

from typing import Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from molsaki.errors import InputError
from molsaki.methods.attention import AttentionMethod, AttentionSettings
from molsaki.methods.base import AttentionPair, MethodSettings, StudentShape
from molsaki.methods.layers import LayerRouter, mix_layers, teacher_layer_weights


class MixtureSettings(AttentionSettings):
    """Settings of a mixture of layers; every default is the MoLSAKI paper's, every other value a named departure.

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


class MixtureOfLayers(AttentionMethod):
    """L_att between mixtures of layers: A^t = Σ_l p^t_l · A^t_l, A^s = Σ_l p^s_l · A^s_l; subclasses say of what.

    The teacher's layers are weighed by how much their attention changes from key to key (Eq. 4), the student's by a
    router that reads its value states (Eq. 5).

    Args:
        settings: the method's settings.
        student: the student.
        heads: the heads of all layers stand in the layers' place.

    Raises:
        InputError: the teacher's weights are to be learned, and it is not said how many layers it has.
    """

    def __init__(self, settings: MethodSettings, student: StudentShape, *, heads: bool = False) -> None:
        super().__init__(settings, student)
        chosen = cast(MixtureSettings, settings)
        self.wants_heads = heads
        self.router: LayerRouter | None = None
        if chosen.student_weights == "router":
            self.router = LayerRouter(
                student.value_sizes,
                chosen.router_temperature,
                gate=chosen.gate,
                normalise=chosen.router_norm,
                pool=chosen.router_pool,
                detach_values=chosen.detach_values,
                heads=student.heads if heads else None,
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

    def log_metrics(self) -> dict[str, float]:
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
        settings = cast(MixtureSettings, self.settings)
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
