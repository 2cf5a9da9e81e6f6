"""How examples become batches: which rows run together, and what is known of them before they run.

All that can be known on the processor is found here, while the device is busy: which logits a loss is taken of, which
tokens belong to which step and key, how many items there are, whether the teacher's attention is sound. On the way
through the student nothing has to be looked at any more, and the processor never waits for the device.

Rows are padded on the right and have no mask: in a causal model no real token sees what stands behind it.

Legend: R rows, N tokens that a loss is taken of, B examples with attention, T tokens, L layers, S steps, K keys.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from molsaki.attention.span_index import make_span_index
from molsaki.encoding.encode import IGNORED
from molsaki.encoding.padding import pad
from molsaki.errors import InputError
from molsaki.methods import TERM_OF_TASK, TERMS, Task
from molsaki.methods.layers import check_attention
from molsaki.methods.losses import visible_keys
from molsaki.training.examples import Example
from molsaki.training.next_tokens import batch_next_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Collator:
    """Makes a batch of examples, all of the method's tasks in it.

    A batch is a dict of "passes", each with the rows of one forward pass, and of "counts", how many items the batch has
    of each of `molsaki.methods.TERMS`: tokens of a task, examples with attention, examples with both `predict:` and
    `explain:`, positions where next tokens are compared. A pass holds

        input_ids: [R, T], padded on the right.
        positions: [N], which of the pass's kept logits, [R × logits_needed] of them, predict a token with a loss.
        targets: [N], these tokens, row after row.
        rows: for each row its task and how many of these tokens it has.
        logits_needed: how many positions at the end hold all of these logits.
        attention: only where examples have the teacher's attention; see `_attention`.
        next_tokens: only where examples have the teacher's next tokens; see `batch_next_tokens`.

    Args:
        tokenizer: for its padding token.
        tasks: the method's tasks.
        reads_attention: whether steps, keys and the teacher's attention go into the batch.
        apart: run each task's rows in a pass of their own; False runs all rows in one. Labels are shorter than
            rationales, so one pass may be padding for a third; see `molsaki.training.order.plan_passes`.
        reads_logits: whether the teacher's next tokens go into the batch.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        tasks: Sequence[Task],
        reads_attention: bool,
        apart: bool = False,
        reads_logits: bool = False,
    ) -> None:
        padding = tokenizer.pad_token_id
        self.padding = padding if padding is not None else tokenizer.eos_token_id
        self.tasks = tuple(tasks)
        self.reads_attention = reads_attention
        self.apart = apart
        self.reads_logits = reads_logits

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The batch as `DistillationModel.forward` takes it.

        Raises:
            InputError: the teacher's attention on an example is not finite; it names the example's problem.
        """
        # Examples with attention come first, so that their rows lie together: a slice of the batch is no copy.
        if self.reads_attention:
            examples = sorted(examples, key=lambda example: example.teacher_LSK is None)
        tasks = [(task,) for task in self.tasks] if self.apart else [self.tasks]
        rows = [[(t, e) for t in together for e in examples if t in e.sequences] for together in tasks]
        passes = [self._pass(some) for some in rows if some]
        counts = dict.fromkeys(TERMS, 0)
        for task, tokens in (row for one in passes for row in one["rows"]):
            counts[TERM_OF_TASK[task]] += tokens
        if self.reads_attention:
            counts["attention"] = sum(e.teacher_LSK is not None for e in examples)
        counts["logits"] = sum(len(one["next_tokens"]["places"]) for one in passes if "next_tokens" in one)
        counts["mutual"] = sum(all(task in e.sequences for task in ("predict", "explain")) for e in examples)
        return {"passes": passes, "counts": torch.tensor(list(counts.values()))}

    def _pass(self, rows: Sequence[tuple[Task, Example]]) -> dict[str, Any]:
        sequences = [example.sequences[task] for task, example in rows]
        longest = max(len(sequence.input_ids) for sequence in sequences)
        # The logits that predict a completion's first token stand at the token before it.
        needed = longest - min(max(sequence.completion_token - 1, 0) for sequence in sequences)
        following = pad([sequence.labels for sequence in sequences], IGNORED)[:, longest - needed + 1 :]
        targets = torch.nn.functional.pad(following, (0, 1), value=IGNORED).flatten()
        has_loss = targets != IGNORED
        positions = has_loss.nonzero().squeeze(1)
        tokens = has_loss.view(len(rows), needed).sum(1).tolist()
        made: dict[str, Any] = {
            "input_ids": pad([sequence.input_ids for sequence in sequences], self.padding),
            "positions": positions,
            "targets": targets[positions],
            "rows": tuple((task, count) for (task, _), count in zip(rows, tokens, strict=True)),
            "logits_needed": needed,
        }
        if self.reads_attention:
            attending = [row for row, (t, e) in enumerate(rows) if t == "explain" and e.teacher_LSK is not None]
            if attending:
                lengths = [len(sequence.input_ids) for sequence in sequences]
                made["attention"] = _attention([rows[row][1] for row in attending], attending, lengths)
        if self.reads_logits:
            firsts = itertools.accumulate(tokens, initial=0)
            agreed = [
                (first, e.agreed)
                for first, (t, e) in zip(firsts, rows, strict=False)
                if t == "explain" and e.agreed is not None
            ]
            if agreed:
                made["next_tokens"] = batch_next_tokens(agreed)
        return made


def _attention(examples: Sequence[Example], rows: Sequence[int], lengths: Sequence[int]) -> dict[str, Any]:
    """What the attention loss of a pass needs.

    Args:
        examples: those with the teacher's attention.
        rows: their rows in the pass, one behind the other.
        lengths: of all rows of the pass, in tokens.

    Returns:
        spans: the tokens of steps and keys, `SpanIndex`.
        teacher: [B, L, S, K].
        step_mask: [B, S], True at real steps.
        key_mask: [B, K], True at real keys.
        token_mask: [B, T], True at real tokens.
        visible: [B, S, K], True where a step can see a key.
        step_tokens: [B, S], how many of the student's tokens each step has; 1 where there is no step.
    """
    attentions = [example.teacher_LSK for example in examples if example.teacher_LSK is not None]
    steps = max(attention.shape[1] for attention in attentions)
    keys = max(attention.shape[2] for attention in attentions)
    step_of_token, key_of_token = torch.full((2, len(lengths), max(lengths)), -1)
    teacher = torch.zeros(len(examples), attentions[0].shape[0], steps, keys)
    step_mask = torch.zeros(len(examples), steps, dtype=torch.bool)
    key_mask = torch.zeros(len(examples), keys, dtype=torch.bool)
    step_tokens = torch.ones(len(examples), steps)
    for i, (row, example, attention) in enumerate(zip(rows, examples, attentions, strict=True)):
        assert example.tokens is not None
        length = len(example.tokens.step_of_token)
        step_of_token[row, :length] = torch.tensor(example.tokens.step_of_token)
        key_of_token[row, :length] = torch.tensor(example.tokens.key_of_token)
        teacher[i, :, : attention.shape[1], : attention.shape[2]] = attention
        step_mask[i, : attention.shape[1]] = True
        step_tokens[i, : attention.shape[1]] = torch.tensor(example.tokens.tokens_of_steps, dtype=torch.float)
        key_mask[i, : attention.shape[2]] = True
    _require_sound(teacher, step_mask, key_mask, examples)
    real = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    index = torch.tensor(rows)
    return {
        "spans": make_span_index(step_of_token, key_of_token, real, index, steps, keys),
        "teacher": teacher,
        "step_mask": step_mask,
        "key_mask": key_mask,
        "token_mask": real[index],
        "visible": visible_keys(step_of_token[index], key_of_token[index], steps, keys),
        "step_tokens": step_tokens,
    }


def _require_sound(teacher: Tensor, step_mask: Tensor, key_mask: Tensor, examples: Sequence[Example]) -> None:
    try:
        check_attention(teacher, step_mask, key_mask, "teacher's attention")
    except InputError as error:
        problems = ", ".join(repr(example.problem_id) for example in examples)
        raise InputError(f"{error} The batch's examples with attention are those of the problems {problems}.") from None
