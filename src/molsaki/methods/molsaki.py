"""MoLSAKI: the rationale, and the stepwise attention on key information behind it (Eq. 2 to 8 of the paper).

Chen, Sheng, Zhang, Liu, EMNLP 2025, arXiv 2604.15701. A step s is a sentence of the text, a key k a number or key word.

    Eq. 2, 3   A_l[s, k] = mean over heads of Σ_{i in s} Σ_{j in k} attention_l[i, j]          `attention/reading.py`
    Eq. 4      G_l = Σ_s Σ_k |A^t_l[s, k+1] − A^t_l[s, k]|,  p^t = softmax(G / τ1)             `layers.py`
               A^t = Σ_l p^t_l · A^t_l
    Eq. 5      h_l = RMSNorm(Σ_i V_l[i, :]),  p^s_l ∝ exp(W·h_l / τ2)                          `router.py`
               A^s = Σ_l p^s_l · A^s_l
    Eq. 6, 7   L_att = mean over steps of KL(softmax(A^t[s, :] / τ) ‖ softmax(A^s[s, :] / τ))  `losses.py`
    Eq. 8      L = α·L_pre + (1 − α)·L_exp + β·L_att                                           `losses.py`

The paper's text and the code that its authors released differ in a few places. "As run" (the default, shown above) is
the released code, which made the paper's numbers; "as written" is the text. docs/paper_index.md lists the differences.

A key is a number or key word, not the K of queries, keys and values; V_l are the value states of layer l. L_pre is the
cross-entropy of the answer and L_exp that of the rationale; the superscripts t and s are teacher and student.

Legend: B examples, L layers (or the heads of all layers), S steps, K keys, T tokens of the student's input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

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
from molsaki.methods.layers import mix_layers, teacher_layer_weights
from molsaki.methods.router import LayerRouter
from molsaki.methods.terms import LayerChange, Terms
from molsaki.spans.views import Rows

_WORD_ROW_DEFAULTS = {"columns": "all", "layer_change": "rows"}
"""The values of settings that are not given, with `rows: words`."""
_ROUTER_SETTINGS = (
    "router_temperature",
    "router_learning_rate",
    "gate",
    "router_norm",
    "router_pool",
    "detach_values",
)


class MoLSAKISettings(StepSettings):
    """Settings of MoLSAKI; the defaults are the paper's as run.

    Attributes:
        teacher_weights: what gives a layer of the teacher its weight: the "change" of its attention from key to key
            (paper), nothing ("uniform"), or a logit for each layer, "learned" with the student.
        teacher_temperature: τ1 of the teacher's layer weights (paper: 0.1).
        layer_change: the change G of a layer: the "sum" over steps and keys (as run), the "mean" over them (as
            written: divided by |steps|·(|keys| − 1)), or "rows": every row is divided by its sum first, then the mean
            over rows.
        student_weights: what gives a layer of the student its weight: the "router", which reads its value states
            (paper), or nothing ("uniform"). The settings of the router are refused with "uniform".
        router_temperature: τ2 of the student's layer weights (paper: 0.5).
        router_learning_rate: the router's own learning rate, with the same schedule; the student's by default.
        gate: the router's gate: "shared", one for all layers (as run), "concatenated", which reads all layers for each
            weight (as written), or "per-layer".
        router_norm: RMSNorm "after" the sum over tokens (as run) or "before" it (as written).
        router_pool: "sum" over tokens (paper) or "mean".
        detach_values: no gradient goes from the router to the student's values (as run: true; as written: false).
        rows: the rows of attention are "steps" (paper); the "words" of the rationale, with columns of "all" words and
            `layer_change` by "rows", unless they are given; or the tokens "before-keys", each of which predicts a key
            of the rationale.
        heads: what is mixed on both sides: layers, each the "mean" over its heads (paper), or "each" head of every
            layer, the router with one output for each.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "as-run": {
            "kl_temperature": 0.1,
            "layer_change": "sum",
            "gate": "shared",
            "router_norm": "after",
            "detach_values": True,
        },
        "as-written": {
            "kl_temperature": 1.0,
            "layer_change": "mean",
            "gate": "concatenated",
            "router_norm": "before",
            "detach_values": False,
        },
    }

    teacher_weights: Literal["change", "uniform", "learned"] = "change"
    teacher_temperature: float = Field(default=0.1, gt=0)
    layer_change: LayerChange = "sum"
    student_weights: Literal["router", "uniform"] = "router"
    router_temperature: float = Field(default=0.5, gt=0)
    router_learning_rate: float | None = Field(default=None, gt=0, le=1)
    gate: Literal["shared", "concatenated", "per-layer"] = "shared"
    router_norm: Literal["after", "before"] = "after"
    router_pool: Literal["sum", "mean"] = "sum"
    detach_values: bool = True
    rows: Rows = "steps"
    heads: Literal["mean", "each"] = "mean"

    @classmethod
    def preset_of(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The preset's values, and those of words as rows."""
        return {**super().preset_of(given), **(_WORD_ROW_DEFAULTS if given.get("rows") == "words" else {})}

    @model_validator(mode="after")
    def _every_setting_does_something(self) -> Self:
        # G by "sum" and "mean" depends on the scale of a row, everything else does not.
        if self.teacher_weights != "change" or self.layer_change == "rows":
            self.require_rows_with_a_scale()
        if self.router_norm == "after":  # RMSNorm has the same result for a sum and a mean
            self.refuse_idle("router_norm", ["router_pool"])
        if self.teacher_weights == self.student_weights == "uniform":  # the mean over all heads either way
            self.refuse_idle("teacher_weights", ["heads"])
        if self.rows != "steps":
            self.refuse_idle("rows", ["steps"])
        if self.rows == "before-keys":  # a row is one token
            self.refuse_idle("rows", ["step_pool"])
        if self.student_weights == "uniform":
            self.refuse_idle("student_weights", _ROUTER_SETTINGS)
        idle = {"change": (), "uniform": ("teacher_temperature", "layer_change"), "learned": ("layer_change",)}
        self.refuse_idle("teacher_weights", idle[self.teacher_weights])
        return self


class MoLSAKI(Method[MoLSAKISettings]):
    """L = α·L_pre + (1 − α)·L_exp + β·L_att with the layers of both sides mixed (Eq. 2 to 8).

    Rows of attention are the rationale's steps, columns the key information. With `rows: words` they are the words of
    the rationale and all words, and G_l = (1/|w|) Σ_w Σ_v |P_l[w, v+1] − P_l[w, v]| with P_l[w, :] = A_l[w, :] / Σ_v
    A_l[w, v], since the sums of words' rows differ more than those of layers. With `heads: each` the heads of all
    layers take the place of the layers: A^t = Σ_l Σ_h p^t_lh · A^t_lh with p^t over all L·H of them, and A^s likewise.
    The paper has no such setting; it has means over heads.

    Raises:
        InputError: the teacher's weights are learned, and the number of its layers is not known.
    """

    name = "molsaki"
    summary = "answer, rationale, and the teacher's stepwise attention through a mixture of layers"
    Settings: ClassVar[type[MoLSAKISettings]] = MoLSAKISettings

    def __init__(self, settings: MoLSAKISettings, student: StudentShape) -> None:
        super().__init__(settings, student)
        self.router = make_router(settings, student) if settings.student_weights == "router" else None
        self.teacher_logits = make_logits(student) if settings.teacher_weights == "learned" else None
        self.layer_numbers = student.student_numbers
        self.left_out = RowsLeftOut()
        self._weights_sum: Tensor | None = None
        self._weighed = 0

    @classmethod
    def terms_of(cls, settings: MoLSAKISettings) -> Terms:
        """L = α·L_pre + (1 − α)·L_exp + β·L_att (Eq. 8)."""
        choice = attention_choice(settings, settings.rows, heads=settings.heads == "each")
        return attention_terms(settings, replace(choice, values=settings.student_weights == "router"))

    def attention_loss(self, pair: AttentionPair) -> Tensor:
        """L_att (Eq. 6, 7) of the two mixtures, A = Σ_l p_l · A_l."""
        student_BLSK = pool_steps(pair, self.settings)  # Eq. 2, 3; the teacher's were pooled with the examples
        teacher_BSK = mix_layers(pair.teacher_BLSK, self.teacher_weights(pair))  # Eq. 4
        student_BSK = mix_layers(student_BLSK, self.student_weights(pair))  # Eq. 5
        return attention_divergence(  # Eq. 6, 7
            teacher_BSK,
            student_BSK,
            pair,
            temperature=self.settings.kl_temperature,
            normalisation=self.settings.normalisation,
            teacher_learns=self.teacher_logits is not None,
            left_out=self.left_out if self.training else None,
        )

    def teacher_weights(self, pair: AttentionPair) -> Tensor:
        """p^t [B, L]: softmax(G / τ1) with G the change of a layer's attention from key to key (Eq. 4)."""
        settings = self.settings
        if settings.teacher_weights == "uniform":
            return _uniform(pair.teacher_BLSK)
        if self.teacher_logits is not None:
            weights_L = torch.softmax(self.teacher_logits / settings.teacher_temperature, dim=0)
            return weights_L.expand(pair.teacher_BLSK.shape[0], -1)
        return teacher_layer_weights(
            pair.teacher_BLSK,
            pair.step_mask_BS,
            pair.key_mask_BK,
            settings.teacher_temperature,
            change=settings.layer_change,
            check=False,
        )

    def student_weights(self, pair: AttentionPair) -> Tensor:
        """p^s [B, L]: the router's, from the student's value states (Eq. 5)."""
        if self.router is None:
            return _uniform(pair.student_BLSK)
        weights_BL: Tensor = self.router(pair.values, pair.token_mask_BT, check=False)
        if self.training:
            sum_L = self.router.by_layer(weights_BL.detach()).sum(0)
            self._weights_sum = sum_L if self._weights_sum is None else self._weights_sum + sum_L
            self._weighed += weights_BL.shape[0]
        return weights_BL

    def learning_rates(self) -> dict[str, float]:
        """The router's own learning rate, if it has one."""
        rate = self.settings.router_learning_rate
        return {} if rate is None else {"router.": rate}

    def log_metrics(self) -> dict[str, float]:
        """The router's mean weight of each layer over this process's batches: `layer_weight_0`, `layer_weight_1`, …,
        by the layer's number in the student.

        If each head has a weight, a layer's is the sum over its heads. And the share of rows that were left out of
        L_att, if any can be.
        """
        left_out = self.left_out.take()
        if self._weights_sum is None:
            return left_out
        means = (self._weights_sum / self._weighed).tolist()
        self._weights_sum, self._weighed = None, 0
        by_layer = {f"layer_weight_{number}": mean for number, mean in zip(self.layer_numbers, means, strict=True)}
        return {**by_layer, **left_out}


def make_router(settings: MoLSAKISettings, student: StudentShape) -> LayerRouter:
    """The router of Eq. 5 for a student."""
    return LayerRouter(
        student.value_sizes,
        settings.router_temperature,
        gate=settings.gate,
        norm=settings.router_norm,
        pool=settings.router_pool,
        detach_values=settings.detach_values,
        heads=student.heads if settings.heads == "each" else None,
    )


def make_logits(student: StudentShape) -> nn.Parameter:
    """A logit for each of the teacher's layers, 0 at the start.

    Raises:
        InputError: the number of the teacher's layers is not known.
    """
    if student.teacher_layers < 1:
        raise InputError(
            "Expected the number of the teacher's layers to learn their weights; got none. Create the method with "
            "`StudentShape(value_sizes, teacher_layers)`."
        )
    return nn.Parameter(torch.zeros(student.teacher_layers))


def _uniform(attention_BLSK: Tensor) -> Tensor:
    examples, layers = attention_BLSK.shape[:2]
    return attention_BLSK.new_full((examples, layers), 1 / layers)
