"""Reading a long text in parts: chunks of queries against the cached keys and values of the tokens before.

A step's attention is a sum over its tokens, so the sums of the chunks add up to those of one pass over the whole text.
A chunk of C tokens needs memory for its hidden states and logits, for C × J weights of a layer's J key tokens, and for
the steps that it has, on the keys before its end. Nothing is as long as the text but the cache and what the caller
keeps.

Legend: B batch, R examples that take part, T tokens, C tokens of a chunk, L layers (or the heads of all of them),
J key tokens, S steps, K keys, V vocabulary.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from molsaki.attention.capture import Capture
from molsaki.attention.kernel_choice import Kernel
from molsaki.attention.layers import expected_layers, inner_units
from molsaki.attention.reading import read_many_spans, read_pass
from molsaki.attention.span_index import SpanRequest

CHUNK_BYTES = 1 << 30
"""The default bound on the memory that a chunk needs, beside weights and cache, on a CPU."""
_SHARE = 8
"""On a GPU the bound is this part of its memory, if that is more."""
_SMALLEST = 64

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a pass over some tokens gives.

    Attributes:
        end: the position after the last of them.
        attention: for each request [R, L, S_c, K_c], the attention of some steps on the first K_c keys, summed over
            the chunk's tokens.
        first_steps: for each request, the first of these steps.
        final_steps: for each request, the first step that has tokens in later chunks; those before it are complete.
        logits: [B, N, V], of the last N tokens of the chunk; None if none of them is wanted.
    """

    end: int
    attention: tuple[Tensor, ...]
    first_steps: tuple[int, ...]
    final_steps: tuple[int, ...]
    logits: Tensor | None


def chunk_tokens(
    model: PreTrainedModel,
    batch: int,
    tokens: int,
    requests: Sequence[SpanRequest],
    memory: int | None = None,
    *,
    logits: bool = False,
) -> int:
    """The largest chunk whose work stays within a bound of memory, at least 64 tokens.

    Args:
        model: the model.
        batch: B.
        tokens: T.
        requests: the steps and keys that are read.
        memory: the bound, in bytes; by default `CHUNK_BYTES`, and on a GPU an eighth of its memory if that is more.
        logits: the logits of all tokens are wanted too.
    """
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_attention_heads", None) or 1
    hidden = getattr(config, "hidden_size", None) or 1
    inner = inner_units(config)
    # The eager kernel has the scores of all keys, the others the weights of the key tokens; each twice in float32.
    # Without a request there is a mask of all tokens before.
    key_tokens = max((request.spans.key_RJ.shape[1] for request in requests), default=0)
    columns = tokens if config._attn_implementation == "eager" else key_tokens
    each = 8 * heads * columns + (8 * key_tokens if requests else 8 * tokens) + 4 * (4 * hidden + 3 * inner)
    # The sums of a chunk's own steps, of all layers.
    for request in requests:
        layers = config.num_hidden_layers * (heads if request.heads else 1)
        each += 8 * layers * request.spans.keys * request.spans.steps // tokens
    if logits:
        # In the model's type, and once more where a model caps or scales them.
        each += 2 * model.dtype.itemsize * config.vocab_size
    return max(_SMALLEST, (_bound(model.device) if memory is None else memory) // (batch * each))


def _bound(device: torch.device) -> int:
    if device.type != "cuda":
        return CHUNK_BYTES
    return max(CHUNK_BYTES, torch.cuda.get_device_properties(device).total_memory // _SHARE)


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
        _log_once(type(model).__name__, reason)
    return not reason


@lru_cache(maxsize=16)
def _log_once(name: str, reason: str) -> None:
    _logger.warning("Texts are read whole, and not in chunks, with %s: %s.", name, reason)


def read_in_chunks(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    requests: Sequence[SpanRequest],
    chunk: int,
    *,
    first_logit: int | None = None,
    keeps_logits: bool = True,
    kernel: Kernel = "auto",
) -> Iterator[Chunk]:
    """Read the stepwise attention on several sets of spans, one chunk of tokens after the other, without gradients.

    The chunks add up to the attention of `read_many_spans`, within rounding. A chunk as long as the text is one pass
    without a cache, of any model; without requests the model runs unchanged.

    Args:
        model: a model that `reads_in_chunks`, unless one chunk has the whole text.
        input_ids: LongTensor [B, T].
        attention_mask: [B, T], 1 at real tokens; None when all are.
        requests: the sets of spans; none for logits alone.
        chunk: C.
        first_logit: the position of the first logits that are wanted; None for none.
        keeps_logits: the model takes `logits_to_keep`; without it, it computes all logits of a chunk.
        kernel: as for `read_attention`.

    Raises:
        UnreadableModelError: as `read_attention`.
    """
    tokens = input_ids.shape[1]
    cache = DynamicCache() if chunk < tokens else None
    for first in range(0, tokens, chunk):
        end = min(first + chunk, tokens)
        parts = [request.spans.part(first, end) for request in requests]
        wanted = 0 if first_logit is None else max(0, end - max(first, first_logit))
        # A model computes one logit at least.
        options: dict[str, Any] = {"logits_to_keep": max(1, wanted)} if keeps_logits else {}
        mask = None if attention_mask is None else attention_mask[:, :end]
        asked = tuple(replace(request, spans=part) for request, (part, _) in zip(requests, parts, strict=True))
        attention, logits = _read_chunk(model, input_ids[:, first:end], mask, asked, cache, first, kernel, options)
        yield Chunk(
            end,
            attention,
            tuple(first_step for _, first_step in parts),
            tuple(request.spans.first_step_after(end) for request in requests),
            logits[:, -wanted:] if wanted else None,
        )


def _read_chunk(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    requests: tuple[SpanRequest, ...],
    cache: DynamicCache | None,
    past: int,
    kernel: Kernel,
    options: dict[str, Any],
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The attention of each request, and the logits."""
    cached = {"use_cache": False} if cache is None else {"past_key_values": cache, "use_cache": True}
    with torch.no_grad():
        if not requests:
            outputs = model(input_ids=input_ids, attention_mask=attention_mask, **cached, **options)
            return (), outputs.logits
        if cache is None:
            read = read_many_spans(model, input_ids, attention_mask, requests, kernel=kernel, **options)
        else:
            capture = Capture(model, requests, kernel, past=past)
            read = read_pass(model, input_ids, attention_mask, capture, {**cached, **options})
    return tuple(reading.attention for reading in read), read[0].outputs.logits
