"""`attend`: read where a teacher looks, step by step, and keep it on disk.

Each rationale is put behind its question in the teacher's own prompt, one forward pass reads the stepwise attention
of every layer, and the rows go to the attention store in shards that are whole or not there. Training never loads
the teacher; it finds each row by its id and by the hash of the text that was read.

Several processes share the batches out, round by round; process 0 stores what all of them have read, in the order in
which one process would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from molsaki.distributed import broadcast_json, gather_numbers, process_count, process_number
from molsaki.encoding.encode import EncodedText, encode_teacher, require_offsets
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError
from molsaki.models.modes import eval_mode
from molsaki.records import RowReport, hash_json
from molsaki.spans.align import SpanAlignment
from molsaki.spans.text import Text
from molsaki.spans.views import STEPS, View
from molsaki.store.signal_writer import AttentionStoreWriter

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from molsaki.attention import AttentionReading

Progress = Callable[[int, int], None]
NO_KEYS = "no key: takes no part in the attention loss"
NO_STEP = "no step left: takes no part in the attention loss"
CUT = "cut at the end of the teacher's context"
UNMAPPED = "a step or key without a token"


@dataclass(frozen=True, slots=True)
class PreparedText:
    """A text with its tokens under the teacher's tokenizer.

    Attributes:
        text: the text.
        encoded: the whole prompt with question and rationale.
        tokens: which token belongs to which step and key.
    """

    text: Text
    encoded: EncodedText
    tokens: SpanAlignment

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.encoded.input_ids)

    @property
    def size(self) -> int:
        """How many numbers a layer's stepwise attention on it has, S × K."""
        return self.tokens.n_steps * self.tokens.n_keys


class TokenizedText(Protocol):
    """A text of so many tokens, whatever else is known of it."""

    @property
    def text(self) -> Text:
        """The text."""

    @property
    def length(self) -> int:
        """How many tokens it has."""


Tokenized = TypeVar("Tokenized", bound=TokenizedText)


@dataclass(frozen=True, slots=True)
class LayerMix:
    """The teacher's layers are stored mixed by Eq. 4, at this temperature and with this G.

    Attributes:
        temperature: τ1.
        normalise: see `molsaki.teacher_layer_weights`.
    """

    temperature: float = 0.1
    normalise: bool = True

    def mix(self, attention_LSK: Tensor, tokens: SpanAlignment) -> Tensor:
        """The mixture [1, S, K]; steps and keys without a token on the teacher's side do not count in G."""
        import torch

        from molsaki.methods.layers import mix_layers, teacher_layer_weights

        step_mask = torch.ones(1, tokens.n_steps, dtype=torch.bool)
        key_mask = torch.ones(1, tokens.n_keys, dtype=torch.bool)
        step_mask[0, list(tokens.missing_steps)] = False
        key_mask[0, list(tokens.missing_keys)] = False
        whole = attention_LSK[None]
        weights = teacher_layer_weights(whole, step_mask, key_mask, self.temperature, normalise=self.normalise)
        return mix_layers(whole, weights)


def extract_attention(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    template: PromptTemplate,
    writer: AttentionStoreWriter | None,
    *,
    max_length: int,
    batch_tokens: int = 8192,
    mix: LayerMix | None = None,
    view: View = STEPS,
    progress: Progress | None = None,
) -> RowReport:
    """Read the attention of all texts that the store does not have yet.

    Args:
        model: the teacher, on its device or its devices; any model that `molsaki.attention` can read.
        tokenizer: its tokenizer.
        texts: questions with their rationales.
        template: the prompt that the teacher would see; ends in `{rationale}`.
        writer: the store; None in every process but process 0.
        max_length: longer sequences are cut; steps and keys beyond are marked as missing and counted.
        batch_tokens: how many tokens are read together, padding included; a longer sequence is read alone.
        mix: store only the layers' mixture; None stores every layer.
        view: which rows and columns are read, and whether heads are kept apart.
        progress: called with how many texts are done and how many there are.

    Returns:
        How many texts were read, kept and left out, with reasons; texts that the store had already are kept.

    Raises:
        UnreadableModelError: the model's attention cannot be read.
        TokenizerError: the tokenizer gives no offsets.
        ArtefactError: the store has a row of one of these ids that was read on other text, or the processes do not
            see the same texts.
    """
    assert batch_tokens > 0
    prepared, report = prepare_texts(tokenizer, texts, template, max_length, view)
    pending = pending_texts(prepared, texts, writer)
    batches = list(batches_of(pending, batch_tokens))
    finished = len(texts) - len(pending)
    with eval_mode(model):
        layers = 1 if mix else _layers(model, view)
        for start in range(0, len(batches), process_count()):
            round_ = batches[start : start + process_count()]
            mine = round_[process_number()] if process_number() < len(round_) else []
            read = [(mix.mix(row, item.tokens) if mix else row) for item, row in _read(model, tokenizer, mine, view)]
            _store(round_, read, writer, layers)
            finished += sum(map(len, round_))
            if progress is not None:
                progress(finished, len(texts))
    return report


def head_counts(model: PreTrainedModel) -> tuple[int, ...]:
    """How many attention heads every layer of a model has, read off a forward pass over two tokens."""
    from molsaki.attention import layer_shapes

    with eval_mode(model):
        return layer_shapes(model, input_device(model))[1]


def _layers(model: PreTrainedModel, view: View) -> int:
    """How many layers, or heads of all of them, a row has."""
    if view.heads:
        return sum(head_counts(model))
    layers: int = model.config.get_text_config().num_hidden_layers
    return layers


