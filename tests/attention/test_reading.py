"""Reading equals the slow reference: every architecture, side of padding and kernel, values and gradients."""

from __future__ import annotations

import pytest
import torch
from tiny_models import (
    ARCHITECTURES,
    LAYERS,
    assert_same_gradients,
    enable_checkpointing,
    gradients,
    make_batch,
    make_model,
    slow_stepwise_attention,
    weighted,
)

from molsaki.attention import read_attention, stepwise_attention
from molsaki.errors import InputError, UnreadableModelError


def check_against_reference(model, batch, kernel="auto", heads=False):
    expected, outputs = slow_stepwise_attention(model, batch, heads, labels=batch.labels)
    expected_gradients = gradients(model, weighted(expected) + outputs.loss)
    if heads:
        reading = read_attention(model, *batch, heads=True, kernel=kernel, labels=batch.labels)
        attention, got = reading.attention, reading.outputs
        assert reading.heads == (model.config.num_attention_heads,) * model.config.num_hidden_layers
    else:
        attention, got = stepwise_attention(model, *batch, True, kernel=kernel, labels=batch.labels)
    assert attention.dtype == torch.float32
    torch.testing.assert_close(attention, expected, atol=1e-5, rtol=0)
    assert_same_gradients(gradients(model, weighted(attention) + got.loss), expected_gradients)
    real = batch.attention_mask.bool()
    torch.testing.assert_close(got.logits[real], outputs.logits[real], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got.loss, outputs.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_read_as_the_reference_reads_it(architecture, side):
    check_against_reference(make_model(architecture), make_batch(side))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "architecture", ["gpt2", "llama", "mistral", "gemma2", "gemma3", "gpt_oss", "qwen3", "stablelm"]
)
def test_each_head_is_read_as_the_reference_reads_it(architecture, side):
    check_against_reference(make_model(architecture), make_batch(side), heads=True)


