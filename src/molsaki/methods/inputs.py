"""What a method computes its losses from: tensors of one batch, and the shape of the student.

Legend: B examples with attention, E examples, T tokens, L layers, S steps, K keys, D width of a value state, V
vocabulary; M positions at which next tokens are compared, there K tokens with a probability of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from molsaki.methods.terms import Task


@dataclass(frozen=True, slots=True)
class StudentShape:
    """What a method may need to know to create its own parameters.

    Attributes:
        value_sizes: width of the value states of each of the student's layers that are read, all value heads side by
            side.
        teacher_layers: number of layers in the stored attention of the teacher (of heads of all layers, if heads are
            kept apart); 0 if none is read.
        heads: number of attention heads of each of the student's layers.
        layer_numbers: the student's layers that are read, from 0; empty for all. A hybrid model's layers without
            attention have none.
        teacher_layer_numbers: the teacher's, likewise.
    """

    value_sizes: tuple[int, ...]
    teacher_layers: int = 0
    heads: tuple[int, ...] = ()
    layer_numbers: tuple[int, ...] = ()
    teacher_layer_numbers: tuple[int, ...] = ()

    @property
    def student_numbers(self) -> tuple[int, ...]:
        """The numbers of the student's layers that are read."""
        return self.layer_numbers or tuple(range(len(self.value_sizes)))

    @property
    def teacher_numbers(self) -> tuple[int, ...]:
        """The numbers of the teacher's layers in its stored attention."""
        return self.teacher_layer_numbers or tuple(range(self.teacher_layers))


@dataclass(frozen=True, slots=True)
class AttentionPair:
    """Stepwise attention of teacher and student on the same steps and keys of the same examples.

    Attributes:
        teacher_BLSK: the teacher's, all layers; sums over the tokens of a step, or means if the term's
            `AttentionChoice` says so.
        student_BLSK: the student's sums, all layers, with gradient.
        values: the student's value states [B, T, D] of each layer; empty if no term needs them.
        token_mask_BT: True at real tokens.
        step_mask_BS, key_mask_BK: True at real steps and keys.
        visible_BSK: True where a step can see a key.
        step_tokens_BS: the student's number of tokens of each step; 1 where there is no step.
        share: number of these examples over the number of examples with attention in the optimizer step; below 1 if
            gradients are accumulated, so that the step's loss is the mean over all of them.
    """

    teacher_BLSK: Tensor
    student_BLSK: Tensor
    values: tuple[Tensor, ...]
    token_mask_BT: Tensor
    step_mask_BS: Tensor
    key_mask_BK: Tensor
    visible_BSK: Tensor
    step_tokens_BS: Tensor
    share: float | Tensor = 1.0


@dataclass(frozen=True, slots=True)
class OutputPair:
    """The student's output distributions after `predict:` and after `explain:`, for the same examples.

    Attributes:
        label_EV: log of the largest probability of each token of the vocabulary over the positions of the label.
        rationale_EV: the same over the positions of the rationale.
        share: number of these examples over that of the optimizer step.
    """

    label_EV: Tensor
    rationale_EV: Tensor
    share: float | Tensor = 1.0


@dataclass(frozen=True, slots=True)
class NextTokenPair:
    """Log-probabilities of the next token, or of the next span, by teacher and student, where both tokenizers agree.

    Attributes:
        teacher_MK: the teacher's, of the tokens that it has stored; −inf after a position's last one.
        student_MK: the student's, of the same tokens, with gradient.
        student_rest_M: the student's, of all other tokens together, with gradient.
        share: number of these positions over that of the optimizer step.
    """

    teacher_MK: Tensor
    student_MK: Tensor
    student_rest_M: Tensor
    share: float | Tensor = 1.0


@dataclass(frozen=True, slots=True)
class MethodInputs:
    """What the forward passes over one batch give to a method.

    Attributes:
        cross_entropies: for each term without needs, by its task, the mean cross-entropy of the completions' tokens
            (scalar); a method has at least one such term.
        attention: None if no example of the batch has the teacher's attention.
        outputs: None if no term needs them.
        next_tokens: None if no example of the batch has a position to compare.
        progress: share of the training steps that are done.
    """

    cross_entropies: Mapping[Task, Tensor]
    attention: AttentionPair | None = None
    outputs: OutputPair | None = None
    next_tokens: NextTokenPair | None = None
    progress: float = 0.0
