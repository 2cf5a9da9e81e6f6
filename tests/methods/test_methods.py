"""The methods on their own: no model, only what a forward pass shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import cross_entropy

from molsaki.errors import InputError
from molsaki.methods import METHODS, AttentionChoice, AttentionPair, MethodInputs, OutputPair, StudentShape, Term
from molsaki.methods.layers import teacher_layer_weights
from molsaki.methods.losses import attention_loss
from molsaki.methods.terms import Terms

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
        step_tokens_BS=1.0 + torch.arange(S).repeat(count, 1),
        share=share,
    )


def losses():
    return {"predict": torch.tensor(2.0), "explain": torch.tensor(4.0)}


def make(name, **settings):
    return METHODS[name](METHODS[name].Settings(**settings), StudentShape((D,) * L, teacher_layers=3))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is(name):
    method = METHODS[name]
    assert method.name == name
    assert method.summary
    terms = method.terms_of(method.Settings())
    assert {terms.answers_with, terms.explains_with} <= {*terms.tasks, "explain"}
    assert len({term.name for term in terms}) == len(terms)
    assert method.__doc__


@pytest.mark.parametrize("name", ["single-layer", "molsaki", "attention-map"])
def test_attention_goes_with_either_way_to_answer(name):
    method = METHODS[name]
    two, one = (method.terms_of(method.Settings(sequences=count)) for count in ("two", "one"))
    assert [(term.name, term.weight) for term in one] == [("reasoning", 1.0), ("attention", 1.0)]
    assert (two.tasks, two.answers_with, two.explains_with) == (("predict", "explain"), "predict", "explain")
    assert (one.tasks, one.answers_with, one.explains_with) == (("reason",), "reason", "reason")
    assert one.attention == replace(two.attention, task="reason")
    with pytest.raises(ValidationError, match="no alpha with `sequences: one`"):
        method.Settings(sequences="one", alpha=0.3)


def test_a_term_compares_attention_on_its_own_task():
    with pytest.raises(ValueError, match="its own task"):
        Term("attention", 1.0, ("reason",), AttentionChoice())


@pytest.mark.parametrize("name", METHODS)
def test_unknown_settings_are_refused(name):
    with pytest.raises(ValidationError, match="temprature"):
        METHODS[name].Settings(temprature=1)


def test_impossible_settings_are_refused():
    for wrong in ({"alpha": 1.1}, {"beta": -1}, {"kl_temperature": 0}, {"gate": "none"}):
        with pytest.raises(ValidationError):
            METHODS["molsaki"].Settings(**wrong)


AS_RUN = {"gate": "shared", "router_norm": "after", "detach_values": True, "layer_change": "sum", "kl_temperature": 0.1}
AS_WRITTEN = {
    "gate": "concatenated",
    "router_norm": "before",
    "detach_values": False,
    "layer_change": "mean",
    "kl_temperature": 1.0,
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, AS_RUN),
        ({"preset": "as-run"}, AS_RUN),
        ({"preset": "as-written"}, AS_WRITTEN),
        ({"preset": "as-written", "gate": "shared"}, {**AS_WRITTEN, "gate": "shared"}),
        ({"preset": "as-run", "kl_temperature": 1.0}, {**AS_RUN, "kl_temperature": 1.0}),
    ],
    ids=str,
)
def test_a_preset_fills_in_what_is_not_given(given, expected):
    settings = METHODS["molsaki"].Settings(**given)
    dumped = settings.model_dump()
    assert {name: dumped[name] for name in expected} == expected
    assert (settings.alpha, settings.beta, settings.normalisation) == (0.5, 1.0, "softmax")
    assert (settings.teacher_temperature, settings.router_temperature) == (0.1, 0.5)
    assert METHODS["molsaki"].Settings(**dumped) == settings, "what is saved means the same when it is read"


def test_the_preset_of_a_single_layer_is_its_temperature():
    temperatures = [METHODS["single-layer"].Settings(preset=p).kl_temperature for p in ("as-run", "as-written")]
    assert temperatures == [0.1, 1.0]


@pytest.mark.parametrize("preset", ["as run", "", None, ["as-run"], 1])
def test_an_unknown_preset_is_refused(preset):
    with pytest.raises(ValidationError, match="preset"):
        METHODS["molsaki"].Settings(preset=preset)


def test_a_shared_gate_for_layers_of_several_widths_names_the_way_out():
    shape = StudentShape((D, 2 * D), teacher_layers=3)
    with pytest.raises(InputError, match=r"gate: per-layer.*preset: as-written"):
        METHODS["molsaki"](METHODS["molsaki"].Settings(), shape)
    METHODS["molsaki"](METHODS["molsaki"].Settings(preset="as-written"), shape)


def test_label_only_is_the_labels_loss():
    parts = make("label-only")(MethodInputs({"predict": torch.tensor(2.0)}))
    assert parts.total == 2.0
    assert parts.shares["label"] == 1.0
    assert not list(make("label-only").parameters())


def test_dss_weighs_two_losses():
    parts = make("dss", alpha=0.25)(MethodInputs(losses()))
    assert parts.total == 0.25 * 2 + 0.75 * 4


def test_molsaki_adds_the_attention_loss():
    method = make("molsaki", alpha=0.25, beta=2.0)
    seen = pair()
    parts = method(MethodInputs(losses(), seen))
    assert parts.terms["attention"] > 0
    assert parts.total.item() == pytest.approx(3.5 + 2 * parts.terms["attention"].item())
    parts.total.backward()
    assert seen.student_BLSK.grad.abs().sum() > 0
    assert method.router.weight.grad.abs().sum() > 0


def test_molsaki_without_attention_is_dss():
    seen = MethodInputs(losses())
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
                step_tokens_BS=whole.step_tokens_BS[rows],
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
        seen.step_tokens_BS,
    )
    assert make("molsaki").attention_loss(alike).abs() < 1e-6


def seen_with(attention, progress=0.0):
    return MethodInputs(losses(), attention, progress=progress)


@pytest.mark.parametrize("name", ["single-layer", "attention-map", "molsaki", "molsaki-words"])
@pytest.mark.parametrize(
    ("schedule", "weights"), [("constant", (2, 2, 2)), ("falling", (2, 1, 0)), ("rising", (0, 1, 2))]
)
def test_beta_is_annealed_over_the_steps(name, schedule, weights):
    method = make(name, beta=2.0, beta_schedule=schedule)
    for progress, weight in zip((0.0, 0.5, 1.0), weights, strict=True):
        parts = method(seen_with(pair(), progress))
        expected = 3 + weight * parts.terms["attention"].item()
        assert parts.total.item() == pytest.approx(expected), (schedule, progress)


@pytest.mark.parametrize(
    "settings",
    [
        {"teacher_weights": "uniform"},
        {"teacher_weights": "learned"},
        {"student_weights": "uniform"},
        {"step_pool": "mean"},
        {"normalisation": "visible"},
        {"kl_temperature": 1.0},
        {"layer_change": "mean"},
        {"teacher_temperature": 1.0},
        {"normalisation": "visible", "step_pool": "mean"},
    ],
    ids=str,
)
def test_every_option_of_the_attention_loss_changes_it(settings):
    plain = {"normalisation": "visible"} if len(settings) > 1 else {}
    before, after = make("molsaki", **plain), make("molsaki", **settings)
    for method in (before, after):
        if method.router is not None:
            torch.nn.init.normal_(method.router.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    seen = pair()
    # A teacher whose steps were summed over three tokens each, where means are wanted.
    other = replace(seen, teacher_BLSK=seen.teacher_BLSK / 3) if "step_pool" in settings else seen
    assert abs(before.attention_loss(seen) - after.attention_loss(other)) > 1e-4


def test_means_over_a_steps_tokens_are_those_of_its_sums():
    seen = pair()
    means = replace(seen, student_BLSK=seen.student_BLSK / seen.step_tokens_BS[:, None, :, None])
    same = make("molsaki", step_pool="mean").attention_loss(seen)
    torch.testing.assert_close(same, make("molsaki").attention_loss(means))


def test_uniform_layers_are_their_mean_and_have_no_router():
    method = make("molsaki", teacher_weights="uniform", student_weights="uniform")
    assert not list(method.parameters())
    assert not method.terms.attention.values
    seen = pair()
    every = make("single-layer", teacher_layers=(0, 1, 2), student_layers=(0, 1))
    torch.testing.assert_close(
        method.attention_loss(replace(seen, values=())), every.attention_loss(replace(seen, values=()))
    )


def test_learned_teacher_weights_start_uniform_and_get_a_gradient():
    method = make("molsaki", teacher_weights="learned")
    seen = pair()
    loss = method.attention_loss(seen)
    torch.testing.assert_close(loss, make("molsaki", teacher_weights="uniform").attention_loss(seen))
    loss.backward()
    assert method.teacher_logits.grad.abs().sum() > 0
    assert make("molsaki").teacher_logits is None
    with pytest.raises(InputError, match="number of the teacher's layers"):
        METHODS["molsaki"](METHODS["molsaki"].Settings(teacher_weights="learned"), StudentShape((D,) * L))


@pytest.mark.parametrize("gate", ["concatenated", "per-layer", "shared"])
def test_heads_stand_in_the_layers_place(gate):
    """Six heads of the teacher and three of each of the student's layers, each weighed on its own."""
    settings = METHODS["molsaki"].Settings(heads="each", gate=gate)
    method = METHODS["molsaki"](settings, StudentShape((D,) * L, teacher_layers=6, heads=(3,) * L))
    assert method.terms.attention.view.name == "heads"
    assert make("molsaki").terms.attention.view.name == "steps"
    generator = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(method.router.weight, std=0.5, generator=generator)
    teacher, student = torch.rand(B, 6, S, K, generator=generator), torch.rand(B, 6, S, K, generator=generator)
    seen = replace(pair(), teacher_BLSK=teacher, student_BLSK=student.requires_grad_())
    weights = method.router(seen.values, seen.token_mask_BT)
    mixed = torch.einsum("bisk,bi->bsk", student, weights)
    teacher_weights = teacher_layer_weights(teacher, seen.step_mask_BS, seen.key_mask_BK, change="sum")
    expected = attention_loss(
        torch.einsum("bisk,bi->bsk", teacher, teacher_weights), mixed, seen.step_mask_BS, seen.key_mask_BK, 0.1
    )
    loss = method.train().attention_loss(seen)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert method.router.weight.grad.abs().sum() > 0
    assert (student.grad.abs().flatten(2).sum(2) > 0).all()
    logged = method.log_metrics()
    assert list(logged) == ["layer_weight_0", "layer_weight_1"]
    assert logged["layer_weight_0"] == pytest.approx(weights[:, :3].sum(1).mean().item())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("molsaki", {"normalisation": "visible", "preset": "as-written"}),
        ("single-layer", {"normalisation": "visible"}),
        ("attention-map", {}),
    ],
)
def test_rows_that_are_left_out_are_in_the_log(name, settings):
    method = make(name, **settings).train()
    seen = pair()
    seen.visible_BSK[0, 0] = False
    method.attention_loss(seen)
    method.attention_loss(pair())
    assert method.log_metrics()["attention_rows_left_out"] == pytest.approx(1 / (2 * B * S))
    assert "attention_rows_left_out" not in method.log_metrics()
    method.eval().attention_loss(seen)
    assert "attention_rows_left_out" not in method.log_metrics()
    softmax = make("molsaki").train()
    softmax.attention_loss(seen)
    assert "attention_rows_left_out" not in softmax.log_metrics()


