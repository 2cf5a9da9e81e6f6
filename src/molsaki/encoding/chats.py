"""Chats as text, rendered with the tokenizer's chat template.

A rendered chat is a template like any other: text, question, text. So attention is read in the prompt that the model
decodes from, with the completion where the model would have written it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.errors import TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_STAND_IN = "QUESTION-f3b1c09e"
_WRITTEN = "COMPLETION-7d40aa52"


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> str:
    """The prompt as the text that a model with this tokenizer decodes from.

    Raises:
        TokenizerError: as `render_template`.
    """
    return _render(tokenizer, prompt.as_messages()) if prompt.messages else prompt.text


def render_template(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> PromptTemplate:
    """The template as plain text: itself, or its chat rendered with an open turn of the assistant at its end.

    Raises:
        TokenizerError: the tokenizer has no chat template, or one that fails, that has no generation prompt (the start
            of the assistant's turn), or that changes the question.
    """
    return _rendered(tokenizer, str(tokenizer.chat_template), template) if template.is_chat else template


@lru_cache(maxsize=16)
def _rendered(tokenizer: PreTrainedTokenizerBase, _: str, template: PromptTemplate) -> PromptTemplate:
    text = _render(tokenizer, template.ask(_STAND_IN).as_messages())
    if text.count(_STAND_IN) != 1:
        _refuse(tokenizer, "that has the question once, unchanged", f"it {text.count(_STAND_IN)} times")
    before, after = text.split(_STAND_IN)
    return PromptTemplate(before, after, "", template.slot, special_tokens=False)


def keeps_completions(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> bool:
    """Whether the chat template renders a finished answer unchanged after its generation prompt.

    Some templates start the assistant's turn with an empty thought that a finished turn does not have, or drop part of
    the answer. Attention is then read in another text than the one that the model decodes.

    Raises:
        TokenizerError: as `render_template`.
    """
    if not template.is_chat:
        return True
    asked = template.ask(_STAND_IN).as_messages()
    opened = _render(tokenizer, asked)
    finished = _apply(tokenizer, [*asked, {"role": "assistant", "content": _WRITTEN}], generation_prompt=False)
    return finished.startswith(opened + _WRITTEN)


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]) -> str:
    text = _apply(tokenizer, messages, generation_prompt=True)
    if text == _apply(tokenizer, messages, generation_prompt=False):
        _refuse(tokenizer, "with a generation prompt, the start of the assistant's turn", "one without")
    return text


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], *, generation_prompt: bool) -> str:
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        _refuse(tokenizer, "for a prompt that is a chat", "none")
    try:
        text: Any = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation_prompt
        )
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        _refuse(tokenizer, "that renders the turns of the prompt", f"an error: {error}")
    return str(text)


def _refuse(tokenizer: PreTrainedTokenizerBase, expected: str, got: str) -> NoReturn:
    raise TokenizerError(
        f"Expected the tokenizer of {tokenizer.name_or_path!r} to have a chat template {expected}; got {got}. The "
        "model would read another prompt than the recipe's, so nothing was sent; use a prompt without [user] and "
        "[assistant] turns, or a model with another chat template."
    )
