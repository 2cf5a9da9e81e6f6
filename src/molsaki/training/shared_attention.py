"""The teacher's attention on the steps and keys that teacher and student both have tokens for, or a control.

Legend: L layers (or the heads of all of them), S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from molsaki.errors import ArtefactError
from molsaki.methods import AttentionChoice
from molsaki.records import RowReport
from molsaki.spans.align import Alignment
from molsaki.spans.find import Spans
from molsaki.spans.sources import source_columns
from molsaki.spans.text import Text
from molsaki.store.attention_rows import RowSpans, attention_row, row_spans
from molsaki.store.signal_reader import SignalStore
from molsaki.training.example import TeacherRow
from molsaki.training.targets import chosen_keys, chosen_steps, oracle_target, uniform_target

NO_ATTENTION = "without the teacher's attention: takes no part in the attention loss"
NOTHING_LEFT = "no step or key left on both sides: takes no part in the attention loss"
DROPPED = "a step or key that only one side has was left out on both"
NOTHING_CHOSEN = "no step or key of those that the method compares: takes no part in the attention loss"
NO_SOURCE = "no step with a number of the question: takes no part in the attention loss"


@dataclass(frozen=True, slots=True)
class SharedAttention:
    """The student's tokens and the teacher's attention on the steps and keys that both sides have."""

    tokens: Alignment
    teacher: TeacherRow

    @property
    def teacher_LSK(self) -> Tensor:
        """The teacher's attention, read from the disk."""
        return self.teacher.load()


def shared_attention(
    store: SignalStore,
    text: Text,
    align: Callable[[Spans], Alignment],
    choice: AttentionChoice,
    report: RowReport,
    sources: Sequence[Sequence[tuple[int, int]]] | None = None,
) -> SharedAttention | None:
    """The student's tokens and the teacher's attention, or a control, on the steps and keys that both sides have.

    Shuffled rows are those of another example, which `encode_examples` finds.

    Args:
        store: the teacher's attention in the view of `choice`.
        text: question and rationale.
        align: finds the student's tokens of spans.
        choice: the part of the attention to compare.
        report: counts what is left out, with reasons.
        sources: the problem's, for an oracle.

    Returns:
        None if nothing is left to compare. The attention itself is read when it is needed, and an error of its numbers
        is raised then.

    Raises:
        ArtefactError: the row was read on another text or other spans.
    """
    if text.id not in store:
        report.note(NO_ATTENTION)
        return None
    spans = choice.view.spans(text.question, text.rationale, text.keys, text.steps)
    student = align(spans)
    teacher = row_spans(store, text.id, text.text_hash)
    _require_shape(store, text, teacher, student)
    # Rows and columns that the teacher has no token for are 0 in its attention, which is not a reading.
    steps = sorted(set(range(student.n_steps)).difference(student.missing_steps, teacher.missing_steps))
    keys = sorted(set(range(student.n_keys)).difference(student.missing_keys, teacher.missing_keys))
    if (len(steps), len(keys)) != (student.n_steps, student.n_keys):
        report.note(DROPPED)
    if not steps or not keys:
        report.note(NOTHING_LEFT)
        return None
    steps, keys = chosen_steps(choice, spans, steps), chosen_keys(choice, spans, keys, text)
    columns: dict[int, list[int]] = {}
    if sources is not None:
        found = source_columns(spans, text.question, text.rationale, sources)
        columns = {step: [keys.index(key) for key in found[step] if key in keys] for step in steps}
        steps = [step for step in steps if columns[step]]
    if not steps or not keys:
        report.note(NO_SOURCE if sources is not None else NOTHING_CHOSEN)
        return None
    tokens = student.keep(steps, keys)
    step_tokens = [teacher.step_tokens[step] for step in steps] if choice.step_means else None
    load = partial(_read_kept, store, text.id, text.text_hash, steps, keys, step_tokens)
    source = f"{choice.target} {teacher.hash} {steps} {keys} {step_tokens}"
    if choice.target == "uniform":
        return SharedAttention(tokens, TeacherRow(source, partial(_read_uniform, load, tokens)))
    if choice.target == "oracle":
        kept = [columns[step] for step in steps]
        return SharedAttention(tokens, TeacherRow(f"{source} {kept}", partial(_read_oracle, load, kept)))
    return SharedAttention(tokens, TeacherRow(source, load))


def _read_kept(
    store: SignalStore,
    row_id: str,
    text_hash: str,
    steps: Sequence[int],
    keys: Sequence[int],
    step_tokens: Sequence[int] | None,
) -> Tensor:
    """The teacher's attention on some steps and keys; divided by the steps' numbers of tokens if they are given."""
    kept_LSK = attention_row(store, row_id, text_hash).attention_LSK[:, steps][:, :, keys]
    return kept_LSK if step_tokens is None else kept_LSK / torch.tensor(step_tokens)[:, None]


def _read_uniform(load: Callable[[], Tensor], tokens: Alignment) -> Tensor:
    return uniform_target(load(), tokens)


def _read_oracle(load: Callable[[], Tensor], columns: Sequence[Sequence[int]]) -> Tensor:
    return oracle_target(load(), columns)


def _require_shape(store: SignalStore, text: Text, teacher: RowSpans, student: Alignment) -> None:
    stored, expected = (teacher.steps, teacher.keys), (student.n_steps, student.n_keys)
    if stored != expected:
        raise ArtefactError(
            f"Expected attention on {expected} steps and keys for {text.id!r} in {store.folder}; the row has {stored}. "
            "It was read in another view or by other rules for spans; read the attention again into a new folder."
        )
