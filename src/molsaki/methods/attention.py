"""What methods share that pull the student's stepwise attention towards the teacher's.

Legend: B examples, L layers, S steps, K keys.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, Self, cast

from pydantic import Field, model_validator
from torch import Tensor

from molsaki.methods.base import AttentionChoice, AttentionPair, Method, MethodInputs, MethodSettings
from molsaki.methods.losses import LossParts, attention_loss_parts, distillation_loss


class WeightSettings(MethodSettings):
    """Settings of a method with an attention loss beside those of answers and rationales.

    Attributes:
        alpha: weight of the answers' loss against the rationales' (paper: 0.5).
        beta: weight of the attention loss (paper: 1.0).
        beta_schedule: "constant" (paper), or linear over the training's steps: "falling" from beta to 0, "rising"
            from 0 to beta.
    """

    alpha: float = Field(default=0.5, ge=0, le=1)
    beta: float = Field(default=1.0, ge=0)
    beta_schedule: Literal["constant", "falling", "rising"] = "constant"


class AttentionSettings(WeightSettings):
    """Settings of a method that compares stepwise attention; every default is the MoLSAKI paper's.

    Attributes:
        kl_temperature: τ in the attention loss (paper: 1; released code: 0.1).
        normalisation: how a row of attention becomes a distribution: "softmax" over all keys (paper), or
            "visible", divided by its sum over the keys that the step can see.
        step_pool: a row of attention is the "sum" over the step's tokens (paper) or their "mean", on either side
            over its own tokens.
        keys: what a step can look at: "all" keys of question and rationale (paper), or those of the "question".
    """

    kl_temperature: float = Field(default=1.0, gt=0)
    normalisation: Literal["softmax", "visible"] = "softmax"
    step_pool: Literal["sum", "mean"] = "sum"
    keys: Literal["all", "question"] = "all"

    @property
    def scale_of_rows_matters(self) -> bool:
        """Whether it makes a difference, beside the softmax of a row, how large the row's sum is."""
        return False

    @model_validator(mode="after")
    def _visible_rows_have_no_scale(self) -> Self:
        if self.normalisation == "visible" and self.kl_temperature != 1.0:
            raise ValueError(
                f"expected `kl_temperature` 1 with `normalisation: visible`, which has none, got {self.kl_temperature}"
            )
        if self.normalisation == "visible" and self.step_pool == "mean" and not self.scale_of_rows_matters:
            raise ValueError(
                "expected `step_pool: sum` with `normalisation: visible`, which divides each row by its own sum, so "
                "that a mean changes nothing; got mean"
            )
        return self


class WithAttention(Method):
    """L = α·L_pre + (1 − α)·L_exp + β·L_att (Eq. 8); subclasses say what the attention loss is."""

    tasks = ("predict", "explain")
    reads_attention = True

    def forward(self, inputs: MethodInputs) -> LossParts:
        """L = α·L_pre + (1 − α)·L_exp + β·L_att; a batch without attention has L_att = 0."""
        settings = cast(WeightSettings, self.settings)
        assert inputs.label_loss is not None, "the predict task was not batched"
        assert inputs.rationale_loss is not None, "the explain task was not batched"
        attention = None if inputs.attention is None else self.attention_loss(inputs.attention)
        scale = {"constant": 1.0, "falling": 1.0 - inputs.progress, "rising": inputs.progress}[settings.beta_schedule]
        return distillation_loss(
            inputs.label_loss, inputs.rationale_loss, attention, alpha=settings.alpha, beta=settings.beta * scale
        )

    @abstractmethod
    def attention_loss(self, pair: AttentionPair) -> Tensor:
        """L_att, this batch's share of the mean over the optimiser step's examples with attention."""


class AttentionMethod(WithAttention):
    """L_att of stepwise attention (Eq. 6, 7); subclasses say which layers' is compared, and how."""

    teacher_learns = False
    """Whether a gradient goes to parameters of the method through the teacher's side."""

    @classmethod
    def attention_choice(cls, settings: MethodSettings) -> AttentionChoice:
        """Keys of the question only, and means over steps, as the settings want it."""
        chosen = cast(AttentionSettings, settings)
        return AttentionChoice(question_keys=chosen.keys == "question", step_means=chosen.step_pool == "mean")

    @abstractmethod
    def compared(self, teacher_BLSK: Tensor, student_BLSK: Tensor, pair: AttentionPair) -> tuple[Tensor, Tensor]:
        """The teacher's and the student's attention [B, S, K] that are compared.

        Args:
            teacher_BLSK: the teacher's, of all its layers, pooled over steps as the settings want it.
            student_BLSK: the student's, likewise.
            pair: where both are from.
        """

    def attention_loss(self, pair: AttentionPair) -> Tensor:
        """L_att (Eq. 6, 7) between what is compared of the two sides.

        The mean is over all examples with attention. One that has no row to compare (which only the "visible"
        normalisation leaves out) adds nothing to the sum and is counted, since the number of the others is not
        known before the last of the accumulated batches. The pair was checked when its batch was made.
        """
        settings = cast(AttentionSettings, self.settings)
        student_BLSK = pair.student_BLSK
        if settings.step_pool == "mean":
            student_BLSK = student_BLSK / pair.step_tokens_BS[:, None, :, None]
        teacher_BSK, student_BSK = self.compared(pair.teacher_BLSK, student_BLSK, pair)
        parts = attention_loss_parts(
            teacher_BSK,
            student_BSK,
            pair.step_mask_BS,
            pair.key_mask_BK,
            temperature=settings.kl_temperature,
            normalisation=settings.normalisation,
            visible_BSK=pair.visible_BSK if settings.normalisation == "visible" else None,
            teacher_learns=self.teacher_learns,
            check=False,
        )
        return parts.per_example_B.mean() * pair.share
