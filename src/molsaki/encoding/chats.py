"""Chats as text, rendered with the tokenizer's chat template.

A rendered chat is a template like any other: text, question, text. So attention is read in the prompt that the model
decodes from, with the completion where the model would have written it.

Some chat templates print the date. A prompt has the date that they print, so that a run that goes on another day has
the same tokens, and fingerprints are of the template and not of a day.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.errors import TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_STAND_IN = "QUESTION-f3b1c09e"
_ANSWER = "{answer}"
_ADDED = "{#- generation prompt added by molsaki #}"
_WRITTEN = "COMPLETION-7d40aa52"
_ANY_DATE = datetime.date(2000, 1, 1)
_DIRECTIVES = tuple(f"%{letter}" for letter in ("-d", "-m", *"aAbBcdDeFHIjmMpSTuUwWxXyYZ"))
# transformers gives no function to a template, so the date comes as texts, and a macro hides its function.
_PINNED_DATE = (
    "{%- macro strftime_now(format) -%}{%- set pinned = namespace(text=format) -%}"
    "{%- for directive, shown in pinned_date.items() -%}"
    "{%- set pinned.text = pinned.text | replace(directive, shown) -%}{%- endfor -%}"
    "{{- pinned.text -}}{%- endmacro %}{{ '' }}"
)


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
            of the assistant's turn), or that changes the question.
    """
    if not template.is_chat:
        return template
    # The answer is filled in afterwards, so that no answer has a rendering of its own.
    rendered = _rendered(tokenizer, str(tokenizer.chat_template), dataclasses.replace(template, answer=None))
    return dataclasses.replace(rendered, answer=template.answer)


@lru_cache(maxsize=16)
def _rendered(tokenizer: PreTrainedTokenizerBase, _: str, template: PromptTemplate) -> PromptTemplate:
    text, gap = _render(tokenizer, template, _STAND_IN)
    if text.count(_STAND_IN) != 1:
        refuse(tokenizer, "that has the question once, unchanged", f"it {text.count(_STAND_IN)} times")
    before, after = text.split(_STAND_IN)
    if after.count(_ANSWER) != template.after.count(_ANSWER):
        refuse(tokenizer, "that keeps `{answer}`", f"{after[-300:]!r}")
    return PromptTemplate(before, after, gap, template.slot, special_tokens=False)


