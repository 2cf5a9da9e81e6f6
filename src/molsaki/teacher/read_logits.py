"""`attend`, for a method that compares next tokens: what the teacher expected at each token of a rationale.

One forward pass over the text that attention is read on; of its logits only those that predict a token of the
rationale, or what follows it, are made, and of these the likeliest tokens go to a store. It knows nothing of students.

Legend: P tokens of a rationale and its end, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from molsaki.attention import find_model
from molsaki.distributed import gather_numbers, process_count, process_number
from molsaki.encoding.encode import EncodedText, encode_teacher, require_offsets
from molsaki.encoding.padding import pad
from molsaki.encoding.prompts import PromptTemplate
from molsaki.encoding.token_bytes import token_bytes
from molsaki.encoding.token_map import Span, rationale_spans
from molsaki.models.logits import last_logits
from molsaki.models.modes import eval_mode
from molsaki.records import RowReport
from molsaki.spans.text import Text
from molsaki.store.next_tokens import pack_next_tokens, row_shape
from molsaki.store.signal_writer import AttentionStoreWriter
from molsaki.teacher.read_attention import CUT, batches_of, input_device, pending_texts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[int, int], None]
NOTHING_LEFT = "no token of the rationale fits into the teacher's context: takes no part in the next tokens' loss"


@dataclass(frozen=True, slots=True)
class PreparedRationale:
    """A text with its tokens under the teacher's tokenizer.

    Attributes:
        text: the text.
        encoded: the whole prompt with question and rationale.
        spans: the characters of the rationale that each of its tokens covers; the last is its end, if nothing was cut.
    """

    text: Text
    encoded: EncodedText
    spans: tuple[Span, ...]

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.encoded.input_ids)

    @property
    def predicts(self) -> slice:
        """The tokens whose logits say what comes next."""
        first = self.encoded.completion_token - 1
        return slice(first, first + len(self.spans))


def prepare_rationales(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], template: PromptTemplate, max_length: int
) -> tuple[list[PreparedRationale], RowReport]:
    """Tokenize all texts as they are read, the longest first, and count those that cannot be read.

    Raises:
        TokenizerError: the tokenizer gives no offsets, or the bytes of its tokens are not known.
    """
    require_offsets(tokenizer, end=False)
    bytes_of, report = token_bytes(tokenizer), RowReport()
    items = []
    for text in texts:
        encoded = encode_teacher(tokenizer, template, text.question, text.rationale, max_length)
        spans = rationale_spans(encoded, bytes_of, text.rationale)
        if not spans or not encoded.completion_token:
            report.skip(text.id, NOTHING_LEFT)
            continue
        if encoded.cut_tokens:
            report.note(CUT)
        else:
            spans.append((len(text.rationale), len(text.rationale)))
        report.keep()
        items.append(PreparedRationale(text, encoded, tuple(spans)))
    return sorted(items, key=lambda item: item.length, reverse=True), report


def extract_next_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    template: PromptTemplate,
    writer: AttentionStoreWriter | None,
    *,
    top: int,
    marked: str,
    max_length: int,
    batch_tokens: int = 8192,
    progress: Progress | None = None,
) -> RowReport:
    """Read the next tokens on all texts that the store does not have yet; all processes of the job take part.

    Args:
        model: the teacher, on its device or its devices; any causal language model.
        tokenizer: its tokenizer.
        texts: questions with their rationales.
        template: the prompt that the teacher would see; ends in `{rationale}`.
        writer: the store, in float32; None in every process but process 0.
        top: how many of the likeliest tokens are kept, at most the vocabulary's size.
        marked: at which temperatures; see `molsaki.store.next_tokens`.
        max_length: longer sequences are cut, and counted.
        batch_tokens: how many tokens are read together, padding included; a longer sequence is read alone.
        progress: called with how many texts are done and how many there are.

    Returns:
        How many texts were read, kept and left out, with reasons; texts that the store had already are kept.

    Raises:
        TokenizerError: the tokenizer gives no offsets, or the bytes of its tokens are not known.
        ArtefactError: the store has a row of one of these ids that was read on other text, or the processes do not
            see the same texts.
    """
    prepared, report = prepare_rationales(tokenizer, texts, template, max_length)
    pending = pending_texts(prepared, texts, writer)
    batches = list(batches_of(pending, batch_tokens))
    finished = len(texts) - len(pending)
    with eval_mode(model):
        for start in range(0, len(batches), process_count()):
            round_ = batches[start : start + process_count()]
            mine = round_[process_number()] if process_number() < len(round_) else []
            rows = [
                pack_next_tokens(logits_PV, item.spans, top, marked)
                for item, logits_PV in zip(mine, rationale_logits(model, tokenizer, mine), strict=True)
            ]
            _store(round_, rows, writer, top, marked)
            finished += sum(map(len, round_))
            if progress is not None:
                progress(finished, len(texts))
    return report


def rationale_logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Sequence[PreparedRationale]
) -> list[Tensor]:
    """The logits [P, V] that predict each rationale's tokens and what follows, without gradients.

    Only those from the first rationale's start on are made, if the model can be asked for that.
    """
    if not batch:
        return []
    device = input_device(model)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    longest = max(item.length for item in batch)
    needed = longest - min(item.predicts.start for item in batch)
    with torch.inference_mode():
        logits_RTV = model(
            input_ids=pad([item.encoded.input_ids for item in batch], 0 if padding is None else padding).to(device),
            attention_mask=pad([[1] * item.length for item in batch], 0).to(device),
            use_cache=False,
            **last_logits(find_model(model), needed),
        ).logits[:, -needed:]
        shift = longest - needed
        return [
            logits_TV[item.predicts.start - shift : item.predicts.stop - shift]
            for item, logits_TV in zip(batch, logits_RTV, strict=True)
        ]


def _store(
    batches: Sequence[Sequence[PreparedRationale]],
    read: Sequence[Tensor],
    writer: AttentionStoreWriter | None,
    top: int,
    marked: str,
) -> None:
    """Bring the batches of one round, one of each process, to process 0 and store them in their order."""
    shapes = [[row_shape(len(item.spans), top, marked) for item in batch] for batch in batches]
    sizes = [sum(torch.Size(shape).numel() for shape in some) for some in shapes]
    sizes += [0] * (process_count() - len(batches))
    numbers = torch.cat([row.flatten() for row in read]) if read else torch.zeros(0)
    gathered = gather_numbers(numbers, sizes)
    if writer is None:
        return
    for batch, some, part in zip(batches, shapes, gathered, strict=False):
        rows = torch.split(part, [torch.Size(shape).numel() for shape in some])
        for item, shape, row in zip(batch, some, rows, strict=True):
            writer.add(item.text.id, item.text.text_hash, row.view(shape))
