"""Layer weights of routers, with and without other learned weights of a method."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from molsaki.config.recipe import MethodSpec
from molsaki.errors import InputError
from molsaki.methods import METHODS
from molsaki.report.routers import router_weights
from molsaki.training import make_method
from molsaki.training.checkpoints import METHOD_WEIGHTS


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"heads": "each"},
        {"teacher_weights": "learned"},
        {"teacher_weights": "learned", "student_weights": "uniform"},
    ],
    ids=["router", "router of heads", "router and teacher", "teacher"],
)
def test_learned_teacher_weights_are_no_obstacle(settings: dict[str, str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    )
    method = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(**settings), model, teacher_layers=3)
    safetensors.torch.save_file(method.state_dict(), tmp_path / METHOD_WEIGHTS)
    workspace: Any = SimpleNamespace(
        method=lambda label: MethodSpec(name="molsaki", label=label, **settings), student=lambda *_: tmp_path
    )
    assert router_weights(workspace, ("mine", 1), model, None, [], None) == {}  # type: ignore[arg-type]


def test_damaged_weights_are_refused_with_their_path(tmp_path: Path) -> None:
    (tmp_path / METHOD_WEIGHTS).write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    workspace: Any = SimpleNamespace(
        method=lambda label: MethodSpec(name="molsaki", label=label), student=lambda *_: tmp_path
    )
    with pytest.raises(InputError, match=METHOD_WEIGHTS):
        router_weights(workspace, ("mine", 1), None, None, [], None)  # type: ignore[arg-type]
