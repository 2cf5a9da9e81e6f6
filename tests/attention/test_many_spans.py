"""Several sets of spans in one forward pass are what each gives in a pass of its own, number for number."""

from __future__ import annotations

import pytest
import torch
from tiny_models import assert_same_gradients, gradients, make_batch, make_model, slow_stepwise_attention, weighted

from molsaki.attention import SpanRequest, read_many_spans, read_spans
from molsaki.attention.span_index import make_span_index
from molsaki.errors import InputError, UnreadableModelError

ARCHITECTURES = ("llama", "gpt2", "gemma2", "gemma3", "gpt_oss")


def requests_of(batch):
    """The batch's steps and keys by mean and by head, and other spans of some examples."""
    spans = make_span_index(batch.step_of_token, batch.key_of_token, batch.attention_mask)
    real = batch.attention_mask.bool()
    words = (real.cumsum(1) - 1).masked_fill(~real, -1)
    some = make_span_index(words // 2, words, batch.attention_mask, torch.tensor([0, 2]))
    return [SpanRequest(spans), SpanRequest(spans, heads=True), SpanRequest(some)]


@pytest.mark.parametrize("kernel", ["auto", "second-pass", "eager"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_pass_gives_what_separate_passes_give(architecture, side, kernel):
    if kernel == "second-pass" and architecture in ("gemma2", "gpt_oss"):
        pytest.skip("fused attention knows neither soft caps nor sinks")
    model, batch = make_model(architecture), make_batch(side)
    inputs = (batch.input_ids, batch.attention_mask)
    requests = requests_of(batch)
    with torch.no_grad():
        together = read_many_spans(model, *inputs, requests, kernel=kernel)
        for request, reading in zip(requests, together, strict=True):
            alone = read_spans(model, *inputs, request.spans, heads=request.heads, kernel=kernel)
            assert torch.equal(reading.attention, alone.attention)
            assert torch.equal(reading.outputs.logits, alone.outputs.logits)
            assert reading.heads == alone.heads
    expected, outputs = slow_stepwise_attention(model, batch)
    torch.testing.assert_close(together[0].attention, expected, atol=1e-5, rtol=1e-4)
    real = batch.attention_mask.bool()
    torch.testing.assert_close(together[0].outputs.logits[real], outputs.logits[real], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_pass_has_the_gradients_of_all(architecture):
    model, batch = make_model(architecture), make_batch("left")
    requests = requests_of(batch)
    expected = gradients(
        model,
        sum(
            weighted(read_spans(model, batch.input_ids, batch.attention_mask, r.spans, heads=r.heads).attention)
            for r in requests
        ),
    )
    together = read_many_spans(model, batch.input_ids, batch.attention_mask, requests)
    assert_same_gradients(gradients(model, sum(weighted(reading.attention) for reading in together)), expected)


def test_the_model_runs_once(monkeypatch):
    model, batch = make_model("llama"), make_batch()
    runs = []
    model.register_forward_pre_hook(lambda *_: runs.append(1))
    read_many_spans(model, batch.input_ids, batch.attention_mask, requests_of(batch))
    assert len(runs) == 1


def test_what_cannot_be_read_is_refused_as_for_one():
    model, batch = make_model("llama"), make_batch()
    with pytest.raises(InputError, match="use_cache"):
        read_many_spans(model, batch.input_ids, batch.attention_mask, requests_of(batch), use_cache=True)
    with pytest.raises(UnreadableModelError, match="Linear"):
        read_many_spans(torch.nn.Linear(2, 2), batch.input_ids, batch.attention_mask, requests_of(batch))
