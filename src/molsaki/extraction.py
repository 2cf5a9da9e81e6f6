"""`attend`: read where a teacher looks, step by step, and keep it on disk.

Each rationale is put behind its question in the teacher's own prompt, one forward pass reads the stepwise attention
of every layer, and the rows go to the attention store in shards that are whole or not there. Training never loads
the teacher; it finds each row by its id and by the hash of the text that was read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molsaki.encoding import EncodedText, encode_teacher, require_offsets
from molsaki.errors import ArtefactError
from molsaki.evaluating import evaluating
from molsaki.prompts import PromptTemplate
from molsaki.records import RowReport, hash_json, hash_text
from molsaki.span_tokens import SpanTokens
from molsaki.spans import SPAN_RULES, Keys, find_spans
from molsaki.stores import AttentionStoreWriter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[int, int], None]
NO_KEYS = "no key: takes no part in the attention loss"
NO_STEP = "no step left: takes no part in the attention loss"
CUT = "cut at the end of the teacher's context"
UNMAPPED = "a step or key without a token"


@dataclass(frozen=True, slots=True)
class Text:
    """One question with its rationale, as attention is read on it.

    Attributes:
        id: the problem's id.
        question, rationale: the two shared texts.
        keys: what counts as a key.
    """

    id: str
    question: str
    rationale: str
    keys: Keys

    @property
    def text_hash(self) -> str:
        """Hash of the texts and the keys: what decides steps, keys and attention, given a teacher."""
        rule: object
        if isinstance(self.keys, re.Pattern):
            rule = {"pattern": self.keys.pattern, "flags": self.keys.flags}
        else:
            rule = self.keys if isinstance(self.keys, str) else list(self.keys)
        return hash_text(self.question, self.rationale, hash_json(rule), SPAN_RULES)


@dataclass(frozen=True, slots=True)
class _Item:
    text: Text
    encoded: EncodedText
    tokens: SpanTokens


def extract_attention(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    template: PromptTemplate,
    writer: AttentionStoreWriter,
    *,
    max_length: int,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> RowReport:
    """Read the attention of all texts that the store does not have yet.

    Args:
        model: the teacher, on its device; any model that `molsaki.attention` can read.
        tokenizer: its tokenizer.
        texts: questions with their rationales.
        template: the prompt that the teacher would see; ends in `{rationale}`.
        writer: the store.
        max_length: longer sequences are cut; steps and keys beyond are marked as missing and counted.
        batch_size: sequences read together.
        progress: called with how many texts are done and how many there are.

    Returns:
        How many texts were read, kept and left out, with reasons; texts that the store had already are kept.

    Raises:
        UnreadableModelError: the model's attention cannot be read.
        TokenizerError: the tokenizer gives no offsets.
        ArtefactError: the store has a row of one of these ids that was read on other text.
    """
    require_offsets(tokenizer, end=False)
    report = RowReport()
    done = writer.text_hashes()
    _require_same_texts(done, texts)
    items: list[_Item] = []
    for text in texts:
        item = _prepare(tokenizer, template, text, max_length, report)
        if item is not None and text.id not in done:
            items.append(item)
    # Longest first: the batch that needs the most memory is the first, not the one that ends a night's work.
    items.sort(key=lambda item: len(item.encoded.input_ids), reverse=True)
    finished = len(texts) - len(items)
    with evaluating(model):
        for batch in _batches(items, batch_size):
            _read_batch(model, tokenizer, batch, writer)
            finished += len(batch)
            if progress is not None:
                progress(finished, len(texts))
    return report


def _require_same_texts(done: Mapping[str, str], texts: Sequence[Text]) -> None:
    other = [text.id for text in texts if done.get(text.id, text.text_hash) != text.text_hash]
    if other:
        raise ArtefactError(
            f"Expected the rows of the attention store to be made from these questions, rationales and keys; "
            f"{len(other)} were made from others, {other[0]!r} for one. Their steps and keys would not fit, and "
            "nothing was read; choose a new folder, or move this one away."
        )


def _prepare(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    text: Text,
    max_length: int,
    report: RowReport,
) -> _Item | None:
    spans = find_spans(text.question, text.rationale, text.keys)
    if not spans.keys:
        report.skip(text.id, NO_KEYS)
        return None
    encoded = encode_teacher(tokenizer, template, text.question, text.rationale, max_length)
    tokens = encoded.map_spans(spans)
    if encoded.cut_tokens:
        report.note(CUT)
    elif tokens.missing_steps or tokens.missing_keys:
        report.note(UNMAPPED)
    if len(tokens.missing_keys) == len(spans.keys):
        report.skip(text.id, NO_KEYS)
        return None
    if len(tokens.missing_steps) == len(spans.steps):
        report.skip(text.id, NO_STEP)
        return None
    report.keep()
    return _Item(text, encoded, tokens)


def _batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _read_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[_Item],
    writer: AttentionStoreWriter,
) -> None:
    import torch

    from molsaki.attention import find_model, read_attention
    from molsaki.logits import last_logits
    from molsaki.padding import pad

    device = model.device
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.inference_mode():
        reading = read_attention(
            model,
            pad([item.encoded.input_ids for item in batch], padding).to(device),
            pad([[1] * len(item.encoded.input_ids) for item in batch], 0).to(device),
            pad([item.tokens.step_of_token for item in batch], -1).to(device),
            pad([item.tokens.key_of_token for item in batch], -1).to(device),
            steps=max(item.tokens.n_steps for item in batch),
            keys=max(item.tokens.n_keys for item in batch),
            **last_logits(find_model(model), 1),
        )
    attention_BLSK = reading.attention.cpu()
    for item, attention_LSK in zip(batch, attention_BLSK, strict=True):
        writer.add(
            item.text.id,
            item.text.text_hash,
            attention_LSK[:, : item.tokens.n_steps, : item.tokens.n_keys],
            missing_steps=item.tokens.missing_steps,
            missing_keys=item.tokens.missing_keys,
        )
