"""The router's own learning rate, and a router that has collapsed onto one layer."""

from __future__ import annotations

import logging

import pytest
import torch
from small_world import make_llama, train
from test_resume import At, KilledError, fit, kill
from transformers import TrainerCallback

from molsaki.config.student_settings import TrainingSettings
from molsaki.methods import METHODS
from molsaki.methods.router import router_collapsed_at
from molsaki.training import DistillationTrainer, make_method
from molsaki.training.arguments import training_arguments

COLLAPSING = {"preset": "as-written", "router_learning_rate": 1.0}


def make_trainer(tmp_path, examples, tokenizer, **settings):
    student = make_llama(attention_bias=True)
    method = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(**settings), student)
    values = TrainingSettings(steps=10, batch_size=4, learning_rate=0.01, weight_decay=0.1, warmup_steps=4)
    args = training_arguments(values, tmp_path, seed=1, show_progress=False, validating=False)
    return DistillationTrainer(student, method, args, examples, tokenizer)


class Rates(TrainerCallback):
    """The learning rates of all parameter groups at every step."""

    def __init__(self):
        self.seen = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **named):
        self.seen.append([group["lr"] for group in optimizer.param_groups])


def test_the_router_has_groups_of_its_own_and_every_parameter_is_in_one(tmp_path, examples, tokenizer):
    trainer = make_trainer(tmp_path, examples, tokenizer, preset="as-written", router_learning_rate=0.001)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    groups = trainer.create_optimizer().param_groups
    found = [names[id(p)] for group in groups for p in group["params"]]
    assert sorted(found) == sorted(names.values())
    own = {names[id(p)]: group for group in groups[2:] for p in group["params"]}
    assert own.keys() == {"method.router.weight", "method.router.bias"}
    assert {group["lr"] for group in own.values()} == {0.001}
    assert {name: group["weight_decay"] for name, group in own.items()} == {
        "method.router.weight": 0.1,
        "method.router.bias": 0.0,
    }
    assert [group["lr"] for group in groups[:2]] == [0.01, 0.01]


def test_the_routers_rate_follows_the_schedule(tmp_path, examples, tokenizer):
    trainer = make_trainer(tmp_path, examples, tokenizer, router_learning_rate=0.001)
    trainer.add_callback(rates := Rates())
    trainer.train()
    for student, *_, router in rates.seen:
        assert router == pytest.approx(student / 10)
    logged = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert max(logged) <= 0.01, "the student's rate is logged, not the router's"


def test_the_router_learns_at_its_own_rate_alone(tmp_path, examples):
    routers = []
    for rate in (None, 1e-8):
        last = At()
        train(tmp_path / str(rate), examples, settings={"router_learning_rate": rate}, callbacks=[last], steps=3)
        routers.append(last.router["router.weight"].abs().max())
    assert routers[0] > 1e-3
    assert routers[1] < 1e-6


def test_a_training_with_a_routers_rate_resumes_on_its_trajectory(tmp_path, examples):
    settings = {"router_learning_rate": 1e-4}
    whole, resumed = At(), At()
    fit(tmp_path / "whole", examples, whole, settings=settings, save_every=0)
    with pytest.raises(KilledError):
        fit(tmp_path / "again", examples, At(8, kill), settings=settings)
    _, metrics = fit(tmp_path / "again", examples, resumed, settings=settings)
    assert metrics["resumed_from"] == "checkpoint-5"
    assert torch.equal(whole.router["router.weight"], resumed.router["router.weight"])


def test_a_collapsed_router_is_reported_once(tmp_path, examples, caplog):
    with caplog.at_level(logging.WARNING, "molsaki"):
        _, metrics = train(tmp_path / "s", examples, settings=COLLAPSING, steps=9, log_every=1)
    weights = [max(line["layer_weight_0"], line["layer_weight_1"]) for line in metrics["history"] if "loss" in line]
    assert weights[0] == 0.5
    first = next(i for i, weight in enumerate(weights) if weight > 0.95) + 1
    assert metrics["router_collapsed_at"] == first
    assert first < 9
    warned = [record.getMessage() for record in caplog.records if "router" in record.getMessage()]
    assert len(warned) == 1
    assert f"step {first} " in warned[0]


def test_a_router_that_mixes_is_not_reported(tmp_path, examples, caplog):
    _, metrics = train(tmp_path / "s", examples, steps=4, log_every=1)
    assert metrics["router_collapsed_at"] is None
    assert "router" not in caplog.text


@pytest.mark.parametrize(
    ("history", "step"),
    [
        ([], None),
        ([{"loss": 1.0, "step": 1}, {"eval_loss": 1.0, "step": 2}], None),
        ([{"layer_weight_0": 1.0, "step": 1}], None),  # one layer has all the weight
        ([{"layer_weight_0": 0.95, "layer_weight_1": 0.05, "step": 1}], None),
        (
            [
                {"layer_weight_0": 0.5, "layer_weight_1": 0.5, "step": 1},
                {"layer_weight_0": 0.04, "layer_weight_1": 0.96, "step": 20},
                {"layer_weight_0": 0.0, "layer_weight_1": 1.0, "step": 40},
            ],
            20,
        ),
    ],
)
def test_the_step_of_a_collapse_is_read_off_the_log(history, step):
    assert router_collapsed_at(history) == step