def test_single_layers_are_those_that_were_chosen():
    seen = pair()
    last = make("single-layer").attention_loss(seen)
    named = make("single-layer", teacher_layers=(2,), student_layers=(1,)).attention_loss(seen)
    torch.testing.assert_close(last, named)
    only = replace(seen, teacher_BLSK=seen.teacher_BLSK[:, 1:2], student_BLSK=seen.student_BLSK[:, :1])
    uniform = make("molsaki", teacher_weights="uniform", student_weights="uniform")
    first = make("single-layer", teacher_layers=(1,), student_layers=(0,)).attention_loss(seen)
    torch.testing.assert_close(first, uniform.attention_loss(only))
    assert abs(first - last) > 1e-4
    assert not list(make("single-layer").parameters())


def test_attention_maps_are_the_divergence_of_their_rows_over_what_they_see():
    seen = pair()
    seen.visible_BSK[:, 0, 2:] = False
    method = make("attention-map", alpha=0.25, beta=2.0)
    assert method.terms.attention.view.name == "words"
    losses = []
    for b in range(B):
        for s in range(S):
            there = seen.visible_BSK[b, s]
            p, q = seen.teacher_BLSK[b, -1, s][there], seen.student_BLSK[b, -1, s][there]
            p, q = p / p.sum(), q / q.sum()
            losses.append((p * (p / q).log()).sum())
    parts = method(seen_with(seen))
    torch.testing.assert_close(parts.terms["attention"], torch.stack(losses).mean())
    assert parts.total.item() == pytest.approx(3.5 + 2 * parts.terms["attention"].item())
    parts.total.backward()
    gradient = seen.student_BLSK.grad.abs().sum((0, 2, 3))
    assert (gradient[0], gradient[1] > 0) == (0, True)
    assert not list(method.parameters())
    means = replace(seen, teacher_BLSK=seen.teacher_BLSK / 3, student_BLSK=seen.student_BLSK / 2)
    torch.testing.assert_close(method.attention_loss(means), parts.terms["attention"])
    shared = method.attention_loss(replace(seen, share=0.25))
    torch.testing.assert_close(shared * 4, parts.terms["attention"])


