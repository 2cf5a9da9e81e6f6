"""From text to tokens, for the student and for the teacher, with the same steps and keys on both sides.

Steps and keys are character spans of the question and the rationale, which both models share. An encoded text keeps
the characters that each token covers in the full text (prompt, question and completion together), so that the spans
can be aligned with the tokens of any prompt and tokenizer.

The student's prompt and completion are tokenized separately, so that training and decoding use the same prompt
tokens. A chat is rendered with the student's chat template, and its completion ends with the end of the turn. The
teacher's text is tokenized as a whole, as the teacher would have written it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.encoding.chats import render_template
from molsaki.encoding.control_tokens import control_tokens, data_parts, tokenize_chat, tokenize_plainly
from molsaki.encoding.prompts import PromptTemplate
from molsaki.encoding.student_chats import prompt_tokens, render_student
from molsaki.errors import TokenizerError
from molsaki.records import hash_text
from molsaki.spans.align import Alignment, align_spans
from molsaki.spans.find import Spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token without a loss."""
NO_CHARACTERS = (0, 0)
"""The offsets of a special token."""


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A prompt and its completion as tokens.

    Attributes:
        input_ids: token ids.
        offsets: the (start, end) characters of each token in the full text; `NO_CHARACTERS` for special tokens.
        completion_token: index of the completion's first token.
        question_start, completion_start: index of the first character of each in the full text.
        cut_tokens: number of tokens that were cut off at the end.
        has_control: of a chat that is read, whether the question or the completion has a control token of the chat.
    """

    input_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    completion_token: int
    question_start: int
    completion_start: int
    cut_tokens: int
    has_control: bool = False

    @property
    def labels(self) -> tuple[int, ...]:
        """The token ids of the completion, after `IGNORED` for each token of the prompt."""
        return (IGNORED,) * self.completion_token + self.input_ids[self.completion_token :]

    def align(self, spans: Spans) -> Alignment:
        """The step and the key of each token."""
        return align_spans(
            spans,
            self.offsets,
            question_start=self.question_start,
            rationale_start=self.completion_start,
            truncated=self.cut_tokens > 0,
        )


def require_offsets(tokenizer: PreTrainedTokenizerBase, end: bool = True) -> None:
    """Check that a tokenizer returns the characters that each token covers.

    Args:
        tokenizer: the tokenizer.
        end: check that it has an end-of-text token too.

    Raises:
        TokenizerError: it is a slow tokenizer, or has no end-of-text token.
    """
    if not tokenizer.is_fast:
        raise TokenizerError(
            f"Expected a fast tokenizer, which returns the characters of each token; {type(tokenizer).__name__} of "
            f"{tokenizer.name_or_path!r} is slow. Steps and keys cannot be aligned with its tokens; use the fast "
            "version (a directory with tokenizer.json) or convert it."
        )
    if end and tokenizer.eos_token_id is None:
        raise TokenizerError(
            f"Expected a tokenizer with an end-of-text token; {tokenizer.name_or_path!r} has none. A student would not "
            "learn where to stop; set tokenizer.eos_token."
        )


def appended_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    """The number of special tokens that a tokenizer puts behind a text, such as the end token of `add_eos_token`.

    Behind a prompt they would tell the model that nothing follows.
    """
    plain = tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"]
    whole = tokenizer("a", verbose=False)["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return len(whole) - start - len(plain)
    return 0


def tokenize_prompt(
    tokenizer: PreTrainedTokenizerBase, text: str, special_tokens: bool = True
) -> tuple[list[int], list[tuple[int, int]]]:
    """The tokens of a text that is continued, and their characters: with the special tokens before it, none behind it.

    Args:
        tokenizer: a fast one.
        text: the prompt.
        special_tokens: let the tokenizer add its special tokens before the text.
    """
    encoded = tokenizer(text, add_special_tokens=special_tokens, return_offsets_mapping=True, verbose=False)
    end = len(encoded["input_ids"]) - (appended_tokens(tokenizer) if special_tokens else 0)
    return encoded["input_ids"][:end], encoded["offset_mapping"][:end]


def encode_student(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    question: str,
    completion: str,
    max_length: int,
) -> EncodedText:
    """Tokenize prompt and completion separately, and end with the end-of-text token.

    A chat is rendered with the tokenizer's chat template and ends with the token that ends the assistant's turn. Where
    that can be avoided, no part of the question or of the completion becomes a control token of the chat.

    Args:
        tokenizer: the student's.
        template: the prompt; a chat, or one from `render_student`, too.
        question: the problem's text.
        completion: what the student learns to write, such as the label or the rationale.
        max_length: number of tokens to keep; those after them are cut off and counted.

    Raises:
        TokenizerError: the template is a chat for which the tokenizer's chat template is unsuitable; see
            `render_student`.
    """
    rendered = render_student(tokenizer, template)
    if rendered.end_token is not None:
        return _encode_chat(tokenizer, rendered, rendered.end_token, question, completion, max_length)
    prompt = template.prompt(question)
    start = template.completion_start(question)
    first, first_offsets = tokenize_prompt(tokenizer, prompt)
    second = tokenizer(template.gap + completion, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    shift = len(prompt)
    ids = [*first, *second["input_ids"], tokenizer.eos_token_id]
    offsets = [
        *first_offsets,
        *((left + shift, right + shift) for left, right in second["offset_mapping"]),
        NO_CHARACTERS,
    ]
    return _cut(ids, offsets, len(first), template.question_start, start, max_length)


def _encode_chat(
    tokenizer: PreTrainedTokenizerBase,
    rendered: PromptTemplate,
    end_token: int,
    question: str,
    completion: str,
    max_length: int,
) -> EncodedText:
    start, controls = rendered.completion_start(question), control_tokens(tokenizer).of_answers
    first, first_offsets = prompt_tokens(tokenizer, rendered, question)
    behind = len(rendered.prompt(question))
    second, second_offsets = tokenize_plainly(tokenizer, rendered.gap + completion, controls, behind)
    ids, offsets = [*first, *second, end_token], [*first_offsets, *second_offsets, NO_CHARACTERS]
    return _cut(ids, offsets, len(first), rendered.question_start, start, max_length)


def encode_teacher(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    question: str,
    completion: str,
    max_length: int,
) -> EncodedText:
    """Tokenize prompt and completion as one text, as the teacher reads it.

    A chat is rendered with the tokenizer's chat template first. The special tokens are then part of the text, and none
    are added. Where that can be avoided, no part of the question or of the completion becomes a control token of the
    chat.

    Args:
        tokenizer: the teacher's.
        template: the prompt; a chat, or one from `render_template`, too.
        question: the problem's text.
        completion: the rationale.
        max_length: number of tokens to keep; those after them are cut off and counted.

    Raises:
        TokenizerError: the template is a chat that the tokenizer cannot render.
    """
    template = render_template(tokenizer, template)
    text, hostile = template.full(question, completion), False
    if template.special_tokens:
        encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    else:
        parts = data_parts(tokenizer, template, question, completion)
        ids, offsets = tokenize_chat(tokenizer, text, parts)
        hostile = any(part.has_control((ids, offsets)) for part in parts)
    start = template.completion_start(question)
    completion_token = next((i for i, (_, right) in enumerate(offsets) if right > start), len(offsets))
    cut = _cut(ids, offsets, completion_token, template.question_start, start, max_length)
    return dataclasses.replace(cut, has_control=hostile)


def _cut(
    ids: list[int],
    offsets: list[tuple[int, int]],
    completion_token: int,
    question_start: int,
    completion_start: int,
    max_length: int,
) -> EncodedText:
    return EncodedText(
        input_ids=tuple(ids[:max_length]),
        offsets=tuple((left, right) for left, right in offsets[:max_length]),
        completion_token=min(completion_token, max_length),
        question_start=question_start,
        completion_start=completion_start,
        cut_tokens=max(0, len(ids) - max_length),
    )


def context_length(tokenizer: PreTrainedTokenizerBase, config: Any, asked: int | None = None) -> int:
    """Number of tokens that fit: the smallest limit of the model, the tokenizer and the recipe."""
    text_config = config.get_text_config()
    limits = [
        limit
        for limit in (getattr(text_config, "max_position_embeddings", None), tokenizer.model_max_length, asked)
        if limit is not None and limit > 0
    ]
    return int(min(limits)) if limits else 1 << 20


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of everything that decides how a fast tokenizer splits text."""
    return hash_text(tokenizer.backend_tokenizer.to_str())
