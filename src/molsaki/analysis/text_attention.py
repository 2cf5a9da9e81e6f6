"""A model's attention on a text: what each step's tokens give to every token.

Training reads the keys' columns alone. The measures here compare attention on keys with attention on other words, so
every token is a column of its own.

Legend: L layers, S steps, T tokens, K keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molsaki.counts import Progress
from molsaki.encoding.encode import EncodedText, encode_student, encode_teacher, require_offsets
from molsaki.encoding.prompts import PromptTemplate
from molsaki.models.modes import eval_mode
from molsaki.models.shapes import shapes_of
from molsaki.records import RowReport
from molsaki.spans.find import Spans, find_spans
from molsaki.spans.text import Text
from molsaki.teacher.read_attention import PreparedText, prepare_text, read_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from molsaki.attention import ReadLayers

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Encoder = Callable[[str, str], EncodedText]
"""From question and rationale to the tokens of one model in its own prompt."""


@dataclass(frozen=True, eq=False)
class TextAttention:
    """One model's attention on one text.

    Attributes:
        text: question, rationale and what counts as a key.
        spans: its steps and keys.
        attention_LST: for every layer, step and token the attention that the step's tokens give to that token: mean
            over heads, sum over the step's tokens (Eq. 2 of the paper before its sum over key tokens).
        step_of_token_T: the step of each token, −1 for none.
        key_of_token_T: the key of each token, −1 for none.
        layers: the numbers of the L layers in their model, from 0; empty for all of its layers.
    """

    text: Text
    spans: Spans
    attention_LST: Floats
    step_of_token_T: Integers
    key_of_token_T: Integers
    layers: tuple[int, ...] = ()

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        """The number of each layer in its model, from 0."""
        return self.layers or tuple(range(len(self.attention_LST)))

    @cached_property
    def tokens_S(self) -> Integers:
        """Number of tokens of each step; 0 for one that was cut off."""
        return _count(self.step_of_token_T, self.spans.n_steps)

    @cached_property
    def keys_LSK(self) -> Floats:
        """Stepwise attention A [L, S, K] (Eq. 3 of the paper)."""
        members_TK = self.key_of_token_T[:, None] == np.arange(self.spans.n_keys)
        attention_LSK: Floats = self.attention_LST @ members_TK.astype(np.float64)
        return attention_LSK

    @cached_property
    def key_step_K(self) -> Integers:
        """The step that each key is in. The key is visible from that step on."""
        starts = [(span.text == "rationale", span.start) for span in self.spans.steps]
        positions = [(span.text == "rationale", span.start) for span in self.spans.keys]
        return np.array(
            [sum(start <= position for start in starts) - 1 for position in positions], dtype=np.int64
        ).clip(0)

    @cached_property
    def visible_SK(self) -> npt.NDArray[np.bool_]:
        """True where a step can see a key and both have tokens."""
        has_tokens_K = _count(self.key_of_token_T, self.spans.n_keys) > 0
        before_SK: npt.NDArray[np.bool_] = self.key_step_K <= np.arange(self.spans.n_steps)[:, None]
        return before_SK & has_tokens_K & (self.tokens_S > 0)[:, None]

    @cached_property
    def share_LS(self) -> Floats:
        """The share of a token's attention on keys, mean over each step's tokens; NaN for a step without tokens."""
        return self._per_token(self.keys_LSK.sum(2))

    @cached_property
    def shuffled_LS(self) -> Floats:
        """The same share for shuffled keys: its mean over all placements of each sentence's key tokens.

        Every sentence keeps its number of key tokens, which may be any of its tokens. With c(t) the number of key
        tokens of t's sentence over the number of its tokens, the mean is Σ_t c(t)·attention(t), so no draw is needed. A
        share above it does not come from how many keys there are, or from the sentences that they are in.
        """
        in_step_T = self.step_of_token_T >= 0
        keys_S = _count(self.step_of_token_T[self.key_of_token_T >= 0], self.spans.n_steps)
        density_S = keys_S / np.maximum(self.tokens_S, 1)
        density_T = np.where(in_step_T, density_S[self.step_of_token_T.clip(0)], 0.0)
        return self._per_token(self.attention_LST @ density_T)

    def keys_SK(self) -> Floats:
        """Stepwise attention, the mean over layers."""
        mean: Floats = self.keys_LSK.mean(0)
        return mean

    def _per_token(self, sums_LS: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.tokens_S > 0, sums_LS / self.tokens_S, np.nan)


@dataclass(frozen=True, slots=True)
class StepFacts:
    """One step's row of stepwise attention in three numbers.

    Attributes:
        visible: number of keys that the step can see.
        entropy: of the row over these keys, in bits: 0 for attention on one key, log2(visible) for even attention.
        top: the most-attended key.
        place: where that key is: "question", "earlier sentence" or "same sentence".
    """

    visible: int
    entropy: float
    top: int
    place: str


def step_facts(attention: TextAttention) -> list[StepFacts | None]:
    """Entropy and most-attended key of every step; None for a step that sees no key.

    A row is divided by its sum over the keys that the step can see. So it shows how attention is spread among keys, and
    not how much of it is on keys.
    """
    rows = zip(attention.keys_SK(), attention.visible_SK, strict=True)
    return [_facts_of(attention, step, row_K, visible_K) for step, (row_K, visible_K) in enumerate(rows)]


def _facts_of(attention: TextAttention, step: int, row_K: Floats, visible_K: npt.NDArray[np.bool_]) -> StepFacts | None:
    total = row_K[visible_K].sum()
    if total <= 0:
        return None
    row = row_K[visible_K] / total
    top = int(np.flatnonzero(visible_K)[row.argmax()])
    home = int(attention.key_step_K[top])
    place = "same sentence" if home == step else "question" if home == 0 else "earlier sentence"
    entropy = float(-(row[row > 0] * np.log2(row[row > 0])).sum())
    return StepFacts(int(visible_K.sum()), max(0.0, entropy), top, place)


def teacher_encoder(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, max_length: int) -> Encoder:
    """Encode texts as a teacher reads them: prompt, question and rationale as one text.

    Args:
        tokenizer: the model's fast tokenizer.
        template: the prompt, with {question}.
        max_length: the number of tokens after which a text is cut.

    Returns:
        A function of question and rationale that gives the token ids with the place of each text in them.

    Raises:
        TokenizerError: it is a slow tokenizer.
    """
    require_offsets(tokenizer, end=False)
    return lambda question, rationale: encode_teacher(tokenizer, template, question, rationale, max_length)


def student_encoder(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, max_length: int) -> Encoder:
    """Encode texts as a student reads them: prompt and rationale tokenized separately.

    Arguments and result are those of `teacher_encoder`.

    Raises:
        TokenizerError: it is a slow tokenizer, or has no end-of-text token.
    """
    require_offsets(tokenizer)
    return lambda question, rationale: encode_student(tokenizer, template, question, rationale, max_length)


def read_text_attention(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    encode: Encoder,
    *,
    batch_size: int = 8,
    store: tuple[Path, Mapping[str, str]] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, TextAttention], RowReport]:
    """Read a model's attention on some texts.

    It can show how much each step's tokens attend to each other token, as a mean over heads. It cannot show single
    heads, or what the model does with what it reads. It needs memory for every pair of tokens of a text, one layer at a
    time.

    Args:
        model: a model that `molsaki.attention` can read.
        tokenizer: its tokenizer.
        texts: what to read.
        encode: from `teacher_encoder` or `student_encoder`.
        batch_size: number of texts in a forward pass.
        store: a folder that keeps what was read, and the fingerprint of what it was read from. Texts that are there
            are not read again.
        progress: called with the number of texts done and of all texts.

    Returns:
        The attention by text id, and a report that counts texts that were left out, with reasons.

    Raises:
        UnreadableModelError: the model's attention cannot be read.
        ArtefactError: the store's fingerprint is another one.
    """
    report = RowReport()
    made = (prepare_text(text, encode(text.question, text.rationale), report) for text in texts)
    items = [item for item in made if item is not None]
    if not items:
        return {}, report
    read = shapes_of(model).layers
    if store is None:
        rows = dict(_read(model, tokenizer, items, batch_size, progress))
    else:
        rows = _read_through(store, model, tokenizer, items, read, batch_size, progress)
    layers = () if read.is_whole else read.numbers
    return {item.text.id: _text_attention(item, rows[item.text.id], layers) for item in items}, report


def _read(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[PreparedText],
    batch_size: int,
    progress: Progress | None,
) -> Iterator[tuple[str, Any]]:
    """Each text's id and its attention [L, S, T]; the longest texts first, so that batches need little padding."""
    ordered = sorted(items, key=lambda item: item.length, reverse=True)
    with eval_mode(model):
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            columns = [range(item.length) for item in batch]
            attention_BLST = read_batch(model, tokenizer, batch, columns, batch[0].length).attention.cpu()
            for item, attention_LST in zip(batch, attention_BLST, strict=True):
                yield item.text.id, attention_LST[:, : item.tokens.n_steps, : item.length]
            if progress is not None:
                progress(start + len(batch), len(ordered))