def test_molsaki_over_words_mixes_what_attention_maps_compare():
    """With one layer on each side nothing is left to mix, and the two are the same."""
    seen = pair()
    seen.visible_BSK[:, 0, 2:] = False
    method = make("molsaki-words")
    assert method.terms.attention.view.name == "words"
    assert not method.terms.attention.values
    assert not list(method.parameters())
    single = replace(seen, teacher_BLSK=seen.teacher_BLSK[:, 1:2], student_BLSK=seen.student_BLSK[:, :1])
    first = make("attention-map", teacher_layers=(1,), student_layers=(0,)).attention_loss(seen)
    torch.testing.assert_close(method.attention_loss(single), first)
    assert abs(method.attention_loss(seen) - first) > 1e-4
    routed = make("molsaki-words", student_weights="router")
    assert routed.terms.attention.values
    torch.testing.assert_close(routed.attention_loss(seen), method.attention_loss(seen))  # a router starts uniform
    with pytest.raises(ValidationError, match="heads"):
        METHODS["molsaki-words"].Settings(heads="each")


def test_all_layers_are_their_mean():
    seen = pair()
    seen.visible_BSK[:, 0, 2:] = False
    for name in ("attention-map", "single-layer"):
        every = make(name, teacher_layers="all", student_layers="all")
        named = make(name, teacher_layers=(0, 1, 2), student_layers=(0, 1))
        torch.testing.assert_close(every.attention_loss(seen), named.attention_loss(seen))
    for wrong in ("every", "", "1"):
        with pytest.raises(ValidationError, match="teacher_layers"):
            METHODS["attention-map"].Settings(teacher_layers=wrong)


