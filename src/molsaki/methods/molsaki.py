"""MoLSAKI: the rationale, and the stepwise attention on key information behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

from molsaki.methods.base import AttentionChoice, MethodSettings, StudentShape
from molsaki.methods.layer_mixture import MixtureOfLayers, MixtureSettings


class MoLSAKISettings(MixtureSettings):
    """Settings of MoLSAKI; every default is the paper's, every other value a named departure.

    Attributes:
        heads: what is mixed on both sides: layers, each the "mean" over its heads (paper), or "each" head of every
            layer, the router with one output for each.
    """

    heads: Literal["mean", "each"] = "mean"


class MoLSAKI(MixtureOfLayers):
    """L = α·L_pre + (1 − α)·L_exp + β·L_att with the layers of both sides mixed (Eq. 2 to 8).

    Chen, Sheng, Zhang, Liu, EMNLP 2025, arXiv 2604.15701. Rows of attention are the rationale's steps, columns the
    key information.

    With `heads: each` the heads of all layers stand in the layers' place on both sides: A^t = Σ_l Σ_h p^t_lh · A^t_lh
    with p^t over all L·H of them, and A^s likewise. That is no setting of the paper, which has means over heads.

    Raises:
        InputError: the teacher's weights are to be learned, and it is not said how many layers it has.
    """

    name = "molsaki"
    summary = "answer, rationale, and the teacher's stepwise attention through a mixture of layers"
    Settings = MoLSAKISettings

    def __init__(self, settings: MethodSettings, student: StudentShape) -> None:
        super().__init__(settings, student, heads=cast(MoLSAKISettings, settings).heads == "each")

    @classmethod
    def attention_choice(cls, settings: MethodSettings) -> AttentionChoice:
        """Each head apart too, where the settings want it."""
        each = cast(MoLSAKISettings, settings).heads == "each"
        return replace(super().attention_choice(settings), view="heads" if each else "steps")