def prepare_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    template: PromptTemplate,
    max_length: int,
    view: View = STEPS,
) -> tuple[list[PreparedText], RowReport]:
    """Tokenize all texts as they are read, the longest first, and count those that cannot be read.

    The longest come first so that the batch that needs the most memory is the first, not the one that ends a night's
    work.

    Raises:
        TokenizerError: the tokenizer gives no offsets.
    """
    require_offsets(tokenizer, end=False)
    report = RowReport()
    encoded = (encode_teacher(tokenizer, template, text.question, text.rationale, max_length) for text in texts)
    found = [prepare_text(text, tokens, report, view) for text, tokens in zip(texts, encoded, strict=True)]
    items = [item for item in found if item is not None]
    return sorted(items, key=lambda item: item.length, reverse=True), report


def pending_texts(
    prepared: Sequence[Tokenized], texts: Sequence[Text], writer: AttentionStoreWriter | None
) -> list[Tokenized]:
    """The texts that the store lacks, as process 0 finds them; all processes must see the same texts."""
    done = writer.text_hashes() if writer is not None else {}
    if writer is not None:
        _require_same_texts(done, texts)
    seen = hash_json([[item.text.id, item.text.text_hash, item.length] for item in prepared])
    shared = broadcast_json([seen, [i for i, item in enumerate(prepared) if item.text.id not in done]])
    if shared[0] != seen:
        raise ArtefactError(
            f"Expected process {process_number()} to see the rationales that process 0 sees; it sees others. Their "
            "readings would be mixed up, and nothing was read; give all processes one run directory, on a disk that "
            "every machine has, and the same tokenizer."
        )
    return [prepared[i] for i in shared[1]]


def _require_same_texts(done: Mapping[str, str], texts: Sequence[Text]) -> None:
    other = [text.id for text in texts if done.get(text.id, text.text_hash) != text.text_hash]
    if other:
        raise ArtefactError(
            f"Expected the rows of the teacher's store to be made from these questions, rationales and keys; "
            f"{len(other)} were made from others, {other[0]!r} for one. Their steps and keys would not fit, and "
            "nothing was read; choose a new folder, or move this one away."
        )


def prepare_text(text: Text, encoded: EncodedText, report: RowReport, view: View = STEPS) -> PreparedText | None:
    """Map a text's steps and keys to its tokens; None, with the reason counted, where there is nothing to read."""
    spans = view.spans(text.question, text.rationale, text.keys, text.steps)
    if not spans.keys:
        report.skip(text.id, NO_KEYS)
        return None
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
    return PreparedText(text, encoded, tokens)


def batches_of(items: Sequence[Tokenized], batch_tokens: int) -> Iterator[Sequence[Tokenized]]:
    """Neighbours in length whose padded tokens stay within the budget."""
    start = 0
    while start < len(items):
        end = start + max(1, batch_tokens // items[start].length)
        yield items[start:end]
        start = end


def _read(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Sequence[PreparedText], view: View
) -> Iterator[tuple[PreparedText, Tensor]]:
    """The texts of a batch with their attention [L, S, K]."""
    if not batch:
        return
    columns, width = [item.tokens.key_of_token for item in batch], max(item.tokens.n_keys for item in batch)
    reading = read_batch(model, tokenizer, batch, columns, width, heads=view.heads)
    for item, attention_LSK in zip(batch, reading.attention.float().cpu(), strict=True):
        yield item, attention_LSK[:, : item.tokens.n_steps, : item.tokens.n_keys]


def read_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[PreparedText],
    columns: Sequence[Sequence[int]],
    width: int,
    values: bool = False,
    heads: bool = False,
) -> AttentionReading:
    """Read the stepwise attention of some texts in one forward pass, without gradients.

    Args:
        model: the model, in evaluation mode.
        tokenizer: its tokenizer.
        batch: the texts.
        columns: for each text the column that each of its tokens is added to, -1 for none; the keys, for example.
        width: how many columns there are.
        values: keep the value states of every layer.
        heads: read each head in the place of their mean.
    """
    import torch

    from molsaki.attention import find_model, read_attention
    from molsaki.encoding.padding import pad
    from molsaki.models.logits import last_logits

    device = input_device(model)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.inference_mode():
        return read_attention(
            model,
            pad([item.encoded.input_ids for item in batch], 0 if padding is None else padding).to(device),
            pad([[1] * item.length for item in batch], 0).to(device),
            pad([item.tokens.step_of_token for item in batch], -1).to(device),
            pad(columns, -1).to(device),
            steps=max(item.tokens.n_steps for item in batch),
            keys=width,
            values=values,
            heads=heads,
            **last_logits(find_model(model), 1),
        )


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model takes its tokens; one that is spread over devices moves them on by itself."""
    import torch

    device: torch.device = model.get_input_embeddings().weight.device
    return torch.device("cpu") if device.type == "meta" else device


def _store(
    batches: Sequence[Sequence[PreparedText]],
    read: Sequence[Tensor],
    writer: AttentionStoreWriter | None,
    layers: int,
) -> None:
    """Bring the batches of one round, one of each process, to process 0 and store them in their order."""
    import torch

    sizes = [layers * sum(item.size for item in batch) for batch in batches]
    sizes += [0] * (process_count() - len(batches))
    numbers = torch.cat([row.flatten() for row in read]) if read else torch.zeros(0)
    gathered = gather_numbers(numbers, sizes)
    if writer is None:
        return
    for batch, part in zip(batches, gathered, strict=False):
        rows = torch.split(part, [layers * item.size for item in batch])
        for item, row in zip(batch, rows, strict=True):
            writer.add(
                item.text.id,
                item.text.text_hash,
                row.view(layers, item.tokens.n_steps, item.tokens.n_keys),
                missing_steps=item.tokens.missing_steps,
                missing_keys=item.tokens.missing_keys,
                step_tokens=item.tokens.tokens_of_steps,
            )
