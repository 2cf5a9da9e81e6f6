"""A row's prompt and completion as tokens, for a training loop of your own: two texts, or turns of a chat.

A chat has the tokens and labels that TRL's `SFTTrainer` gives it: the chat template renders the prompt alone and the
whole conversation, and the completion starts at the first token in which the two differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from molsaki.encoding.encode import IGNORED, tokenize_prompt
from molsaki.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMS = "the texts `prompt` and `completion`, the same as lists of messages, or a list of `messages`"


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A row as tokens.

    Attributes:
        input_ids: token ids.
        labels: the token ids of the completion, after `IGNORED` for each token of the prompt.
        offsets: the (start, end) characters of each token in `prompt + completion`.
        prompt, completion: the texts; of a chat, as the chat template renders them.
        prompt_changed: whether the chat template renders the end of the prompt otherwise if an answer follows.
    """

    input_ids: Sequence[int]
    labels: Sequence[int]
    offsets: Sequence[tuple[int, int]]
    prompt: str
    completion: str
    prompt_changed: bool = False


def encode_row(tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], special_tokens: bool) -> EncodedRow:
    """Tokenize a row.

    Args:
        tokenizer: a fast one.
        row: in one of the `FORMS`. Of `messages`, the last one is the completion. A chat may have `tools` and
            `chat_template_kwargs`, as in TRL.
        special_tokens: let the tokenizer add its special tokens to a prompt that is a text.

    Raises:
        InputError: the row has another form, or the chat template fails.
    """
    prompt, completion = row.get("prompt"), row.get("completion")
    messages = row.get("messages")
    if isinstance(prompt, str) and isinstance(completion, str):
        return _encode_texts(tokenizer, prompt, completion, special_tokens)
    if _is_chat(prompt) and _is_chat(completion):
        return _encode_chat(tokenizer, row, prompt, completion)
    if prompt is None and completion is None and _is_chat(messages) and len(messages) > 1:
        return _encode_chat(tokenizer, row, messages[:-1], messages[-1:])
    fields = {str(name): type(value).__name__ for name, value in row.items()}
    raise InputError(
        f"Expected a row with {FORMS}; row {row.get('id')!r} has the fields {fields}. The batch was not built; add "
        "what is missing."
    )


def _is_chat(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def _encode_texts(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str, special_tokens: bool) -> EncodedRow:
    first, offsets = tokenize_prompt(tokenizer, prompt, special_tokens)
    second = tokenizer(completion, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    # Offsets of the completion count from the end of the prompt, as if both were one text.
    shift = len(prompt)
    behind = [(left + shift, right + shift) for left, right in second["offset_mapping"]]
    ids = [*first, *second["input_ids"], tokenizer.eos_token_id]
    return EncodedRow(ids, _labels(ids, len(first)), [*offsets, *behind, (0, 0)], prompt, completion)


def _encode_chat(
    tokenizer: PreTrainedTokenizerBase,
    row: Mapping[str, Any],
    prompt: list[dict[str, Any]],
    completion: list[dict[str, Any]],
) -> EncodedRow:
    asked = _tokenize(tokenizer, _render(tokenizer, row, prompt, generation_prompt=True))
    text = _render(tokenizer, row, [*prompt, *completion], generation_prompt=False)
    whole = _tokenize(tokenizer, text)
    ids, offsets = whole["input_ids"], whole["offset_mapping"]
    start = _common_length(asked["input_ids"], ids)
    boundary = offsets[start][0] if start < len(ids) else len(text)
    changed = start < len(asked["input_ids"])
    return EncodedRow(ids, _labels(ids, start), offsets, text[:boundary], text[boundary:], changed)


def _render(
    tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], turns: list[dict[str, Any]], *, generation_prompt: bool
) -> str:
    from jinja2 import TemplateError

    tools = row.get("tools")
    try:
        return str(
            tokenizer.apply_chat_template(
                turns,
                tools=json.loads(tools) if isinstance(tools, str) else tools,
                add_generation_prompt=generation_prompt,
                tokenize=False,
                **(row.get("chat_template_kwargs") or {}),
            )
        )
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"Expected a chat that the chat template of {tokenizer.name_or_path!r} renders; row {row.get('id')!r} "
            f"gives an error: {error}. The batch was not built; change the row, set `tokenizer.chat_template`, or "
            "render the chat yourself and give its two texts."
        ) from error


def _tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> Mapping[str, Any]:
    """A rendered chat as tokens: it has its special tokens already."""
    found: Mapping[str, Any] = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return found


def _common_length(one: Iterable[int], other: Iterable[int]) -> int:
    """The number of tokens that two sequences begin with alike."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length


def _labels(ids: Sequence[int], start: int) -> list[int]:
    return [IGNORED] * start + list(ids[start:])
