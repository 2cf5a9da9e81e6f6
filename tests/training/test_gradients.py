"""The gradient of each term is measured without a trace in the training, and weights can be a share of it."""

from __future__ import annotations

import math

import pytest
import torch
from small_world import make_examples, make_gpt2, make_llama, train
from test_resume import At, KilledError, assert_same_weights, fit, kill, weights
from transformers import TrainingArguments

from molsaki.errors import InputError, StageError
from molsaki.methods import METHODS, GradientShare
from molsaki.training import Collator, DistillationTrainer, gradients, make_method
from molsaki.training.arguments import CHECKPOINTING
from molsaki.training.gradients import measured_steps, term_gradients, weight_of_share
from molsaki.training.model import DistillationModel

TERMS = ("label", "rationale", "attention")


def lines(metrics):
    return [line for line in metrics["history"] if "loss" in line]


@pytest.mark.parametrize(
    ("steps", "log_every", "expected"),
    [
        (1, 50, {1}),
        (6, 3, {1, 3, 6}),
        (100, 20, {1, 20, 40, 80, 100}),
        (300, 20, {1, 80, 160, 220, 300}),
        (10, 100, {1}),
    ],
)
def test_steps_are_the_first_and_others_that_are_logged(steps, log_every, expected):
    assert measured_steps(steps, log_every) == expected


@pytest.mark.parametrize("make", [make_llama, make_gpt2])
def test_the_norms_are_those_of_each_terms_gradient(examples, tokenizer, make):
    """Against a backward pass for each term; their vectors add up to the gradient of the loss."""
    student = make()
    method = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(alpha=0.3, beta=0.7), student)
    model = DistillationModel(student, method).train()
    inputs = Collator(tokenizer, method.terms)(examples)
    norms = term_gradients(model, [inputs], None, 0.0)
    assert list(norms) == list(TERMS)
    summed = {name: torch.zeros_like(p) for name, p in student.named_parameters()}
    for term in TERMS:
        student.zero_grad()
        model(**inputs, term=term)["loss"].backward()
        found = {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
        assert norms[term] == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in found.values())), rel=1e-4)
        assert norms[term] > 0
        for name, gradient in found.items():
            summed[name] += gradient
    student.zero_grad()
    model(**inputs)["loss"].backward()
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(parameter.grad, summed[name], atol=1e-6, rtol=1e-4)


def test_a_terms_gradient_takes_the_passes_of_its_tasks_alone(examples, tokenizer):
    student = make_llama()
    model = DistillationModel(student, make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(), student)).train()
    rows = []
    student.register_forward_pre_hook(lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True)
    norms = []
    for separate in (False, True):
        rows.clear()
        inputs = Collator(tokenizer, model.method.terms, separate)(examples)
        norms.append(term_gradients(model, [inputs], None, 0.0))
        assert [n for n in rows if n > 1] == ([8, 8, 8] if separate else [16, 16, 16])  # 1: the head by itself
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_a_term_that_the_batch_has_nothing_for_has_no_gradient(tmp_path, tokenizer):
    examples = make_examples(tmp_path / "a", without=[f"p{i}" for i in range(8)])
    student = make_llama()
    method = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(), student)
    norms = term_gradients(DistillationModel(student, method), [Collator(tokenizer, method.terms)(examples)], None, 0.0)
    assert norms["attention"] == 0
    assert norms["label"] > 0


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("name", ["molsaki", "mmi", "logits", "cot"])
def test_measuring_leaves_no_trace_in_the_training(tmp_path, monkeypatch, name, accumulation):
    """With dropout, whose random numbers would be other ones, and with the router's mean weights."""
    examples = make_examples(tmp_path / "a", tasks=("predict", "explain", "reason"))
    options = {"name": name, "steps": 6, "log_every": 1, "accumulation": accumulation, "callbacks": ()}
    _, measured = train(tmp_path / "b", examples, student=dropping(), **options)
    monkeypatch.setattr(gradients, "measured_steps", lambda *_: frozenset())
    _, plain = train(tmp_path / "c", examples, student=dropping(), **options)
    assert_same_weights(weights(tmp_path / "b"), weights(tmp_path / "c"))
    found = [{key: value for key, value in line.items() if not key.endswith("_gradient")} for line in lines(measured)]
    assert found == lines(plain)
    assert found != lines(measured)


