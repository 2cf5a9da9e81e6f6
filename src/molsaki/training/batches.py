"""Batches of examples: the rows of each forward pass, and everything that can be computed before the pass.

The CPU computes here, while the device is busy, which positions have a loss, which tokens belong to which step and key,
the number of items of each term, and whether the teacher's attention is finite. So no training step reads a value from
the device, which would force a device sync.

Rows are padded on the right and have no mask: in a causal model no real token attends to the padding after it.

Legend: R rows, N tokens with a loss, B examples with attention, T tokens, L layers, S steps, K keys; M positions at
which next tokens are compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from molsaki.attention.span_index import SpanIndex, make_span_index
from molsaki.encoding.encode import IGNORED
from molsaki.encoding.padding import pad, padding_id
from molsaki.errors import InputError
from molsaki.methods import AttentionChoice, NextTokens, PooledOutputs, Task, Term, Terms
from molsaki.methods.losses import visible_keys
from molsaki.methods.tensor_checks import check_attention
from molsaki.spans.align import Alignment
from molsaki.training.example import Example
from molsaki.training.next_tokens import NextTokenTargets, batch_next_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class AttentionTargets:
    """The inputs of the attention loss of a pass, for the B examples with the teacher's attention.

    Attributes:
        spans: the tokens of steps and keys.
        teacher_BLSK: the teacher's attention, 0 at padding.
        step_mask_BS: True at real steps.
        key_mask_BK: True at real keys.
        token_mask_BT: True at real tokens.
        visible_BSK: True where a step can attend to a key, which begins no later than the step ends.
        step_tokens_BS: the student's number of tokens of each step; 1 at padding.
    """

    spans: SpanIndex
    teacher_BLSK: Tensor
    step_mask_BS: Tensor
    key_mask_BK: Tensor
    token_mask_BT: Tensor
    visible_BSK: Tensor
    step_tokens_BS: Tensor

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Self:
        """The targets with their tensors on a device."""
        moved: Self = _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return moved


@dataclass(frozen=True, slots=True)
class TaskRows:
    """The rows of a task in a pass, which are contiguous, and their tokens with a loss."""

    task: Task
    rows: slice
    tokens: slice


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """Rows that run through the student together.

    Attributes:
        input_ids_RT: token ids, padded on the right.
        positions_N: which of the R × T positions, row after row, predict a token with a loss.
        targets_N: these tokens.
        tokens_of_rows: the number of these tokens in each row.
        tasks: where the rows of each task are.
        attention: None if no row has the teacher's attention.
        next_tokens: None if no row has the teacher's next tokens.
    """

    input_ids_RT: Tensor
    positions_N: Tensor
    targets_N: Tensor
    tokens_of_rows: tuple[int, ...]
    tasks: tuple[TaskRows, ...]
    attention: AttentionTargets | None = None
    next_tokens: NextTokenTargets | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The sequences of some examples in all tasks of a method.

    accelerate and PyTorch's DataLoader move a batch by its `to` and `pin_memory`.

    Attributes:
        passes: the forward passes over it.
        counts: LongTensor, the number of items of each of the method's terms: tokens of a task, examples with
            attention, examples with both `predict:` and `explain:`, or positions and spans where next tokens are
            compared.
    """

    passes: tuple[ForwardPass, ...]
    counts: Tensor

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Self:
        """The batch with its tensors on a device."""
        moved: Self = _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return moved

    def pin_memory(self) -> Self:
        """The batch with its tensors in page-locked memory."""
        pinned: Self = _map_tensors(self, Tensor.pin_memory)
        return pinned


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A value with every tensor in its dataclasses and tuples replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple):
        return tuple(_map_tensors(item, function) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _map_tensors(getattr(value, f.name), function) for f in fields(value)})
    return value


