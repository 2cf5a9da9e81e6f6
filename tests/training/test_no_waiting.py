"""A training step never asks the device for a value: on an accelerator the processor would wait for it each time."""

from __future__ import annotations

import traceback

import pytest
import torch
from small_world import MODELS, make_examples
from torch.utils._python_dispatch import TorchDispatchMode

from molsaki.methods import METHODS
from molsaki.training import Collator, make_method
from molsaki.training.model import DistillationModel

WAITING = {
    "aten._local_scalar_dense.default",
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten.unique_consecutive.default",
    "aten._unique2.default",
    "aten.repeat_interleave.Tensor",
}


CPU_KERNEL = "molsaki/attention/fused.py"
"""Never runs on an accelerator."""


class Waits(TorchDispatchMode):
    """Notes every operation whose result, or its shape, the processor needs."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = str(func) == "aten.index.Tensor" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if str(func) in WAITING or by_mask:
            frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()]
            places = [f for f in frames if "/molsaki/" in f or "/transformers/" in f]
            if not any(CPU_KERNEL in place for place in places):
                self.seen.append(f"{func} at {places[-1] if places else 'a test'}")
        return func(*args, **(kwargs or {}))


def test_the_note_is_taken():
    with Waits() as waits:
        torch.ones(3).sum().item()
        torch.ones(3)[torch.tensor([True, False, True])]
    assert len(waits.seen) >= 2


@pytest.mark.parametrize("model", ["llama", "gpt2"])
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "together"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in METHODS),
        ("molsaki", {"normalisation": "visible"}),
        ("molsaki", {"step_pool": "mean", "teacher_weights": "learned", "student_weights": "uniform"}),
        ("molsaki", {"heads": "each", "gate": "per-layer"}),
        ("mmi", {"pooled": "sum", "detach_labels": False}),
    ],
    ids=[*METHODS, "visible", "learned", "heads", "mmi-sum"],
)
def test_forward_and_backward_never_look(tmp_path, tokenizer, model, name, settings, apart):
    student = MODELS[model]().train()
    chosen = METHODS[name].Settings(**settings)
    terms = METHODS[name].terms_of(chosen)
    examples = make_examples(tmp_path, tasks=terms.tasks, choice=terms.attention)
    method = make_method(METHODS[name], chosen, student, teacher_layers=3)
    method.train()
    distilled = DistillationModel(student, method)
    batch = Collator(tokenizer, terms, apart)(examples)
    with Waits() as waits:
        distilled(**batch)["loss"].backward()
    assert waits.seen == []
