"""The examples that a student learns from: one problem in every task.

`predict:` with its label, `explain:` with its rationale, `reason:` with both if a method asks for it, and the
teacher's attention on the rationale's steps and keys if there is one.

Legend: L layers (or the heads of all of them), S steps, K keys.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from molsaki.answers.sentences import state_answer
from molsaki.encoding.encode import EncodedText, encode_student, require_offsets
from molsaki.encoding.prompts import PromptTemplate
from molsaki.encoding.token_map import AgreedTokens
from molsaki.errors import ArtefactError, InputError
from molsaki.methods import AttentionChoice, Task
from molsaki.records import Problem, RowReport
from molsaki.spans.align import CommonSpans, SpanAlignment, common_spans, keep_spans
from molsaki.spans.find import Spans
from molsaki.spans.text import Text
from molsaki.spans.views import VIEWS
from molsaki.store.signal_reader import AttentionStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

NO_ATTENTION = "without the teacher's attention: takes no part in the attention loss"
NOTHING_LEFT = "no step or key left on both sides: takes no part in the attention loss"
DROPPED = "a step or key that only one side has was left out on both"
CUT = "explain sequence cut at the context's end"
CUT_REASONING = "reason sequence cut at the context's end: its answer is not learned"
NO_QUESTION_KEYS = "no key in the question: takes no part in the attention loss"
TOO_LONG = "the question leaves no room for the answer"


@dataclass(frozen=True, slots=True)
class Example:
    """One problem encoded for the student.

    Attributes:
        problem_id: the problem's id.
        sequences: the encoded sequence of each task.
        tokens: the student's tokens of the steps and keys that both sides have; None without attention.
        teacher_LSK: the teacher's attention on exactly these steps and keys, summed over its tokens of a step, or
            their mean where a method chose that; None without attention.
        agreed: what the teacher expected where both tokenizers agree; None without.
    """

    problem_id: str
    sequences: Mapping[Task, EncodedText]
    tokens: SpanAlignment | None = None
    teacher_LSK: Tensor | None = None
    agreed: AgreedTokens | None = None


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    texts: Mapping[str, Text],
    templates: Mapping[Task, PromptTemplate],
    max_length: int,
    store: AttentionStore | None = None,
    choice: AttentionChoice | None = None,
) -> tuple[list[Example], RowReport]:
    """Encode problems with their rationales for a student.

    Args:
        tokenizer: the student's; it must give offsets.
        problems: what to learn from.
        texts: question and rationale by problem id; a problem without one is an error of the caller's.
        templates: the prompt of each task; `reason` only where a method has that task.
        max_length: the student's context; a rationale beyond is cut, and counted.
        store: the teacher's attention in the choice's view, for a method that reads it.
        choice: which part of it the method compares; all of it by default.

    Returns:
        The examples, and a report on what was left out or cut.

    Raises:
        TokenizerError: the tokenizer gives no offsets.
        ArtefactError: the store's attention was read on other text, or it does not say how many tokens the teacher's
            steps have, and a method wants means over them.
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
        if "reason" in templates:
            written = state_answer(text.rationale, problem.label)
            sequences["reason"] = encode_student(tokenizer, templates["reason"], problem.text, written, max_length)
            if sequences["reason"].cut_tokens:
                report.note(CUT_REASONING)
        tokens, teacher_LSK = None, None
        if store is not None:
            tokens, teacher_LSK = _attention(store, text, explain, choice or AttentionChoice(), report)
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
    store: AttentionStore, text: Text, explain: EncodedText, choice: AttentionChoice, report: RowReport
) -> tuple[SpanAlignment | None, Tensor | None]:
    """The teacher's attention and the student's tokens on the steps and keys that both have."""
    if text.id not in store:
        report.note(NO_ATTENTION)
        return None, None
    spans = VIEWS[choice.view].spans(text.question, text.rationale, text.keys, text.steps)
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
    if choice.question_keys:
        common = _of_the_question(common, spans)
        if not common.keys:
            report.note(NO_QUESTION_KEYS)
            return None, None
    kept_LSK = theirs_LSK[:, common.steps][:, :, common.keys]
    if choice.step_means:
        tokens_S = torch.tensor(_step_tokens(store, text.id))[list(common.steps)]
        kept_LSK = kept_LSK / tokens_S[None, :, None]
    return keep_spans(mine, common), kept_LSK


def _of_the_question(common: CommonSpans, spans: Spans) -> CommonSpans:
    return replace(common, keys=tuple(key for key in common.keys if spans.keys[key].text == "question"))


def _step_tokens(store: AttentionStore, row_id: str) -> tuple[int, ...]:
    counts = store.step_tokens(row_id)
    if not counts:
        raise ArtefactError(
            f"Expected the attention store {store.folder} to say how many of the teacher's tokens each step of "
            f"{row_id!r} has; it does not. Means over them cannot be taken; read the attention again into a new "
            "folder, or set `step_pool: sum`."
        )
    return counts
