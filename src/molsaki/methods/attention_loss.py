"""What the methods with an attention loss share: their settings, their terms (Eq. 8) and the loss of a row (Eq. 6, 7).

Legend: B examples, L layers, S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from molsaki.methods.inputs import AttentionPair
from molsaki.methods.losses import AttentionLossParts, attention_loss_parts
from molsaki.methods.terms import (
    AttentionChoice,
    MethodSettings,
    Schedule,
    Target,
    Term,
    Terms,
    Weight,
    label_and_rationale,
    reasoning,
)
from molsaki.spans.views import Columns, Rows, View


class AttentionLossSettings(MethodSettings):
    """Settings of every method with an attention loss.

    Attributes:
        sequences: what a student learns of a problem: "two" (paper), the answer after `predict:` and the rationale
            after `explain:`; or "one", the rationale and then the answer after `reason:`, as with `cot`. Then it
            writes before it answers.
        alpha: weight of the answers' loss against the rationales' (paper: 0.5); not with one sequence.
        beta: weight of the attention loss (paper: 1.0); `{gradient: 0.1}` sets it at the start of a training, so that
            its gradient's norm is a tenth of the sum of all terms'.
        beta_schedule: "constant" (paper), or linear over the training's steps: "falling" from beta to 0, "rising"
            from 0 to beta.
        target: what the student's attention is pulled towards: the "teacher" (paper), or a control: "uniform" over what
            a row can see, "shuffled" rows of another example, or an "oracle" with all weight on the numbers that the
            data say a row's numbers come from.
        columns: what a row can look at: the "keys" (paper), "all" words, or "all-but-keys", words that are not keys.
    """

    sequences: Literal["two", "one"] = "two"
    alpha: float = Field(default=0.5, ge=0, le=1)
    beta: Weight = 1.0
    beta_schedule: Schedule = "constant"
    target: Target = "teacher"
    columns: Literal["keys", "all", "all-but-keys"] = "keys"

    @model_validator(mode="after")
    def _an_oracle_names_keys(self) -> Self:
        if self.target == "oracle" and self.columns == "all-but-keys":
            raise ValueError("expected `columns: keys` or `all` with `target: oracle`, since sources are keys")
        return self

    @model_validator(mode="after")
    def _one_sequence_has_no_second_loss(self) -> Self:
        if self.sequences == "one":
            self.refuse_idle("sequences", ["alpha"])
        return self

    @classmethod
    def preset_of(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG003 - for subclasses
        """The values of settings that are not given, where they are not the defaults."""
        return {}

    def refuse_idle(self, chosen: str, idle: Sequence[str]) -> None:
        """Refuse settings that have no effect beside another one, unless they have the preset's values.

        Args:
            chosen: the setting that makes them ineffective.
            idle: the settings without effect.

        Raises:
            ValueError: one of them has another value.
        """
        preset = self.preset_of(self.model_dump())
        defaults = {name: preset.get(name, type(self).model_fields[name].default) for name in idle}
        changed = [name for name, default in defaults.items() if getattr(self, name) != default]
        if changed:
            raise ValueError(
                f"expected no {' or '.join(changed)} with `{chosen}: {getattr(self, chosen)}`, where it has no effect"
            )


Preset = Literal["as-run", "as-written"]


class StepSettings(AttentionLossSettings):
    """Settings of a method that compares stepwise attention.

    A preset is a set of values for the settings that are not given. "As run" are those of the paper's released code,
    which made the paper's numbers, "as written" those of its text.

    Attributes:
        preset: the values of settings that are not given: the paper "as-run" or "as-written".
        kl_temperature: τ in the attention loss (as run: 0.1; as written: 1).
        normalisation: how a row of attention becomes a distribution: "softmax" over all keys (paper), or
            "visible", divided by its sum over the keys that the step can see.
        step_pool: a row of attention is the "sum" over the step's tokens (paper) or their "mean", on either side
            over its own tokens.
        keys: the columns of "all" keys of question and rationale (paper), or those of the "question".
        steps: the rows of "all" steps, the question first (paper), or those of the "rationale".
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "as-run": {"kl_temperature": 0.1},
        "as-written": {"kl_temperature": 1.0},
    }

    preset: Preset = "as-run"
    kl_temperature: float = Field(default=0.1, gt=0)
    normalisation: Literal["softmax", "visible"] = "softmax"
    step_pool: Literal["sum", "mean"] = "sum"
    keys: Literal["all", "question"] = "all"
    steps: Literal["all", "rationale"] = "all"

    @classmethod
    def preset_of(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The preset's values."""
        name = given.get("preset")
        return cls.PRESETS.get(name, {}) if isinstance(name, str) else {}

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_preset(cls, given: Any) -> Any:
        return {**cls.preset_of(given), **given} if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _visible_rows_have_no_temperature(self) -> Self:
        if self.normalisation == "visible":
            self.refuse_idle("normalisation", ["kl_temperature"])
        return self

    def require_rows_with_a_scale(self) -> None:
        """Refuse means over a step's tokens if each row is divided by its own sum anyway.

        Raises:
            ValueError: the mean would change nothing.
        """
        if self.normalisation == "visible" and self.step_pool == "mean":
            raise ValueError(
                "expected `step_pool: sum` with `normalisation: visible`, which divides each row by its own sum, so "
                "that a mean changes nothing; got mean"
            )


def attention_terms(settings: AttentionLossSettings, choice: AttentionChoice) -> Terms:
    """L = α·L_pre + (1 − α)·L_exp + β·L_att (Eq. 8), or L = L_reason + β·L_att with one sequence."""
    attention = Term("attention", settings.beta, (choice.task,), choice, settings.beta_schedule)
    return Terms([*([reasoning()] if settings.sequences == "one" else label_and_rationale(settings.alpha)), attention])


def attention_choice(settings: AttentionLossSettings, rows: Rows = "steps", *, heads: bool = False) -> AttentionChoice:
    """The part of the attention that these settings compare, with these rows and with heads apart or not."""
    columns: Columns = "keys" if settings.columns == "keys" else "words"
    choice = AttentionChoice(
        View(rows, columns, heads),
        other_words=settings.columns == "all-but-keys",
        target=settings.target,
        task="reason" if settings.sequences == "one" else "explain",
    )
    if not isinstance(settings, StepSettings):
        return choice
    return replace(
        choice,
        question_keys=settings.keys == "question",
        rationale_steps=settings.steps == "rationale",
        step_means=settings.step_pool == "mean",
    )


def pool_steps(pair: AttentionPair, settings: StepSettings) -> Tensor:
    """The student's stepwise attention [B, L, S, K]: sums over each step's tokens (Eq. 2, 3), or means."""
    if settings.step_pool == "sum":
        return pair.student_BLSK
    return pair.student_BLSK / pair.step_tokens_BS[:, None, :, None]


def attention_divergence(
    teacher_BSK: Tensor,
    student_BSK: Tensor,
    pair: AttentionPair,
    *,
    temperature: float | None = None,
    normalisation: Literal["softmax", "visible"] = "softmax",
    teacher_learns: bool = False,
    left_out: RowsLeftOut | None = None,
) -> Tensor:
    """L_att (Eq. 6, 7): KL of the student's rows from the teacher's, mean over rows, then over examples.

    The mean is over all examples with attention. An example without a row to compare (only "visible" leaves rows out)
    adds nothing to the sum and is counted, since the number of the others is not known before the last accumulated
    batch. The values are not checked here: `Collator` has checked the teacher's.

    Args:
        teacher_BSK: the teacher's attention, layers mixed.
        student_BSK: the student's.
        pair: the pair that both come from, for its masks.
        temperature: τ of "softmax"; "visible" has none.
        normalisation: see `attention_loss_parts`.
        teacher_learns: let gradients through to the teacher's side.
        left_out: counts the rows that "visible" leaves out.

    Returns:
        A scalar, this batch's share of the optimizer step's mean.
    """
    parts = attention_loss_parts(
        teacher_BSK,
        student_BSK,
        pair.step_mask_BS,
        pair.key_mask_BK,
        temperature=temperature if normalisation == "softmax" else None,
        normalisation=normalisation,
        visible_BSK=pair.visible_BSK,
        teacher_learns=teacher_learns,
        check=False,
    )
    if left_out is not None and normalisation == "visible":
        left_out.add(parts)
    return parts.per_example_B.mean() * pair.share


class RowsLeftOut:
    """The share of rows that "visible" leaves out, over the batches since the last line of the log.

    Counts stay tensors until then, since reading one forces a device sync.
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def add(self, parts: AttentionLossParts) -> None:
        """Add a batch's counts of rows left out and of all rows."""
        left_out = parts.excluded_B.sum()
        counts = torch.stack([left_out, left_out + parts.rows_B.sum()])
        self._counts = counts if self._counts is None else self._counts + counts

    def take(self) -> dict[str, float]:
        """`attention_rows_left_out`, for a line of the log; empty if nothing was counted."""
        if self._counts is None:
            return {}
        left_out, rows = self._counts.tolist()
        self._counts = None
        return {"attention_rows_left_out": left_out / max(rows, 1)}
