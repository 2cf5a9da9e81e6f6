"""From text to tokens, for the student and for the teacher, with the same steps and keys on both sides.

Steps and keys are character spans of the question and the rationale, which both models share. A sequence keeps for
every token the characters it covers in the full text (prompt, question and completion together), so the spans map
to each model's own tokens whatever its prompt and tokenizer are.

The student's prompt and completion are tokenized apart, so that the tokens it is trained on are the tokens it is
asked with. The teacher reads the whole text at once, as it would have written it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.encoding.chats import render_template
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import TokenizerError
from molsaki.records import hash_text
from molsaki.spans.align import SpanAlignment, join_pieces, tokens_of_piece
from molsaki.spans.find import Spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that no loss is taken of."""
NO_CHARACTERS = (0, 0)


@dataclass(frozen=True, slots=True)
class EncodedText:
    """One prompt with its completion as tokens.

    Attributes:
        input_ids: token ids.
        offsets: the characters of the full text that each token covers; (0, 0) for special tokens.
        completion_token: index of the completion's first token.
        question_start, completion_start: where the two shared texts start in the full text, in characters.
        cut_tokens: how many tokens at the end did not fit and are not here.
    """

    input_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    completion_token: int
    question_start: int
    completion_start: int
    cut_tokens: int

    @property
    def labels(self) -> tuple[int, ...]:
        """The completion's tokens, and `IGNORED` for the prompt's."""
        return (IGNORED,) * self.completion_token + self.input_ids[self.completion_token :]

    def map_spans(self, spans: Spans) -> SpanAlignment:
        """Which token belongs to which step and to which key."""
        prompt, completion = self.offsets[: self.completion_token], self.offsets[self.completion_token :]
        pieces = (
            tokens_of_piece(spans, "question", prompt, self.question_start, whole=not self.cut_tokens),
            tokens_of_piece(spans, "rationale", completion, self.completion_start, whole=not self.cut_tokens),
        )
        return join_pieces(spans, pieces)


def require_offsets(tokenizer: PreTrainedTokenizerBase, end: bool = True) -> None:
    """Raise `TokenizerError` for a tokenizer that cannot say which characters a token covers.

    Args:
        tokenizer: the tokenizer.
        end: it must have an end-of-text token too.
    """
    if not tokenizer.is_fast:
        raise TokenizerError(
            f"Expected a fast tokenizer, which gives each token's characters; {type(tokenizer).__name__} of "
            f"{tokenizer.name_or_path!r} is a slow one. Steps and keys cannot be mapped to its tokens; use the fast "
            "version (a directory with tokenizer.json) or convert it."
        )
    if end and tokenizer.eos_token_id is None:
        raise TokenizerError(
            f"Expected a tokenizer with an end-of-text token; {tokenizer.name_or_path!r} has none. A student could "
            "not learn where to stop; set tokenizer.eos_token."
        )


def encode_student(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    question: str,
    completion: str,
    max_length: int,
) -> EncodedText:
    """Tokenize prompt and completion apart and end with the end-of-text token.

    Args:
        tokenizer: the student's.
        template: `predict:` or `explain:`.
        question: the problem's text.
        completion: the label or the rationale.
        max_length: tokens beyond are cut off and counted.
    """
    prompt = template.prompt(question)
    start = template.completion_start(question)
    first = tokenizer(prompt, return_offsets_mapping=True, verbose=False)
    second = tokenizer(template.gap + completion, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    shift = len(prompt)
    ids = [*first["input_ids"], *second["input_ids"], tokenizer.eos_token_id]
    offsets = [
        *first["offset_mapping"],
        *((left + shift, right + shift) for left, right in second["offset_mapping"]),
        NO_CHARACTERS,
    ]
    return _cut(ids, offsets, len(first["input_ids"]), template.question_start, start, max_length)


def encode_teacher(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    question: str,
    completion: str,
    max_length: int,
) -> EncodedText:
    """Tokenize the whole text at once, as the teacher would read and have written it.

    A chat is rendered with the tokenizer's chat template, as the model would be given it; its special tokens are part
    of the text then, and none are added.

    Raises:
        TokenizerError: the template is a chat that the tokenizer cannot render.
    """
    template = render_template(tokenizer, template)
    encoded = tokenizer(
        template.full(question, completion),
        add_special_tokens=template.special_tokens,
        return_offsets_mapping=True,
        verbose=False,
    )
    start = template.completion_start(question)
    offsets = encoded["offset_mapping"]
    completion_token = next((i for i, (_, right) in enumerate(offsets) if right > start), len(offsets))
    return _cut(encoded["input_ids"], offsets, completion_token, template.question_start, start, max_length)


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
    """How many tokens fit: the smallest of what the model, the tokenizer and the recipe allow."""
    text_config = config.get_text_config()
    limits = [
        limit
        for limit in (getattr(text_config, "max_position_embeddings", None), tokenizer.model_max_length, asked)
        if limit is not None and limit > 0
    ]
    return int(min(limits)) if limits else 1 << 20


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of everything that decides how a fast tokenizer cuts text."""
    return hash_text(tokenizer.backend_tokenizer.to_str())
