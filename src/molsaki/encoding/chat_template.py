"""A tokenizer's chat template, run on the turns of a conversation.

Some chat templates print the date. They are given one, so that a run that continues on another day has the same tokens.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from molsaki.errors import TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANY_DATE = datetime.date(2000, 1, 1)
_DIRECTIVES = tuple(f"%{letter}" for letter in ("-d", "-m", *"aAbBcdDeFHIjmMpSTuUwWxXyYZ"))
# transformers gives no function to a template, so the date comes as texts, and a macro hides its function.
_PINNED_DATE = (
    "{%- macro strftime_now(format) -%}{%- set pinned = namespace(text=format) -%}"
    "{%- for directive, shown in pinned_date.items() -%}"
    "{%- set pinned.text = pinned.text | replace(directive, shown) -%}{%- endfor -%}"
    "{{- pinned.text -}}{%- endmacro %}{{ '' }}"
)
# A template is a program: it can divide by zero or call itself without end.
_ERRORS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
WAY_OUT = "use a prompt without [user] and [assistant] turns, or a model with another chat template"


def apply_chat_template(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    date: datetime.date | None,
    *,
    generation_prompt: bool,
) -> str:
    """A conversation as text.

    Args:
        tokenizer: has the chat template.
        messages: the turns, each with a `role` and a `content`.
        date: the date that the template prints; None for today's.
        generation_prompt: whether the text ends with the start of the assistant's turn.

    Raises:
        TokenizerError: there is no chat template, or it fails.
    """
    if tokenizer.chat_template is None:
        refuse(tokenizer, "for a prompt that is a chat", "none")
    arguments: dict[str, Any] = {"tokenize": False, "add_generation_prompt": generation_prompt}
    try:
        chosen = tokenizer.get_chat_template()
    except ValueError as reason:  # several templates, none of them the default
        refuse(tokenizer, "by the name `default`", f"an error: {reason}")
    if date is not None and "strftime_now" in chosen:
        shown = {directive: date.strftime(directive) for directive in _DIRECTIVES}
        arguments |= {"chat_template": _PINNED_DATE + chosen, "pinned_date": shown}
    text, error = _run(tokenizer, messages, arguments)
    if error and messages[0]["role"] == "system" and not _run(tokenizer, messages[1:], arguments)[1]:
        way_out = "write the text of the [system] turn into the [user] turn"
        refuse(tokenizer, "that takes a [system] turn", f"an error: {error}", way_out)
    if error:
        refuse(tokenizer, "that renders the turns of the prompt", f"an error: {error}")
    return text


def _run(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]
) -> tuple[str, str]:
    """The text and an error's message, one of which is empty."""
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template([dict(turn) for turn in messages], **arguments)), ""
    except (TemplateError, *_ERRORS) as error:
        return "", str(error) or type(error).__name__


def refuse(tokenizer: PreTrainedTokenizerBase, expected: str, got: str, way_out: str = WAY_OUT) -> NoReturn:
    """Raise a `TokenizerError` about the tokenizer's chat template."""
    raise TokenizerError(
        f"Expected the tokenizer of {tokenizer.name_or_path!r} to have a chat template {expected}; got {got}. The "
        f"model would read another prompt than the recipe's, so nothing was sent or trained; {way_out}."
    )
