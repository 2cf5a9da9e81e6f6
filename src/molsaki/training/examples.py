"""The examples that a student learns from: one problem in every task.

`predict:` with its label, `explain:` with its rationale, `reason:` with both if a method asks for it, and the
teacher's attention on the rationale's steps and keys if there is one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from molsaki.answers.sentences import state_answer
from molsaki.encoding.encode import EncodedText, encode_student, require_offsets
from molsaki.encoding.prompts import PromptTemplate
from molsaki.encoding.student_chats import row_problem
from molsaki.errors import InputError
from molsaki.methods import AttentionChoice, Task
from molsaki.records import Problem, RowReport
from molsaki.spans.text import Text
from molsaki.store.signal_reader import SignalStore
from molsaki.training.example import Example
from molsaki.training.shared_attention import shared_attention
from molsaki.training.targets import shuffle_targets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

CUT = "explain sequence cut at the context's end"
CUT_REASONING = "reason sequence cut at the context's end: its answer is not learned"
TOO_LONG = "the question leaves no room for the answer"


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    texts: Mapping[str, Text],
    templates: Mapping[Task, PromptTemplate],
    max_length: int,
    attention: SignalStore | None = None,
    choice: AttentionChoice | None = None,
    seed: int = 0,
) -> tuple[list[Example], RowReport]:
    r"""Encode problems and their rationales for a student.

    A step or key that the teacher or the student lacks (truncation, or a token that covers two spans) is left out on
    both sides, and counted.

    Example:
        >>> import molsaki
        >>> from transformers import AutoTokenizer
        >>> from molsaki.data.pocket import STUDENT
        >>> problem = molsaki.Problem("a", "Ada has 3 pens and buys 14. How many?", answer="17", label="( 3 + 14 )")
        >>> texts = {"a": molsaki.Text("a", problem.text, "Ada has 3 + 14 pens.", keys="numbers")}
        >>> templates = {
        ...     "predict": molsaki.PromptTemplate.parse("predict: {question}\n{label}"),
        ...     "explain": molsaki.PromptTemplate.parse("explain: {question}\n{rationale}"),
        ... }
        >>> tokenizer = AutoTokenizer.from_pretrained(STUDENT)
        >>> examples, report = molsaki.encode_examples(tokenizer, [problem], texts, templates, max_length=128)
        >>> report.kept, sorted(examples[0].sequences)
        (1, ['explain', 'predict'])
        >>> explain = examples[0].sequences["explain"]
        >>> tokenizer.decode(explain.input_ids[explain.completion_token : -1])
        'Ada has 3 + 14 pens.'

    Args:
        tokenizer: the student's; a fast one, with an end-of-text token.
        problems: what to learn from.
        texts: question and rationale by problem id.
        templates: the prompt of each task: `predict` and `explain`, and `reason` for a method with that task. A chat
            is rendered with the tokenizer's chat template; a problem whose text that template changes is left out.
        max_length: the student's context in tokens. A rationale is cut there; a problem whose label does not fit is
            left out.
        attention: the teacher's attention in the view of `choice`; None for a method that does not read it.
        choice: the part of the attention that the method compares; all of it by default.
        seed: of the examples whose rows are shuffled, if `choice` says so.

    Returns:
        The examples, and a report that counts what was left out or cut, with reasons.

    Raises:
        TokenizerError: the tokenizer is slow, or has no end-of-text token; or its chat template is unsuitable (see
            `molsaki.encoding.student_chats.render_student`).
        InputError: a problem has no text, there is no template for `predict`, `explain` or the task of `choice`, or the
            problems do not know the sources that `choice` needs.
        ArtefactError: the teacher's attention was read on another text or other spans.
    """
    require_offsets(tokenizer)
    choice = choice or AttentionChoice()
    _require_inputs(problems, texts, templates, choice.task)
    report = RowReport()
    examples = []
    for problem in problems:
        text = texts[problem.id]
        if problem_found := _chat_problem(tokenizer, problem, text, templates):
            report.skip(problem.id, problem_found)
            continue
        sequences = _encode_tasks(tokenizer, problem, text, templates, max_length)
        explain = sequences["explain"]
        empty = any(one.completion_token >= len(one.input_ids) for one in sequences.values())
        if sequences["predict"].cut_tokens or empty:
            report.skip(problem.id, TOO_LONG)
            continue
        report.keep()
        if explain.cut_tokens:
            report.note(CUT)
        if "reason" in sequences and sequences["reason"].cut_tokens:
            report.note(CUT_REASONING)
        shared = None
        if attention is not None:
            sources = _sources(problem) if choice.target == "oracle" else None
            shared = shared_attention(attention, text, sequences[choice.task].align, choice, report, sources)
        if shared is None:
            examples.append(Example(problem.id, sequences))
        else:
            examples.append(Example(problem.id, sequences, shared.tokens, shared.teacher, attended=choice.task))
    if choice.target == "shuffled":
        examples = shuffle_targets(examples, seed)
    return examples, report


def encode_labels(
    tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], template: PromptTemplate, max_length: int
) -> list[Example]:
    """Encode problems without rationales, for the label's loss on a validation split.

    Problems that do not fit, or that a chat template changes, are left out with a warning.

    Raises:
        TokenizerError: the tokenizer is slow, or has no end-of-text token.
        InputError: no problem fits.
    """
    require_offsets(tokenizer)
    encoded = [
        (row, encode_student(tokenizer, template, row.text, row.label, max_length))
        for row in problems
        if not row_problem(tokenizer, template, row.text, row.label)
    ]
    examples = [Example(row.id, {"predict": text}) for row, text in encoded if not text.cut_tokens]
    if problems and not examples:
        raise InputError(
            f"Expected validation problems of at most {max_length} tokens with their answers, which the chat template "
            f"leaves as they are; none of the {len(problems)} is one. There is no validation loss; raise "
            "training.max_length, or choose another student."
        )
    if len(examples) < len(problems):
        logger.warning(
            "%d of %d validation problems do not fit into %d tokens, or are changed by the chat template, and are left "
            "out of the validation loss",
            len(problems) - len(examples),
            len(problems),
            max_length,
        )
    return examples


def _require_inputs(
    problems: Sequence[Problem], texts: Mapping[str, Text], templates: Mapping[Task, PromptTemplate], attended: Task
) -> None:
    without = [problem.id for problem in problems if problem.id not in texts]
    if without:
        raise InputError(
            f"Expected a text for each of {len(problems)} problems; {len(without)} have none, {without[0]!r} among "
            "them. There is no rationale to learn; leave these problems out, or add their texts."
        )
    for task in dict.fromkeys(("predict", "explain", attended)):
        if task not in templates:
            raise InputError(
                "Expected templates for 'predict' and 'explain', and for the task that attention is compared on; there "
                f"is none for {task!r}, only for {sorted(templates)}. The problems cannot be encoded; add the template."
            )


def _encode_tasks(
    tokenizer: PreTrainedTokenizerBase,
    problem: Problem,
    text: Text,
    templates: Mapping[Task, PromptTemplate],
    max_length: int,
) -> dict[Task, EncodedText]:
    return {
        task: encode_student(tokenizer, templates[task], problem.text, completion, max_length)
        for task, completion in _completions(problem, text).items()
        if task in templates
    }


def _completions(problem: Problem, text: Text) -> dict[Task, str]:
    return {
        "predict": problem.label,
        "explain": text.rationale,
        "reason": state_answer(text.rationale, problem.label),
    }


def _chat_problem(
    tokenizer: PreTrainedTokenizerBase, problem: Problem, text: Text, templates: Mapping[Task, PromptTemplate]
) -> str:
    """Why a problem cannot be learned in a chat; empty if it can."""
    completions = _completions(problem, text).items()
    found = (
        row_problem(tokenizer, templates[task], problem.text, some) for task, some in completions if task in templates
    )
    return next(filter(None, found), "")


def _sources(problem: Problem) -> tuple[tuple[tuple[int, int], ...], ...]:
    if problem.sources is None:
        raise InputError(
            f"Expected problems that say which numbers of the question their solution uses, for `target: oracle`; "
            f"{problem.id!r} has no `sources`. There is no oracle for these data; use pocket-math, or another target."
        )
    return problem.sources