class Collator:
    """Collates examples into a batch with all of a method's tasks.

    Args:
        tokenizer: for its padding token.
        terms: the terms of the method's loss.
        separate: run the rows of each task in a separate pass; otherwise all rows run in one pass. Labels are shorter
            than rationales, so a third of one pass may be padding; see `molsaki.training.order.plan_passes`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, terms: Terms, separate: bool = False) -> None:
        self.padding = padding_id(tokenizer)
        self.terms = terms
        self.separate = separate

    def __call__(self, examples: Sequence[Example]) -> dict[str, Batch]:
        """The batch, under the name of the argument of `DistillationModel.forward`.

        Raises:
            InputError: the teacher's attention on an example is not finite; it names the example's problem.
        """
        # Examples with attention come first, so that their rows are a slice of the batch, which needs no copy.
        if self.terms.attention is not None:
            examples = sorted(examples, key=lambda example: example.teacher is None)
        tasks = self.terms.tasks
        together = [(task,) for task in tasks] if self.separate else [tasks]
        rows = [[(t, e) for t in some for e in examples if t in e.sequences] for some in together]
        passes = tuple(self._pass(some) for some in rows if some)
        counts = torch.tensor([_count(term, passes, examples) for term in self.terms])
        return {"batch": Batch(passes, counts)}

    def _pass(self, rows: Sequence[tuple[Task, Example]]) -> ForwardPass:
        sequences = [example.sequences[task] for task, example in rows]
        # [R, T]: the label of the token after each position; the last position has none.
        following = pad([sequence.labels for sequence in sequences], IGNORED)[:, 1:]
        targets_RT = torch.nn.functional.pad(following, (0, 1), value=IGNORED)
        has_loss_RT = targets_RT != IGNORED
        positions = has_loss_RT.flatten().nonzero().squeeze(1)
        tokens = tuple(has_loss_RT.sum(1).tolist())
        return ForwardPass(
            input_ids_RT=pad([sequence.input_ids for sequence in sequences], self.padding),
            positions_N=positions,
            targets_N=targets_RT.flatten()[positions],
            tokens_of_rows=tokens,
            tasks=_task_rows([task for task, _ in rows], tokens),
            attention=None if self.terms.attention is None else _attention_targets(rows, self.terms.attention.task),
            next_tokens=None if self.terms.next_tokens is None else _next_token_targets(rows, tokens),
        )


def _count(term: Term, passes: Sequence[ForwardPass], examples: Sequence[Example]) -> int:
    """The number of items of a batch that a term is a mean over."""
    match term.needs:
        case AttentionChoice():
            return sum(example.teacher is not None for example in examples)
        case PooledOutputs():
            return sum(all(task in example.sequences for task in term.tasks) for example in examples)
        case NextTokens():
            return sum(one.next_tokens.count for one in passes if one.next_tokens is not None)
        case None:
            (task,) = term.tasks
            found = [rows.tokens for one in passes for rows in one.tasks if rows.task == task]
            return sum(tokens.stop - tokens.start for tokens in found)


def _task_rows(tasks: Sequence[Task], tokens: Sequence[int]) -> tuple[TaskRows, ...]:
    """The slices of each task's rows and of their tokens with a loss.

    Args:
        tasks: the task of each row; the rows of a task are contiguous.
        tokens: the number of tokens with a loss of each row.
    """
    found, row, token = [], 0, 0
    for task, group in itertools.groupby(tasks):
        rows = slice(row, row + len(list(group)))
        of_rows = slice(token, token + sum(tokens[rows]))
        found.append(TaskRows(task, rows, of_rows))
        row, token = rows.stop, of_rows.stop
    return tuple(found)


def _next_token_targets(rows: Sequence[tuple[Task, Example]], tokens: Sequence[int]) -> NextTokenTargets | None:
    firsts = itertools.accumulate(tokens, initial=0)
    agreed = [
        (first, example.agreed)
        for first, (task, example) in zip(firsts, rows, strict=False)
        if task == "explain" and example.agreed is not None
    ]
    return batch_next_tokens(agreed) if agreed else None


def _attention_targets(rows: Sequence[tuple[Task, Example]], compared: Task) -> AttentionTargets | None:
    """The inputs of the attention loss of a pass; None if no row of the compared task has the teacher's attention."""
    targets = [
        RowTargets(row, example.problem_id, example.tokens, example.teacher.load())
        for row, (task, example) in enumerate(rows)
        if task == compared and example.teacher is not None and example.tokens is not None
    ]
    return attention_targets([len(example.sequences[task].input_ids) for task, example in rows], targets)


