"""Reads all signals of a teacher in one forward pass per batch, and writes their rows to disk.

Each rationale follows its question in the teacher's own prompt. One forward pass over a batch returns every view of
attention and the next tokens, and each text's rows go to their stores. Training never loads the teacher; it finds each
row by its id and by the hash of its text.

The batches depend on the texts alone, and not on the rows that the stores have already. So a reading that resumes after
a kill returns the same numbers as one without a kill. Several processes divide the batches, round by round; process 0
stores the rows of all of them, in the order of a single process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from molsaki.attention import expected_layers, find_model
from molsaki.attention.chunks import chunk_tokens, read_in_chunks, reads_in_chunks
from molsaki.counts import Progress
from molsaki.distributed import on_main_process, process_count, process_number
from molsaki.encoding.encode import encode_teacher, require_offsets
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError
from molsaki.models.inputs import pad_texts
from molsaki.models.logits import last_logits
from molsaki.models.modes import eval_mode
from molsaki.models.shapes import shapes_of
from molsaki.records import RowReport, hash_json
from molsaki.spans.text import Text
from molsaki.spans.views import VIEWS
from molsaki.store.signal_writer import SignalWriter
from molsaki.teacher.shared_stores import SharedStores
from molsaki.teacher.signals import ModelSizes, PassOutput, PassRequest, PreparedSignals, Row, Signal
from molsaki.teacher.store_sizes import StoreLimits, require_room

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONTROL = "a question or rationale with a control token of the chat that cannot be split"


def model_sizes(model: PreTrainedModel, signals: Sequence[Signal[Any]]) -> ModelSizes:
    """The sizes of a teacher that rows depend on. A pass over two tokens finds its layers if a signal needs them.

    Raises:
        UnreadableModelError: a signal needs attention, and no layer of the model can be read.
    """
    embeddings = model.get_output_embeddings()
    words = model.config.get_text_config().vocab_size if embeddings is None else embeddings.weight.shape[0]
    if not any(signal.name in VIEWS for signal in signals):
        return ModelSizes(expected_layers(model.config), 0, int(words))
    shapes = shapes_of(model)
    return ModelSizes(shapes.layers, sum(shapes.heads), int(words))


def prepare_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    template: PromptTemplate,
    max_length: int,
    signals: Sequence[Signal[Any]],
) -> tuple[list[PreparedSignals], dict[str, RowReport]]:
    """Tokenize all texts and sort them, the longest first, and count for each signal the texts without it.

    The longest come first so that a run fails at its first batch if memory is too small, and not after hours.

    Returns:
        The texts with at least one signal, and a report by the signal's name.

    Raises:
        TokenizerError: the tokenizer returns no offsets.
    """
    require_offsets(tokenizer, end=False)
    reports = {signal.name: RowReport() for signal in signals}
    prepared = []
    for text in texts:
        encoded = encode_teacher(tokenizer, template, text.question, text.rationale, max_length)
        if encoded.has_control:
            for report in reports.values():
                report.skip(text.id, CONTROL)
            continue
        items = {s.name: s.prepare(text, encoded, tokenizer, reports[s.name]) for s in signals}
        present = {name: item for name, item in items.items() if item is not None}
        if present:
            prepared.append(PreparedSignals(text, encoded, present))
    return sorted(prepared, key=lambda item: item.length, reverse=True), reports


def read_signals(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    template: PromptTemplate,
    signals: Sequence[Signal[Any]],
    writers: Mapping[str, SignalWriter] | None,
    *,
    sizes: ModelSizes,
    max_length: int,
    batch_tokens: int = 8192,
    chunk: int | None = None,
    limits: StoreLimits | None = None,
    progress: Progress | None = None,
) -> dict[str, RowReport]:
    """Read all signals on all texts that their stores lack. Every process of the job must call it.

    Args:
        model: the teacher, on its device or its devices.
        tokenizer: its tokenizer.
        texts: questions with their rationales.
        template: the teacher's prompt; ends in `{rationale}`.
        signals: the signals to read.
        writers: the store of each signal by its name; None in every process but process 0.
        sizes: from `model_sizes`.
        max_length: longer sequences are cut; steps and keys beyond are marked as missing and counted.
        batch_tokens: the number of tokens of a batch, padding included; a longer sequence is read alone.
        chunk: the number of tokens of a long text that are read at once; by default what a layer needs 1 GiB for.
        limits: of the stores' sizes, which are checked before anything is read; None for none.
        progress: called with the number of finished texts and the number of all texts.

    Returns:
        For each signal the number of texts that were read, kept and left out, with reasons. Texts that the store had
        already are counted as kept.

    Raises:
        UnreadableModelError: the model's attention cannot be read.
        TokenizerError: the tokenizer returns no offsets.
        ArtefactError: a store has a row of one of these ids for other text, or the processes have different texts.
        InputError: a row or a store would be larger than its limit.
    """
    assert batch_tokens > 0
    prepared, reports = prepare_texts(tokenizer, texts, template, max_length, signals)
    if limits is not None:
        require_room(prepared, signals, sizes, limits)
    lacking = _find_lacking(prepared, texts, writers)
    whole = batches_of(prepared, batch_tokens)
    batches = [some for batch in whole if (some := [item for item in batch if lacking[item.text.id]])]
    store = SharedStores(signals, writers, {signal.name: signal.schema(sizes) for signal in signals}, lacking)
    finished = len(texts) - sum(map(len, batches))
    with eval_mode(model):
        for start in range(0, len(batches), process_count()):
            round_ = batches[start : start + process_count()]
            mine = round_[process_number()] if process_number() < len(round_) else []
            store.add(round_, read_rows(model, tokenizer, mine, signals, chunk))
            finished += sum(map(len, round_))
            if progress is not None:
                progress(finished, len(texts))
    return reports


def batches_of(items: Sequence[PreparedSignals], batch_tokens: int) -> Iterator[Sequence[PreparedSignals]]:
    """Yield batches of texts of similar length whose padded tokens stay within the budget."""
    start = 0
    while start < len(items):
        end = start + max(1, batch_tokens // items[start].length)
        yield items[start:end]
        start = end


def read_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[PreparedSignals],
    signals: Sequence[Signal[Any]],
    chunk: int | None = None,
) -> list[dict[str, Row]]:
    """Read all signals of some texts in one forward pass, without gradients.

    Long texts go through the model in chunks, with the keys and values of the tokens before in its cache.

    Args:
        model: the teacher, in evaluation mode.
        tokenizer: its tokenizer.
        batch: the texts.
        signals: the signals to read.
        chunk: as for `read_signals`.

    Returns:
        For each text the row of each signal that it has, by the signal's name.
    """
    rows: list[dict[str, Row]] = [{} for _ in batch]
    if not batch:
        return rows
    input_ids, attention_mask = pad_texts(model, tokenizer, [item.encoded for item in batch])
    items = {signal.name: [text.items.get(signal.name) for text in batch] for signal in signals}
    requests = {signal.name: signal.request(items[signal.name], attention_mask) for signal in signals}
    collectors = {signal.name: signal.collect(items[signal.name]) for signal in signals}
    with torch.inference_mode():
        for outputs in _passes(model, input_ids, attention_mask, requests, chunk):
            for name, output in outputs.items():
                collectors[name].add(output)
        for name, collector in collectors.items():
            for row, found in zip(rows, collector.rows(), strict=True):
                if found is not None:
                    row[name] = found
    return rows


def _passes(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    requests: Mapping[str, PassRequest],
    chunk: int | None,
) -> Iterator[dict[str, PassOutput]]:
    """What each signal gets of each chunk: its attention, and the logits that any signal needs."""
    starts = [request.first_logit for request in requests.values() if request.first_logit is not None]
    spans = {name: request.spans for name, request in requests.items() if request.spans is not None}
    asked, size = list(spans.values()), input_ids.shape
    if chunk is None:
        chunk = chunk_tokens(model, size[0], size[1], asked, logits=bool(starts))
    if chunk < size[1] and not reads_in_chunks(model):
        chunk = size[1]
    keeps_logits = bool(last_logits(find_model(model), 1))
    first_logit = min(starts, default=None)
    arguments = (model, input_ids, attention_mask, asked, chunk)
    for part in read_in_chunks(*arguments, first_logit=first_logit, keeps_logits=keeps_logits):
        outputs = {name: PassOutput(part.end, None, 0, 0, part.logits) for name in requests}
        for name, attention, first, final in zip(
            spans, part.attention, part.first_steps, part.final_steps, strict=True
        ):
            outputs[name] = PassOutput(part.end, attention, first, final, part.logits)
        yield outputs


def _find_lacking(
    prepared: Sequence[PreparedSignals], texts: Sequence[Text], writers: Mapping[str, SignalWriter] | None
) -> dict[str, list[str]]:
    """The signals whose stores lack each text, by the text's id; process 0 reads the stores and sends the result.

    Raises:
        ArtefactError: a store has rows of other texts, or this process has other texts than process 0.
    """
    mine = hash_json([[item.text.id, item.text.text_hash, item.length, sorted(item.items)] for item in prepared])

    def find() -> list[Any]:
        done = {name: writer.text_hashes() for name, writer in (writers or {}).items()}
        for hashes in done.values():
            _require_same_texts(hashes, texts)
        return [mine, [[name for name in item.items if item.text.id not in done[name]] for item in prepared]]

    theirs, lacking = on_main_process(find)
    if theirs != mine:
        raise ArtefactError(
            f"Expected process {process_number()} to have the same rationales as process 0; it has others. Rows would "
            "be mixed up, so nothing was read; give all processes the same tokenizer and the same run directory, on a "
            "disk that every machine shares."
        )
    return {item.text.id: names for item, names in zip(prepared, lacking, strict=True)}


def _require_same_texts(done: Mapping[str, str], texts: Sequence[Text]) -> None:
    other = [text.id for text in texts if done.get(text.id, text.text_hash) != text.text_hash]
    if other:
        raise ArtefactError(
            f"Expected the rows of the teacher's store to belong to these questions, rationales and keys; "
            f"{len(other)} belong to others, for example {other[0]!r}. Their steps and keys would not fit, so "
            "nothing was read; choose a new folder, or move this one away."
        )
