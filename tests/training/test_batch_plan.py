"""How a batch is computed: it fits, it is the same step, and an interrupted training goes on as it began."""

from __future__ import annotations

import dataclasses
import json

import pytest
import safetensors.torch
import torch
from small_world import make_examples, make_gpt2, make_llama, train
from transformers import LlamaConfig, TrainerCallback

from molsaki.config.student_settings import TrainingSettings
from molsaki.models.outline import Outline
from molsaki.training import Collator, batch_plan, run
from molsaki.training.batch_plan import BATCH_PLAN, BatchPlan, plan_batch

GIGABYTE = 10**9
SMOLLM2 = Outline(
    LlamaConfig(vocab_size=49152, hidden_size=576, num_hidden_layers=30, intermediate_size=1536),
    135 * 10**6,
    135 * 10**6,
    4,
)
LENGTHS = [120, 150, 180, 260]
"""Tokens of an example in two tasks."""


def plan(checkpointing="auto", memory=None, on_gpu=False, batch_size=16, lengths=LENGTHS):
    settings = TrainingSettings(batch_size=batch_size, checkpointing=checkpointing)
    return plan_batch(SMOLLM2, settings, lengths, on_gpu=on_gpu, memory=memory)


def test_a_batch_of_sixteen_runs_in_parts_that_take_half_of_what_it_took():
    assert plan().parts == 4
    assert not plan().checkpointing
    assert plan().memory < 5 * GIGABYTE


def test_a_gpu_computes_whole_batches_unless_they_do_not_fit():
    assert plan(on_gpu=True).parts == 1
    tight = plan(on_gpu=True, memory=int(4.5 * GIGABYTE), batch_size=64, lengths=[2000] * 4)
    assert tight.parts > 1
    assert tight.memory <= 4.5 * GIGABYTE or tight.checkpointing


@pytest.mark.parametrize("checkpointing", ["auto", True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 12, 16])
def test_parts_are_equal_and_less_memory_never_takes_more(batch_size, checkpointing):
    plans = [
        plan(checkpointing, memory, batch_size=batch_size) for memory in (None, 9 * GIGABYTE, 3 * GIGABYTE, GIGABYTE)
    ]
    for one in plans:
        assert batch_size % one.parts == 0
        assert checkpointing in ("auto", one.checkpointing)
    assert [one.memory for one in plans] == sorted((one.memory for one in plans), reverse=True)


def test_checkpointing_is_chosen_only_where_nothing_cheaper_fits():
    assert not plan(memory=int(4.5 * GIGABYTE)).checkpointing
    assert plan(memory=3 * GIGABYTE).checkpointing
    assert not plan(False, memory=3 * GIGABYTE).checkpointing
    assert plan(False, memory=3 * GIGABYTE).parts == 16


def in_parts(monkeypatch, **chosen):
    """Make every training that has no plan yet choose this one."""

    def choose(*_, **__):
        return BatchPlan(**chosen)

    monkeypatch.setattr(run, "plan_batch", choose)


