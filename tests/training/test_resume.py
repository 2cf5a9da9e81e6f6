"""A training that was stopped, however, ends as one that never was: to the last bit on one thread."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
import safetensors.torch
import torch
from small_world import make_examples, make_gpt2, train
from transformers import TrainerCallback

from molsaki.errors import ArtefactError
from molsaki.training import Collator, run
from molsaki.training.checkpoints import last_checkpoint


class KilledError(Exception):
    """Stands for a kill: nothing of ours catches it."""


class At(TrainerCallback):
    """Does something when a step begins, and keeps the router as it is at the end."""

    def __init__(self, step=None, action=None):
        self.step, self.action, self.router = step, action, None

    def on_step_begin(self, args, state, control, **named):
        if self.action is not None and state.global_step == self.step:
            self.action()

    def on_train_end(self, args, state, control, model=None, **named):
        self.router = {name: value.clone() for name, value in model.method.state_dict().items()}


def kill():
    raise KilledError


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def nine(tmp_path):
    """Five batches of two or less, so an epoch has steps of two, two and one batch."""
    return make_examples(tmp_path / "nine", count=9)


@pytest.fixture
def order(monkeypatch):
    """The problems of every batch, in the order of training."""
    return note_order(monkeypatch)


def note_order(monkeypatch):
    seen = []
    collate = Collator.__call__

    def note(self, examples):
        seen.append([example.problem_id for example in examples])
        return collate(self, examples)

    monkeypatch.setattr(Collator, "__call__", note)
    return seen


def student_with_dropout():
    return make_gpt2(resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1)


def fit(output, examples, *callbacks, save_every=5, **changes):
    student = student_with_dropout()
    return train(output, examples, student=student, callbacks=callbacks, save_every=save_every, **changes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run that nothing stops, without a checkpoint: its folder, metrics, router and order of examples."""
    folder = tmp_path_factory.mktemp("undisturbed")
    last = At()
    with pytest.MonkeyPatch.context() as monkeypatch:
        order = note_order(monkeypatch)
        _, metrics = fit(folder / "a", make_examples(folder / "nine", count=9), last, save_every=0)
    return folder / "a", metrics, last.router, order


def weights(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def last_losses(metrics, after):
    return [entry for entry in metrics["history"] if "loss" in entry and entry["step"] > after]


@pytest.mark.parametrize("save_every", [5, 6], ids=["amid an epoch", "at its end"])
def test_killed_and_resumed_is_the_undisturbed_run(tmp_path, nine, order, save_every, undisturbed):
    expected, metrics, router, expected_order = undisturbed
    resumed = At()
    with pytest.raises(KilledError):
        fit(tmp_path / "b", nine, At(8, kill), save_every=save_every)
    assert not (tmp_path / "b").exists()
    order.clear()
    _, again = fit(tmp_path / "b", nine, resumed, save_every=save_every)
    assert again["resumed_from"] == f"checkpoint-{save_every}"
    assert_same_weights(weights(expected), weights(tmp_path / "b"))
    assert_same_weights(router, resumed.router)
    assert router["router.weight"].abs().max() > 0
    assert order == expected_order[-len(order) :]
    for one, other in zip(last_losses(metrics, 9), last_losses(again, 9), strict=True):
        assert one["loss"] == other["loss"]
        assert one["attention_loss"] == other["attention_loss"]
    assert not (tmp_path / "b.training").exists()


@pytest.mark.parametrize("damage", ["no state", "cut state"])
def test_a_half_written_checkpoint_is_passed_over(tmp_path, nine, damage, undisturbed):
    with pytest.raises(KilledError):
        fit(tmp_path / "b", nine, At(8, kill))
    whole = tmp_path / "b.training" / "checkpoint-5"
    half = tmp_path / "b.training" / "checkpoint-8"
    shutil.copytree(whole, half)
    (half / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes()[:1000])
    state = (half / "trainer_state.json").read_text()
    (half / "trainer_state.json").unlink()
    if damage == "cut state":
        (half / "trainer_state.json").write_text(state[:40])
    assert last_checkpoint(tmp_path / "b.training").folder == whole
    fit(tmp_path / "b", nine)
    assert_same_weights(weights(undisturbed[0]), weights(tmp_path / "b"))


def test_killed_between_the_last_step_and_saving_trains_no_step_more(tmp_path, nine, monkeypatch):
    fit(tmp_path / "a", nine, steps=7)
    save = run.save_student
    monkeypatch.setattr(run, "save_student", lambda *given: kill())
    with pytest.raises(KilledError):
        fit(tmp_path / "b", nine, steps=7)
    monkeypatch.setattr(run, "save_student", save)
    _, metrics = fit(tmp_path / "b", nine, steps=7)
    assert metrics["steps"] == 7
    assert metrics["resumed_from"] == "checkpoint-7"
    assert [entry["step"] for entry in metrics["history"] if "loss" in entry] == [1, 3, 6]
    assert_same_weights(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize("save_every", [0, 5])
def test_an_interrupt_saves_stops_and_resumes(tmp_path, nine, save_every, undisturbed):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "b", nine, At(3, interrupt), save_every=save_every)
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "b").exists()
    assert last_checkpoint(tmp_path / "b.training").steps == 4
    _, metrics = fit(tmp_path / "b", nine, save_every=save_every)
    assert metrics["resumed_from"] == "checkpoint-4"
    assert_same_weights(weights(undisturbed[0]), weights(tmp_path / "b"))


def test_a_second_interrupt_stops_at_once(tmp_path, nine):
    def twice():
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "b", nine, At(3, twice), save_every=0)
    assert last_checkpoint(tmp_path / "b.training") is None


def test_checkpoints_of_another_training_are_refused(tmp_path, nine):
    with pytest.raises(KilledError):
        fit(tmp_path / "b", nine, At(8, kill))
    with pytest.raises(ArtefactError, match="training"):
        fit(tmp_path / "b", nine, learning_rate=0.001)
    with pytest.raises(ArtefactError, match="examples"):
        fit(tmp_path / "b", nine[:-1])
    with pytest.raises(ArtefactError, match="method"):
        fit(tmp_path / "b", nine, name="dss")
    with pytest.raises(ArtefactError, match="seed"):
        fit(tmp_path / "b", nine, seed=6)
    other = student_with_dropout()
    torch.nn.init.normal_(other.transformer.wte.weight)
    with pytest.raises(ArtefactError, match="weights"):
        train(tmp_path / "b", nine, student=other, save_every=5)
    assert (tmp_path / "b.training" / "checkpoint-5").is_dir()


def test_checkpoints_are_kept_two_at_a_time(tmp_path, nine):
    with pytest.raises(KilledError):
        fit(tmp_path / "b", nine, At(11, kill), save_every=2)
    kept = sorted(path.name for path in (tmp_path / "b.training").glob("checkpoint-*"))
    assert kept == ["checkpoint-10", "checkpoint-8"]


def test_checkpoints_of_another_number_of_processes_are_refused(tmp_path, nine, monkeypatch):
    with pytest.raises(KilledError):
        fit(tmp_path / "b", nine, At(8, kill))
    made_from = tmp_path / "b.training" / "made_from.json"
    made_from.write_text(made_from.read_text().replace('"processes": "1"', '"processes": "2"'))
    with pytest.raises(ArtefactError, match="processes"):
        fit(tmp_path / "b", nine)
