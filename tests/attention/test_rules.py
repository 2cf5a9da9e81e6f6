"""Windows and padding on the left as rules: what they say, who hands them on, and what is computed from them."""

from __future__ import annotations

import pytest
import torch
from tiny_models import assert_same_gradients, gradients, make_batch, make_model, slow_stepwise_attention, weighted
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    chunked_causal_mask_function,
    sdpa_mask,
    sliding_window_causal_mask_function,
)

from molsaki.attention import capture, flex, fused, kernels, stepwise_attention
from molsaki.attention.rules import MaskRule, read_rule

CPU = torch.device("cpu")
WINDOW = {"sliding_window": 6}
WINDOWED = {
    "mistral": {},
    "gemma3": {},
    "qwen2": {**WINDOW, "use_sliding_window": True, "max_window_layers": 0},
    "phi3": WINDOW,
    "gpt_oss": {},
}


@pytest.fixture
def few_rows(monkeypatch):
    """So few rows at a time that the models here need several turns, the last one short."""
    monkeypatch.setattr(fused, "_ROWS", 3)


@pytest.fixture
def handed_on(monkeypatch):
    """What the mask interface gave to models."""
    given, make = [], capture.read_rule
    monkeypatch.setattr(capture, "read_rule", lambda *asked: given.append(make(*asked)) or given[-1])
    return given


def asked_for(tokens=7, window=None, padding=None, **more):
    function = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    return {
        "batch_size": 2,
        "q_length": tokens,
        "kv_length": tokens,
        "q_offset": 0,
        "kv_offset": 0,
        "mask_function": function,
        "attention_mask": padding,
        "allow_is_causal_skip": True,
        "local_size": window,
        "device": CPU,
        **more,
    }


@pytest.mark.parametrize("window", [None, 1, 3, 7, 9])
@pytest.mark.parametrize("starts", [(0, 0), (0, 3), (6, 2)])
def test_a_rule_says_what_transformers_writes_out(window, starts):
    padding = torch.arange(7) >= torch.tensor(starts)[:, None]
    asked = asked_for(window=window, padding=padding)
    rule = read_rule(asked, padded_on_the_right=False)
    expected = sdpa_mask(**{**asked, "allow_is_causal_skip": False})
    assert rule.is_causal_rule == (window in (None, 7, 9) and starts == (0, 0))
    assert rule.shape == expected.shape
    torch.testing.assert_close(rule.dense, expected, atol=0, rtol=0)
    # Every operation on it uses the mask.
    torch.testing.assert_close(~rule[:, :, 2:], ~expected[:, :, 2:], atol=0, rtol=0)
    torch.testing.assert_close(torch.where(rule, 1.0, 2.0), torch.where(expected, 1.0, 2.0), atol=0, rtol=0)
    assert "window" in repr(rule)


def test_padding_on_the_right_is_left_out():
    padding = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1] * 7]).bool()
    assert read_rule(asked_for(padding=padding), padded_on_the_right=False).is_causal_rule
    rule = read_rule(asked_for(window=3, padding=padding), padded_on_the_right=False)
    assert (rule.window, rule.starts) == (3, None)
    assert read_rule(asked_for(padding=padding.flip(1)), padded_on_the_right=True).is_causal_rule


@pytest.mark.parametrize(
    "more",
    [
        {"allow_is_causal_skip": False},
        {"kv_length": 9},
        {"q_offset": 2},
        {"local_size": 4, "mask_function": chunked_causal_mask_function(4, torch.zeros(2, dtype=torch.long))},
        {"mask_function": sliding_window_causal_mask_function(4)},
        {"local_size": 3, "mask_function": sliding_window_causal_mask_function(4)},
        {"local_size": 3, "mask_function": causal_mask_function},
        {"mask_function": and_masks(causal_mask_function, causal_mask_function)},
        {"attention_mask": torch.tensor([[1, 0, 1, 1, 1, 1, 1], [1] * 7]).bool()},
        {"attention_mask": torch.tensor([[0, 1, 1, 1, 1, 1, 0], [1] * 7]).bool()},
        {"attention_mask": torch.zeros(2, 7, dtype=torch.bool)},
    ],
)
def test_what_is_no_rule_is_written_out_by_transformers(more):
    assert read_rule(asked_for(**more), padded_on_the_right=False) is None


