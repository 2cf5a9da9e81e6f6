"""Reading a long text in parts: chunks of queries against the cached keys and values of the tokens before.

A step's attention is a sum over its tokens, so the sums of the chunks add up to those of one pass over the whole text.
A chunk of C tokens at the end of T needs memory for C × T of a mask and C × J weights of a layer's J key tokens, not
for T × T or T × J; beside it there are the cache and the result.

Legend: B batch, T tokens, C tokens of a chunk, J key tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from molsaki.attention.capture import Capture
from molsaki.attention.kernels import Kernel
from molsaki.attention.layers import expected_layers
from molsaki.attention.reading import AttentionReading, read_pass
from molsaki.attention.span_index import SpanRequest

CHUNK_BYTES = 1 << 30
"""The default bound on the memory that one layer needs for a chunk, beside weights and cache."""
_SMALLEST = 64

_logger = logging.getLogger(__name__)


def chunk_tokens(
    model: PreTrainedModel, batch: int, tokens: int, requests: Sequence[SpanRequest], memory: int = CHUNK_BYTES
) -> int:
    """The largest chunk whose work in one layer stays within a bound of memory, at least 64 tokens.

    Args:
        model: the model.
        batch: B.
        tokens: T.
        requests: the steps and keys that are read.
        memory: the bound, in bytes.
    """
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_attention_heads", None) or 1
    hidden = getattr(config, "hidden_size", None) or 1
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    # The eager kernel has the scores of all keys, the others the weights of the key tokens; each twice in float32.
    keys = max((request.spans.key_RJ.shape[1] for request in requests), default=0)
    columns = tokens if config._attn_implementation == "eager" else keys
    each = 8 * heads * columns + 8 * tokens + 4 * (4 * hidden + 3 * inner)
    return max(_SMALLEST, memory // (batch * each))


def reads_in_chunks(model: PreTrainedModel) -> bool:
    """Whether a model can be read in chunks: every layer has softmax attention, and keys and values can be cached.

    Where it cannot, the reason is logged once.
    """
    reason = ""
    if not expected_layers(model.config).is_whole or "hybrid" in str(getattr(model.config, "layer_types", "")):
        reason = "some of its layers have a state, not keys and values"
    elif "past_key_values" not in inspect.signature(model.forward).parameters:
        reason = "its keys and values cannot be cached"
    if reason:
        _say_once(type(model).__name__, reason)
    return not reason


@lru_cache(maxsize=16)
def _say_once(name: str, reason: str) -> None:
    _logger.warning("Texts are read whole, and not in chunks, with %s: %s.", name, reason)


def read_in_chunks(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    requests: Sequence[SpanRequest],
    chunk: int,
    *,
    kernel: Kernel = "auto",
    **model_inputs: Any,
) -> tuple[list[AttentionReading], Tensor]:
    """Read the stepwise attention on several sets of spans, one chunk of tokens after the other, without gradients.

    The same attention as that of `read_many_spans`, within rounding.

    Args:
        model: a model that `reads_in_chunks`.
        input_ids: LongTensor [B, T].
        attention_mask: [B, T], 1 at real tokens; None when all are.
        requests: the sets of spans, at least one.
        chunk: C.
        kernel: as for `read_attention`.
        **model_inputs: passed to the model. Of `logits_to_keep: N`, every chunk computes its part.

    Returns:
        A reading for each request, whose outputs are those of the last chunk, and the logits [B, N, V] of the last N
        tokens (of all, if the model takes no `logits_to_keep`).

    Raises:
        UnreadableModelError: as `read_attention`.
    """
    tokens = input_ids.shape[1]
    kept = model_inputs.pop("logits_to_keep", None)
    cache = DynamicCache()
    total: list[AttentionReading] = []
    logits: list[Tensor] = []
    for first in range(0, tokens, chunk):
        end = min(first + chunk, tokens)
        parts = tuple(replace(request, spans=request.spans.part(first, end)) for request in requests)
        # The tokens of this chunk among the last `kept`; a model computes one logit at least.
        wanted = end - first if kept is None else max(0, end - max(first, tokens - kept))
        options = {} if kept is None else {"logits_to_keep": max(1, wanted)}
        with torch.no_grad():
            read = read_pass(
                model,
                input_ids[:, first:end],
                None if attention_mask is None else attention_mask[:, :end],
                Capture(model, parts, kernel, past=first),
                {"past_key_values": cache, "use_cache": True, **model_inputs, **options},
            )
        if wanted:
            logits.append(read[0].outputs.logits)
        total = [
            now if not total else replace(now, attention=before.attention + now.attention)
            for before, now in zip(total or read, read, strict=True)
        ]
    return total, torch.cat(logits, 1)
