"""MoLSAKI: the rationale, and the stepwise attention on key information behind it."""

from __future__ import annotations

from typing import Literal, cast

from pydantic import Field
from torch import Tensor

from molsaki.methods.base import AttentionPair, Method, MethodSettings, Seen, StudentShape
from molsaki.mixture import LayerRouter, mix_layers, teacher_layer_weights
from molsaki.objectives import LossParts, attention_loss_parts, distillation_loss


class MoLSAKISettings(MethodSettings):
    """Settings of MoLSAKI; every default is the paper's, every other value a named departure.

    Attributes:
        alpha: weight of the answers' loss against the rationales' (paper: 0.5).
        beta: weight of the attention loss (paper: 1.0).
        teacher_temperature: τ1 of the teacher's layer weights (paper: 0.1).
        router_temperature: τ2 of the student's layer weights (paper: 0.5).
        kl_temperature: τ in the attention loss (paper: 1; released code: 0.1).
        normalisation: how a row of attention becomes a distribution: "softmax" over all keys (paper), or
            "visible", divided by its sum over the keys that the step can see.
        layer_change: "mean" divides G by |steps|·(|keys| − 1) (paper), "sum" does not (released code).
        gate: the router's gate over "concatenated" layers (paper), "per-layer", or "shared" (released code).
        router_norm: RMSNorm "before" the sum over tokens (paper) or "after" it (released code).
        router_pool: "sum" over tokens (paper) or "mean".
        detach_values: the router learns but does not push on the student's values (released code).
    """

    alpha: float = Field(default=0.5, ge=0, le=1)
    beta: float = Field(default=1.0, ge=0)
    teacher_temperature: float = Field(default=0.1, gt=0)
    router_temperature: float = Field(default=0.5, gt=0)
    kl_temperature: float = Field(default=1.0, gt=0)
    normalisation: Literal["softmax", "visible"] = "softmax"
    layer_change: Literal["mean", "sum"] = "mean"
    gate: Literal["concatenated", "per-layer", "shared"] = "concatenated"
    router_norm: Literal["before", "after"] = "before"
    router_pool: Literal["sum", "mean"] = "sum"
    detach_values: bool = False


class MoLSAKI(Method):
    """L = α·L_pre + (1 − α)·L_exp + β·L_att with the layers of both sides mixed (Eq. 2 to 8).

    Chen, Sheng, Zhang, Liu, EMNLP 2025, arXiv 2604.15701. The teacher's layers are weighed by how much their
    attention changes from key to key (Eq. 4), the student's by a router that reads its value states (Eq. 5).
    """

    name = "molsaki"
    summary = "answer, rationale, and the teacher's stepwise attention through a mixture of layers"
    tasks = ("predict", "explain")
    reads_attention = True
    Settings = MoLSAKISettings

    def __init__(self, settings: MethodSettings, student: StudentShape) -> None:
        super().__init__(settings, student)
        chosen = cast(MoLSAKISettings, settings)
        self.router = LayerRouter(
            student.value_sizes,
            chosen.router_temperature,
            gate=chosen.gate,
            normalise=chosen.router_norm,
            pool=chosen.router_pool,
            detach_values=chosen.detach_values,
        )
        self._layer_weights: Tensor | None = None
        self._weighed = 0

    def watched(self) -> dict[str, float]:
        """The router's mean weight of every layer, `layer_weight_0` and on, over this process's batches."""
        if self._layer_weights is None:
            return {}
        means = (self._layer_weights / self._weighed).tolist()
        self._layer_weights, self._weighed = None, 0
        return {f"layer_weight_{layer}": weight for layer, weight in enumerate(means)}

    def forward(self, seen: Seen) -> LossParts:
        """L = α·L_pre + (1 − α)·L_exp + β·L_att; a batch without attention has L_att = 0."""
        settings = cast(MoLSAKISettings, self.settings)
        assert seen.rationale_loss is not None, "the explain task was not batched"
        attention = None if seen.attention is None else self.attention_loss(seen.attention)
        return distillation_loss(
            seen.label_loss, seen.rationale_loss, attention, alpha=settings.alpha, beta=settings.beta
        )

    def attention_loss(self, pair: AttentionPair) -> Tensor:
        """L_att (Eq. 6, 7) between the two mixtures.

        The mean is over all examples with attention. One that has no row to compare (which only the "visible"
        normalisation leaves out) adds nothing to the sum and is counted, since the number of the others is not
        known before the last of the accumulated batches. The pair was checked when its batch was made.
        """
        settings = cast(MoLSAKISettings, self.settings)
        teacher_weights_BL = teacher_layer_weights(
            pair.teacher_BLSK,
            pair.step_mask_BS,
            pair.key_mask_BK,
            settings.teacher_temperature,
            normalise=settings.layer_change == "mean",
            check=False,
        )
        student_weights_BL = self.router(pair.values, pair.token_mask_BT, check=False)
        if self.training:
            summed_L = student_weights_BL.detach().sum(0)
            self._layer_weights = summed_L if self._layer_weights is None else self._layer_weights + summed_L
            self._weighed += student_weights_BL.shape[0]
        parts = attention_loss_parts(
            mix_layers(pair.teacher_BLSK, teacher_weights_BL),
            mix_layers(pair.student_BLSK, student_weights_BL),
            pair.step_mask_BS,
            pair.key_mask_BK,
            temperature=settings.kl_temperature,
            normalisation=settings.normalisation,
            visible_BSK=pair.visible_BSK if settings.normalisation == "visible" else None,
            check=False,
        )
        return parts.per_example_B.mean() * pair.share
