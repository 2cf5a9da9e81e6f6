"""One problem as a student learns from it.

Legend: L layers (or the heads of all of them), S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from molsaki.encoding.encode import EncodedText
from molsaki.encoding.token_map import AgreedTokens
from molsaki.methods import Task
from molsaki.spans.align import Alignment


@dataclass(frozen=True, slots=True)
class Example:
    """One problem encoded for the student.

    Attributes:
        problem_id: the problem's id.
        sequences: the encoded sequence of each task.
        tokens: the student's tokens of the steps and keys that both sides have; None without attention.
        teacher_LSK: the teacher's attention on the same steps and keys, summed over its tokens of a step, or their
            mean where a method chose that; None without attention.
        agreed: the teacher's next tokens where both tokenizers agree; None without.
    """

    problem_id: str
    sequences: Mapping[Task, EncodedText]
    tokens: Alignment | None = None
    teacher_LSK: Tensor | None = None
    agreed: AgreedTokens | None = None
