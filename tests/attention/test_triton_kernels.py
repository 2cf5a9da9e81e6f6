"""The Triton kernels in Triton's interpreter, against the same sums on a CPU. `test_on_gpu` has them compiled."""

from __future__ import annotations

import pytest
import torch

from molsaki.attention import flash, fused
from molsaki.attention.columns import sum_over_spans
from molsaki.attention.masks import MaskCache
from molsaki.attention.rules import MaskRule
from molsaki.attention.span_index import make_span_index

# Older interpreters do not go with today's NumPy.
pytest.importorskip("triton", minversion="3.9", reason="Triton's interpreter is needed")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU the kernels are compiled")
R, H, G, T = 2, 4, 2, 100


def of_both_ways(monkeypatch, compute, inputs):
    """The results and gradients of a function by Triton and without it."""
    found = []
    for triton in (True, False):
        monkeypatch.setattr(flash, "has_triton", lambda _, on=triton: on)
        leaves = [x.detach().requires_grad_() for x in inputs]
        out = compute(*leaves)
        weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(2))
        (out * weight).sum().backward()
        found.append([out, *(x.grad for x in leaves)])
    return zip(*found, strict=True)


def spans(keys):
    """Two examples with different numbers of key tokens, and tokens of no step."""
    step = (torch.arange(T) // 40).expand(R, T).clone()
    step[:, 20:30] = -1
    key = torch.full((R, T), -1)
    key[0, torch.linspace(0, T - 1, keys).long()] = torch.arange(keys)
    key[1, 60:70] = 1
    return make_span_index(step, key, None)


# Few key tokens and more than one block of them; heads that do not fill a block, and that are wide.
@pytest.mark.parametrize(
    ("case", "keys", "width"),
    [("all", 9, 24), ("causal", 70, 24), ("causal", 40, 136), ("padding on the left", 70, 24)],
)
def test_the_sums_and_their_gradients_are_those_of_the_cpu(monkeypatch, case, keys, width):
    generator = torch.Generator().manual_seed(1)
    # Laid out as models do: [R, T, H, D] in memory.
    query, key = (torch.randn(R, T, n, width, generator=generator).transpose(1, 2) for n in (H, G))
    index = spans(keys)
    mask = None
    if case == "padding on the left":
        mask = MaskCache().columns(MaskRule(R, T, None, (0, 7), torch.device("cpu")), index, torch.float32)
    scores = query @ key.repeat_interleave(H // G, 1).transpose(2, 3) * width**-0.5

    def sums(*inputs):
        return sum_over_spans(*inputs, mask, index, is_causal=case == "causal", scale=width**-0.5)

    for triton, without in of_both_ways(monkeypatch, sums, (query, key, scores.logsumexp(3))):
        torch.testing.assert_close(triton, without, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_log_sum_exp_is_carried_as_on_the_cpu(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    out, out_grad = (torch.randn(R, 30, H, 24, generator=generator).transpose(1, 2) for _ in range(2))
    # Rows without a gradient of the output, without one of the log-sum-exp, and without either.
    out_grad[:, :, :5] = 0
    grad = torch.randn(R, H, 30, generator=generator)
    grad[:, :, 3:8] = 0
    found = []
    for triton in (True, False):
        monkeypatch.setattr(flash, "has_triton", lambda _, on=triton: on)
        found.append(fused._carry(grad, out, out_grad.contiguous()))
    for triton, without in zip(*found, strict=True):
        torch.testing.assert_close(triton, without)
    assert found[0][0].stride() == out.stride()