def test_the_former_name_of_averaged_layers_is_the_same_loss_and_says_so():
    seen = pair()
    seen.visible_BSK[:, 0, 2:] = False
    former = make("molsaki-words", teacher_weights="uniform")
    averaged = make("attention-map", teacher_layers="all", student_layers="all", beta=0.3)
    torch.testing.assert_close(former.attention_loss(seen), averaged.attention_loss(seen))
    assert former.terms == averaged.terms
    assert "attention-map" in METHODS["molsaki-words"].deprecated
    assert not any(method.deprecated for name, method in METHODS.items() if name != "molsaki-words")


def test_weights_by_rows_depend_on_where_a_row_looks_and_not_on_how_much():
    """Words have few tokens and many columns: G over the number of both is nothing, and undivided picks one layer."""
    seen = pair()
    method = make("molsaki", rows="words")
    assert (method.settings.columns, method.settings.layer_change) == ("all", "rows")
    weights = method.teacher_weights(seen)
    longer = replace(seen, teacher_BLSK=seen.teacher_BLSK * torch.tensor([1.0, 7.0, 0.2, 3.0])[:, None])
    torch.testing.assert_close(method.teacher_weights(longer), weights)
    shares = seen.teacher_BLSK / seen.teacher_BLSK.sum(3, keepdim=True)
    change = shares.diff(dim=3).abs().sum(3).mean(2)
    torch.testing.assert_close(weights, torch.softmax(change / 0.1, 1))
    nothing = replace(seen, teacher_BLSK=torch.zeros_like(seen.teacher_BLSK))
    torch.testing.assert_close(method.teacher_weights(nothing), torch.full((B, 3), 1 / 3))


def test_words_as_rows_keep_what_is_given():
    settings = METHODS["molsaki"].Settings(rows="words", columns="keys", layer_change="mean", preset="as-written")
    assert (settings.columns, settings.layer_change, settings.gate) == ("keys", "mean", "concatenated")
    assert METHODS["molsaki"].Settings(**settings.model_dump()) == settings