def describe_prompt(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> str:
    """The text that a template comes to, for fingerprints: the same on every day.

    Raises:
        TokenizerError: as `render_template`.
    """
    return str(render_template(tokenizer, dataclasses.replace(template, date=_ANY_DATE)))


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
    return _apply(tokenizer, turns, template.date, generation_prompt=False)


def set_chat_defaults(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Give a tokenizer's chat template default values of its variables, such as `enable_thinking`.

    They are written into the template, so that a student that is saved with the tokenizer has them too. A caller of
    `apply_chat_template` can still pass other values.

    Args:
        tokenizer: its chat template is changed.
        arguments: JSON values by the names of variables.

    Raises:
        TokenizerError: the tokenizer has no chat template, or one that does not read a variable of this name.
    """
    if not arguments:
        return
    if tokenizer.chat_template is None:
        refuse(tokenizer, "for `chat_template_kwargs`", "none")
    for name in arguments:
        if not re.search(rf"\b{re.escape(name)}\b", str(tokenizer.chat_template)):
            refuse(tokenizer, f"that reads {name!r}, of `chat_template_kwargs`", "one without that name")
    defaults = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {_as_jinja(value)} %}}{{%- endif %}}"
        for name, value in arguments.items()
    )
    before = f"{defaults}{{{{ '' }}}}"  # jinja drops a line break after a block, not after a value
    template: Any = tokenizer.chat_template
    if isinstance(template, str):
        tokenizer.chat_template = before + template
    else:
        tokenizer.chat_template = {name: before + text for name, text in template.items()}


def add_generation_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a chat template without a generation prompt the text that it writes before a finished answer.

    It is written into the template, so that programs ask a student that is saved with the tokenizer as it was trained.
    A template that has a generation prompt, needs none, or fails is left as it is.

    Args:
        tokenizer: its chat template is changed.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str):
        return
    turns = [{"role": "user", "content": _STAND_IN}]
    try:
        asked, plain = (_apply(tokenizer, turns, _ANY_DATE, generation_prompt=given) for given in (True, False))
        answered = [*turns, {"role": "assistant", "content": _WRITTEN}]
        before = _apply(tokenizer, answered, _ANY_DATE, generation_prompt=False).partition(_WRITTEN)[0]
    except TokenizerError:
        return
    opening = before.removeprefix(plain)
    if asked == plain and before != opening and opening.strip():
        tokenizer.chat_template = f"{template}{_ADDED}{_open_turn(opening)}"


def has_added_prompt(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether `add_generation_prompt` changed the tokenizer's chat template."""
    return _ADDED in str(tokenizer.chat_template)


def _as_jinja(value: Any) -> str:
    """A JSON value as a literal of jinja, which reads `none`, `{"a": 1}` and a string's escapes as Python does."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {_as_jinja(item)}" for name, item in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_jinja, value)) + "]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _render(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, question: str) -> tuple[str, str]:
    """The chat up to the completion, and the blanks between the two.

    A template without a generation prompt is suitable if an answer directly follows the user's turn, blanks aside, as
    behind the `[/INST]` of Llama 2 and Mistral.
    """
    turns = template.ask(question).as_messages()
    text = _apply(tokenizer, turns, template.date, generation_prompt=True)
    if text != _apply(tokenizer, turns, template.date, generation_prompt=False):
        return text, ""
    finished = render_finished(tokenizer, template, question, _WRITTEN)
    before, written, _ = finished.partition(_WRITTEN)
    if not written or before.rstrip() != text.rstrip():
        way_out = _WAY_OUT
        if written and before.startswith(text):
            way_out = f"add {_open_turn(before[len(text) :])} to the end of the chat template"
        refuse(tokenizer, "with a generation prompt, the start of the assistant's turn", "one without", way_out)
    kept = before.rstrip(" \t")
    return kept, before[len(kept) :]


def _open_turn(opening: str) -> str:
    return f"{{%- if add_generation_prompt %}}{{{{- {_as_jinja(opening)} }}}}{{%- endif %}}"


def _apply(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, str]],
    date: datetime.date | None,
    *,
    generation_prompt: bool,
) -> str:
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        refuse(tokenizer, "for a prompt that is a chat", "none")
    arguments: dict[str, Any] = {"tokenize": False, "add_generation_prompt": generation_prompt}
    try:
        chosen = tokenizer.get_chat_template()
        if date is not None and "strftime_now" in chosen:
            shown = {directive: date.strftime(directive) for directive in _DIRECTIVES}
            arguments |= {"chat_template": _PINNED_DATE + chosen, "pinned_date": shown}
        return str(tokenizer.apply_chat_template(list(messages), **arguments))
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        if messages[0]["role"] == "system" and _takes(tokenizer, messages[1:], arguments):
            way_out = "write the text of the [system] turn into the [user] turn"
            refuse(tokenizer, "that takes a [system] turn", f"an error: {error}", way_out)
        refuse(tokenizer, "that renders the turns of the prompt", f"an error: {error}")


def _takes(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], arguments: Mapping[str, Any]
) -> bool:
    from jinja2 import TemplateError

    try:
        return bool(tokenizer.apply_chat_template(list(messages), **arguments))
    except (TemplateError, TypeError, ValueError, KeyError):
        return False


_WAY_OUT = "use a prompt without [user] and [assistant] turns, or a model with another chat template"


def refuse(tokenizer: PreTrainedTokenizerBase, expected: str, got: str, way_out: str = _WAY_OUT) -> NoReturn:
    """Raise a `TokenizerError` about the tokenizer's chat template."""
    raise TokenizerError(
        f"Expected the tokenizer of {tokenizer.name_or_path!r} to have a chat template {expected}; got {got}. The "
        f"model would read another prompt than the recipe's, so nothing was sent or trained; {way_out}."
    )
