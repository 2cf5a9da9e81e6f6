"""Attention maps: where every word of the rationale looks, without steps and keys."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from molsaki.methods.attention_loss import (
    AttentionLossSettings,
    RowsLeftOut,
    attention_choice,
    attention_divergence,
    attention_terms,
)
from molsaki.methods.base import Method
from molsaki.methods.inputs import AttentionPair, StudentShape
from molsaki.methods.single_layer import Layers, find_layers, mean_of_layers
from molsaki.methods.terms import Terms


class AttentionMapSettings(AttentionLossSettings):
    """Settings of attention-map distillation.

    Attributes:
        columns: what a word can look at: "all" words, the "keys", or "all-but-keys", words that are not keys.
        teacher_layers: which of the teacher's layers, from 0, or from −1 backwards; the mean of several, or of "all"
            (MiniLM: the last). With all layers of both sides, beta: 0.3 was best on the pocket models.
        student_layers: which of the student's, likewise.
    """

    columns: Literal["keys", "all", "all-but-keys"] = "all"
    teacher_layers: Layers = (-1,)
    student_layers: Layers = (-1,)


class AttentionMap(Method[AttentionMapSettings]):
    """L = α·L_pre + (1 − α)·L_exp + β·L_map, L_map = (1/|w|) Σ_w KL( P^t[w, :] ‖ P^s[w, :] ).

    The term of Wang et al., NeurIPS 2020, "MiniLM: Deep Self-Attention Distillation" (arXiv 2002.10957): the
    divergence of the student's last layer's attention from the teacher's, here at every word w of the rationale.
    Jiao et al., Findings of EMNLP 2020, "TinyBERT" (arXiv 1909.10351) compares attention matrices of many layers by
    their squared difference. A peer from outside the MoLSAKI paper: it asks what steps and keys are worth.

    Departures from MiniLM, the first two since teacher and student here have tokenizers and heads of their own: rows
    and columns are words, not tokens, A[w, v] = Σ_{i ∈ w} Σ_{j ∈ v} I[i, j] with I the mean over heads, not one
    distribution a head. A row is divided by its sum over the words that it can see, P[w, :] = A[w, :] / Σ_v A[w, v],
    so prompts, which differ, take no part, and a mean over a word's tokens would be the same as their sum. MiniLM's
    second term, of relations between values, is left out.

    A word without a token of its own on one side (a token may hold two words) is left out on both.

    Raises:
        InputError: a layer is chosen that the model does not have, or twice.
    """

    name = "attention-map"
    summary = "answer, rationale, and where every word of the rationale looks, in chosen layers"
    Settings = AttentionMapSettings

    def __init__(self, settings: AttentionMapSettings, student: StudentShape) -> None:
        super().__init__(settings, student)
        self.teacher_layers = find_layers("teacher", settings.teacher_layers, student.teacher_numbers)
        self.student_layers = find_layers("student", settings.student_layers, student.student_numbers)
        self.left_out = RowsLeftOut()

    @classmethod
    def terms_of(cls, settings: AttentionMapSettings) -> Terms:
        """L = α·L_pre + (1 − α)·L_exp + β·L_map."""
        return attention_terms(settings, attention_choice(settings, "words"))

    def attention_loss(self, pair: AttentionPair) -> Tensor:
        """L_map; the pair's steps and keys are words."""
        return attention_divergence(
            mean_of_layers(pair.teacher_BLSK, self.teacher_layers),
            mean_of_layers(pair.student_BLSK, self.student_layers),
            pair,
            normalisation="visible",
            left_out=self.left_out if self.training else None,
        )

    def log_metrics(self) -> dict[str, float]:
        """The share of rows that were left out of L_att, if any can be."""
        return self.left_out.take()