def dropping():
    return make_gpt2(resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1)


def test_measurements_are_in_the_history_at_their_steps(tmp_path, examples):
    _, metrics = train(tmp_path / "s", examples, steps=12, log_every=3)
    found = {line["step"]: [line.get(f"{term}_gradient") for term in TERMS] for line in lines(metrics)}
    assert list(found) == [1, 3, 6, 9, 12]
    assert all(norm > 0 for norms in found.values() for norm in norms)
    _, metrics = train(tmp_path / "t", examples, steps=30, log_every=1)
    assert [line["step"] for line in lines(metrics) if "attention_gradient" in line] == [1, 8, 15, 23, 30]


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"checkpointing": True}], ids=str)
def test_it_is_measured_under_mixed_precision_and_checkpointing(tmp_path, examples, changes):
    _, plain = train(tmp_path / "a", examples, model="llama", steps=1)
    _, other = train(tmp_path / "b", examples, model="llama", steps=1, **changes)
    for term in TERMS:
        expected = lines(plain)[0][f"{term}_gradient"]
        assert lines(other)[0][f"{term}_gradient"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("float32", torch.float32)])
def test_it_is_measured_in_the_precision_of_the_training(tmp_path, examples, precision, dtype):
    student, found = make_llama(), []
    layer = student.model.layers[0].mlp.up_proj
    layer.register_forward_hook(lambda _, __, output: found.append(output.dtype))
    train(tmp_path / "s", examples, student=student, steps=1, precision=precision)
    in_steps = found[-2 * (1 + len(TERMS)) :]  # two batches for each term, and two of the training
    assert len(in_steps) < len(found), "the student is tried before its training"
    assert set(in_steps) == {dtype}


# PyTorch's compiler looks at every tensor's gradient, and warns of it.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_it_is_measured_in_a_compiled_student(tmp_path, examples, monkeypatch):
    whole = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda m, **named: whole(m, **named, backend="aot_eager"))
    _, plain = train(tmp_path / "a", examples, model="llama", steps=1)
    _, compiled = train(tmp_path / "b", examples, model="llama", steps=1, compile=True)
    torch._dynamo.reset()
    for term in TERMS:
        expected = lines(plain)[0][f"{term}_gradient"]
        assert lines(compiled)[0][f"{term}_gradient"] == pytest.approx(expected, rel=1e-3)


# ---- weights as a share of gradient ----


@pytest.mark.parametrize("schedule", ["constant", "falling", "rising"])
def test_a_share_of_gradient_is_the_share_that_the_term_has(tmp_path, examples, schedule):
    settings = {"beta": {"gradient": 0.25}, "beta_schedule": schedule}
    _, metrics = train(tmp_path / "s", examples, model="llama", settings=settings, steps=2, log_every=1)
    weight = metrics["weights"]["attention"]
    assert weight > 0
    assert metrics["weights"] == {"label": 0.5, "rationale": 0.5, "attention": weight}
    first = [lines(metrics)[0][f"{term}_gradient"] for term in TERMS]
    if schedule == "rising":
        assert first[2] == 0
    else:
        assert first[2] / sum(first) == pytest.approx(0.25, rel=1e-4)


