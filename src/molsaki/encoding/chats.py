"""Chats as text, rendered with the tokenizer's chat template.

A rendered chat is a template like any other: text, question, text. So attention is read in the prompt that the model
decodes from, with the completion where the model would have written it.

Some chat templates print the date. A prompt has the date that they print, so that a run that continues on another day
has the same tokens, and fingerprints are of the template and not of a day.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

from molsaki.encoding.chat_template import ANY_DATE, WAY_OUT, apply_chat_template, refuse
from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.encoding.template_changes import open_turn, roles_in_parts
from molsaki.errors import TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_STAND_IN = "QUESTION-f3b1c09e"
_ANSWER = "{answer}"
_WRITTEN = "COMPLETION-7d40aa52"


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
    """The prompt as the text that a model with this tokenizer decodes from.

    Raises:
        TokenizerError: as `render_template`.
    """
    return prompt.text if prompt.template is None else _render(tokenizer, prompt.template, prompt.question)[0]


def render_template(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> PromptTemplate:
    """The template as plain text: itself, or its chat rendered with an open turn of the assistant at its end.

    Raises:
        TokenizerError: the tokenizer has no chat template, or one that fails, that has no generation prompt (the start
            of the assistant's turn), that changes the question, or that takes messages only as lists of parts (see
            `molsaki.encoding.template_changes.adapt_chat_template`).
    """
    if not template.is_chat:
        return template
    # The answer is filled in afterwards, so that no answer has a rendering of its own.
    rendered = _rendered(tokenizer, str(tokenizer.chat_template), dataclasses.replace(template, answer=None))
    return dataclasses.replace(rendered, answer=template.answer)


@lru_cache(maxsize=16)
def _rendered(tokenizer: PreTrainedTokenizerBase, _: str, template: PromptTemplate) -> PromptTemplate:
    _require_texts(tokenizer, template)
    text, gap = _render(tokenizer, template, _STAND_IN)
    if text.count(_STAND_IN) != 1:
        refuse(tokenizer, "that has the question once, unchanged", f"it {text.count(_STAND_IN)} times")
    before, after = text.split(_STAND_IN)
    if after.count(_ANSWER) != template.after.count(_ANSWER):
        refuse(tokenizer, "that keeps `{answer}`", f"{after[-300:]!r}")
    gap = gap or _blanks_before_answer(tokenizer, template, text)
    return PromptTemplate(before, after, gap, template.slot, special_tokens=False)


def _require_texts(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> None:
    used = {"assistant", *(turn.role for turn in template.ask(_STAND_IN).messages)}
    if roles := [role for role in roles_in_parts(tokenizer) if role in used]:
        expected = f"that writes the text of each turn ({', '.join(roles)})"
        way_out = "call `molsaki.encoding.template_changes.adapt_chat_template(tokenizer)` first"
        refuse(tokenizer, expected, "one that writes it only if it is a list of parts", way_out)


def _blanks_before_answer(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, opened: str) -> str:
    """The blanks that a finished answer has after the generation prompt, as after the `Assistant:` of Idefics."""
    try:
        finished = render_finished(tokenizer, template, _STAND_IN, _WRITTEN)
    except TokenizerError:
        return ""
    blanks = finished.partition(_WRITTEN)[0].removeprefix(opened)
    return "" if blanks.strip(" \t") else blanks


def describe_prompt(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> str:
    """The text that a template comes to, for fingerprints: the same on every day.

    Raises:
        TokenizerError: as `render_template`.
    """
    return str(render_template(tokenizer, dataclasses.replace(template, date=ANY_DATE)))


def keeps_completions(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> bool:
    """Whether the chat template renders a finished answer unchanged after its generation prompt.

    Some templates start the assistant's turn with an empty thought that a finished turn does not have, or drop part of
    the answer. Attention is then read in another text than the one that the model decodes.

    Raises:
        TokenizerError: as `render_template`.
    """
    if not template.is_chat:
        return True
    finished = render_finished(tokenizer, template, _STAND_IN, _WRITTEN)
    return finished.startswith(render_template(tokenizer, template).full(_STAND_IN, _WRITTEN))


def render_finished(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, question: str, completion: str
) -> str:
    """The chat with the assistant's turn as the chat template writes it afterwards.

    Raises:
        TokenizerError: the tokenizer has no chat template, or one that fails.
    """
    prompt = template.ask(question)
    turns = [*prompt.as_messages(), {"role": "assistant", "content": completion}]
    return apply_chat_template(tokenizer, turns, template.date, generation_prompt=False)


def _render(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, question: str) -> tuple[str, str]:
    """The chat up to the completion, and the blanks between the two.

    A template without a generation prompt is suitable if an answer directly follows the user's turn, blanks aside, as
    after the `[/INST]` of Llama 2 and Mistral.
    """
    turns = template.ask(question).as_messages()
    text = apply_chat_template(tokenizer, turns, template.date, generation_prompt=True)
    if text != apply_chat_template(tokenizer, turns, template.date, generation_prompt=False):
        return text, ""
    finished = render_finished(tokenizer, template, question, _WRITTEN)
    before, written, _ = finished.partition(_WRITTEN)
    if not written or before.rstrip() != text.rstrip():
        way_out = WAY_OUT
        if written and before.startswith(text):
            way_out = f"add {open_turn(before[len(text) :])} to the end of the chat template"
        refuse(tokenizer, "with a generation prompt, the start of the assistant's turn", "one without", way_out)
    kept = before.rstrip(" \t")
    return kept, before[len(kept) :]
