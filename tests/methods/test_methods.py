"""The methods on their own: no model, only what a forward pass shows."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from molsaki.methods import METHODS, AttentionPair, Seen, StudentShape

B, L, S, K, T, D = 3, 2, 4, 5, 6, 8


def pair(seed=0, share=1.0, count=B):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(*shape, generator=generator)[:count]

    return AttentionPair(
        teacher_BLSK=random(B, 3, S, K),
        student_BLSK=random(B, L, S, K).requires_grad_(),
        values=tuple(random(B, T, D) for _ in range(L)),
        token_mask_BT=torch.ones(count, T),
        step_mask_BS=torch.ones(count, S, dtype=torch.bool),
        key_mask_BK=torch.ones(count, K, dtype=torch.bool),
        visible_BSK=torch.ones(count, S, K, dtype=torch.bool),
        share=share,
    )


def make(name, **settings):
    return METHODS[name](METHODS[name].Settings(**settings), StudentShape((D,) * L))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is(name):
    method = METHODS[name]
    assert method.name == name
    assert method.summary
    assert method.tasks[0] == "predict"
    assert method.__doc__


@pytest.mark.parametrize("name", METHODS)
def test_unknown_settings_are_refused(name):
    with pytest.raises(ValidationError, match="temprature"):
        METHODS[name].Settings(temprature=1)


def test_impossible_settings_are_refused():
    for wrong in ({"alpha": 1.1}, {"beta": -1}, {"kl_temperature": 0}, {"gate": "none"}):
        with pytest.raises(ValidationError):
            METHODS["molsaki"].Settings(**wrong)


def test_the_defaults_are_the_papers():
    settings = METHODS["molsaki"].Settings()
    assert (settings.alpha, settings.beta) == (0.5, 1.0)
    assert (settings.teacher_temperature, settings.router_temperature, settings.kl_temperature) == (0.1, 0.5, 1.0)
    assert (settings.normalisation, settings.gate, settings.router_norm) == ("softmax", "concatenated", "before")


def test_label_only_is_the_labels_loss():
    parts = make("label-only")(Seen(torch.tensor(2.0)))
    assert parts.total == 2.0
    assert parts.shares["label"] == 1.0
    assert not list(make("label-only").parameters())


def test_dss_weighs_two_losses():
    parts = make("dss", alpha=0.25)(Seen(torch.tensor(2.0), torch.tensor(4.0)))
    assert parts.total == 0.25 * 2 + 0.75 * 4


def test_molsaki_adds_the_attention_loss():
    method = make("molsaki", alpha=0.25, beta=2.0)
    seen = pair()
    parts = method(Seen(torch.tensor(2.0), torch.tensor(4.0), seen))
    assert parts.attention > 0
    assert parts.total.item() == pytest.approx(3.5 + 2 * parts.attention.item())
    parts.total.backward()
    assert seen.student_BLSK.grad.abs().sum() > 0
    assert method.router.weight.grad.abs().sum() > 0


def test_molsaki_without_attention_is_dss():
    seen = Seen(torch.tensor(2.0), torch.tensor(4.0))
    assert make("molsaki", alpha=0.25)(seen).total == make("dss", alpha=0.25)(seen).total


@pytest.mark.parametrize("normalisation", ["softmax", "visible"])
def test_shares_of_accumulated_batches_add_up(normalisation):
    """Also where an example has no row to compare: it counts among the examples wherever it is."""
    whole = pair()
    whole.visible_BSK[1] = False
    method = make("molsaki", normalisation=normalisation)
    together = method.attention_loss(whole)
    apart = sum(
        method.attention_loss(
            AttentionPair(
                teacher_BLSK=whole.teacher_BLSK[rows],
                student_BLSK=whole.student_BLSK[rows],
                values=tuple(layer[rows] for layer in whole.values),
                token_mask_BT=whole.token_mask_BT[rows],
                step_mask_BS=whole.step_mask_BS[rows],
                key_mask_BK=whole.key_mask_BK[rows],
                visible_BSK=whole.visible_BSK[rows],
                share=len(whole.teacher_BLSK[rows]) / B,
            )
        )
        for rows in (slice(0, 1), slice(1, 3))
    )
    torch.testing.assert_close(together, apart)


def test_equal_attention_has_no_loss():
    seen = pair()
    same = torch.rand(B, 1, S, K)
    alike = AttentionPair(
        same,
        same.expand(B, L, S, K),
        seen.values,
        seen.token_mask_BT,
        seen.step_mask_BS,
        seen.key_mask_BK,
        seen.visible_BSK,
    )
    assert make("molsaki").attention_loss(alike).abs() < 1e-6
