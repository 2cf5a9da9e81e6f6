"""What a training writes down: the loss's parts and shares, the validation's, and which student it keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_world import TEMPLATES, make_examples, make_problems, make_tokenizer, train
from transformers import AutoModelForCausalLM

from molsaki.config.student_settings import TrainingSettings
from molsaki.methods import METHODS
from molsaki.methods.terms import Terms
from molsaki.training import DistillationTrainer, encode_labels, make_method
from molsaki.training.arguments import training_arguments

LOSSES = ("label_loss", "rationale_loss", "attention_loss")


def logged(metrics, key="loss"):
    return [entry for entry in metrics["history"] if key in entry]


class Look(METHODS["molsaki"]):
    """MoLSAKI with another name for its attention term."""

    @classmethod
    def terms_of(cls, settings):
        *others, attention = METHODS["molsaki"].terms_of(settings)
        return Terms([*others, replace(attention, name="look")])


def test_a_term_has_any_name(tmp_path, monkeypatch, examples):
    _, plain = train(tmp_path / "a", examples, steps=2, log_every=1)
    monkeypatch.setitem(METHODS, "look", Look)
    _, named = train(tmp_path / "b", examples, name="look", steps=2, log_every=1)
    assert [e["look_loss"] for e in logged(named)] == [e["attention_loss"] for e in logged(plain)]
    assert [e["loss"] for e in logged(named)] == [e["loss"] for e in logged(plain)]


def validation(count=5):
    return encode_labels(make_tokenizer(), make_problems(count), TEMPLATES["predict"], 160)


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_parts_times_weights_are_the_loss_and_shares_sum_to_one(tmp_path, accumulation):
    """Nine examples: with accumulation the last step of an epoch has fewer batches than the others."""
    examples = make_examples(tmp_path / "attention", count=9)
    settings = {"alpha": 0.3, "beta": 0.7}
    _, metrics = train(
        tmp_path / "s", examples, settings=settings, accumulation=accumulation, log_every=4, learning_rate=1e-9
    )
    for entry in logged(metrics):
        label, rationale, attention = (entry[name] for name in LOSSES)
        assert 0.3 * label + 0.7 * rationale + 0.7 * attention == pytest.approx(entry["loss"], rel=1e-5)
        assert entry["label_share"] + entry["rationale_share"] + entry["attention_share"] == pytest.approx(1)
        assert entry["label_share"] == pytest.approx(0.3 * label / entry["loss"], rel=1e-5)
        assert 5 < label < 6.5  # log 257: a student that has learned nothing, in every step
        assert 5 < rationale < 6.5


def test_a_method_reports_only_the_parts_that_it_has(tmp_path, examples):
    _, metrics = train(tmp_path / "a", examples, name="label-only", steps=2)
    assert all(entry["label_loss"] == pytest.approx(entry["loss"], rel=1e-5) for entry in logged(metrics))
    assert not [key for entry in logged(metrics) for key in entry if "rationale" in key or "attention" in key]
    _, metrics = train(tmp_path / "b", examples, name="dss", steps=2)
    assert not [key for entry in logged(metrics) for key in entry if "attention" in key]
    assert logged(metrics)[0]["rationale_loss"] > 0


def test_the_validation_loss_is_the_mean_over_all_its_tokens(tmp_path, examples):
    """Whatever the size of its batches: the last of three has one example."""
    rows = validation()
    student, metrics = train(
        tmp_path / "s", examples, settings={"alpha": 0.4}, steps=4, evaluate_every=4, validation=rows
    )
    entry = logged(metrics, "eval_loss")[-1]
    student.eval()
    losses = []
    for row in rows:
        sequence = row.sequences["predict"]
        ids = torch.tensor([sequence.input_ids])
        log_p = student(ids).logits[0].log_softmax(1)
        places = range(sequence.completion_token, ids.shape[1])
        losses += [-log_p[place - 1, ids[0, place]].item() for place in places]
    assert entry["eval_label_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert entry["eval_loss"] == pytest.approx(0.4 * entry["eval_label_loss"], rel=1e-5)
    assert entry["eval_label_share"] == pytest.approx(1)
    assert not [key for key in entry if "rationale" in key or "attention" in key]  # nothing was measured of them


def test_validation_is_measured_at_every_evaluation_and_at_the_end(tmp_path, examples):
    calls = []

    def validate(model):
        calls.append(model.training)
        return {"accuracy": len(calls) / 10}

    _, metrics = train(tmp_path / "s", examples, steps=5, evaluate_every=2, validation=validation(), validate=validate)
    entries = logged(metrics, "eval_accuracy")
    assert [(entry["step"], entry["eval_accuracy"]) for entry in entries] == [(2, 0.1), (4, 0.2), (5, 0.3)]
    assert all("eval_loss" in entry for entry in entries)
    assert calls == [False] * 3


def test_evaluating_does_not_change_the_trajectory(tmp_path, examples):
    train(tmp_path / "a", examples, steps=6)
    train(tmp_path / "b", examples, steps=6, evaluate_every=2, validation=validation(), validate=lambda _: {"x": 0})
    one, other = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in "ab")
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(("best_by", "steps"), [("accuracy", 6), ("loss", 6), ("accuracy", 7)])
def test_the_best_student_is_kept(tmp_path, examples, best_by, steps):
    seen = []

    def validate(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"accuracy": [0.2, 0.9, 0.4, 0.95][len(seen) - 1]}

    student, metrics = train(
        tmp_path / "s",
        examples,
        steps=steps,
        evaluate_every=2,
        select="best",
        best_by=best_by,
        learning_rate=0.05,
        validation=validation(),
        validate=validate,
    )
    evaluations = logged(metrics, "eval_loss")
    if best_by == "accuracy":
        best = 1 if steps == 6 else 3
    else:
        best = min(range(len(evaluations)), key=lambda i: evaluations[i]["eval_loss"])
    assert metrics["best_checkpoint"] == f"checkpoint-{evaluations[best]['step']}"
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "s").state_dict()
    for name, value in saved.items():
        assert torch.equal(value, seen[best][name]), name
        assert torch.equal(value, student.state_dict()[name]), name


def test_tensorboard_writes_events_that_stay_with_the_student(tmp_path, examples):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path / "s", examples, steps=3, log_every=1, trackers=("tensorboard",))
    files = list((tmp_path / "s" / "runs").rglob("events.out.tfevents.*"))
    assert files
    events = EventAccumulator(str(files[0].parent))
    events.Reload()
    assert len(events.Scalars("train/attention_loss")) == 3


def test_weights_and_biases_offline_has_the_parts_of_the_loss(tmp_path, examples, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    train(tmp_path / "s", examples, steps=3, log_every=1, trackers=("wandb",))
    wandb.finish()
    (written,) = tmp_path.rglob("run-*.wandb")
    assert written.read_bytes().count(b"train/attention_loss") >= 3


def test_nothing_is_printed_without_progress(tmp_path, examples, capfd, caplog):
    train(tmp_path / "s", examples, steps=3, evaluate_every=2, validation=validation(), save_every=3)
    assert capfd.readouterr() == ("", "")
    # transformers 5.17 says that it does what was done already.
    assert not [record for record in caplog.records if "new PAD/BOS/EOS tokens" not in record.getMessage()]


def test_a_constant_rate_is_warmed_up_too(tmp_path, examples):
    _, metrics = train(
        tmp_path / "s", examples, steps=6, schedule="constant", warmup_steps=4, learning_rate=0.01, log_every=1
    )
    rates = [entry["learning_rate"] for entry in logged(metrics)]
    assert rates == pytest.approx([0, 0.0025, 0.005, 0.0075, 0.01, 0.01])


def test_the_best_student_is_kept_of_a_finished_training_that_was_moved(tmp_path, examples, monkeypatch):
    accuracies = iter([0.9, 0.1])
    options = {"steps": 4, "evaluate_every": 2, "select": "best", "validation": validation()}
    options["validate"] = lambda _: {"accuracy": next(accuracies)}
    (tmp_path / "a").mkdir()
    with monkeypatch.context() as stopped:
        stopped.setattr("molsaki.training.run.save_student", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "a" / "s", examples, **options)
    (tmp_path / "a").rename(tmp_path / "b")
    _, metrics = train(tmp_path / "b" / "s", examples, **options)
    assert metrics["best_checkpoint"] == "checkpoint-2"


def test_weights_in_16_bits_that_are_trained_are_warned_of(tmp_path, examples, caplog):
    train(tmp_path / "a", examples, steps=1)
    assert "rounded away" not in caplog.text
    train(tmp_path / "b", examples, steps=1, student=make_student().bfloat16())
    assert "torch.bfloat16" in caplog.text


def interrupt(*_args, **_options):
    raise KeyboardInterrupt


def test_schedule_warmup_decay_and_clipping_are_the_trainers(tmp_path, examples, tokenizer):
    settings = TrainingSettings(
        steps=10,
        batch_size=4,
        learning_rate=0.01,
        schedule="linear",
        warmup_steps=4,
        weight_decay=0.1,
        max_grad_norm=0.25,
        log_every=1,
    )
    student = make_student()
    method = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(preset="as-written"), student)
    args = training_arguments(settings, tmp_path, seed=1, show_progress=False, validating=False)
    trainer = DistillationTrainer(student, method, args, examples, tokenizer)
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    expected = [0.01 * step / 4 for step in range(4)] + [0.01 * (10 - step) / 6 for step in range(4, 10)]
    assert rates == pytest.approx(expected)
    assert args.max_grad_norm == 0.25
    decayed, not_decayed = (group["params"] for group in trainer.optimizer.param_groups)
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 0.1
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    assert "method.router.weight" in {names[id(p)] for p in decayed}
    exempt = {names[id(p)] for p in not_decayed}
    assert "method.router.bias" in exempt
    assert {name for name in names.values() if "norm" in name or name.endswith("bias")} == exempt


def make_student():
    from small_world import make_llama

    return make_llama(attention_bias=True)


@pytest.mark.parametrize(("count", "steps", "shown"), [(3, 4, 12), (5, 3, 9), (8, 2, 8)])
def test_tokens_are_those_of_the_examples_that_were_shown(tmp_path, count, steps, shown):
    """The last step of an epoch has what is left: 3 of 3, or 1 of 5."""
    examples = make_examples(tmp_path / "examples", count=count, without=())
    _, metrics = train(tmp_path / "a", examples, name="dss", steps=steps, batch_size=4, accumulation=1)
    total = sum(len(e.sequences[task].input_ids) for e in examples for task in ("predict", "explain"))
    assert metrics["tokens"] == round(total / count * shown)
