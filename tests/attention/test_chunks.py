"""A text that is read in chunks has the attention and the logits of one pass over the whole of it."""

from __future__ import annotations

import logging

import pytest
import torch
from tiny_models import make_batch, make_hybrid, make_model, slow_stepwise_attention

from molsaki.attention import SpanRequest
from molsaki.attention.chunks import chunk_tokens, read_in_chunks, reads_in_chunks
from molsaki.attention.fused import attention_with_log_sum_exp
from molsaki.attention.rules import MaskRule
from molsaki.attention.span_index import make_span_index


def requests_of(batch, heads=False):
    spans = make_span_index(batch.step_of_token, batch.key_of_token, batch.attention_mask)
    return [SpanRequest(spans, heads)]


def add_up(model, batch, requests, chunk, **options):
    """The attention of one request [R, L, S, K], and the logits, from all chunks."""
    attention, logits = None, []
    for part in read_in_chunks(model, batch.input_ids, batch.attention_mask, requests, chunk, **options):
        if requests:
            spans, (found,), (first,) = requests[0].spans, part.attention, part.first_steps
            if attention is None:
                attention = found.new_zeros(*found.shape[:2], spans.steps, spans.keys)
            attention[:, :, first : first + found.shape[2], : found.shape[3]] += found
        logits += [part.logits] if part.logits is not None else []
    return attention, torch.cat(logits, 1) if logits else None


# Grouped heads, learned positions, positions from the mask, windows, soft caps, sinks.
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "mistral", "gemma2", "gemma3", "gpt_oss"])
@pytest.mark.parametrize("chunk", [1, 7, 20])
@pytest.mark.parametrize("side", ["right", "left"])
def test_chunks_add_up_to_the_slow_reference(name, chunk, side):
    model, batch = make_model(name), make_batch(side)
    with torch.no_grad():
        expected, outputs = slow_stepwise_attention(model, batch)
    attention, logits = add_up(model, batch, requests_of(batch), chunk, first_logit=11)
    torch.testing.assert_close(attention, expected, atol=1e-5, rtol=0)
    real = batch.attention_mask[:, -9:].bool()
    torch.testing.assert_close(logits[real], outputs.logits[:, -9:][real], atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("kernel", ["lse", "flex", "second-pass", "eager"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_every_kernel_and_each_head(kernel, side):
    model, batch = make_model("mistral", head_dim=16), make_batch(side)
    with torch.no_grad():
        expected, _ = slow_stepwise_attention(model, batch, heads=True)
    attention, _ = add_up(model, batch, requests_of(batch, heads=True), 6, kernel=kernel)
    torch.testing.assert_close(attention, expected, atol=1e-5, rtol=0)


def test_some_examples_of_a_batch():
    model, batch = make_model("llama"), make_batch()
    expected, _ = slow_stepwise_attention(model, batch)
    rows = torch.tensor([2])
    spans = make_span_index(batch.step_of_token, batch.key_of_token, batch.attention_mask, rows)
    attention, _ = add_up(model, batch, [SpanRequest(spans)], 3)
    torch.testing.assert_close(attention, expected[rows].detach(), atol=1e-5, rtol=0)


def test_a_chunk_has_its_own_steps_alone_and_says_which_are_complete():
    model, batch = make_model("llama"), make_batch()
    requests = requests_of(batch)
    spans, seen = requests[0].spans, []
    for part in read_in_chunks(model, batch.input_ids, batch.attention_mask, requests, 5):
        end, steps = part.end, spans.step_RT[:, part.end - 5 : part.end]
        assert part.first_steps[0] == min(int(steps.min()), spans.steps - 1)
        assert part.attention[0].shape[2] <= len(steps[steps < spans.steps].unique()) + 1
        later = spans.step_RT[:, end:]
        assert part.final_steps[0] == (int(later.min()) if later.numel() else spans.steps)
        seen.append(part.attention[0].shape[2])
    assert max(seen) < spans.steps


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_logits_alone_in_chunks_are_those_of_one_pass(name):
    model, batch = make_model(name), make_batch()
    with torch.no_grad():
        expected = model(batch.input_ids, attention_mask=batch.attention_mask).logits
    _, logits = add_up(model, batch, [], 7, first_logit=4)
    real = batch.attention_mask[:, 4:].bool()
    torch.testing.assert_close(logits[real], expected[:, 4:][real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 5, 9])
def test_a_part_of_a_text_has_the_gradients_of_the_whole(window):
    """The fused kernel in two calls (all tokens before, then the part's own), and with a window in blocks of rows."""
    torch.manual_seed(0)
    leaves = [torch.randn(2, heads, tokens, 8, requires_grad=True) for heads, tokens in ((4, 6), (2, 16), (2, 16))]
    mask = MaskRule(2, 6, window, None, torch.device("cpu"), 10).dense
    weight = torch.randn(2, 4, 6)

    def gradients(attention):
        out, log_sum_exp = attention()
        loss = (out * torch.arange(8.0)).sum() + (log_sum_exp * weight).sum()
        return out, log_sum_exp, torch.autograd.grad(loss, leaves)

    def slow():
        query, key, value = leaves
        key, value = (x.repeat_interleave(2, 1) for x in (key, value))
        scores = (query @ key.mT * 0.3).masked_fill(~mask, -torch.inf)
        return scores.softmax(-1) @ value, scores.logsumexp(-1)

    fast = gradients(lambda: attention_with_log_sum_exp(*leaves, None, is_causal=True, scale=0.3, window=window))
    torch.testing.assert_close(fast, gradients(slow), atol=1e-5, rtol=1e-4)


def test_a_model_with_states_is_read_whole_and_that_is_said_once(caplog):
    model = make_hybrid("lfm2")
    with caplog.at_level(logging.WARNING, logger="molsaki"):
        assert not reads_in_chunks(model)
        assert not reads_in_chunks(model)
    assert len([record for record in caplog.records if "read whole" in record.getMessage()]) == 1
    assert reads_in_chunks(make_model("llama"))


def test_a_chunk_shrinks_with_what_each_token_needs():
    model, requests = make_model("llama"), requests_of(make_batch())
    assert chunk_tokens(model, 1, 20, requests, memory=1) == 64
    most = chunk_tokens(model, 1, 20, requests)
    assert chunk_tokens(model, 2, 20, requests) <= most // 2
    assert chunk_tokens(model, 1, 20, requests, logits=True) < most
    assert chunk_tokens(model, 1, 20, requests_of(make_batch(), heads=True)) < most
