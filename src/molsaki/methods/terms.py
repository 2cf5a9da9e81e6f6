"""The terms of a method's loss: their weights, and what each of them needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from molsaki.spans.views import STEPS, View

Task = Literal["predict", "explain", "reason"]
"""A sequence that a student trains on, by its prompt: the label, the rationale, or both in one."""
Schedule = Literal["constant", "falling", "rising"]
LayerChange = Literal["sum", "mean", "rows"]
"""How the change of a layer's attention from key to key is measured; see `molsaki.teacher_layer_weights`."""
Target = Literal["teacher", "uniform", "shuffled", "oracle"]
"""What the attention loss pulls towards: the teacher's attention, or a control; see `molsaki.training.targets`."""


class MethodSettings(BaseModel):
    """Base of a method's settings. Unknown keys are refused, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GradientShare(MethodSettings):
    """A weight that is set once at the start of a training, so that the term has this share of gradient.

    Attributes:
        gradient: the norm of the weighted term's gradient over the sum of those of all terms.
    """

    gradient: float = Field(gt=0, lt=1)


WEIGHT_TAGS = ("<number>", "<share of gradient>")
"""The two forms of a weight in the location of pydantic's errors."""


def _weight_tag(value: object) -> str:
    return WEIGHT_TAGS[isinstance(value, (Mapping, GradientShare))]


Weight = Annotated[
    Annotated[float, Field(ge=0), Tag(WEIGHT_TAGS[0])] | Annotated[GradientShare, Tag(WEIGHT_TAGS[1])],
    Discriminator(_weight_tag),
]
"""The setting of a term's weight: a number, or `{gradient: share}`."""


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """A term that needs the stepwise attention of teacher and student: which part of it.

    Attributes:
        view: rows and columns. If the view keeps heads apart, the heads of all layers take the place of the layers.
        question_keys: only columns of the question.
        other_words: only columns that are not keys.
        rationale_steps: only rows of the rationale.
        step_means: means over the tokens of a step instead of sums, on each side over its own tokens.
        target: the teacher's attention, or a control in its place.
        values: the student's value states too.
        task: the sequence with the rationale that the student's attention is read on.
    """

    view: View = STEPS
    question_keys: bool = False
    other_words: bool = False
    rationale_steps: bool = False
    step_means: bool = False
    target: Target = "teacher"
    values: bool = False
    task: Task = "explain"


@dataclass(frozen=True, slots=True)
class NextTokens:
    """A term that needs the next-token distributions of teacher and student, at this temperature."""

    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class PooledOutputs:
    """A term that needs the student's output distributions in two tasks, pooled over positions."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a method's loss: its weight, and what it needs.

    Attributes:
        name: its name in logs, unique within a method.
        weight: its weight in the loss.
        tasks: the sequences that it is computed from.
        needs: what it compares; None for the cross-entropy of its task's tokens.
        schedule: over the training steps the weight is "constant", "falling" linearly to 0, or "rising" from 0.
    """

    name: str
    weight: float | GradientShare
    tasks: tuple[Task, ...]
    needs: AttentionChoice | NextTokens | PooledOutputs | None = None
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        if isinstance(self.needs, AttentionChoice) and self.tasks != (self.needs.task,):
            raise ValueError(
                f"expected the attention of a term to be read on its own task; got tasks {self.tasks} and "
                f"AttentionChoice(task={self.needs.task!r})"
            )

    def scale_at(self, progress: float) -> float:
        """The factor of the weight after this share of the training steps, from 0 to 1."""
        return {"constant": 1.0, "falling": 1.0 - progress, "rising": progress}[self.schedule]


class Terms(tuple[Term, ...]):
    """The terms of a method's loss, and what they need together.

    Raises:
        ValueError: two terms have one name, or two compare attention, next tokens or pooled outputs: a batch holds one
            of each.
    """

    __slots__ = ()

    def __new__(cls, terms: Iterable[Term] = ()) -> Self:  # noqa: D102 - see the class
        made = super().__new__(cls, terms)
        _refuse_repeated("name", [term.name for term in made])
        _refuse_repeated("kind of `needs`", [type(term.needs).__name__ for term in made if term.needs is not None])
        return made

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The sequences that the student trains on."""
        return tuple(dict.fromkeys(task for term in self for task in term.tasks))

    @property
    def answers_with(self) -> Task:
        """The prompt that the method's students are tested with: the label's, or else that of rationale and label."""
        return "predict" if "predict" in self.tasks else "reason"

    @property
    def explains_with(self) -> Task:
        """The prompt after which its students write a rationale."""
        return "reason" if "reason" in self.tasks and "explain" not in self.tasks else "explain"

    @property
    def attention(self) -> AttentionChoice | None:
        """The part of the attention that is compared, if any."""
        return next((term.needs for term in self if isinstance(term.needs, AttentionChoice)), None)

    @property
    def next_tokens(self) -> NextTokens | None:
        """The next tokens that are compared, if any."""
        return next((term.needs for term in self if isinstance(term.needs, NextTokens)), None)

    @property
    def pooled_outputs(self) -> PooledOutputs | None:
        """The pooled outputs that are compared, if any."""
        return next((term.needs for term in self if isinstance(term.needs, PooledOutputs)), None)


def reasoning() -> Term:
    """L_reason: rationale and then answer in one sequence, after `reason:` (chain-of-thought fine-tuning)."""
    return Term("reasoning", 1.0, ("reason",))


def label_and_rationale(alpha: float) -> tuple[Term, Term]:
    """α·L_pre + (1 − α)·L_exp: answer after `predict:`, rationale after `explain:` (Distilling step-by-step)."""
    return Term("label", alpha, ("predict",)), Term("rationale", 1 - alpha, ("explain",))


def _refuse_repeated(what: str, values: list[str]) -> None:
    repeated = [value for value, times in Counter(values).items() if times > 1]
    if repeated:
        raise ValueError(f"expected at most one term of each {what}; got several of {', '.join(repeated)}")
