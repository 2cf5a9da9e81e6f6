"""Logits: the teacher's distribution of its next token, at each token of its rationale."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from molsaki.methods.base import Method
from molsaki.methods.inputs import NextTokenPair
from molsaki.methods.terms import MethodSettings, NextTokens, Term, Terms, Weight, label_and_rationale


class LogitsSettings(MethodSettings):
    """Settings of the logits method.

    Attributes:
        alpha: weight of the answers' loss; the rationales' has 1 − alpha (0.5, as for the methods beside it).
        beta: weight of the divergence from the teacher's next tokens (ours), or a share of gradient such as
            `{gradient: 0.1}`.
        temperature: τ of both sides' distributions (Hinton et al.: "we used temperatures from 1 to 20"); the loss is
            multiplied by τ².
    """

    alpha: float = Field(default=0.5, ge=0, le=1)
    beta: Weight = 1.0
    temperature: float = Field(default=1.0, gt=0)


class Logits(Method[LogitsSettings]):
    """L = α·L_pre + (1 − α)·L_exp + β·L_kd, L_kd = τ² · mean over positions of KL(p^t ‖ p^s).

    p is the distribution of the next token of the rationale, softmax(z / τ): Hinton, Vinyals, Dean, "Distilling the
    Knowledge in a Neural Network", arXiv 1503.02531; for sequences, word by word on what the teacher wrote, Kim, Rush,
    "Sequence-Level Knowledge Distillation", EMNLP 2016. As Hinton et al. advise, τ² makes up for gradients that shrink
    as 1/τ², so that β means the same at each temperature.

    A position takes part where both tokenizers have a token of the same characters. Where they cut the same characters
    into different tokens, such as a number, these characters are one position, with two cells: their probability, the
    product over their tokens, and all else. Where both have the same token, the cells of both
    distributions are the teacher's stored likeliest tokens that the student has too, each by itself, and all else in
    one cell. By the data-processing inequality that is never more than the divergence of the whole distributions,
    and it is equal where all of the teacher's probability is on such tokens, or all else is alike on both sides.
    """

    name = "logits"
    summary = "answer, rationale, and the teacher's distribution of its next token (logit distillation)"
    Settings = LogitsSettings

    @classmethod
    def terms_of(cls, settings: LogitsSettings) -> Terms:
        """L = α·L_pre + (1 − α)·L_exp + β·L_kd."""
        divergence = Term("logits", settings.beta, ("explain",), NextTokens(settings.temperature))
        return Terms([*label_and_rationale(settings.alpha), divergence])

    def next_token_loss(self, pair: NextTokenPair) -> Tensor:
        """L_kd."""
        mean: Tensor = next_token_divergence(pair).mean()
        return self.settings.temperature**2 * mean * pair.share


def next_token_divergence(pair: NextTokenPair) -> Tensor:
    """KL(p^t ‖ p^s) at each position [M], over the tokens with a probability of their own and one cell of all else.

    Σ_k p^t_k · (log p^t_k − log p^s_k) + r^t · (log r^t − log r^s), r = 1 − Σ_k p_k. A cell in which the teacher has
    nothing adds nothing, whatever the student has there, and sends no gradient.
    """
    teacher_MK, student_MK = pair.teacher_MK.detach(), pair.student_MK
    weights_MK = teacher_MK.exp()
    kept_MK = weights_MK * (teacher_MK - student_MK).masked_fill(weights_MK == 0, 0.0)
    rest_M = (1 - weights_MK.sum(1)).clamp_min(0)
    smallest = torch.finfo(rest_M.dtype).tiny
    all_else_M = rest_M * (rest_M.clamp_min(smallest).log() - pair.student_rest_M)
    return kept_MK.sum(1) + all_else_M
