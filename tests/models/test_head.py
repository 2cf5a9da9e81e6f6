"""Logits that are computed from hidden states afterwards are those of the model, whatever it does to them."""

from __future__ import annotations

import pytest
import torch
from tiny_models import ARCHITECTURES, HYBRIDS, VOCABULARY, enable_checkpointing, make_hybrid, make_model
from transformers import PreTrainedModel

from molsaki.errors import UnreadableModelError
from molsaki.models.head import keep_hidden_states

PLACES = torch.tensor([3, 9, 12, 13, 20])
MODELS = {
    **{name: lambda name=name: make_model(name) for name in ARCHITECTURES},
    **{name: lambda name=name: make_hybrid(name) for name in HYBRIDS},
    # These multiply or cap their logits after the head.
    "scaled": lambda: make_model("granite", logits_scaling=3.0),
    "capped": lambda: make_model("gemma2", final_logit_softcapping=2.0),
}


def gradients_of(model, logits):
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(4))
    given = torch.autograd.grad((logits * weight).sum(), list(model.parameters()), allow_unused=True)
    return {name: g for (name, _), g in zip(model.named_parameters(), given, strict=True) if g is not None}


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_of_some_positions_are_the_models_own(name):
    model = MODELS[name]()
    ids = torch.randint(3, VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(1))
    expected = model(input_ids=ids, use_cache=False).logits.flatten(0, 1)[PLACES]
    wanted = gradients_of(model, expected)
    before = dict(model.named_modules())
    with keep_hidden_states(model) as states:
        model(input_ids=ids, use_cache=False, logits_to_keep=1)
    hidden = states.at(PLACES, 11)
    got = torch.cat([states.logits(hidden[:2]), states.logits(hidden[2:])])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    gradients = gradients_of(model, got)
    assert gradients.keys() == wanted.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[key], atol=1e-6 + 1e-4 * float(wanted[key].abs().max()), rtol=1e-3)
    after = dict(model.named_modules())
    assert list(before) == list(after)
    assert all(after[path] is module for path, module in before.items())
    assert not any(module._forward_hooks for module in model.modules() if isinstance(module, PreTrainedModel))


def test_an_error_in_the_head_leaves_the_model_as_it_was():
    model = make_model("llama")
    layers = model.model
    with keep_hidden_states(model) as states:
        model(input_ids=torch.ones(1, 3, dtype=torch.long))
    with pytest.raises(RuntimeError):
        states.logits(torch.zeros(2, 5))
    assert model.model is layers


def test_recomputed_layers_are_kept_once():
    model = make_model("llama")
    enable_checkpointing(model)
    ids = torch.full((1, 4), 5)
    with keep_hidden_states(model) as states:
        model(input_ids=ids, use_cache=False)
        states.at(torch.tensor([2]), 4).sum().backward()
    expected = model(input_ids=ids, use_cache=False).logits[0, [2]]
    torch.testing.assert_close(states.logits(states.at(torch.tensor([2]), 4)), expected)


def test_a_model_without_layers_of_its_own_is_refused():
    model = make_model("llama")
    with keep_hidden_states(model) as states:
        pass
    with pytest.raises(UnreadableModelError, match="LlamaForCausalLM"):
        states.at(PLACES, 11)
