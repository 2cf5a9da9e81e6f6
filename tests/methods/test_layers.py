"""Eq. 4 and Eq. 5 against loops, padding that changes nothing, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.errors import InputError
from molsaki.methods.layers import mix_layers, teacher_layer_weights
from molsaki.methods.router import LayerRouter


def slow_layer_weights(attention_LSK, temperature, change):
    changes = []
    if change == "rows":
        attention_LSK = attention_LSK / attention_LSK.sum(2, keepdim=True)
    L, S, K = attention_LSK.shape
    for layer in range(L):
        total = 0.0
        for s in range(S):
            for k in range(K - 1):
                total += abs(float(attention_LSK[layer, s, k + 1]) - float(attention_LSK[layer, s, k]))
        changes.append(total / {"sum": 1, "mean": S * max(K - 1, 1), "rows": S}[change])
    return torch.softmax(torch.tensor(changes) / temperature, 0)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=3),
    change=st.sampled_from(["sum", "mean", "rows"]),
    seed=st.integers(0, 99),
)
def test_teacher_weights_are_eq_4_whatever_the_padding_holds(sizes, change, seed):
    generator = torch.Generator().manual_seed(seed)
    B, L, S, K = len(sizes), 3, max(s for s, _ in sizes) + 1, max(k for _, k in sizes) + 1
    attention = torch.rand(B, L, S, K, generator=generator)
    step_mask, key_mask = torch.zeros(B, S, dtype=torch.bool), torch.zeros(B, K, dtype=torch.bool)
    for b, (s, k) in enumerate(sizes):
        step_mask[b, torch.randperm(S, generator=generator)[:s]] = True
        key_mask[b, torch.randperm(K, generator=generator)[:k]] = True
    padded = attention.masked_fill(~(step_mask[:, None, :, None] & key_mask[:, None, None, :]), torch.nan)
    got = teacher_layer_weights(padded, step_mask, key_mask, 0.1, change=change)
    for b in range(B):
        alone = attention[b][:, step_mask[b]][:, :, key_mask[b]]
        torch.testing.assert_close(got[b], slow_layer_weights(alone, 0.1, change), atol=1e-5, rtol=1e-5)


def test_one_key_gives_uniform_weights():
    weights = teacher_layer_weights(torch.rand(1, 4, 3, 1), torch.ones(1, 3), torch.ones(1, 1))
    torch.testing.assert_close(weights, torch.full((1, 4), 0.25))


def test_a_layer_whose_attention_changes_more_weighs_more():
    attention = torch.zeros(1, 2, 2, 4)
    attention[0, 1, :, ::2] = 1.0
    weights = teacher_layer_weights(attention, torch.ones(1, 2), torch.ones(1, 4))
    assert weights[0, 1] > 0.99


def test_mixing_is_the_weighted_sum():
    attention, weights = torch.rand(2, 3, 4, 5), torch.softmax(torch.rand(2, 3), 1)
    expected = torch.stack([sum(weights[b, n] * attention[b, n] for n in range(3)) for b in range(2)])
    torch.testing.assert_close(mix_layers(attention, weights), expected)
    with pytest.raises(InputError, match="one weight for each example and layer"):
        mix_layers(attention, weights[:1])


@pytest.mark.parametrize(
    ("attention", "step_mask", "key_mask", "message"),
    [
        (torch.rand(2, 3, 4, 5), torch.ones(2, 4), torch.tensor([[1] * 5, [0] * 5]), "example 1 .* no key"),
        (torch.rand(2, 3, 4, 5), torch.tensor([[0] * 4, [1] * 4]), torch.ones(2, 5), "example 0 .* no step"),
        (torch.full((2, 3, 4, 5), torch.nan), torch.ones(2, 4), torch.ones(2, 5), "example 0 .* NaN"),
        (torch.rand(2, 3, 4, 5), torch.ones(2, 5), torch.ones(2, 5), "step mask"),
    ],
)
def test_teacher_attention_that_cannot_be_weighed_is_refused(attention, step_mask, key_mask, message):
    with pytest.raises(InputError, match=message):
        teacher_layer_weights(attention, step_mask, key_mask)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(InputError, match="temperature"):
        teacher_layer_weights(torch.rand(1, 2, 2, 2), torch.ones(1, 2), torch.ones(1, 2), temperature)
    with pytest.raises(InputError, match="temperature"):
        LayerRouter([4, 4], temperature)


def random_router(sizes, **options):
    router = LayerRouter(sizes, **options)
    with torch.no_grad():
        for parameter in router.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(7)).mul_(0.1)
    return router


def slow_router(router, values, mask):
    """Eq. 5 token by token."""
    rows = []
    for b in range(mask.shape[0]):
        pooled = []
        for layer in values:
            h = torch.zeros(layer.shape[-1])
            for i in range(mask.shape[1]):
                if mask[b, i]:
                    token = layer[b, i]
                    norm = (token.square().mean() + router.eps).sqrt() if router.norm == "before" else 1.0
                    h = h + token / norm
            if router.pool == "mean":
                h = h / mask[b].sum()
            if router.norm == "after":
                h = h / (h.square().mean() + router.eps).sqrt()
            pooled.append(h)
        if router.gate == "concatenated":
            logits = torch.cat(pooled) @ router.weight
        elif router.gate == "per-layer":
            parts = router.weight.split(list(router.value_sizes))
            logits = torch.stack([h @ w for h, w in zip(pooled, parts, strict=True)])
        else:
            logits = torch.stack([h @ router.weight for h in pooled])
        if router.bias is not None:
            logits = logits + router.bias
        rows.append(torch.softmax(logits / router.temperature, 0))
    return torch.stack(rows)


@pytest.mark.parametrize("pool", ["sum", "mean"])
@pytest.mark.parametrize("norm", ["before", "after"])
@pytest.mark.parametrize("gate", ["concatenated", "per-layer", "shared"])
def test_the_router_is_eq_5_and_its_options(gate, norm, pool):
    sizes = [6, 6, 6] if gate == "shared" else [4, 6, 8]
    router = random_router(sizes, gate=gate, norm=norm, pool=pool)
    values = [torch.randn(2, 5, size) for size in sizes]
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]])
    weights = router(values, mask)
    torch.testing.assert_close(weights, slow_router(router, values, mask), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    elsewhere = [layer.masked_fill(mask[..., None] == 0, 99.0) for layer in values]
    torch.testing.assert_close(router(elsewhere, mask), weights)


def test_the_released_code_is_one_choice_of_options():
    router = random_router([6, 6], gate="shared", norm="after", detach_values=True)
    assert router.bias is None
    assert router.weight.shape == (6,)
    values = [torch.randn(1, 4, 6, requires_grad=True) for _ in range(2)]
    router(values, torch.ones(1, 4))[0, 0].backward()
    assert router.weight.grad is not None
    assert all(layer.grad is None for layer in values)


@pytest.mark.parametrize(
    ("gate", "heads", "sizes"),
    [("concatenated", (2, 3), (6, 4)), ("per-layer", (2, 3), (6, 4)), ("shared", (2, 2), (6, 6))],
)
@pytest.mark.parametrize("options", [{}, {"norm": "after", "pool": "mean"}], ids=["paper", "other"])
def test_each_head_has_a_logit_of_its_own(gate, heads, sizes, options):
    router = random_router(sizes, gate=gate, heads=heads, **options)
    values, mask = [torch.randn(2, 5, size) for size in sizes], torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    got = router(values, mask)
    assert got.shape == (2, sum(heads))
    for b in range(2):
        pooled = [router._pool(layer[[b]], mask[[b]])[0] for layer in values]
        logits, weight, item = [], router.weight.flatten().tolist(), 0
        for layer, count in enumerate(heads):
            for head in range(count):
                read = torch.cat(pooled) if gate == "concatenated" else pooled[layer]
                first, width = (0, count) if gate == "shared" else (0, sum(heads))
                if gate == "per-layer":
                    first, width = sum(s * h for s, h in zip(sizes[:layer], heads[:layer], strict=True)), count
                column = item if gate == "concatenated" else head
                gates = [weight[first + d * width + column] for d in range(len(read))]
                bias = router.bias[head if gate == "shared" else item]
                logits.append((read @ torch.tensor(gates) + bias) / 0.5)
                item += 1
        torch.testing.assert_close(got[b], torch.softmax(torch.stack(logits), 0), atol=1e-5, rtol=1e-4)
    expected = torch.stack([got[:, : heads[0]].sum(1), got[:, heads[0] :].sum(1)], dim=1)
    torch.testing.assert_close(router.by_layer(got), expected)
    assert set(router.state_dict()) == {"weight", "bias"}


def test_training_starts_from_uniform_weights_and_can_leave_them():
    router = LayerRouter([4, 4, 4])
    values = [torch.randn(2, 3, 4, requires_grad=True) for _ in range(3)]
    weights = router(values, torch.ones(2, 3))
    torch.testing.assert_close(weights, torch.full((2, 3), 1 / 3))
    weights[:, 0].sum().backward()
    assert router.weight.grad.abs().sum() > 0


def test_the_router_stays_in_its_precision_under_autocast():
    router = random_router([8, 8])
    values = [torch.randn(1, 300, 8) for _ in range(2)]
    expected = router(values, torch.ones(1, 300))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = router([layer.bfloat16() for layer in values], torch.ones(1, 300))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value_sizes": []}, "width of every layer"),
        ({"value_sizes": [4, 0]}, "width of every layer"),
        ({"value_sizes": [4, 6], "gate": "shared"}, "one width"),
        ({"value_sizes": [4, 4], "gate": "shared", "heads": (2, 3)}, "one number of heads"),
        ({"value_sizes": [4, 4], "heads": (2,)}, "heads of at least 1 for each of the 2 layers"),
        ({"value_sizes": [4], "heads": (0,)}, "heads of at least 1"),
        ({"value_sizes": [4], "gate": "mine"}, "gate to be one of"),
        ({"value_sizes": [4], "norm": "never"}, "norm to be one of"),
        ({"value_sizes": [4], "pool": "max"}, "pool to be one of"),
    ],
)
def test_impossible_routers_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        LayerRouter(**arguments)


@pytest.mark.parametrize(
    ("values", "mask", "message"),
    [
        ([torch.rand(1, 3, 4)], torch.ones(1, 3), "2 layers"),
        ([torch.rand(1, 3, 4), torch.rand(1, 3, 5)], torch.ones(1, 3), "widths"),
        ([torch.rand(2, 3, 4)] * 2, torch.ones(1, 3), "fit the token mask"),
        ([torch.rand(2, 3, 4)] * 2, torch.tensor([[1, 1, 1], [0, 0, 0]]), "example 1 of the batch has none"),
    ],
)
def test_value_states_of_another_model_or_batch_are_refused(values, mask, message):
    with pytest.raises(InputError, match=message):
        LayerRouter([4, 4])(values, mask)
