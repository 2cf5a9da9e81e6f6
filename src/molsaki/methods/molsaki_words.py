"""MoLSAKI over all words: where every word of the rationale looks, through a mixture of layers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from molsaki.methods.attention import Preset, attention_terms, step_choice
from molsaki.methods.base import Terms, Weight
from molsaki.methods.molsaki import MoLSAKI, MoLSAKISettings


class MoLSAKIWordsSettings(MoLSAKISettings):
    """Settings of MoLSAKI over all words; defaults that are not the paper's were chosen by `docs/experiments.md`.

    Attributes:
        preset: the values of settings that are not given: the paper "as-run" or "as-written".
        beta: weight of the attention loss (0.3; the paper's is 1 for steps and keys).
        normalisation: a row is divided by its sum over the words that it can see ("visible"), or goes through the
            paper's "softmax".
        student_weights: "uniform" weighs the student's layers alike, the paper's "router" learns a weight for each.
        heads: a layer is the "mean" over its heads.
    """

    preset: Preset = "as-written"
    kl_temperature: float = Field(default=1.0, gt=0)
    layer_change: Literal["sum", "mean"] = "mean"
    gate: Literal["shared", "concatenated", "per-layer"] = "concatenated"
    router_norm: Literal["after", "before"] = "before"
    detach_values: bool = False
    beta: Weight = 0.3
    normalisation: Literal["softmax", "visible"] = "visible"
    student_weights: Literal["router", "uniform"] = "uniform"
    heads: Literal["mean"] = "mean"


class MoLSAKIWords(MoLSAKI):
    """L = α·L_pre + (1 − α)·L_exp + β·L_att, rows every word of the rationale, columns all that it can see.

    A^t = Σ_l p^t_l · A^t_l with the weights of MoLSAKI's Eq. 4 (Chen, Sheng, Zhang, Liu, EMNLP 2025, arXiv
    2604.15701), A^s = (1/L) Σ_l A^s_l, and L_att = (1/|w|) Σ_w KL( P^t[w, :] ‖ P^s[w, :] ) with each row divided by
    its sum, as in `attention-map`, whose rows and columns these are. It is no method of the paper: there steps look at
    key information, and a router weighs the student's layers. Here nothing has to be found in the text, and no layer
    is left out.
    """

    name = "molsaki-words"
    summary = "answer, rationale, and where every word of the rationale looks, through a mixture of layers"
    Settings = MoLSAKIWordsSettings

    @classmethod
    def terms_of(cls, settings: MoLSAKISettings) -> Terms:
        """L = α·L_pre + (1 − α)·L_exp + β·L_att over words."""
        return attention_terms(settings, step_choice(settings, "words", values=settings.student_weights == "router"))
