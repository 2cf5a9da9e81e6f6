"""Text that cannot write the control tokens of a chat.

A question may contain `<|im_end|>`, which a tokenizer turns into the token that ends a turn. Such text is cut inside
each of these strings and tokenized piece by piece, so that it becomes ordinary tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from molsaki.answers.thinking import HALF_MARKS, is_thinking_tag
from molsaki.encoding.prompts import PromptTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = tuple[list[int], list[tuple[int, int]]]
"""Token ids and the (start, end) characters of each."""


@dataclass(frozen=True, slots=True)
class ControlTokens:
    """The tokens that text must not become: their strings by id.

    Attributes:
        of_questions: special tokens, and added tokens that the chat template writes, such as `<think>`.
        of_answers: special tokens that are not thinking tags, since a student writes its own thinking.
    """

    of_questions: Mapping[int, str]
    of_answers: Mapping[int, str]


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> ControlTokens:
    """The control tokens of a tokenizer and its chat template."""
    return _control_tokens(tokenizer, str(tokenizer.chat_template))


@lru_cache(maxsize=16)
def _control_tokens(tokenizer: PreTrainedTokenizerBase, chat_template: str) -> ControlTokens:
    added = {i: token for i, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    special = {i: token.content for i, token in added.items() if token.special}
    written = {i: token.content for i, token in added.items() if token.content in chat_template}
    answers = {i: content for i, content in special.items() if not is_thinking_tag(content)}
    return ControlTokens(special | written, answers)


def thinking_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The special tokens that mark a model's thinking, such as `[THINK]` or the channels of gpt-oss; often none."""
    special = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    whole = {i for i, content in special.items() if is_thinking_tag(content)}
    if not whole and not {"<|channel|>", "<|channel>"} & set(special.values()):
        return frozenset()
    return frozenset(whole | {i for i, content in special.items() if content in HALF_MARKS})


def decode_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[Sequence[int]]) -> list[str]:
    """The texts of completions, without special tokens but those that mark thinking."""
    marks = thinking_tokens(tokenizer)
    hidden = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} - marks
    shown = [[token for token in row if token not in hidden] if marks else list(row) for row in answers]
    texts: list[str] = tokenizer.batch_decode(shown, skip_special_tokens=not marks, clean_up_tokenization_spaces=False)
    return texts


def tokenize_text(tokenizer: PreTrainedTokenizerBase, text: str, start: int = 0) -> Tokens:
    """Tokenize a text as it is, without the tokenizer's special tokens around it.

    Args:
        tokenizer: a fast one.
        text: the text.
        start: the index of its first character in the text that offsets count in.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return encoded["input_ids"], [(left + start, right + start) for left, right in encoded["offset_mapping"]]


def tokenize_plainly(
    tokenizer: PreTrainedTokenizerBase, text: str, controls: Mapping[int, str], start: int = 0
) -> Tokens:
    """As `tokenize_text`, but no part of the text becomes a control token of two or more characters.

    Args:
        tokenizer: a fast one.
        text: the text.
        controls: the control tokens.
        start: the index of its first character in the text that offsets count in.
    """
    cuts = sorted({place + 1 for content in set(controls.values()) for place in _places(text, content)})
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    for left, right in zip([0, *cuts], [*cuts, len(text)], strict=True):
        more, places = tokenize_text(tokenizer, text[left:right], start + left)
        ids += more
        offsets += places
    return ids, offsets


@dataclass(frozen=True, slots=True)
class DataPart:
    """A part of a rendered chat that is data, such as a question: its characters, and what it must not become.

    Attributes:
        start, end: its characters in the text of the chat.
        controls: the control tokens.
    """

    start: int
    end: int
    controls: Mapping[int, str]

    def has_control(self, tokens: Tokens) -> bool:
        """Whether one of the text's tokens in this part is a control token."""
        ids, offsets = tokens
        pairs = zip(ids, offsets, strict=True)
        return any(i in self.controls and left < self.end and right > self.start for i, (left, right) in pairs)


def data_parts(
    tokenizer: PreTrainedTokenizerBase, rendered: PromptTemplate, question: str, completion: str | None = None
) -> list[DataPart]:
    """The data in a rendered chat: the question, the answer if one is given, and the completion if there is one."""
    controls, start = control_tokens(tokenizer), rendered.question_start
    parts = [DataPart(start, start + len(question), controls.of_questions)]
    given = rendered.given_place(question)
    if given is not None:
        parts.append(DataPart(*given, controls.of_questions))
    if completion is not None:
        start = rendered.completion_start(question)
        parts.append(DataPart(start, start + len(completion), controls.of_answers))
    return parts


def tokenize_chat(tokenizer: PreTrainedTokenizerBase, text: str, parts: Sequence[DataPart]) -> Tokens:
    """The tokens of a rendered chat as a whole; a part that would have a control token is tokenized by itself, plainly.

    Args:
        tokenizer: a fast one.
        text: the rendered chat.
        parts: in the order of the text.
    """
    whole = tokenize_text(tokenizer, text)
    hostile = [part for part in parts if part.has_control(whole)]
    if not hostile:
        return whole
    pieces: list[Tokens] = []
    done = 0
    for part in hostile:
        pieces.append(tokenize_text(tokenizer, text[done : part.start], done))
        pieces.append(tokenize_plainly(tokenizer, text[part.start : part.end], part.controls, part.start))
        done = part.end
    pieces.append(tokenize_text(tokenizer, text[done:], done))
    return [token for ids, _ in pieces for token in ids], [place for _, places in pieces for place in places]


def _places(text: str, content: str) -> list[int]:
    """Where a string of two or more characters starts in a text, overlapping ones too."""
    places: list[int] = []
    place = text.find(content) if len(content) > 1 else -1
    while place >= 0:
        places.append(place)
        place = text.find(content, place + 1)
    return places