def weights(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", ["dss", "mmi", "molsaki"])
def test_parts_and_checkpointing_are_the_same_training(tmp_path, name, monkeypatch):
    examples = make_examples(tmp_path / "nine", count=9)  # the last step of an epoch is not whole
    seen = []
    collate = Collator.__call__
    monkeypatch.setattr(Collator, "__call__", lambda self, some: (seen.append(len(some)), collate(self, some))[1])
    # Tiny steps: Adam turns gradients that are zero to within rounding into steps of either sign.
    settings = {"name": name, "batch_size": 4, "accumulation": 1, "steps": 3, "learning_rate": 1e-5, "log_every": 3}
    _, whole = train(tmp_path / "a", examples, student=make_llama(), **settings)
    assert max(seen) == 4
    seen.clear()
    in_parts(monkeypatch, parts=4, checkpointing=True)
    _, parts = train(tmp_path / "b", examples, student=make_llama(), **settings)
    assert set(seen) == {1}
    assert (whole["parts"], whole["checkpointing"]) == (1, False)
    assert (parts["parts"], parts["checkpointing"]) == (4, True)
    assert whole["tokens"] == parts["tokens"]
    first, other = (metrics["history"][0] for metrics in (whole, parts))
    assert first.keys() == other.keys()
    for key in first.keys() - {"epoch"}:
        assert other[key] == pytest.approx(first[key], rel=2e-4, abs=1e-7), key
    for key, value in weights(tmp_path / "a").items():
        torch.testing.assert_close(value, weights(tmp_path / "b")[key], atol=4e-5, rtol=1e-3)


class KilledError(Exception):
    """Stands for a kill."""


class KillAt(TrainerCallback):
    """Kills a training as a step begins."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **named):
        if state.global_step == self.step:
            raise KilledError


@pytest.mark.parametrize("step", [0, 3], ids=["before a checkpoint", "after one"])
def test_a_killed_training_keeps_its_parts_when_memory_has_changed(tmp_path, examples, step, monkeypatch):
    settings = {"batch_size": 4, "accumulation": 1, "steps": 4, "save_every": 2, "log_every": 4}
    in_parts(monkeypatch, parts=2)
    train(tmp_path / "a", examples, **settings)
    with pytest.raises(KilledError):
        train(tmp_path / "b", examples, callbacks=[KillAt(step)], **settings)
    assert json.loads((tmp_path / "b.training" / BATCH_PLAN).read_text())["parts"] == 2
    in_parts(monkeypatch, parts=4, checkpointing=True)
    _, metrics = train(tmp_path / "b", examples, **settings)
    assert (metrics["parts"], metrics["checkpointing"]) == (2, False)
    for key, value in weights(tmp_path / "a").items():
        assert torch.equal(value, weights(tmp_path / "b")[key]), key


def test_a_checkpoint_without_a_plan_goes_on_in_whole_batches(tmp_path, examples, monkeypatch):
    settings = {"batch_size": 4, "accumulation": 1, "steps": 4, "save_every": 2, "log_every": 4}
    with pytest.raises(KilledError):
        train(tmp_path / "a", examples, callbacks=[KillAt(3)], **settings)
    (tmp_path / "a.training" / BATCH_PLAN).unlink()
    in_parts(monkeypatch, parts=4)
    _, metrics = train(tmp_path / "a", examples, **settings)
    assert (metrics["parts"], metrics["resumed_from"]) == (1, "checkpoint-2")


def test_checkpointing_may_be_asked_for_after_a_batch_did_not_fit(tmp_path, examples, monkeypatch):
    settings = {"batch_size": 4, "accumulation": 1, "steps": 4, "save_every": 2, "log_every": 4}
    with pytest.raises(KilledError):
        train(tmp_path / "a", examples, callbacks=[KillAt(3)], **settings)
    monkeypatch.setattr(batch_plan, "ACTIVATIONS_HELD", 1)
    _, metrics = train(tmp_path / "a", examples, checkpointing=True, **settings)
    assert (metrics["checkpointing"], metrics["resumed_from"]) == (True, "checkpoint-2")


def test_what_was_chosen_is_said(tmp_path, examples, monkeypatch):
    said = []
    in_parts(monkeypatch, parts=2, checkpointing=True, memory=3 * GIGABYTE)
    train(tmp_path / "a", examples, print_line=said.append, batch_size=4, accumulation=1, steps=1)
    (line,) = said
    for part in ("4 examples in 2 parts", "computed again in the backward pass", "3 GB"):
        assert part in line


def test_a_model_that_cannot_recompute_is_not_asked_to(tmp_path, examples):
    student = make_gpt2()
    student.supports_gradient_checkpointing = False
    _, metrics = train(tmp_path / "a", examples, student=student, memory=1, batch_size=4, accumulation=1, steps=1)
    assert (metrics["parts"], metrics["checkpointing"]) == (4, False)


def test_a_damaged_plan_is_chosen_again(tmp_path):
    (tmp_path / BATCH_PLAN).write_text('{"parts": "many"}')
    chosen = BatchPlan(parts=2)
    assert batch_plan.settle_plan(tmp_path, "auto", False, lambda: chosen) == chosen
    assert json.loads((tmp_path / BATCH_PLAN).read_text()) == dataclasses.asdict(chosen)
