"""What molsaki writes into a chat template: default values, a generation prompt, messages as lists of parts.

A change is part of the template, so that programs ask a student that is saved with the tokenizer as it was trained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from molsaki.encoding.chat_template import ANY_DATE, apply_chat_template, refuse
from molsaki.errors import TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ADDED_PROMPT = (
    "the chat template has no generation prompt, the start of the assistant's turn; the text with which it starts a "
    "finished answer is added to it, and a student is saved with that template"
)
ADDED_PARTS = (
    "the chat template writes a message only if its content is a list of parts, [{type: text, text: …}]; lines that "
    "turn a text into such a list are added to it, and a student is saved with that template"
)
_QUESTION, _ANSWER, _SYSTEM = "QUESTION-f3b1c09e", "ANSWER-7d40aa52", "SYSTEM-2b9e61d8"
_MARKS = {
    "{#- generation prompt added by molsaki #}": ADDED_PROMPT,
    "{#- lists of parts added by molsaki #}": ADDED_PARTS,
}
_PROMPT_MARK, _PARTS_MARK = _MARKS
_EMPTY = "{{ '' }}"
"""What keeps the line break at a template's start, which jinja drops after a block and not after a value."""


def template_changes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What `add_generation_prompt` and `take_texts` wrote into the chat template, one sentence each."""
    return [sentence for mark, sentence in _MARKS.items() if mark in str(tokenizer.chat_template)]


def set_chat_defaults(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Give a tokenizer's chat template default values of its variables, such as `enable_thinking`.

    A caller of `apply_chat_template` can still pass other values.

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
    _change(tokenizer, lambda template: f"{defaults}{_EMPTY}{template}")


def adapt_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make a chat template suitable where that is possible: `take_texts`, then `add_generation_prompt`."""
    take_texts(tokenizer)
    add_generation_prompt(tokenizer)


def take_texts(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a chat template take texts that takes a message's content only as a list of parts.

    Many templates of models that read images are such: a text is dropped, written letter by letter, or an error. Each
    role is tried; where only a list of parts is written, the template turns a text of that role into such a list. A
    template that takes texts, or fails in both forms, is left as it is.

    Args:
        tokenizer: its chat template is changed.
    """
    roles = roles_in_parts(tokenizer)
    if roles:
        _change(tokenizer, lambda template: f"{_PARTS_MARK}{_make_parts(roles)}{_EMPTY}{template}")


def roles_in_parts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The roles whose messages a chat template writes only if their content is a list of parts."""
    user, assistant = {"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}
    tried = {
        "user": ([user], _QUESTION),
        "assistant": ([user, assistant], _ANSWER),
        "system": ([{"role": "system", "content": _SYSTEM}, user], _SYSTEM),
    }
    roles: list[str] = []
    for role, (turns, text) in tried.items():
        if not _writes(tokenizer, turns, text, roles) and _writes(tokenizer, turns, text, [*roles, role]):
            roles.append(role)
    return roles


def _writes(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]], text: str, roles: Sequence[str]
) -> bool:
    """Whether the chat template writes a text, with the content of some roles as parts."""
    parts = [
        {**turn, "content": [{"type": "text", "text": turn["content"]}]} if turn["role"] in roles else turn
        for turn in turns
    ]
    try:
        written = apply_chat_template(tokenizer, parts, ANY_DATE, generation_prompt=turns[-1]["role"] != "assistant")
    except TokenizerError:
        return False
    before, found, _ = written.partition(text)
    return bool(found) and not before.endswith(("'", '"'))  # a list that is written as Python or JSON has quotes


def _make_parts(roles: Sequence[str]) -> str:
    """The lines of a template that turn texts of some roles into lists of parts."""
    return (
        "{%- set typed = namespace(turns=[]) -%}{%- for turn in messages -%}"
        f"{{%- if turn['role'] in {_as_jinja(list(roles))} and turn['content'] is string -%}}"
        "{%- set turn = dict(turn, content=[{'type': 'text', 'text': turn['content']}]) -%}{%- endif -%}"
        "{%- set typed.turns = typed.turns + [turn] -%}{%- endfor -%}{%- set messages = typed.turns -%}"
    )


def add_generation_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a chat template without a generation prompt the text that it writes before a finished answer.

    A template that has a generation prompt, needs none, or fails is left as it is.

    Args:
        tokenizer: its chat template is changed.
    """
    if not isinstance(tokenizer.chat_template, str):
        return
    turns = [{"role": "user", "content": _QUESTION}]
    try:
        asked, plain = (apply_chat_template(tokenizer, turns, ANY_DATE, generation_prompt=on) for on in (True, False))
        answered = [*turns, {"role": "assistant", "content": _ANSWER}]
        before = apply_chat_template(tokenizer, answered, ANY_DATE, generation_prompt=False).partition(_ANSWER)[0]
    except TokenizerError:
        return
    opening = before.removeprefix(plain)
    if asked == plain and before != opening and opening.strip():
        _change(tokenizer, lambda template: f"{template}{_PROMPT_MARK}{open_turn(opening)}")


def open_turn(opening: str) -> str:
    """The lines of a template that write the start of the assistant's turn where it is asked for."""
    return f"{{%- if add_generation_prompt %}}{{{{- {_as_jinja(opening)} }}}}{{%- endif %}}"


def _change(tokenizer: PreTrainedTokenizerBase, change: Callable[[str], str]) -> None:
    """Change the chat template, or each of several that have names."""
    template: Any = tokenizer.chat_template
    if isinstance(template, str):
        tokenizer.chat_template = change(template)
    else:
        tokenizer.chat_template = {name: change(text) for name, text in template.items()}


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
