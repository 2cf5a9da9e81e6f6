"""An adapter on packed weights, by a stand-in for bitsandbytes, which needs a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from commands import SMALL
from tiny_models import enable_checkpointing
from torch import nn

from molsaki.config.load import parse_recipe
from molsaki.config.recipe import Recipe
from molsaki.models import load
from molsaki.models.load import load_student, load_tokenizer, student_at

IDS = torch.arange(3, 40)[None]


class Params4bit(nn.Parameter):
    """peft knows packed weights by the name of their class."""


class PackedLinear(nn.Linear):
    """Computes in the precision of its weights, and gives back that of its input, as bitsandbytes does."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name in torch
        return nn.functional.linear(input.to(self.weight.dtype), self.weight).to(input.dtype)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    def load_whole(*arguments: Any) -> Any:
        model = whole(*arguments[:-1], None)
        assert arguments[-1] == "4bit"
        for module in [m for m in model.model.modules() if isinstance(m, nn.Linear)]:
            module.__class__ = PackedLinear
            module.weight = Params4bit(module.weight.data, requires_grad=False)
        return model

    whole = load._load_whole
    monkeypatch.setattr(load, "_load_whole", load_whole)
    lora = {"r": 2, "alpha": 4}
    student = {"name": "pocket:student", "dtype": "bfloat16", "quantize": "4bit", "lora": lora}
    return parse_recipe({**SMALL, "student": student})


def student_of(recipe: Recipe) -> Any:
    student = load_student(recipe, load_tokenizer(recipe, recipe.student), seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in student.named_parameters():
            if "lora_B" in name:
                weights.normal_(std=0.1, generator=generator)
    return student


def test_all_but_packed_weights_is_float32_and_only_the_adapter_is_trained(recipe: Recipe) -> None:
    student = student_of(recipe)
    dtypes = {type(p).__name__: set() for p in student.parameters()}
    for name, weights in student.named_parameters():
        dtypes[type(weights).__name__].add(weights.dtype)
        assert weights.requires_grad == ("lora_" in name)
    assert dtypes == {"Params4bit": {torch.bfloat16}, "Parameter": {torch.float32}}


def test_checkpointing_changes_no_gradient_of_an_adapter_on_packed_weights(recipe: Recipe) -> None:
    found = []
    for checkpointing in (False, True):
        student = student_of(recipe).train()
        if checkpointing:
            enable_checkpointing(student)
        student(input_ids=IDS, labels=IDS).loss.backward()
        found.append({name: p.grad for name, p in student.named_parameters() if p.requires_grad})
    assert all(grad is not None and grad.abs().max() > 0 for name, grad in found[1].items() if "lora_B" in name)
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, rtol=0, atol=0)


def test_a_saved_adapter_is_tested_as_it_was_trained(recipe: Recipe, tmp_path: Path) -> None:
    student = student_of(recipe).eval()
    student.save_pretrained(str(tmp_path), save_embedding_layers=False)
    again = student_at(recipe, tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(IDS).logits, student(IDS).logits, rtol=0, atol=0)