@pytest.mark.parametrize("heads", [False, True], ids=["mean", "each"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kernel", ["second-pass", "eager"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "mistral", "gemma3"])
def test_every_kernel_gives_the_same(architecture, kernel, side, heads):
    check_against_reference(make_model(architecture), make_batch(side), kernel, heads)


@pytest.mark.parametrize("heads", [False, True], ids=["mean", "each"])
@pytest.mark.parametrize("architecture", ["gemma2", "gpt_oss"])
def test_soft_caps_and_sinks_are_in_the_eager_kernel(architecture, heads):
    check_against_reference(make_model(architecture), make_batch(), "eager", heads)


@pytest.mark.parametrize("heads", [False, True], ids=["mean", "each"])
def test_a_second_pass_takes_more_keys_than_the_head_is_wide(heads):
    model, batch = make_model("llama", num_attention_heads=8, num_key_value_heads=4), make_batch()
    assert model.config.head_dim < int(batch.key_of_token.max()) + 1
    check_against_reference(model, batch, "second-pass", heads)


@pytest.mark.parametrize("rows", [None, torch.tensor([2, 0])])
def test_the_mean_of_the_heads_is_the_mean_that_is_read(rows):
    model, batch = make_model("llama"), make_batch()
    each = read_attention(model, *batch, rows=rows, heads=True)
    mean = read_attention(model, *batch, rows=rows)
    assert mean.heads is None
    torch.testing.assert_close(each.attention.unflatten(1, (LAYERS, -1)).mean(2), mean.attention, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("heads", [False, True], ids=["mean", "each"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "mistral", "gemma2", "gpt_oss", "stablelm"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_gradient_checkpointing_changes_nothing(architecture, side, heads):
    model, batch = make_model(architecture), make_batch(side)
    once = read_attention(model, *batch, heads=heads, labels=batch.labels)
    expected = gradients(model, weighted(once.attention) + once.outputs.loss)
    enable_checkpointing(model)
    again = read_attention(model, *batch, heads=heads, labels=batch.labels)
    torch.testing.assert_close(again.attention, once.attention, atol=1e-6, rtol=0)
    # The backward pass runs the layers again when the model has long been switched back.
    assert model.config._attn_implementation in ("sdpa", "eager")
    assert_same_gradients(gradients(model, weighted(again.attention) + again.outputs.loss), expected, 1e-5)
    assert model.config._attn_implementation in ("sdpa", "eager")


def test_checkpointing_with_use_reentrant_is_refused_by_name():
    model = make_model("llama")
    enable_checkpointing(model, use_reentrant=True)
    embeddings = model.get_input_embeddings()
    embeddings.register_forward_hook(lambda _module, _inputs, output: output.requires_grad_())
    with pytest.raises(UnreadableModelError, match=r"layers\.0\.self_attn.*use_reentrant"):
        stepwise_attention(model, *make_batch())


def test_checkpointing_leaves_nothing_alive():
    import gc
    import weakref

    model, batch = make_model("llama"), make_batch()
    enable_checkpointing(model)
    reading = read_attention(model, *batch, values=True)
    alive = weakref.ref(reading.attention)
    gc.collect()
    gc.disable()
    try:
        del reading
        assert alive() is None
    finally:
        gc.enable()


def test_without_gradients_and_in_inference_mode():
    model, batch = make_model("llama"), make_batch()
    expected, _ = slow_stepwise_attention(model, batch)
    with torch.no_grad():
        attention = stepwise_attention(model, *batch)
    assert not attention.requires_grad
    torch.testing.assert_close(attention, expected, atol=1e-5, rtol=0)
    with torch.inference_mode():
        torch.testing.assert_close(stepwise_attention(model, *batch), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", ["right", "left"])
def test_alone_or_in_a_padded_batch(side):
    model, batch = make_model("mistral"), make_batch(side)
    together = stepwise_attention(model, *batch)
    for index in range(3):
        alone = stepwise_attention(model, *batch.example(index))
        torch.testing.assert_close(alone[0], together[index], atol=1e-5, rtol=0)


def test_no_mask_is_a_mask_of_ones():
    model, batch = make_model("llama"), make_batch(lengths=(20, 20))
    ids, _, step, key = batch
    torch.testing.assert_close(stepwise_attention(model, ids, None, step, key), stepwise_attention(model, *batch))


def test_one_batch_or_accumulated():
    model, batch = make_model("qwen2"), make_batch()
    generator = torch.Generator().manual_seed(3)
    attention = stepwise_attention(model, *batch)
    weights = torch.randn(attention.shape, generator=generator)
    expected = gradients(model, (attention * weights).sum())
    model.zero_grad()
    for index in range(3):
        (stepwise_attention(model, *(x[index : index + 1] for x in batch)) * weights[index]).sum().backward()
    got = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert_same_gradients(got, expected)


@pytest.mark.parametrize("kernel", ["auto", "second-pass", "eager"])
@pytest.mark.parametrize("rows", [torch.tensor([2, 0]), torch.tensor([False, True, True])])
@pytest.mark.parametrize("side", ["right", "left"])
def test_only_some_rows_take_part(rows, kernel, side):
    model, batch = make_model("llama"), make_batch(side)
    everything = read_attention(model, *batch, values=True, labels=batch.labels)
    real = batch.attention_mask[rows].bool()
    loss = weighted(everything.attention[rows]) + everything.outputs.loss
    expected = gradients(model, loss + sum(v[rows][real].square().sum() for v in everything.values))
    some = read_attention(model, *batch, rows=rows, values=True, kernel=kernel, labels=batch.labels)
    torch.testing.assert_close(some.attention, everything.attention[rows], atol=1e-5, rtol=0)
    loss = weighted(some.attention) + some.outputs.loss
    assert_same_gradients(gradients(model, loss + sum(v[real].square().sum() for v in some.values)), expected)


def test_value_states_are_the_projections_before_heads_share_them():
    model, batch = make_model("llama"), make_batch()
    seen = []
    for layer in model.model.layers:
        layer.self_attn.v_proj.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    reading = read_attention(model, *batch, values=True)
    assert len(reading.values) == LAYERS
    for values, projected in zip(reading.values, seen, strict=True):
        torch.testing.assert_close(values, projected, atol=0, rtol=0)
    assert read_attention(model, *batch).values is None


@pytest.mark.parametrize("kernel", ["lse", "second-pass", "eager"])
def test_autocast_to_bfloat16_is_near_float32_and_no_further_than_the_reference(kernel):
    model, batch = make_model("llama"), make_batch()
    exact, _ = slow_stepwise_attention(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reference, _ = slow_stepwise_attention(model, batch)
        attention, outputs = stepwise_attention(model, *batch, True, kernel=kernel, labels=batch.labels)
    assert attention.dtype == torch.float32
    assert (attention - exact).abs().max() <= 2 * (reference - exact).abs().max() + 1e-3
    exact_gradients = gradients(model, weighted(exact))
    got = gradients(model, weighted(attention) + 0 * outputs.loss)
    for name, gradient in exact_gradients.items():
        if float(gradient.norm()) > 1e-3:
            similarity = torch.cosine_similarity(got[name].flatten(), gradient.flatten(), dim=0)
            assert similarity > 0.98, (name, float(similarity))


def test_a_bfloat16_model_gives_float32():
    model, batch = make_model("llama").bfloat16(), make_batch("left")
    attention = stepwise_attention(model, *batch)
    assert attention.dtype == torch.float32
    expected, _ = slow_stepwise_attention(model.float(), batch)
    torch.testing.assert_close(attention, expected, atol=0.15, rtol=0.05)


def test_a_float64_model_gives_float64():
    model, batch = make_model("llama").double(), make_batch()
    expected, _ = slow_stepwise_attention(model, batch)
    attention = stepwise_attention(model, *batch)
    assert attention.dtype == torch.float64
    torch.testing.assert_close(attention, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("kernel", ["auto", "eager"])
def test_dropout_is_in_the_outputs_and_not_in_the_weights(kernel):
    model, batch = make_model("gpt2", attn_pdrop=0.5), make_batch(lengths=(20, 20))
    first_layer = stepwise_attention(model, *batch)[:, 0]
    calm = model(input_ids=batch.input_ids).logits
    model.train()
    attention, outputs = stepwise_attention(model, *batch, True, kernel=kernel)
    torch.testing.assert_close(attention[:, 0], first_layer, atol=1e-5, rtol=0)
    assert (outputs.logits - calm).abs().max() > 0.01


@pytest.mark.parametrize(("kernel", "architecture"), [("lse", "gemma2"), ("second-pass", "gpt_oss")])
def test_a_kernel_that_cannot_serve_is_refused(kernel, architecture):
    with pytest.raises(InputError, match=rf'"{kernel}".*(soft cap|sinks)'):
        stepwise_attention(make_model(architecture), *make_batch(), kernel=kernel)


def test_lse_is_refused_where_attention_has_dropout():
    model = make_model("gpt2", attn_pdrop=0.1).train()
    with pytest.raises(InputError, match=r"dropout of 0\.1"):
        stepwise_attention(model, *make_batch(), kernel="lse")


@pytest.mark.parametrize(
    "inputs", [{"use_cache": True}, {"output_attentions": True}, {"kernel": "fast"}, {"past_key_values": object()}]
)
def test_inputs_that_do_not_go_with_a_reading_are_refused(inputs):
    with pytest.raises(InputError, match=next(iter(inputs))):
        stepwise_attention(make_model("llama"), *make_batch(), **inputs)


@pytest.mark.parametrize("read", [read_attention, stepwise_attention])
@pytest.mark.parametrize("ids", [True, False], ids=["beside ids", "without ids"])
def test_embeddings_instead_of_ids_are_refused_by_name(read, ids):
    """Without ids the model would fail inside, or the number of examples would not be checked."""
    model, (input_ids, mask, step, key) = make_model("llama"), make_batch()
    embedded = model.get_input_embeddings()(input_ids)
    with pytest.raises(InputError, match="inputs_embeds"):
        read(model, input_ids if ids else None, mask, step, key, inputs_embeds=embedded)


@pytest.mark.parametrize(("ids", "spans"), [(1, 3), (3, 1)])
def test_spans_of_more_or_fewer_examples_than_there_are_are_refused(ids, spans):
    inputs, _, step, key = make_batch()
    inputs, step, key = (x[:1].expand(n, -1) for x, n in ((inputs, ids), (step, spans), (key, spans)))
    with pytest.raises(InputError, match=f"as many examples as input_ids has, {ids}; got {spans}"):
        stepwise_attention(make_model("llama"), inputs, None, step, key)