def _read_through(
    store: tuple[Path, Mapping[str, str]],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[PreparedText],
    layers: ReadLayers,
    batch_size: int,
    progress: Progress | None,
) -> dict[str, Any]:
    """Read the texts that the store lacks into it, and take all of them from there."""
    from molsaki.store.attention_rows import attention_row, attention_schema, pack_attention, pack_layers
    from molsaki.store.signal_reader import SignalStore
    from molsaki.store.signal_writer import SignalWriter, flush_if_due

    folder, fingerprint = store[0], {**store[1], **pack_layers(layers.numbers, layers.count)}
    with SignalWriter(folder, fingerprint, attention_schema(len(layers.numbers), "float16")) as writer:
        stored = writer.text_hashes()
        missing = {item.text.id: item for item in items if item.text.id not in stored}
        for row_id, attention_LST in _read(model, tokenizer, list(missing.values()), batch_size, progress):
            tokens = missing[row_id].tokens
            row = pack_attention(attention_LST, tokens.tokens_of_steps, tokens.missing_steps)
            writer.add(row_id, missing[row_id].text.text_hash, row)
            flush_if_due([writer])
    kept = SignalStore(folder, fingerprint)
    return {item.text.id: attention_row(kept, item.text.id, item.text.text_hash).attention_LSK for item in items}


def _text_attention(item: PreparedText, attention_LST: Any, layers: tuple[int, ...]) -> TextAttention:
    text = item.text
    return TextAttention(
        text,
        find_spans(text.question, text.rationale, text.keys, text.steps),
        np.asarray(attention_LST, dtype=np.float64),
        np.array(item.tokens.step_of_token, dtype=np.int64),
        np.array(item.tokens.key_of_token, dtype=np.int64),
        layers,
    )


def _count(group_of_token_T: Integers, groups: int) -> Integers:
    """Number of tokens of each group; −1 counts for none."""
    return np.bincount(group_of_token_T[group_of_token_T >= 0], minlength=groups)
