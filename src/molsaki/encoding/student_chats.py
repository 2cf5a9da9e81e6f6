"""Chats of students: the text in which a student learns and answers, by its own chat template.

A student learns on the rendered prompt, which ends with the generation prompt, then its answer, then the token that
ends the turn. At a test it gets the same prompt. So training and test have the same tokens whatever the template makes
of a finished conversation; `departures` says where that differs.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

from molsaki.answers.thinking import join_thinking, split_thinking
from molsaki.encoding.chat_template import refuse
from molsaki.encoding.chats import render_finished, render_prompt, render_template
from molsaki.encoding.control_tokens import (
    Tokens,
    control_tokens,
    data_parts,
    tokenize_chat,
    tokenize_plainly,
    tokenize_text,
)
from molsaki.encoding.prompts import PromptTemplate
from molsaki.encoding.template_changes import template_changes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTION_CHANGED = "the chat template changes the question's text"
ANSWER_CHANGED = "the chat template changes the text of the answer or rationale"
CONTROL = "the text becomes a control token of the chat"

_MAY_BE_EQUAL = ". student.chat_template_kwargs: {enable_thinking: false} may make them equal"
_HOSTILE = "<b>&amp;</b> 'x' \"y\" \\n {{ z }} {% w %}  two\n\nlines # é 日本"
_QUESTION = f"QUESTION-f3b1c09e {_HOSTILE} 1"
_ANSWER = f"ANSWER-7d40aa52 {_HOSTILE} 2"


def render_student(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> PromptTemplate:
    """The template as text, with the token that ends the answer; a template that is not a chat stays as it is.

    That token is the special token with which the chat template ends a finished answer; where it writes none, the
    tokenizer's end-of-text token.

    Raises:
        TokenizerError: as `render_template`; or the chat template drops the system message, or changes characters of
            the question or of the answer.
    """
    return _student(tokenizer, str(tokenizer.chat_template), template) if template.is_chat else template


@lru_cache(maxsize=16)
def _student(tokenizer: PreTrainedTokenizerBase, _: str, template: PromptTemplate) -> PromptTemplate:
    rendered = render_template(tokenizer, template)
    prompt = template.ask(_QUESTION)
    opened = render_prompt(tokenizer, prompt)
    if opened != rendered.prompt(_QUESTION):
        refuse(tokenizer, "that keeps the characters of a question", f"{opened[-300:]!r} for {_QUESTION!r}")
    for turn in prompt.messages:
        if turn.role == "system" and turn.content.strip() not in opened:
            way_out = "write the text of the [system] turn into the [user] turn"
            refuse(tokenizer, "that keeps the text of the [system] turn", "one that drops or changes it", way_out)
    finished = render_finished(tokenizer, template, _QUESTION, _ANSWER)
    if _ANSWER not in finished:
        refuse(tokenizer, "that keeps the characters of an answer", f"{finished[-300:]!r} for {_ANSWER!r}")
    return dataclasses.replace(rendered, end_token=_end_token(tokenizer, finished.rpartition(_ANSWER)[2]))


def _end_token(tokenizer: PreTrainedTokenizerBase, behind: str) -> int:
    """The special token that the text after an answer starts with, blanks aside, or the end-of-text token."""
    special = set(tokenizer.all_special_ids)
    special.update(index for index, token in tokenizer.added_tokens_decoder.items() if token.special)
    ids, offsets = tokenize_text(tokenizer, behind)
    for token, (left, _) in zip(ids, offsets, strict=True):
        if token in special:
            return token if not behind[:left].strip() else int(tokenizer.eos_token_id)
    return int(tokenizer.eos_token_id)


def departures(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, *, thinking: bool = False
) -> tuple[str, ...]:
    """How the chat template writes a finished answer otherwise than a student learns it: sentences, none if equally.

    Args:
        tokenizer: the student's.
        template: the prompt.
        thinking: whether answers contain thinking.

    Raises:
        TokenizerError: as `render_student`.
    """
    if not template.is_chat:
        return ()
    opened = render_student(tokenizer, template).full(_QUESTION, "")
    found = template_changes(tokenizer)
    before = render_finished(tokenizer, template, _QUESTION, _ANSWER).rpartition(_ANSWER)[0]
    if before != opened:
        pairs = enumerate(zip(before, opened, strict=False))
        shared = next((i for i, (a, b) in pairs if a != b), min(len(before), len(opened)))
        found.append(
            f"the chat template starts a finished answer with {before[shared:]!r} where its generation prompt has "
            f"{opened[shared:]!r}; the student learns and answers after the generation prompt"
            + (_MAY_BE_EQUAL if "enable_thinking" in str(tokenizer.chat_template) else "")
        )
    thought = join_thinking("THOUGHT-51c2", _ANSWER)
    if thinking and thought not in render_finished(tokenizer, template, _QUESTION, thought):
        found.append(
            "the chat template drops or moves the thinking of a finished answer; the student learns it where it writes "
            "it, after the generation prompt"
        )
    return tuple(found)


def row_problem(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, question: str, completion: str) -> str:
    """Why a row cannot be learned in a chat: one of the reasons of this module; empty if it can, or for a text.

    Thinking that the template drops from a finished answer is not a problem; see `departures`.

    Raises:
        TokenizerError: as `render_student`.
    """
    if not template.is_chat:
        return ""
    if render_prompt(tokenizer, template.ask(question)) != render_student(tokenizer, template).prompt(question):
        return QUESTION_CHANGED
    finished = render_finished(tokenizer, template, question, completion)
    if completion not in finished and not split_thinking(completion).thinking:
        return ANSWER_CHANGED
    controls = control_tokens(tokenizer)
    pieces = ((question, controls.of_questions), (completion, controls.of_answers))
    if any(not some.keys().isdisjoint(tokenize_plainly(tokenizer, text, some)[0]) for text, some in pieces):
        return CONTROL
    return ""


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, rendered: PromptTemplate, question: str) -> Tokens:
    """The tokens of a rendered chat up to the answer, as in training and at a test.

    They are those of the text as a whole. If the question would become a control token, it is tokenized by itself.

    Args:
        tokenizer: the student's.
        rendered: from `render_student`.
        question: the question.
    """
    return tokenize_chat(tokenizer, rendered.prompt(question), data_parts(tokenizer, rendered, question))