@dataclass(frozen=True, slots=True)
class RowTargets:
    """A row of a pass with the teacher's attention.

    Attributes:
        row: its index in the pass.
        name: for messages.
        tokens: the student's tokens of the steps and keys.
        teacher_LSK: the teacher's attention on the same steps and keys.
    """

    row: int
    name: str
    tokens: Alignment
    teacher_LSK: Tensor


def attention_targets(
    lengths: Sequence[int], targets: Sequence[RowTargets], width: int | None = None
) -> AttentionTargets | None:
    """Pad the targets of some rows to one batch; None without rows.

    Args:
        lengths: number of tokens of each of the R rows, padded on the right.
        targets: the B rows with the teacher's attention.
        width: T, the number of tokens of a padded row; the longest by default.

    Raises:
        InputError: attention is not finite; the message names the rows.
    """
    if not targets:
        return None
    lengths_R, width = torch.tensor(lengths), width or max(lengths)
    steps = max(target.teacher_LSK.shape[1] for target in targets)
    keys = max(target.teacher_LSK.shape[2] for target in targets)
    # Over all R rows of the pass, since the student's attention is read on all of them; −1 is "no step", "no key".
    step_of_token_RT, key_of_token_RT = torch.full((2, len(lengths), width), -1)
    # Over the B rows only, each padded with 0 to the largest S and K; an example's own S and K fill the beginning.
    teacher_BLSK = torch.zeros(len(targets), targets[0].teacher_LSK.shape[0], steps, keys)
    step_mask_BS = torch.zeros(len(targets), steps, dtype=torch.bool)
    key_mask_BK = torch.zeros(len(targets), keys, dtype=torch.bool)
    step_tokens_BS = torch.ones(len(targets), steps)
    for i, target in enumerate(targets):
        tokens, (_, S, K) = target.tokens, target.teacher_LSK.shape
        length = len(tokens.step_of_token)
        step_of_token_RT[target.row, :length] = torch.tensor(tokens.step_of_token)
        key_of_token_RT[target.row, :length] = torch.tensor(tokens.key_of_token)
        teacher_BLSK[i, :, :S, :K] = target.teacher_LSK
        step_mask_BS[i, :S] = True
        step_tokens_BS[i, :S] = torch.tensor(tokens.tokens_of_steps, dtype=torch.float)
        key_mask_BK[i, :K] = True
    _require_finite(teacher_BLSK, step_mask_BS, key_mask_BK, [target.name for target in targets])
    token_mask_RT = torch.arange(width) < lengths_R[:, None]
    index_B = torch.tensor([target.row for target in targets])
    return AttentionTargets(
        spans=make_span_index(step_of_token_RT, key_of_token_RT, token_mask_RT, index_B, steps, keys),
        teacher_BLSK=teacher_BLSK,
        step_mask_BS=step_mask_BS,
        key_mask_BK=key_mask_BK,
        token_mask_BT=token_mask_RT[index_B],
        visible_BSK=visible_keys(step_of_token_RT[index_B], key_of_token_RT[index_B], steps, keys),
        step_tokens_BS=step_tokens_BS,
    )


def _require_finite(teacher: Tensor, step_mask: Tensor, key_mask: Tensor, names: Sequence[str]) -> None:
    try:
        check_attention(teacher, step_mask, key_mask, "teacher's attention")
    except InputError as error:
        rows = ", ".join(map(repr, names))
        raise InputError(f"{error} The batch's examples with attention are those of the problems {rows}.") from None
