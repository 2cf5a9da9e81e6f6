"""One model's look at one text: its stepwise attention on every token, so that keys can be told from the rest.

Training needs the keys' columns alone. Whoever asks whether a model looks at keys *more than at other words* needs
the other words too, so here every token is a column of its own; the reader is the same.

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

from molsaki.encoding.encode import EncodedText, encode_student, encode_teacher, require_offsets
from molsaki.encoding.prompts import PromptTemplate
from molsaki.models.modes import eval_mode
from molsaki.records import RowReport
from molsaki.spans.find import Spans, find_spans
from molsaki.spans.text import Text
from molsaki.teacher.read_attention import PreparedText, Progress, prepare_text, read_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Encoder = Callable[[str, str], EncodedText]
"""From question and rationale to the tokens of one model in its own prompt."""


@dataclass(frozen=True, eq=False)
class Look:
    """Where one model looks on one text.

    Attributes:
        text: question, rationale and what counts as a key.
        spans: its steps and keys.
        attention_LST: for every layer, step and token: what the step's tokens give to that token, mean over heads,
            summed over the step's tokens (Eq. 2 of the paper before its sum over key tokens).
        step_of_token_T: the step of each token, -1 for none.
        key_of_token_T: the key of each token, -1 for none.
    """

    text: Text
    spans: Spans
    attention_LST: Floats
    step_of_token_T: Integers
    key_of_token_T: Integers

    @cached_property
    def tokens_S(self) -> Integers:
        """How many tokens each step has; 0 for one that was cut off."""
        return np.bincount(self.step_of_token_T[self.step_of_token_T >= 0], minlength=self.spans.n_steps)

    @cached_property
    def keys_LSK(self) -> Floats:
        """Stepwise attention A [L, S, K] as the paper has it (Eq. 3)."""
        return self.attention_LST @ _members(self.key_of_token_T, self.spans.n_keys)

    @cached_property
    def key_step_K(self) -> Integers:
        """The step that each key stands in; a key is seen from there on."""
        starts = [(span.text == "rationale", span.start) for span in self.spans.steps]
        places = [(span.text == "rationale", span.start) for span in self.spans.keys]
        return np.array([sum(start <= place for start in starts) - 1 for place in places], dtype=np.int64).clip(0)

    @cached_property
    def visible_SK(self) -> npt.NDArray[np.bool_]:
        """True where a step can see a key and both have tokens."""
        there_K = np.bincount(self.key_of_token_T[self.key_of_token_T >= 0], minlength=self.spans.n_keys) > 0
        seen_SK: npt.NDArray[np.bool_] = self.key_step_K[None, :] <= np.arange(self.spans.n_steps)[:, None]
        return seen_SK & there_K[None, :] & (self.tokens_S > 0)[:, None]

    @cached_property
    def share_LS(self) -> Floats:
        """The share of an average token's attention that lies on keys, for every layer and step; NaN without tokens."""
        return self._per_token(self.keys_LSK.sum(2))

    @cached_property
    def shuffled_LS(self) -> Floats:
        """The same share, had the keys been shuffled: its mean over all placements of each sentence's key tokens.

        Every sentence keeps its number of key tokens, and they may lie on any of its tokens. So with c(t) the number
        of key tokens of t's sentence over the number of its tokens, it is Σ_t c(t)·attention(t): no draw is needed.
        What remains above it is not owed to how many keys there are, or in which sentence they stand.
        """
        in_step_T = self.step_of_token_T >= 0
        keys_S = np.bincount(self.step_of_token_T[in_step_T & (self.key_of_token_T >= 0)], minlength=self.spans.n_steps)
        density_S = keys_S / np.maximum(self.tokens_S, 1)
        density_T = np.where(in_step_T, density_S[self.step_of_token_T.clip(0)], 0.0)
        return self._per_token(self.attention_LST @ density_T)

    def keys_SK(self, weights_L: Floats | None = None) -> Floats:
        """Stepwise attention with its layers mixed; the plain mean over layers by default."""
        weights = np.full(len(self.keys_LSK), 1 / len(self.keys_LSK)) if weights_L is None else weights_L
        mixed: Floats = np.einsum("lsk,l->sk", self.keys_LSK, weights)
        return mixed

    def _per_token(self, sums_LS: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.tokens_S > 0, sums_LS / self.tokens_S, np.nan)


@dataclass(frozen=True, slots=True)
class StepFacts:
    """One step's row of stepwise attention in three numbers.

    Attributes:
        visible: how many keys the step can see.
        entropy: of the row over them, in bits: 0 looks at one key only, log2(visible) at all alike.
        top: the most-attended key.
        place: where that one stands: "question", "earlier sentence" or "same sentence".
    """

    visible: int
    entropy: float
    top: int
    place: str


