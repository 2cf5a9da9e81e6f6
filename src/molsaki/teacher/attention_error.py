"""What quantisation changes in a teacher's attention, measured on a few texts against the original model.

The two models need not be in memory together: a `SampleReading` of each is compared.

Legend: L layers, S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from molsaki.attention import ReadLayers
from molsaki.encoding.encode import context_length
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import InputError
from molsaki.models.modes import eval_mode
from molsaki.spans.text import Text
from molsaki.store.attention_rows import ATTENTION
from molsaki.teacher.read_attention import AttentionSignal
from molsaki.teacher.read_signals import model_sizes, prepare_texts, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SAMPLE = 8
"""The number of texts that both models are read on."""


@dataclass(frozen=True, slots=True)
class SampleReading:
    """One model's stepwise attention on a few texts.

    Attributes:
        layers: the layers that were read.
        rows: A [L, S, K] by the text's id, without texts that have no key or step.
        tokens: the token ids of each text in its prompt, by its id.
    """

    layers: ReadLayers
    rows: Mapping[str, Tensor]
    tokens: Mapping[str, tuple[int, ...]]


def pick_sample(texts: Sequence[Text]) -> list[Text]:
    """At most `SAMPLE` texts, evenly spaced by their lengths in characters."""
    by_length = sorted(texts, key=lambda text: (len(text.question) + len(text.rationale), text.id))
    n = min(SAMPLE, len(by_length))
    return [by_length[(2 * i + 1) * len(by_length) // (2 * n)] for i in range(n)]


def read_sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    prompt: PromptTemplate,
    keys: str,
    max_length: int | None = None,
    chunk: int | None = None,
) -> SampleReading:
    """Read all layers' attention on some texts, one text at a time.

    Args:
        model: the model, on its device.
        tokenizer: its tokenizer.
        texts: the texts.
        prompt: the prompt, as text.
        keys: the recipe's kind of keys.
        max_length: longer sequences are cut; by default the model's context length.
        chunk: as for `read_signals`.

    Raises:
        UnreadableModelError: no layer of the model can be read.
        TokenizerError: the tokenizer returns no offsets.
    """
    signal = AttentionSignal(keys=keys)
    longest = context_length(tokenizer, model.config, max_length)
    prepared, _ = prepare_texts(tokenizer, texts, prompt, longest, [signal])
    layers = model_sizes(model, [signal]).layers
    rows = {}
    with eval_mode(model):
        for item in prepared:
            (row,) = read_rows(model, tokenizer, [item], [signal], chunk)
            rows[item.text.id] = row[signal.name][ATTENTION]
    return SampleReading(layers, rows, {item.text.id: item.encoded.input_ids for item in prepared})


def attention_error(original: SampleReading, reader: SampleReading) -> dict[str, Any]:
    """The absolute difference of two models' stepwise attention, over the texts that both have.

    Keys that a step cannot see are left out: both models have exactly 0 there.

    Returns:
        `texts` and `same_tokens`: how many texts were compared, and in how many both tokenizers find the same tokens;
        `numbers`: of A's elements; `mean_error` and `max_error`: of the difference; `mean_attention`: of the original.

    Raises:
        InputError: the models have different layers.
    """
    if (original.layers.numbers, original.layers.count) != (reader.layers.numbers, reader.layers.count):
        raise InputError(
            f"Expected the model that the reader was quantised from, with attention in {reader.layers}; got one with "
            f"{original.layers}. Their attention cannot be compared, so nothing was read; name another model as "
            "teacher.original, or leave it out."
        )
    shared = [row_id for row_id in reader.rows if row_id in original.rows]
    # Each pair of [L, S, K] as one flat list of the elements that a step can see.
    pairs = [(original.rows[row_id].double(), reader.rows[row_id].double()) for row_id in shared]
    seen = [(ours, theirs, (ours != 0) | (theirs != 0)) for theirs, ours in pairs]
    errors = torch.cat([(ours - theirs).abs()[mask] for ours, theirs, mask in seen] or [torch.zeros(0)])
    attention = torch.cat([theirs[mask] for _, theirs, mask in seen] or [torch.zeros(0)])
    return {
        "texts": len(shared),
        "same_tokens": sum(original.tokens[row_id] == reader.tokens[row_id] for row_id in shared),
        "numbers": errors.numel(),
        "mean_error": float(errors.mean()) if errors.numel() else None,
        "max_error": float(errors.max()) if errors.numel() else None,
        "mean_attention": float(attention.mean()) if errors.numel() else None,
    }