@pytest.mark.parametrize("architecture", WINDOWED)
@pytest.mark.parametrize("side", ["left", "right"])
def test_every_windowed_model_hands_a_rule_on(architecture, side, handed_on):
    model = make_model(architecture, **WINDOWED[architecture])
    stepwise_attention(model, *make_batch(side))
    assert 6 in {rule.window for rule in handed_on}
    assert {rule.starts for rule in handed_on} == {(0, 7, 3) if side == "left" else None}


def test_a_window_that_reaches_over_the_text_is_none(handed_on):
    stepwise_attention(make_model("mistral", sliding_window=20), *make_batch())
    assert [rule.is_causal_rule for rule in handed_on] == [True]


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("architecture", WINDOWED)
@pytest.mark.parametrize("side", ["left", "right"])
def test_windowed_models_are_read_as_the_reference_reads_them(architecture, side):
    model, batch = make_model(architecture, **WINDOWED[architecture]), make_batch(side)
    expected, outputs = slow_stepwise_attention(model, batch, labels=batch.labels)
    expected_gradients = gradients(model, weighted(expected) + outputs.loss)
    got, outputs = stepwise_attention(model, *batch, True, kernel="lse", labels=batch.labels)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert_same_gradients(gradients(model, weighted(got) + outputs.loss), expected_gradients)


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("architecture", [*WINDOWED, "llama"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_in_float64_the_whole_matrix_gives_the_same(architecture, side):
    model, batch = make_model(architecture, **WINDOWED.get(architecture, {})).double(), make_batch(side)
    if architecture == "gpt_oss":
        model.set_experts_implementation("eager")  # The other takes no float64.
    results = {}
    for kernel in ("lse", "eager"):
        attention, outputs = stepwise_attention(model, *batch, True, kernel=kernel, labels=batch.labels)
        results[kernel] = attention, outputs.loss, gradients(model, weighted(attention) + outputs.loss)
    for got, expected in zip(results["lse"][:2], results["eager"][:2], strict=True):
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)
    assert_same_gradients(results["lse"][2], results["eager"][2], 1e-8)


@pytest.mark.parametrize("rows", [1, 3, 4, 20])
@pytest.mark.parametrize("window", [1, 2, 5, 11, 12, 40])
def test_windowed_attention_and_its_gradients_are_those_of_the_whole_matrix(rows, window, monkeypatch):
    monkeypatch.setattr(fused, "_ROWS", rows)
    generator = torch.Generator().manual_seed(window)
    B, H, G, T, D = 2, 4, 2, 11, 3
    inputs = [torch.randn(B, heads, T, D, generator=generator, dtype=torch.float64) for heads in (H, G, G)]
    query, key, value = (x.requires_grad_() for x in inputs)
    out, log_sum_exp = fused.attention_with_log_sum_exp(
        query, key, value, None, is_causal=True, scale=0.7, window=window
    )
    scores = query @ key.repeat_interleave(H // G, 1).mT * 0.7
    scores = scores.masked_fill(~MaskRule(B, T, window, None, CPU).dense, -torch.inf)
    slow = torch.softmax(scores, -1) @ value.repeat_interleave(H // G, 1), scores.logsumexp(-1)
    weights = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in slow]
    losses = [sum((x * w).sum() for x, w in zip(pair, weights, strict=True)) for pair in ((out, log_sum_exp), slow)]
    torch.testing.assert_close(out, slow[0])
    torch.testing.assert_close(log_sum_exp, slow[1])
    for ours, theirs in zip(*(torch.autograd.grad(loss, (query, key, value)) for loss in losses), strict=True):
        torch.testing.assert_close(ours, theirs)


class Sizes(TorchDispatchMode):
    """The last two sizes of every tensor that is made."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.seen.update(tuple(x.shape[-2:]) for x in tree_iter(result) if isinstance(x, torch.Tensor))
        return result


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ["mistral", "gemma3", "gpt_oss"])
def test_no_pair_of_tokens_is_written_out(architecture, side, monkeypatch):
    monkeypatch.setattr(fused, "_ROWS", 8)
    model = make_model(architecture, max_position_embeddings=64)
    batch = make_batch(side, lengths=(53, 40), tokens=53)
    with Sizes() as sizes:
        weighted(stepwise_attention(model, *batch)).backward()
        assert (53, 53) not in sizes.seen
        stepwise_attention(model, *batch, kernel="eager")
        assert (53, 53) in sizes.seen


@pytest.mark.parametrize("tokens", [1, 127, 128, 130, 400, 512])
@pytest.mark.parametrize("window", [None, 1, 100, 128, 129, 300])
@pytest.mark.parametrize("starts", [None, (0, 5), (128, 390)])
def test_blocks_are_those_that_every_pair_of_tokens_gives(tokens, window, starts):
    if starts is not None:
        starts = tuple(min(start, tokens - 1) for start in starts)
    rule = MaskRule(2, tokens, window, starts, CPU)
    got = flex.blocks_of(rule)
    whole = rule.dense
    expected = create_block_mask(lambda b, _h, i, j: whole[b, 0, i, j], 2, 1, tokens, tokens, device="cpu")
    assert torch.equal(got.to_dense().expand(2, 1, -1, -1), expected.to_dense())
    for name in ("kv_num_blocks", "full_kv_num_blocks"):
        assert torch.equal(getattr(got, name).expand(2, 1, -1), getattr(expected, name)), name
    assert flex.blocks_of(rule) is got


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("architecture", ["mistral", "gemma3"])
def test_a_layer_that_nobody_reads_takes_the_rule_too(architecture, handed_on):
    model, batch = make_model(architecture), make_batch("right")
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    expected = model(**inputs).logits
    with capture.padded_on_the_right(model), torch.no_grad():
        got = model(**inputs).logits
    assert 6 in {rule.window for rule in handed_on}
    real = batch.attention_mask.bool()
    torch.testing.assert_close(got[real], expected[real], atol=1e-4, rtol=1e-4)
    # Dropout is not for the kernels that take a rule.
    module = model.model.layers[0].self_attn
    query, key, value = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    rule = MaskRule(1, 9, 3, None, CPU)
    options = {"scale": 0.5, "is_causal": False, "softcap": None, "sinks": None}
    by_rule, written = (
        kernels.plain(kernels.AttentionCall(module, query, key, value, mask, dropout, **options))
        for mask, dropout in ((rule, 1e-9), (rule.dense, 0.0))
    )
    torch.testing.assert_close(by_rule, written)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("side", ["left", "right"])
def test_compiled_layers_hand_it_on(side, handed_on):
    model, batch = make_model("gemma3"), make_batch(side)
    attention, outputs = stepwise_attention(model, *batch, True, labels=batch.labels)
    expected = gradients(model, weighted(attention) + outputs.loss)
    for layer in model.model.layers:
        layer.compile(backend="aot_eager")
    again, outputs = stepwise_attention(model, *batch, True, labels=batch.labels)
    torch.testing.assert_close(again, attention, atol=1e-5, rtol=0)
    assert_same_gradients(gradients(model, weighted(again) + outputs.loss), expected)
    assert all("dense" not in vars(rule) for rule in handed_on)
    torch._dynamo.reset()


def test_gradients_of_many_parts_are_rounded_once(few_rows):
    """In bfloat16 no farther from float64 than SDPA's with the mask written out, within a few percent."""
    torch.manual_seed(0)
    window, tokens = 60, 80
    rows = torch.randn(4, 1, 2, tokens, 16).bfloat16()
    mask = MaskRule(1, tokens, window, None, CPU).dense

    def gradient(dtype, attention):
        query, key, value = (x.to(dtype).requires_grad_() for x in rows[:3])
        return torch.autograd.grad(attention(query, key, value), (key, value), rows[3].to(dtype))

    def sdpa(query, key, value):
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.25)

    def windowed(*parts):
        return fused.attention_with_log_sum_exp(*parts, None, is_causal=True, scale=0.25, window=window)[0]

    exact, plain, ours = (
        gradient(torch.float64, sdpa),
        gradient(torch.bfloat16, sdpa),
        gradient(torch.bfloat16, windowed),
    )
    for of_exact, of_plain, of_ours in zip(exact, plain, ours, strict=True):
        assert (of_ours - of_exact).norm() <= 1.15 * (of_plain - of_exact).norm()
