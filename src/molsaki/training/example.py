"""One problem as a student learns from it.

The teacher's attention stays on the disk until the example's batch comes: it is far larger than the text.

Legend: L layers (or the heads of all of them), S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from molsaki.encoding.encode import EncodedText
from molsaki.encoding.token_map import AgreedTokens
from molsaki.methods import Task
from molsaki.spans.align import Alignment
from molsaki.store.shards import hash_bytes


@dataclass(frozen=True, slots=True)
class TeacherRow:
    """The teacher's attention on the steps and keys of one example, or a control.

    Attributes:
        source: what it is read from, in a short text; equal texts mean equal numbers.
        load: reads it, a tensor [L, S, K] in float32. It can be pickled, for the workers of a DataLoader.
    """

    source: str
    load: Callable[[], Tensor]

    @classmethod
    def of(cls, attention_LSK: Tensor) -> TeacherRow:
        """Attention that is in memory."""
        return cls(hash_bytes([attention_LSK.contiguous().numpy().data]), partial(Tensor.clone, attention_LSK))


@dataclass(frozen=True, slots=True)
class Example:
    """One problem encoded for the student.

    Attributes:
        problem_id: the problem's id.
        sequences: the encoded sequence of each task.
        tokens: the student's tokens of the steps and keys that both sides have; None without attention.
        teacher: the teacher's attention on the same steps and keys, summed over its tokens of a step, or their mean
            where a method chose that; None without attention.
        agreed: the teacher's next tokens where both tokenizers agree; None without.
        attended: the task whose sequence `tokens` are of.
    """

    problem_id: str
    sequences: Mapping[Task, EncodedText]
    tokens: Alignment | None = None
    teacher: TeacherRow | None = None
    agreed: AgreedTokens | None = None
    attended: Task = "explain"

    @property
    def teacher_LSK(self) -> Tensor | None:
        """The teacher's attention, read from the disk; None without attention."""
        return None if self.teacher is None else self.teacher.load()