@pytest.mark.parametrize("name", ["single-layer", "attention-map"])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"teacher_layers": (3,)}, "teacher_layers to be different layers from 0 to 2"),
        ({"student_layers": (-3,)}, "student_layers to be different layers from 0 to 1"),
        ({"teacher_layers": (-1, 2)}, "got \\[-1, 2\\]"),
    ],
)
def test_layers_that_there_are_not_are_refused(name, settings, expected):
    with pytest.raises(InputError, match=expected):
        make(name, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("molsaki", {"student_weights": "uniform", "gate": "per-layer"}, "gate with `student_weights: uniform`"),
        ("molsaki", {"student_weights": "uniform", "router_learning_rate": 1e-3}, "router_learning_rate"),
        ("molsaki", {"teacher_weights": "uniform", "teacher_temperature": 1}, "teacher_temperature"),
        ("molsaki", {"teacher_weights": "learned", "layer_change": "mean"}, "layer_change"),
        ("molsaki", {"preset": "as-written", "teacher_weights": "learned", "layer_change": "sum"}, "layer_change"),
        ("molsaki", {"normalisation": "visible", "kl_temperature": 1.0}, "kl_temperature"),
        ("single-layer", {"normalisation": "visible", "kl_temperature": 0.3}, "kl_temperature"),
        ("molsaki", {"router_learning_rate": 0}, "greater than 0"),
        ("single-layer", {"normalisation": "visible", "step_pool": "mean"}, "a mean changes nothing; got mean"),
        ("single-layer", {"teacher_layers": ()}, "at least 1 item"),
        ("molsaki", {"router_pool": "mean"}, "router_pool with `router_norm: after`"),
        ("molsaki", {"normalisation": "visible", "rows": "words", "step_pool": "mean"}, "a mean changes nothing"),
        ("molsaki", {"teacher_weights": "uniform", "student_weights": "uniform", "heads": "each"}, "heads with"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(name, settings, expected):
    with pytest.raises(ValidationError, match=expected):
        METHODS[name].Settings(**settings)


def outputs(share=1.0):
    generator = torch.Generator().manual_seed(3)
    label, rationale = (torch.rand(4, 7, generator=generator).log().requires_grad_() for _ in range(2))
    return OutputPair(label, rationale, share)


def test_mmi_adds_the_cross_entropy_between_the_pooled_branches():
    """As the released code of MMI computes it: the maxima themselves as logits and as targets."""
    pooled = outputs()
    expected = cross_entropy(pooled.rationale_EV.exp(), pooled.label_EV.exp())
    parts = make("mmi", alpha=0.25, beta=2.0)(MethodInputs(losses(), outputs=pooled))
    torch.testing.assert_close(parts.terms["mutual"], expected)
    assert parts.total.item() == pytest.approx(3.5 + 2 * expected.item())
    parts.total.backward()
    assert pooled.rationale_EV.grad.abs().sum() > 0
    assert pooled.label_EV.grad is None


def test_mmi_can_pull_both_branches_and_read_maxima_as_shares():
    pooled = outputs()
    label, rationale = (x.exp() / x.exp().sum(1, keepdim=True) for x in (pooled.label_EV, pooled.rationale_EV))
    method = make("mmi", pooled="sum", detach_labels=False)
    parts = method(MethodInputs(losses(), outputs=pooled))
    torch.testing.assert_close(parts.terms["mutual"], -(label * rationale.log()).sum(1).mean())
    parts.total.backward()
    assert pooled.label_EV.grad.abs().sum() > 0


def test_mmi_of_a_share_of_the_step_is_that_share_and_without_both_tasks_dss():
    seen = MethodInputs(losses(), outputs=outputs(share=0.25))
    whole = MethodInputs(losses(), outputs=outputs())
    torch.testing.assert_close(make("mmi")(seen).terms["mutual"] * 4, make("mmi")(whole).terms["mutual"])
    bare = MethodInputs(losses())
    assert make("mmi")(bare).total == make("dss")(bare).total


def test_cot_is_the_loss_of_its_one_sequence():
    parts = make("cot")(MethodInputs({"reason": torch.tensor(2.5)}))
    assert parts.total == 2.5
    assert list(parts.terms) == ["reasoning"]


def test_a_method_has_one_term_of_each_name_and_kind():
    label = Term("label", 1.0, ("predict",))
    steps, questions = AttentionChoice(rationale_steps=True), AttentionChoice(question_keys=True)
    one = Term("look", 1.0, ("explain",), steps)
    assert Terms([label, one]).attention is steps
    with pytest.raises(ValueError, match="label"):
        Terms([label, label])
    with pytest.raises(ValueError, match="AttentionChoice"):
        Terms([label, one, Term("question", 1.0, ("explain",), questions)])
