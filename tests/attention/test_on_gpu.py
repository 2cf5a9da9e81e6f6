"""The kernels on a GPU in bfloat16: no further from float64 than twice what PyTorch's own attention is.

PyTorch's own is the kernel `second-pass`, two calls of `scaled_dot_product_attention`; with sinks, which that does not
support, the kernel `eager`.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from molsaki.attention import SpanRequest, flash, read_attention
from molsaki.attention.fused import attention_with_log_sum_exp
from molsaki.attention.kernel_choice import AttentionCall
from molsaki.attention.kernels import attend
from molsaki.attention.masks import MaskCache
from molsaki.attention.rules import MaskRule
from molsaki.attention.span_index import make_span_index
from molsaki.methods.losses import attention_loss

DEVICE = torch.device("cuda")
B, H, G, T, D = 2, 4, 2, 256, 64
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore"),  # of the compiler's own doing
]
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
CASES = ("causal", "window", "padding on the left", "sinks", "packed")


@pytest.fixture(autouse=True, scope="module")
def few_compiled_variants():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def spans():
    step = (torch.arange(T, device=DEVICE) // 40).expand(B, T).clone()
    key = torch.full((B, T), -1, device=DEVICE)
    key[:, 60::17] = torch.arange(len(range(60, T, 17)), device=DEVICE) // 2
    step[:, :50] = -1
    return step, key


def mask_of(case):
    if case == "window":
        return MaskRule(B, T, 37, None, DEVICE)
    if case == "padding on the left":
        return MaskRule(B, T, None, (0, 45), DEVICE)
    if case == "packed":
        text = torch.arange(T, device=DEVICE) // 90
        position = torch.arange(T, device=DEVICE)
        return ((text[:, None] == text) & (position <= position[:, None]))[None, None]
    return None


def run(case, kernel, dtype):
    """The output, the attention and all gradients, of the same bfloat16 numbers in some type."""
    generator = torch.Generator().manual_seed(5)

    def random(*shape, scale=1.0):
        return (torch.randn(*shape, generator=generator) * scale).bfloat16().to(DEVICE, dtype)

    # Laid out as models do: [B, T, H, D] in memory.
    inputs = [random(B, T, heads, D, scale=2.0).transpose(1, 2).requires_grad_() for heads in (H, G, G)]
    sinks = random(H).requires_grad_() if case == "sinks" else None
    mask = mask_of(case)
    module = SimpleNamespace(num_key_value_groups=H // G, is_causal=True)
    call = AttentionCall(module, *inputs, mask, 0.0, D**-0.5, mask is None, None, sinks)
    request = SpanRequest(make_span_index(*spans(), None))
    out, (attention,) = attend(call, (request,), kernel, MaskCache())
    real = torch.ones(B, T, 1, 1, device=DEVICE)
    if case == "padding on the left":
        real[1, :45] = 0
    weight = random(*out.shape).double() * real
    out = out.double() * real
    weights = random(*attention.shape).double() * 3
    ((out * weight).sum() + (attention.double() * weights).sum()).backward()
    learned = [*inputs, *([] if sinks is None else [sinks])]
    names = ("output", "attention", "query", "key", "value", "sinks")
    return dict(zip(names, (out, attention, *(x.grad for x in learned)), strict=False))


def errors(got, exact):
    return {name: float((got[name].double() - x.double()).norm() / x.double().norm()) for name, x in exact.items()}


def check(case, got):
    exact = run(case, "eager", torch.float64)
    own = errors(run(case, "eager" if case == "sinks" else "second-pass", torch.bfloat16), exact)
    ours = errors(got, exact)
    assert {name: error for name, error in ours.items() if not error <= 2 * own[name] + 1e-6} == {}


@pytest.mark.parametrize("case", CASES)
def test_flex_is_as_exact_as_pytorch_in_bfloat16(case):
    check(case, run(case, "flex", torch.bfloat16))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["causal", "padding on the left", "sinks"])
def test_flash_attention_is_as_exact_as_pytorch_in_bfloat16(case, backend):
    with sdpa_kernel([BACKENDS[backend]]):
        if not flash.is_supported(*(torch.zeros(B, H, T, D, device=DEVICE, dtype=torch.bfloat16),) * 3, True):
            pytest.skip(f"PyTorch does not have {backend} on {torch.cuda.get_device_name()}")
        got = run(case, "lse", torch.bfloat16)
    check(case, got)


def test_cudnn_gets_the_outputs_gradient_in_the_layout_of_a_plan_that_pytorch_kept():
    """PyTorch finds the plan by the layout of queries, keys and values, and the plan has that of the gradient too."""
    tensors = [torch.randn(B, T, H, D, device=DEVICE).bfloat16().transpose(1, 2) for _ in range(3)]
    weight = torch.randn(B, T, H, D, device=DEVICE).bfloat16()
    results = []
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION]):
        if not flash.is_supported(*tensors, True):
            pytest.skip(f"PyTorch does not have cudnn on {torch.cuda.get_device_name()}")
        for own in (True, False):
            inputs = [x.detach().requires_grad_() for x in tensors]
            if own:
                out = torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=True)
            else:
                out, _ = attention_with_log_sum_exp(*inputs, None, is_causal=True, scale=D**-0.5)
            # The second time the gradient is laid out as [B, H, T, D], and the plan of the first would misread it.
            grad = weight.transpose(1, 2) if own else weight.transpose(1, 2).contiguous()
            out.backward(grad)
            results.append([x.grad for x in inputs])
    for mine, theirs in zip(*reversed(results), strict=True):
        assert float((mine - theirs).float().norm() / theirs.float().norm()) < 1e-2


def test_a_part_of_a_text_by_flash_attention_has_the_attention_of_the_whole():
    """Two calls, to the tokens before and to its own, whose outputs and gradients are put together."""
    generator = torch.Generator().manual_seed(9)
    tensors = [torch.randn(B, T, heads, D, generator=generator) for heads in (H, G, G)]
    step, key = spans()
    module, past = SimpleNamespace(num_key_value_groups=H // G, is_causal=True), 100
    results = {}
    for name, first, dtype in (
        ("exact", 0, torch.float64),
        ("own", 0, torch.bfloat16),
        ("part", past, torch.bfloat16),
    ):
        q, k, v = (x.bfloat16().to(DEVICE, dtype).transpose(1, 2).requires_grad_() for x in tensors)
        mask = MaskRule(B, T - first, None, None, DEVICE, past=first) if first else None
        call = AttentionCall(module, q[:, :, first:], k, v, mask, 0.0, D**-0.5, mask is None, None, None)
        index = make_span_index(step.where(torch.arange(T, device=DEVICE) >= past, -1), key, None)
        index, _ = index.part(first, T) if first else (index, 0)
        kernel = {"exact": "eager", "own": "second-pass", "part": "lse"}[name]
        out, (attention,) = attend(call, (SpanRequest(index),), kernel, MaskCache())
        out, attention = out[:, -(T - past) :].double(), attention.double()[:, -index.steps :]
        attention = attention[:, -((T - 1) // 40 - past // 40 + 1) :]
        (out.square().sum() + attention.square().sum()).backward()
        results[name] = {"output": out, "attention": attention, "query": q.grad, "key": k.grad, "value": v.grad}
    own, ours = (errors(results[name], results["exact"]) for name in ("own", "part"))
    assert {name: error for name, error in ours.items() if not error <= 2 * own[name] + 1e-6} == {}


def llama():
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=H * D,
        intermediate_size=2 * H * D,
        num_hidden_layers=2,
        num_attention_heads=H,
        num_key_value_heads=G,
        max_position_embeddings=T,
    )
    return LlamaForCausalLM(config)


def gemma():
    config = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=H * D,
        intermediate_size=2 * H * D,
        num_hidden_layers=2,
        num_attention_heads=H,
        num_key_value_heads=G,
        head_dim=D,
        sliding_window=37,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=T,
    )
    return Gemma3ForCausalLM(config)


@pytest.mark.parametrize("make", [llama, gemma])
def test_the_attention_loss_of_a_model_in_bfloat16_is_as_exact_as_with_pytorchs_attention(make):
    torch.manual_seed(3)
    model = make().to(DEVICE).bfloat16()
    ids = torch.randint(0, 64, (B, T), generator=torch.Generator().manual_seed(6)).to(DEVICE)
    step, key = spans()
    results = {}
    for name, kernel, dtype in (
        ("exact", "eager", torch.float64),
        ("own", "second-pass", torch.bfloat16),
        ("ours", "auto", torch.bfloat16),
    ):
        model = model.to(dtype)
        model.zero_grad()
        reading = read_attention(model, ids, None, step, key, kernel=kernel, labels=ids)
        attention = reading.attention.mean(1)
        step_mask, key_mask = (torch.ones(B, n, dtype=torch.bool, device=DEVICE) for n in attention.shape[1:])
        teacher = torch.rand(attention.shape, generator=torch.Generator().manual_seed(8)).to(attention)
        loss = reading.outputs.loss + attention_loss(teacher, attention, step_mask, key_mask)
        loss.backward()
        results[name] = {"loss": loss.detach(), "attention": attention.detach()} | {
            parameter: p.grad.clone() for parameter, p in model.named_parameters()
        }
    own, ours = (errors(results[name], results["exact"]) for name in ("own", "ours"))
    assert {name: error for name, error in ours.items() if not error <= 2 * own[name] + 1e-3} == {}