def test_a_share_of_gradient_is_the_same_training_as_the_weight_in_its_metrics(tmp_path, examples):
    _, shared = train(tmp_path / "a", examples, settings={"beta": {"gradient": 0.25}}, steps=4)
    weight = shared["weights"]["attention"]
    _, given = train(tmp_path / "b", examples, settings={"beta": weight}, steps=4)
    assert given["weights"]["attention"] == pytest.approx(weight)
    for one, other in zip(lines(shared), lines(given), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_a_weight_waits_for_a_batch_with_its_term(tmp_path):
    """Set by a batch without attention, it would be infinite."""
    examples = make_examples(tmp_path / "a", without=("p0", "p1", "p2", "p3", "p4", "p5", "p6"))
    settings = {"beta": {"gradient": 0.25}}
    changes = {"settings": settings, "steps": 8, "batch_size": 1, "accumulation": 1, "log_every": 1}
    _, metrics = train(tmp_path / "s", examples, **changes)
    with_term = [line["step"] for line in lines(metrics) if line["attention_loss"] > 0]
    assert with_term
    assert 0 < metrics["weights"]["attention"] < math.inf


def test_a_share_of_gradient_is_of_the_whole_step_however_it_is_divided(tmp_path, examples):
    """The first batch alone has the shortest examples, since a step is sorted by length."""
    found = {}
    for size, accumulation in ((4, 1), (2, 2), (1, 4)):
        _, metrics = train(
            tmp_path / str(size),
            examples,
            settings={"beta": {"gradient": 0.25}},
            steps=2,
            log_every=1,
            batch_size=size,
            accumulation=accumulation,
        )
        found[size] = [metrics["weights"]["attention"], *(lines(metrics)[0][f"{term}_gradient"] for term in TERMS)]
    assert found[2] == pytest.approx(found[4], rel=1e-3)
    assert found[1] == pytest.approx(found[4], rel=1e-3)


def test_a_weight_waits_for_a_step_with_a_gradient_of_its_term(tmp_path, caplog, monkeypatch):
    """Attention on a single key is the same on both sides, whatever the student does."""
    examples = make_examples(tmp_path / "a")
    whole = gradients.term_gradients
    calls = []

    def flat(*given):
        calls.append(1)
        norms = whole(*given)
        return {**norms, "attention": 0.0} if len(calls) <= 2 else norms

    monkeypatch.setattr(gradients, "term_gradients", flat)
    monkeypatch.setattr(gradients, "measured_steps", lambda *_: frozenset())
    settings = {"beta": {"gradient": 0.25}}
    _, metrics = train(tmp_path / "b", examples, settings=settings, steps=4, log_every=1)
    assert metrics["weights"]["attention"] > 0
    assert len(calls) == 3
    assert not caplog.records
    monkeypatch.setattr(gradients, "term_gradients", lambda *given: {**whole(*given), "attention": 0.0})
    _, metrics = train(tmp_path / "c", examples, settings=settings, steps=2, log_every=1)
    assert metrics["weights"]["attention"] == 0
    assert "trained without the term" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"logging_strategy": "no", "logging_steps": 0},
        {CHECKPOINTING: True, f"{CHECKPOINTING}_kwargs": {"use_reentrant": True}},
    ],
    ids=["no log", "reentrant"],
)
def test_a_training_that_cannot_be_measured_trains(tmp_path, examples, tokenizer, changes, caplog):
    student = make_llama()
    method = make_method(METHODS["dss"], METHODS["dss"].Settings(), student)
    args = TrainingArguments(str(tmp_path), max_steps=2, report_to=[], disable_tqdm=True, use_cpu=True, **changes)
    trainer = DistillationTrainer(student, method, args, examples, tokenizer)
    trainer.train()
    assert trainer.state.global_step == 2
    assert ("use_reentrant" in caplog.text) == (CHECKPOINTING in changes)


def test_a_share_of_gradient_is_kept_when_a_training_is_resumed(tmp_path, examples):
    settings = {"beta": {"gradient": 0.25}}
    _, whole = fit(tmp_path / "whole", examples, settings=settings, save_every=0)
    with pytest.raises(KilledError):
        fit(tmp_path / "again", examples, At(8, kill), settings=settings)
    _, resumed = fit(tmp_path / "again", examples, settings=settings)
    assert resumed["resumed_from"] == "checkpoint-5"
    assert resumed["weights"] == whole["weights"]
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "again"))


@pytest.mark.parametrize("norms", [{"label": 1.0, "mutual": 0.0}, {"label": 0.0, "mutual": 1.0}, {"mutual": math.nan}])
def test_a_share_of_no_gradient_is_refused(norms):
    with pytest.raises(StageError, match="mutual"):
        weight_of_share("mutual", GradientShare(gradient=0.5), norms)


def test_a_share_of_gradient_is_refused_with_several_processes(tmp_path, examples, tokenizer, monkeypatch):
    """Each process has the gradients of its own batches alone; the weights of the processes would differ."""
    from accelerate import Accelerator

    from molsaki.config.student_settings import TrainingSettings
    from molsaki.training.arguments import training_arguments

    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 2))
    args = training_arguments(TrainingSettings(), tmp_path, seed=1, show_progress=False, validating=False)
    student = make_llama()
    for name in ("molsaki", "mmi"):
        method = make_method(METHODS[name], METHODS[name].Settings(beta={"gradient": 0.1}), student)
        with pytest.raises(InputError, match=r"share of gradient.*2 processes"):
            DistillationTrainer(student, method, args, examples, tokenizer)
