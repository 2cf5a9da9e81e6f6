"""A text that is read in chunks has the attention and the logits of one pass over the whole of it."""

from __future__ import annotations

import logging

import pytest
import torch
from tiny_models import make_batch, make_hybrid, make_model, slow_stepwise_attention

from molsaki.attention import SpanRequest
from molsaki.attention.chunks import chunk_tokens, read_in_chunks, reads_in_chunks
from molsaki.attention.span_index import make_span_index


def requests_of(batch, heads=False):
    spans = make_span_index(batch.step_of_token, batch.key_of_token, batch.attention_mask)
    return [SpanRequest(spans, heads)]


# Grouped heads, learned positions, positions from the mask, windows, soft caps, sinks.
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "mistral", "gemma2", "gemma3", "gpt_oss"])
@pytest.mark.parametrize("chunk", [1, 7, 20])
@pytest.mark.parametrize("side", ["right", "left"])
def test_chunks_add_up_to_the_slow_reference(name, chunk, side):
    model, batch = make_model(name), make_batch(side)
    with torch.no_grad():
        expected, outputs = slow_stepwise_attention(model, batch)
    (reading,), logits = read_in_chunks(
        model, batch.input_ids, batch.attention_mask, requests_of(batch), chunk, logits_to_keep=9
    )
    torch.testing.assert_close(reading.attention, expected, atol=1e-5, rtol=0)
    real = batch.attention_mask[:, -9:].bool()
    torch.testing.assert_close(logits[real], outputs.logits[:, -9:][real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["lse", "second-pass", "eager"])
def test_every_kernel_and_each_head(kernel):
    model, batch = make_model("mistral"), make_batch()
    with torch.no_grad():
        expected, _ = slow_stepwise_attention(model, batch, heads=True)
    arguments = (model, batch.input_ids, batch.attention_mask, requests_of(batch, heads=True), 6)
    (reading,), _ = read_in_chunks(*arguments, kernel=kernel)
    torch.testing.assert_close(reading.attention, expected, atol=1e-5, rtol=0)


def test_some_examples_of_a_batch():
    model, batch = make_model("llama"), make_batch()
    expected, _ = slow_stepwise_attention(model, batch)
    rows = torch.tensor([2])
    spans = make_span_index(batch.step_of_token, batch.key_of_token, batch.attention_mask, rows)
    (reading,), _ = read_in_chunks(model, batch.input_ids, batch.attention_mask, [SpanRequest(spans)], 3)
    torch.testing.assert_close(reading.attention, expected[rows].detach(), atol=1e-5, rtol=0)


def test_a_model_with_states_is_read_whole_and_that_is_said_once(caplog):
    model = make_hybrid("lfm2")
    with caplog.at_level(logging.WARNING, logger="molsaki"):
        assert not reads_in_chunks(model)
        assert not reads_in_chunks(model)
    assert len([record for record in caplog.records if "read whole" in record.getMessage()]) == 1
    assert reads_in_chunks(make_model("llama"))


def test_a_chunk_grows_with_the_bound_and_shrinks_with_the_text():
    model, requests = make_model("llama"), requests_of(make_batch())
    assert chunk_tokens(model, 1, 20, requests, memory=1) == 64
    small, large = (chunk_tokens(model, 1, tokens, requests) for tokens in (1 << 15, 1 << 10))
    assert small < large
    assert chunk_tokens(model, 2, 1 << 15, requests) <= small // 2
