"""Eq. 6, 7 and 8 against loops, padding that changes nothing, and failures that would look like training."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.errors import InputError
from molsaki.methods.losses import attention_loss, attention_loss_parts, distillation_loss, visible_keys


def slow_divergence(p, q):
    return sum(float(a) * (math.log(float(a)) - math.log(float(b))) for a, b in zip(p, q, strict=True) if a > 0)


def slow_loss(examples, temperature=1.0):
    """Eq. 6, 7 on unpadded examples, pairs of [S, K]."""
    values = []
    for teacher, student in examples:
        rows = [
            slow_divergence(torch.softmax(t / temperature, 0), torch.softmax(s / temperature, 0))
            for t, s in zip(teacher.double(), student.double(), strict=True)
        ]
        values.append(sum(rows) / len(rows))
    return sum(values) / len(values)


def padded(examples, extra=1, fill=torch.nan):
    S, K = max(t.shape[0] for t, _ in examples) + extra, max(t.shape[1] for t, _ in examples) + extra
    both = torch.full((2, len(examples), S, K), fill)
    step_mask, key_mask = torch.zeros(len(examples), S, dtype=torch.bool), torch.zeros(len(examples), K).bool()
    for b, pair in enumerate(examples):
        s, k = pair[0].shape
        step_mask[b, :s], key_mask[b, :k] = True, True
        for side in range(2):
            both[side, b, :s, :k] = pair[side]
    return both[0], both[1], step_mask, key_mask


def random_examples(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.rand(2, s, k, generator=generator) * 3) for s, k in sizes]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=4),
    temperature=st.sampled_from([1.0, 0.1, 2.5]),
    fill=st.sampled_from([0.0, 7.0, math.nan, math.inf]),
    seed=st.integers(0, 99),
)
def test_the_loss_is_eq_6_and_7_whatever_the_padding_holds(sizes, temperature, fill, seed):
    examples = random_examples(sizes, seed)
    got = attention_loss(*padded(examples, fill=fill), temperature)
    assert float(got) == pytest.approx(slow_loss(examples, temperature), abs=2e-5)


def test_gradients_are_those_of_the_unpadded_examples_and_finite():
    examples = random_examples([(2, 3), (4, 2)])
    teacher, student, step_mask, key_mask = padded(examples)
    student.requires_grad_()
    attention_loss(teacher, student, step_mask, key_mask).backward()
    assert student.grad.isfinite().all()
    for b, (t, s) in enumerate(examples):
        alone = s.clone().requires_grad_()
        ones = torch.ones(1, s.shape[0]), torch.ones(1, s.shape[1])
        (attention_loss(t[None], alone[None], *ones) / 2).backward()
        torch.testing.assert_close(student.grad[b, : s.shape[0], : s.shape[1]], alone.grad, atol=1e-6, rtol=1e-5)


def test_the_same_attention_loses_nothing():
    teacher, _, step_mask, key_mask = padded(random_examples([(2, 3), (4, 2)]))
    assert float(attention_loss(teacher, teacher.clone(), step_mask, key_mask)) == pytest.approx(0, abs=1e-6)


def test_no_gradient_goes_to_the_teacher():
    teacher, student = torch.rand(1, 2, 3, requires_grad=True), torch.rand(1, 2, 3, requires_grad=True)
    attention_loss(teacher, student, torch.ones(1, 2), torch.ones(1, 3)).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_half_precision_is_compared_in_float32():
    teacher, student = torch.rand(1, 2, 3), torch.rand(1, 2, 3).bfloat16()
    assert attention_loss(teacher, student, torch.ones(1, 2), torch.ones(1, 3)).dtype == torch.float32


def test_visible_rows_are_divided_by_what_they_see():
    teacher = torch.tensor([[[0.2, 0.6, 0.0], [1.0, 2.0, 1.0]]])
    student = torch.tensor([[[0.3, 0.1, 0.0], [4.0, 2.0, 2.0]]])
    visible = torch.tensor([[[True, True, False], [True, True, True]]])
    expected = (slow_divergence([0.25, 0.75], [0.75, 0.25]) + slow_divergence([0.25, 0.5, 0.25], [0.5, 0.25, 0.25])) / 2
    masks = torch.ones(1, 2), torch.ones(1, 3)
    parts = attention_loss_parts(teacher, student, *masks, normalisation="visible", visible_BSK=visible)
    assert float(parts.loss) == pytest.approx(expected, abs=1e-6)
    assert parts.rows_B.tolist() == [2]
    assert parts.excluded_B.tolist() == [0]
    # A longer step's larger sums change nothing, as they do in the softmax.
    longer = attention_loss(teacher * 5, student * 3, *masks, normalisation="visible", visible_BSK=visible)
    assert float(longer) == pytest.approx(expected, abs=1e-6)


def test_rows_without_attention_are_left_out_and_counted():
    teacher = torch.tensor([[[0.0, 0.0], [0.5, 0.5], [0.2, 0.2]], [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    student = torch.tensor([[[0.0, 0.0], [0.1, 0.3], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    student.requires_grad_()
    visible = torch.ones(2, 3, 2, dtype=torch.bool)
    visible[:, 0] = False
    step_mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    parts = attention_loss_parts(
        teacher, student, step_mask, torch.ones(2, 2), normalisation="visible", visible_BSK=visible
    )
    expected = slow_divergence([0.5, 0.5], [0.25, 0.75])
    assert parts.loss.item() == pytest.approx(expected, abs=1e-6)
    assert parts.per_example_B.tolist() == pytest.approx([expected, 0.0], abs=1e-6)
    assert parts.rows_B.tolist() == [1, 0]
    assert parts.excluded_B.tolist() == [2, 2]
    parts.loss.backward()
    assert student.grad.isfinite().all()


def test_a_batch_without_rows_loses_nothing_and_has_a_gradient():
    student = torch.zeros(1, 1, 2, requires_grad=True)
    parts = attention_loss_parts(
        torch.zeros(1, 1, 2),
        student,
        torch.ones(1, 1),
        torch.ones(1, 2),
        normalisation="visible",
        visible_BSK=torch.ones(1, 1, 2),
    )
    parts.loss.backward()
    assert parts.loss.item() == 0
    assert student.grad.isfinite().all()


def test_a_key_without_the_students_attention_costs_a_finite_amount():
    student = torch.tensor([[[0.0, 1.0]]], requires_grad=True)
    masks = torch.ones(1, 1), torch.ones(1, 2)
    loss = attention_loss(
        torch.tensor([[[0.5, 0.5]]], requires_grad=False),
        student,
        *masks,
        normalisation="visible",
        visible_BSK=torch.ones(1, 1, 2),
    )
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, s, sm, km: (t[:, :1], s, sm, km), "one shape"),
        (lambda t, s, sm, km: (t, s, sm[:, :1], km), "step mask"),
        (lambda t, s, sm, km: (t, s, sm, km[:1]), "key mask"),
        (lambda t, s, sm, km: (t, s, sm * torch.tensor([[1], [0]]), km), "example 1 .* no step"),
        (lambda t, s, sm, km: (t, s, sm, km * torch.tensor([[0], [1]])), "example 0 .* no key"),
        (lambda t, s, sm, km: (t.index_fill(0, torch.tensor(1), math.nan), s, sm, km), "example 1 .*teacher's"),
        (lambda t, s, sm, km: (t, s.index_fill(0, torch.tensor(0), math.inf), sm, km), "example 0 .*student's"),
        (lambda t, s, sm, km: (t, s, sm, km, 0.0), "temperature"),
        (lambda t, s, sm, km: (t, s, sm, km, 1.0, "nothing"), "normalisation"),
        (lambda t, s, sm, km: (t, s, sm, km, None, "visible"), "visible_BSK"),
        (lambda t, s, sm, km: (t, s, sm, km, 0.1, "visible", t > 0), "no temperature"),
    ],
)
def test_failures_that_look_like_training_are_refused(change, message):
    arguments = torch.rand(2, 3, 4), torch.rand(2, 3, 4), torch.ones(2, 3), torch.ones(2, 4)
    with pytest.raises(InputError, match=message):
        attention_loss(*change(*arguments))


def test_a_step_sees_the_keys_that_start_before_it_ends():
    step = torch.tensor([[0, 0, 1, 1, -1, 2]])
    key = torch.tensor([[-1, 0, 1, 1, 2, 2]])
    expected = [[[True, False, False], [True, True, False], [True, True, True]]]
    assert visible_keys(step, key).tolist() == expected
    larger = visible_keys(step, key, steps=4, keys=4)
    assert larger[:, :3, :3].tolist() == expected
    assert not larger[:, 3].any()
    assert not larger[:, :, 3].any()
    with pytest.raises(InputError, match="at least 3 steps"):
        visible_keys(step, key, steps=2)
    with pytest.raises(InputError, match="one shape"):
        visible_keys(step, key[:, 1:])


def test_the_whole_objective_and_its_shares():
    terms = [torch.tensor(x, requires_grad=True) for x in (2.0, 1.0, 0.5)]
    parts = distillation_loss(*terms, alpha=0.25, beta=2.0)
    assert parts.total.item() == pytest.approx(0.25 * 2 + 0.75 * 1 + 2 * 0.5)
    shares = {name: float(share) for name, share in parts.shares.items()}
    assert shares == pytest.approx({"label": 0.5 / 2.25, "rationale": 0.75 / 2.25, "attention": 1 / 2.25})
    parts.total.backward()
    assert [float(x.grad) for x in terms] == [0.25, 0.75, 2.0]


def test_without_attention_it_is_distilling_step_by_step():
    parts = distillation_loss(torch.tensor(2.0), torch.tensor(1.0))
    assert parts.total.item() == 1.5
    assert float(parts.terms["attention"]) == float(parts.shares["attention"]) == 0
    nothing = distillation_loss(torch.tensor(0.0), torch.tensor(0.0))
    assert all(float(share) == 0 for share in nothing.shares.values())


@pytest.mark.parametrize("weights", [{"alpha": 1.1}, {"alpha": -0.1}, {"beta": -1.0}, {"beta": math.inf}])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(InputError, match=r"alpha in \[0, 1\]"):
        distillation_loss(torch.tensor(1.0), torch.tensor(1.0), **weights)


def test_a_loss_that_was_not_reduced_is_refused():
    with pytest.raises(InputError, match="scalar rationale loss"):
        distillation_loss(torch.tensor(1.0), torch.ones(2))