def step_facts(look: Look, weights_L: Floats | None = None) -> list[StepFacts | None]:
    """Entropy and most-attended key of every step; None for a step that sees no key.

    A row is divided by its sum over the keys that the step can see, so it says how attention is spread among keys
    and nothing about how much falls on keys at all.
    """
    found: list[StepFacts | None] = []
    for step, (row_K, seen_K) in enumerate(zip(look.keys_SK(weights_L), look.visible_SK, strict=True)):
        total = row_K[seen_K].sum() if seen_K.any() else 0.0
        if total <= 0:
            found.append(None)
            continue
        row = row_K[seen_K] / total
        top = int(np.flatnonzero(seen_K)[row.argmax()])
        home = int(look.key_step_K[top])
        place = "same sentence" if home == step else "question" if home == 0 else "earlier sentence"
        entropy = float(-(row[row > 0] * np.log2(row[row > 0])).sum())
        found.append(StepFacts(int(seen_K.sum()), max(0.0, entropy), top, place))
    return found


def teacher_encoder(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, max_length: int) -> Encoder:
    """Encode texts as a teacher reads them: prompt, question and rationale at once."""
    require_offsets(tokenizer, end=False)
    return lambda question, rationale: encode_teacher(tokenizer, template, question, rationale, max_length)


def student_encoder(tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, max_length: int) -> Encoder:
    """Encode texts as a student reads them: prompt and rationale tokenized apart."""
    require_offsets(tokenizer)
    return lambda question, rationale: encode_student(tokenizer, template, question, rationale, max_length)


def read_looks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    encode: Encoder,
    *,
    batch_size: int = 8,
    store: tuple[Path, Mapping[str, str]] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Look], RowReport]:
    """Read where a model looks on some texts.

    It can show how much each step's tokens attend to each other token, as a mean over heads. It cannot show single
    heads, nor what the model made of it. A reading needs memory for every pair of tokens of one text, one layer at a
    time.

    Args:
        model: any model that `molsaki.attention` can read.
        tokenizer: its tokenizer.
        texts: what to read.
        encode: from `teacher_encoder` or `student_encoder`.
        batch_size: texts read together.
        store: a folder to keep the readings in and take them from, with the fingerprint of what they are made from.
        progress: called with how many texts are done and how many there are.

    Returns:
        The looks by id, and how many texts were left out and why.

    Raises:
        UnreadableModelError: the model's attention cannot be read.
        ArtefactError: the store's readings were made from something else.
    """
    report = RowReport()
    made = (prepare_text(text, encode(text.question, text.rationale), report) for text in texts)
    items = [item for item in made if item is not None]
    if store is None:
        rows = dict(_read(model, tokenizer, items, batch_size, progress))
    else:
        rows = _read_through(store, model, tokenizer, items, batch_size, progress)
    return {item.text.id: _look(item, rows[item.text.id]) for item in items}, report


def _read(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[PreparedText],
    batch_size: int,
    progress: Progress | None,
) -> Iterator[tuple[str, Any]]:
    ordered = sorted(items, key=lambda item: len(item.encoded.input_ids), reverse=True)
    with eval_mode(model):
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            columns = [range(len(item.encoded.input_ids)) for item in batch]
            width = max(map(len, columns))
            attention_BLST = read_batch(model, tokenizer, batch, columns, width).attention.cpu()
            for item, attention_LST in zip(batch, attention_BLST, strict=True):
                yield item.text.id, attention_LST[:, : item.tokens.n_steps, : len(item.encoded.input_ids)]
            if progress is not None:
                progress(start + len(batch), len(ordered))


def _read_through(
    store: tuple[Path, Mapping[str, str]],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[PreparedText],
    batch_size: int,
    progress: Progress | None,
) -> dict[str, Any]:
    from molsaki.store.signal_reader import AttentionStore
    from molsaki.store.signal_writer import AttentionStoreWriter

    folder, fingerprint = store
    with AttentionStoreWriter(folder, fingerprint, "float16") as writer:
        there = writer.text_hashes()
        missing = [item for item in items if item.text.id not in there]
        hashes = {item.text.id: item.text.text_hash for item in missing}
        for row_id, attention_LST in _read(model, tokenizer, missing, batch_size, progress):
            writer.add(row_id, hashes[row_id], attention_LST)
    if not items:
        return {}
    kept = AttentionStore(folder, fingerprint)
    return {item.text.id: kept.get(item.text.id, item.text.text_hash) for item in items}


def _look(item: PreparedText, attention_LST: Any) -> Look:
    text = item.text
    return Look(
        text,
        find_spans(text.question, text.rationale, text.keys, text.steps),
        np.asarray(attention_LST, dtype=np.float64),
        np.array(item.tokens.step_of_token, dtype=np.int64),
        np.array(item.tokens.key_of_token, dtype=np.int64),
    )


def _members(group_of_token_T: Integers, groups: int) -> Floats:
    """[T, groups], 1 where a token belongs to a group."""
    members: Floats = (group_of_token_T[:, None] == np.arange(groups)[None, :]).astype(np.float64)
    return members
