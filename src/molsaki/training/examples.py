"""The examples that a student learns from, and how they become batches.

An example is one problem in both tasks: `predict:` with its label and `explain:` with its rationale, and the
teacher's attention on the rationale's steps and keys if there is one. A batch holds the examples' sequences of
all the method's tasks as rows of one tensor, so that one forward pass serves both.

Legend: R rows, B examples with attention, T tokens, L layers, S steps, K keys.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from molsaki.encoding import IGNORED, EncodedText, encode_student, require_offsets
from molsaki.errors import InputError
from molsaki.extraction import Text
from molsaki.methods import Task
from molsaki.padding import pad
from molsaki.prompts import PromptTemplate
from molsaki.records import Problem, RowReport
from molsaki.span_tokens import SpanTokens, common_spans, keep_spans
from molsaki.spans import find_spans
from molsaki.stores import AttentionStore
from molsaki.training.model import EXPLAIN_ROW, PREDICT_ROW

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

NO_ATTENTION = "without the teacher's attention: takes no part in the attention loss"
NOTHING_LEFT = "no step or key left on both sides: takes no part in the attention loss"
DROPPED = "a step or key that only one side has was left out on both"
CUT = "explain sequence cut at the context's end"
TOO_LONG = "the question leaves no room for the answer"


@dataclass(frozen=True, slots=True)
class Example:
    """One problem encoded for the student.

    Attributes:
        problem_id: the problem's id.
        sequences: the encoded sequence of each task.
        tokens: the student's tokens of the steps and keys that both sides have; None without attention.
        teacher_LSK: the teacher's attention on exactly these steps and keys; None without attention.
    """

    problem_id: str
    sequences: Mapping[Task, EncodedText]
    tokens: SpanTokens | None = None
    teacher_LSK: Tensor | None = None


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    texts: Mapping[str, Text],
    templates: Mapping[Task, PromptTemplate],
    max_length: int,
    store: AttentionStore | None = None,
) -> tuple[list[Example], RowReport]:
    """Encode problems with their rationales for a student.

    Args:
        tokenizer: the student's; it must give offsets.
        problems: what to learn from.
        texts: question and rationale by problem id; a problem without one is an error of the caller's.
        templates: the prompt of each task.
        max_length: the student's context; a rationale beyond is cut, and counted.
        store: the teacher's attention, for a method that reads it.

    Returns:
        The examples, and a report on what was left out or cut.

    Raises:
        TokenizerError: the tokenizer gives no offsets.
        ArtefactError: the store's attention was read on other text.
    """
    require_offsets(tokenizer)
    report = RowReport()
    examples = []
    for problem in problems:
        text = texts[problem.id]
        predict = encode_student(tokenizer, templates["predict"], problem.text, problem.label, max_length)
        explain = encode_student(tokenizer, templates["explain"], problem.text, text.rationale, max_length)
        if predict.cut_tokens or explain.completion_token >= len(explain.input_ids):
            report.skip(problem.id, TOO_LONG)
            continue
        report.keep()
        if explain.cut_tokens:
            report.note(CUT)
        sequences: dict[Task, EncodedText] = {"predict": predict, "explain": explain}
        tokens, teacher_LSK = None, None
        if store is not None:
            tokens, teacher_LSK = _attention(store, text, explain, report)
        examples.append(Example(problem.id, sequences, tokens, teacher_LSK))
    return examples, report


def encode_labels(
    tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], template: PromptTemplate, max_length: int
) -> list[Example]:
    """Encode problems without rationales, to watch the label's loss on a validation split.

    Problems that do not fit are left out with a warning.

    Raises:
        TokenizerError: the tokenizer gives no offsets.
        InputError: not one problem fits.
    """
    require_offsets(tokenizer)
    encoded = [encode_student(tokenizer, template, row.text, row.label, max_length) for row in problems]
    examples = [
        Example(problem.id, {"predict": text})
        for problem, text in zip(problems, encoded, strict=True)
        if not text.cut_tokens
    ]
    if problems and not examples:
        raise InputError(
            f"Expected validation problems of at most {max_length} tokens with their answers; all {len(problems)} are "
            "longer. There is nothing to watch the loss on; raise training.max_length, or choose another student."
        )
    if len(examples) < len(problems):
        logger.warning(
            "%d of %d validation problems do not fit into %d tokens and are left out of the validation loss",
            len(problems) - len(examples),
            len(problems),
            max_length,
        )
    return examples


def _attention(
    store: AttentionStore, text: Text, explain: EncodedText, report: RowReport
) -> tuple[SpanTokens | None, Tensor | None]:
    """The teacher's attention and the student's tokens on the steps and keys that both have."""
    if text.id not in store:
        report.note(NO_ATTENTION)
        return None, None
    spans = find_spans(text.question, text.rationale, text.keys)
    mine = explain.map_spans(spans)
    theirs_LSK = store.get(text.id, text.text_hash)
    missing_steps, missing_keys = store.missing(text.id)
    # The teacher's tokens do not matter any more, only which steps and keys it lacked.
    teacher = replace(mine, missing_steps=tuple(missing_steps), missing_keys=tuple(missing_keys))
    common = common_spans(teacher, mine)
    if common.dropped_steps or common.dropped_keys:
        report.note(DROPPED)
    if not common.steps or not common.keys:
        report.note(NOTHING_LEFT)
        return None, None
    return keep_spans(mine, common), theirs_LSK[:, common.steps][:, :, common.keys]


class Collator:
    """Makes a batch of examples: first all `predict:` rows, then all `explain:` rows, padded on the right.

    Args:
        tokenizer: for its padding token.
        tasks: the method's tasks.
        reads_attention: whether steps, keys and the teacher's attention go into the batch.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task], reads_attention: bool) -> None:
        padding = tokenizer.pad_token_id
        self.padding = padding if padding is not None else tokenizer.eos_token_id
        self.tasks = tuple(tasks)
        self.reads_attention = reads_attention

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The batch as `DistillationModel.forward` takes it."""
        # Examples with attention come first, so that their rows lie together: a slice of the batch is no copy.
        ordered = (
            sorted(examples, key=lambda example: example.teacher_LSK is None) if self.reads_attention else examples
        )
        rows = [(task, example) for task in self.tasks for example in ordered if task in example.sequences]
        sequences = [example.sequences[task] for task, example in rows]
        longest = max(len(sequence.input_ids) for sequence in sequences)
        batch: dict[str, Any] = {
            "input_ids": pad([sequence.input_ids for sequence in sequences], self.padding),
            "attention_mask": pad([[1] * len(sequence.input_ids) for sequence in sequences], 0),
            "labels": pad([sequence.labels for sequence in sequences], IGNORED),
            "task": torch.tensor([EXPLAIN_ROW if task == "explain" else PREDICT_ROW for task, _ in rows]),
            # The logits that predict a completion's first token stand at the token before it.
            "logits_needed": longest - min(max(sequence.completion_token - 1, 0) for sequence in sequences),
        }
        if self.reads_attention:
            batch |= self._attention(rows, batch["input_ids"].shape)
        return batch

    @staticmethod
    def _attention(rows: Sequence[tuple[Task, Example]], shape: torch.Size) -> dict[str, Tensor]:
        attending = [
            (row, example)
            for row, (task, example) in enumerate(rows)
            if task == "explain" and example.teacher_LSK is not None
        ]
        if not attending:
            return {}
        step_of_token = torch.full(shape, -1)
        key_of_token = torch.full(shape, -1)
        attentions = []
        for row, example in attending:
            assert example.tokens is not None
            assert example.teacher_LSK is not None
            length = len(example.tokens.step_of_token)
            step_of_token[row, :length] = torch.tensor(example.tokens.step_of_token)
            key_of_token[row, :length] = torch.tensor(example.tokens.key_of_token)
            attentions.append(example.teacher_LSK)
        layers = attentions[0].shape[0]
        steps = max(attention.shape[1] for attention in attentions)
        keys = max(attention.shape[2] for attention in attentions)
        teacher = torch.zeros(len(attentions), layers, steps, keys)
        step_mask = torch.zeros(len(attentions), steps, dtype=torch.bool)
        key_mask = torch.zeros(len(attentions), keys, dtype=torch.bool)
        for i, attention in enumerate(attentions):
            teacher[i, :, : attention.shape[1], : attention.shape[2]] = attention
            step_mask[i, : attention.shape[1]] = True
            key_mask[i, : attention.shape[2]] = True
        return {
            "step_of_token": step_of_token,
            "key_of_token": key_of_token,
            "attends": torch.tensor([row for row, _ in attending]),
            "teacher_attention": teacher,
            "step_mask": step_mask,
            "key_mask": key_mask,
        }
