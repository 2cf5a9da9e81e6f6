"""The fast path's two halves against slow references, gradients in float64, and what is kept for the backward pass."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_model, weighted

from molsaki.attention import columns, kernels, read_attention
from molsaki.attention.columns import sum_over_keys, sum_over_spans, sum_over_steps
from molsaki.attention.fused import attention_with_log_sum_exp
from molsaki.attention.masks import MaskCache
from molsaki.attention.span_index import make_span_index

B, H, G, T, D = 3, 4, 2, 9, 5


def tensors(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, H, T, D), (B, G, T, D), (B, G, T, D)
    return [torch.randn(s, generator=generator, dtype=dtype).mul_(1.5).requires_grad_() for s in shapes]


def spans(rows=None):
    step = torch.tensor([[0, 0, 0, 1, 1, -1, 2, 2, 2]] * B)
    key = torch.tensor([[-1, 0, 0, -1, 1, -1, 2, -1, 3], [0] + [-1] * 8, [-1, -1, 1, -1, 0, 0, 2, 1, -1]])
    return make_span_index(step, key, None, rows)


def masks():
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    window = causal & torch.ones(T, T, dtype=torch.bool).triu(-3)
    left_padded = causal.expand(B, 1, T, T).clone()
    left_padded[1, :, :, :1] = False
    return {"causal": None, "window": window[None, None], "left": left_padded}


def slow_scores(query, key, mask):
    scores = query @ key.repeat_interleave(H // G, 1).mT * 0.3
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    return scores.masked_fill(~(causal if mask is None else mask), -torch.inf)


def slow(query, key, value, mask, some, heads=False):
    """Output, log-sum-exp and A from the whole matrix, in loops."""
    scores = slow_scores(query, key, mask)
    empty = scores.isneginf().all(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)
    out = weights @ value.repeat_interleave(H // G, 1)
    if heads:
        rest = [slow_sums(weights[:, [h]], some) for h in range(H)]
        return out, scores.logsumexp(-1), torch.stack(rest, dim=1)
    return out, scores.logsumexp(-1), slow_sums(weights, some)


def slow_sums(weights, some):
    weights = weights.mean(1)
    rows = range(B) if some.rows is None else torch.arange(B)[some.rows].tolist()
    attention = torch.zeros(len(rows), some.steps, some.keys, dtype=weights.dtype)
    for r, b in enumerate(rows):
        for i in range(T):
            for j, k in zip(some.key_position_RJ[r].tolist(), some.key_RJ[r].tolist(), strict=True):
                s = int(some.step_RT[r, i])
                if s < some.steps and k < some.keys:
                    one = torch.zeros_like(attention)
                    one[r, s, k] = 1
                    attention = attention + one * weights[b, i, j]
    return attention


def fast(query, key, value, mask, some, heads=False):
    cache = MaskCache()
    out, lse = attention_with_log_sum_exp(
        query,
        key,
        value,
        None if mask is None else cache.floats(mask, query.dtype),
        is_causal=mask is None,
        scale=0.3,
    )
    attention = sum_over_spans(
        some.take(query),
        some.take(key),
        some.take(lse),
        None if mask is None else cache.columns(mask, some, query.dtype),
        some,
        is_causal=mask is None,
        scale=0.3,
        heads=heads,
    )
    return out, lse, attention


@pytest.mark.parametrize("heads", [False, True], ids=["mean", "each"])
@pytest.mark.parametrize("rows", [None, torch.tensor([2]), torch.tensor([2, 0])])
@pytest.mark.parametrize("kind", ["causal", "window", "left"])
def test_values_and_gradients_are_those_of_the_whole_matrix(kind, rows, heads):
    mask, some, inputs = masks()[kind], spans(rows), tensors()
    out, lse, attention = fast(*inputs, mask, some, heads)
    slow_out, slow_lse, slow_attention = slow(*inputs, mask, some, heads)
    torch.testing.assert_close(out, slow_out)
    torch.testing.assert_close(attention, slow_attention)
    finite = slow_lse.isfinite()
    torch.testing.assert_close(lse[finite], slow_lse[finite])
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (out, attention)]
    got = torch.autograd.grad((out * weights[0]).sum() + (attention * weights[1]).sum(), inputs)
    expected = torch.autograd.grad((slow_out * weights[0]).sum() + (slow_attention * weights[1]).sum(), inputs)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("heads", [False, True], ids=["mean", "each"])
@pytest.mark.parametrize("kind", ["causal", "window"])
def test_gradcheck(kind, heads):
    mask, some = masks()[kind], spans()
    assert torch.autograd.gradcheck(lambda *inputs: fast(*inputs, mask, some, heads), tensors(), fast_mode=True)


def test_the_log_sum_exp_alone_has_a_gradient():
    query, key, value = tensors()
    _, lse = attention_with_log_sum_exp(query, key, value, None, is_causal=True, scale=0.3)
    expected = torch.autograd.grad(slow_scores(query, key, None).logsumexp(-1).square().sum(), (query, key))
    for ours, theirs in zip(torch.autograd.grad(lse.square().sum(), (query, key)), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_half_precision_errs_at_most_twice_as_much_as_pytorch_does():
    some = spans()
    exact = slow(*tensors(), None, some)[2]
    half = [x.detach().bfloat16() for x in tensors()]
    ours = (fast(*half, None, some)[2] - exact).abs().max()
    pytorch = (slow(*half, None, some)[2] - exact).abs().max()
    assert ours <= 2 * pytorch


def test_what_a_token_cannot_see_may_exceed_everything():
    query, key, value = (x.detach() for x in tensors(torch.float32))
    key[:, :, -1] = 1e4 * query[:, :G, 0]
    query.requires_grad_()
    attention = fast(query, key, value, None, spans())[2]
    (gradient,) = torch.autograd.grad(attention.sum(), query)
    assert attention.isfinite().all()
    assert gradient.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_sums_over_steps_and_keys_are_sums(data):
    index = st.integers(-1, 3)
    step = torch.tensor([data.draw(st.lists(index, min_size=7, max_size=7)) for _ in range(2)])
    key = torch.tensor([data.draw(st.lists(index, min_size=7, max_size=7)) for _ in range(2)])
    step[0, 0] = key[1, 6] = 3
    some = make_span_index(step, key, None)
    weights = torch.rand(2, 7, 7)
    columns = weights.gather(2, some.key_position_RJ[:, None, :].expand(-1, 7, -1))
    got = sum_over_keys(sum_over_steps(columns, some), some)
    for b in range(2):
        for s in range(4):
            for k in range(4):
                expected = weights[b][step[b] == s][:, key[b] == k].sum()
                torch.testing.assert_close(got[b, s, k], expected)


@pytest.mark.parametrize("each", [False, True], ids=["mean", "each"])
def test_nothing_as_large_as_tokens_by_tokens_is_kept_for_the_backward_pass(each, monkeypatch):
    monkeypatch.setattr(columns, "_KEPT_WEIGHTS", 2**15)  # as for a longer text, whose weights are more than are kept
    tokens, sizes = 256, []
    model = make_model("llama", max_position_embeddings=tokens, num_attention_heads=8)
    ids = torch.randint(3, 61, (1, tokens))
    step = (torch.arange(tokens) // 32)[None]
    key = torch.full((1, tokens), -1)
    key[0, ::8] = torch.arange(tokens // 8)
    mask = torch.ones_like(ids)
    mask[0, -5:] = 0
    step[0, -5:] = -1

    def note(x):
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        attention = read_attention(model, ids, mask, step, key, heads=each).attention
    # Less than the weights of one head on key tokens only; the largest is a hidden state or an MLP's.
    assert max(sizes) < tokens * tokens // 4
    weighted(attention).backward()


def test_a_mask_is_turned_into_numbers_once_for_all_layers():
    cache, some, mask = MaskCache(), spans(), masks()["left"]
    first, columns = cache.floats(mask, torch.float32), cache.columns(mask, some, torch.float32)
    assert cache.floats(mask, torch.float32) is first
    assert cache.columns(mask, some, torch.float32) is columns
    assert cache.columns(mask, spans(), torch.float32) is not columns, "other spans have other columns"
    assert cache.floats(mask, torch.bfloat16).dtype == torch.bfloat16
    assert cache.floats(mask.clone(), torch.float32) is not first


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-14, 1e-6, 1.0, 1e6])
def test_the_log_sum_exp_has_its_gradient_whatever_the_outputs_is(size):
    inputs, out_weights = tensors(torch.float32), torch.randn(B, H, T, D, generator=torch.Generator().manual_seed(3))
    # Rows without a gradient, with a tiny one and with a usual one stand side by side.
    out_weights[:, :, ::2] *= size
    out, lse = attention_with_log_sum_exp(*inputs, None, is_causal=True, scale=0.3)
    got = torch.autograd.grad((out * out_weights).sum() + lse.sin().sum(), inputs)
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    scores = slow_scores(*doubles[:2], None)
    slow_out = torch.softmax(scores, -1) @ doubles[2].repeat_interleave(H // G, 1)
    expected = torch.autograd.grad((slow_out * out_weights).sum() + scores.logsumexp(-1).sin().sum(), doubles)
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_a_kernel_that_cannot_share_keys_gets_them_repeated(monkeypatch):
    from molsaki.attention import fused

    assert isinstance(fused.kernel_shares_keys(), bool)
    inputs, some = tensors(), spans()
    out, _, attention = fast(*inputs, None, some)
    expected = torch.autograd.grad(weighted(attention) + out.sum(), inputs)
    monkeypatch.setattr(fused, "kernel_shares_keys", lambda: False)
    out, _, again = fast(*inputs, None, some)
    torch.testing.assert_close(again, attention)
    for ours, theirs in zip(torch.autograd.grad(weighted(again) + out.sum(), inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_autocast_around_the_sums_changes_nothing():
    query, key, value = tensors(torch.float32)
    _, lse = attention_with_log_sum_exp(query, key, value, None, is_causal=True, scale=0.3)
    attention = sum_over_spans(query, key, lse, None, spans(), is_causal=True, scale=0.3)
    expected = torch.autograd.grad(weighted(attention), (query, key), retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = sum_over_spans(query, key, lse, None, spans(), is_causal=True, scale=0.3)
        got = torch.autograd.grad(weighted(again), (query, key))
    torch.testing.assert_close(again, attention, atol=0, rtol=0)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


@pytest.mark.parametrize("heads", [False, True], ids=["mean", "each"])
@pytest.mark.parametrize("mask", [None, "left"])
def test_blocks_of_tokens_add_up_to_all_of_them(mask, heads, monkeypatch):
    """Of a long example a few tokens at a time, without the key tokens that come after them."""
    results = []
    # All at once, and three tokens of an example with four key tokens; with weights that are kept and computed again.
    for weights, kept in itertools.product((2**19, 3 * H * 4), (2**20, 0)):
        monkeypatch.setitem(columns._FEW_WEIGHTS, "cpu", weights)
        monkeypatch.setattr(columns, "_KEPT_WEIGHTS", kept)
        query, key, value = tensors()
        scale = D**-0.5
        bias = None if mask is None else MaskCache().floats(masks()[mask], query.dtype)
        options = {"is_causal": mask is None, "scale": scale}
        _, lse = attention_with_log_sum_exp(query, key, value, bias, **options)
        at_keys = None if mask is None else MaskCache().columns(masks()[mask], spans(), query.dtype)
        attention = sum_over_spans(query, key, lse, at_keys, spans(), **options, heads=heads)
        total = weighted(attention)
        # A second backward pass finds the same weights.
        torch.autograd.grad(total, (query, key), retain_graph=True)
        results.append((attention, *torch.autograd.grad(total, (query, key))))
    whole, *others = results
    for some in others:
        for one, expected in zip(some, whole, strict=True):
            torch.testing.assert_close(one, expected, atol=1e-12, rtol=1e-10)


def test_key_tokens_after_a_block_are_left_out():
    some = spans()
    assert [some.key_tokens_before(end) for end in (1, 2, 3, 5, 7, 9)] == [1, 1, 2, 3, 4, 5]
    part, _ = some.part(0, 5)
    assert part.key_tokens_before(5) == part.key_RJ.shape[1] == 3


_OF_TEXTS = "cum_seq_q cum_seq_k max_q max_k"


def test_the_operators_for_gpus_take_and_return_what_is_passed_on():
    forward = torch.ops.aten._scaled_dot_product_flash_attention.default._schema
    backward = torch.ops.aten._scaled_dot_product_flash_attention_backward.default._schema
    returned, taken = [one.name for one in forward.returns], [one.name for one in backward.arguments]
    assert returned == f"output logsumexp {_OF_TEXTS} rng_state unused debug_attn_mask".split()
    given = f"{_OF_TEXTS} dropout_p is_causal philox_seed philox_offset"
    assert taken == f"grad_out query key value out logsumexp {given} scale".split()


def test_a_long_text_has_parts_that_leave_key_tokens_out(monkeypatch):
    monkeypatch.setattr(columns, "_FEW_TOKENS", 2)
    blocks = list(columns._blocks(tensors()[0], spans(), is_causal=True))
    assert [block.columns.stop for block in blocks] == [1, 2, 3, 5, 5]
    assert all(block.examples == slice(0, B) for block in blocks)
    (whole,) = columns._blocks(tensors()[0], spans(), is_causal=False)
    assert (whole.tokens, whole.columns) == (slice(0, T), slice(0, 5))


@pytest.mark.parametrize("keys", [4, 20])
def test_the_values_of_a_second_pass_begin_at_multiples_of_16_bytes(keys, monkeypatch):
    """FlashAttention on CUDA fails with a misaligned address where they do not."""
    seen = []
    plain = kernels._sdpa
    monkeypatch.setattr(kernels, "_sdpa", lambda call: seen.append(call.value) or plain(call))
    model = make_model("llama").bfloat16()
    ids = torch.arange(40)[None]
    read_attention(model, ids, None, ids // 8, ids * keys // 40, kernel="second-pass")
    columns_of_keys = seen[1::2] if keys <= 16 else [value for value in seen if value.stride(1) == 0]
    assert columns_of_keys
    assert all(2 * stride % 16 == 0 for value in columns_of_keys for stride in value.stride()[:-1])


def test_a_second_pass_that_dropout_forces_is_said_once(caplog):
    kernels._log_once.cache_clear()
    model = make_model("llama", attention_dropout=0.1).train()
    ids = torch.arange(T)[None]
    for _ in range(2):
        read_attention(model, ids, None, spans().step_RT[:1].clamp(max=2), torch.zeros_like(ids))
    assert [record.levelname for record in caplog.records if "dropout of 0.1" in record.message] == ["WARNING"]
