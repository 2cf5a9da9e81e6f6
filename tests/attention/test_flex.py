"""The FlexAttention kernel: its values and gradients against the eager ones, by its own slow implementation on CPUs.

FlexAttention refuses gradients on CPUs, where they would be slow; the checks below lift that, so that the same
formulas are checked here that run compiled on GPUs, where the marked test runs them.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import flex_attention as torch_flex
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from molsaki.attention import flex, kernel_choice, read_attention, stepwise_attention
from molsaki.errors import InputError

# The first is FlexAttention's advice against what is done here on purpose, the second its compiler's own doing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]

T = 24


def llama(**more):
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=T,
        **more,
    )
    return LlamaForCausalLM(config)


def gemma():
    torch.manual_seed(4)
    config = Gemma3TextConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=T,
    )
    return Gemma3ForCausalLM(config)


MODELS = {"llama": llama, "sliding window": gemma}


def batch(side):
    generator = torch.Generator().manual_seed(6)
    ids = torch.randint(0, 64, (3, T), generator=generator)
    mask = torch.ones_like(ids)
    if side == "left":
        mask[1, :5] = 0
    if side == "right":
        mask[1, -5:] = 0
    step = (torch.arange(T) // 6).expand(3, T).clone()
    key = torch.full((3, T), -1)
    key[:, [6, 9, 13, 17]] = torch.tensor([0, 1, 2, 2])
    return ids, mask, step.masked_fill(mask == 0, -1), key.masked_fill(mask == 0, -1)


@pytest.fixture
def flex_everywhere(monkeypatch):
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *_: None)
    monkeypatch.setattr(flex, "DEVICES", ())
    why_not = kernel_choice._why_not_flex
    monkeypatch.setattr(kernel_choice, "_why_not_flex", lambda call: (r := why_not(call)) and "backward" not in r and r)


@pytest.mark.parametrize("side", ["none", "right", "left"])
@pytest.mark.parametrize("name", MODELS)
def test_values_without_gradients(name, side):
    model = MODELS[name]().eval()
    with torch.no_grad():
        got = stepwise_attention(model, *batch(side), kernel="flex")
        expected = stepwise_attention(model, *batch(side), kernel="eager")
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("flex_everywhere")
def test_what_a_reading_without_gradients_leaves_is_of_use_to_a_training():
    """As where one process reads the teacher's attention and then trains: the causal rule's blocks are kept."""
    flex._causal.cache_clear()
    ids, _, *spans = batch("none")
    with torch.inference_mode():
        stepwise_attention(llama().eval(), ids, None, *spans, kernel="flex")
    stepwise_attention(llama(), ids, None, *spans, kernel="flex").sum().backward()


@pytest.mark.usefixtures("flex_everywhere")
@pytest.mark.parametrize("heads", [False, True], ids=["mean", "each"])
@pytest.mark.parametrize("side", ["none", "right", "left"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients(name, side, heads):
    model = MODELS[name]().eval()
    weight = torch.randn(1, 8 if heads else 2, 4, 3, generator=torch.Generator().manual_seed(7))
    gradients = {}
    for kernel in ("flex", "eager"):
        reading = read_attention(model, *batch(side), heads=heads, kernel=kernel)
        real = batch(side)[1].bool()
        ((reading.attention * weight).sum() + reading.outputs.logits[real].square().mean()).backward()
        gradients[kernel] = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad()
    for parameter, gradient in gradients["flex"].items():
        torch.testing.assert_close(gradient, gradients["eager"][parameter], atol=1e-5, rtol=1e-4, msg=parameter)


def test_a_forced_kernel_that_cannot_serve_says_so():
    with pytest.raises(InputError, match="no backward pass on cpu"):
        stepwise_attention(llama(), *batch("none"), kernel="flex")
    with pytest.raises(InputError, match="float64"), torch.no_grad():
        stepwise_attention(llama().double(), *batch("none"), kernel="flex")
    with pytest.raises(InputError, match="dropout"), torch.no_grad():
        stepwise_attention(llama(attention_dropout=0.1).train(), *batch("none"), kernel="flex")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("side", ["none", "right", "left"])
@pytest.mark.parametrize("name", MODELS)
def test_compiled_on_a_gpu(name, side):
    model = MODELS[name]().eval().cuda()
    inputs = [tensor.cuda() for tensor in batch(side)]
    gradients = {}
    for kernel in ("auto", "eager"):
        attention = stepwise_attention(model, *inputs, kernel=kernel)
        attention.square().sum().backward()
        gradients[kernel] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
    for parameter, gradient in gradients["auto"].items():
        torch.testing.assert_close(gradient, gradients["eager"][parameter], atol=1e-4, rtol=1e-3, msg=parameter)
