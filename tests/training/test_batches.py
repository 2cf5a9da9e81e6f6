"""Batches on their way to the device: moved by accelerate, and sent by the worker processes of a DataLoader."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest
import torch
from accelerate.utils import send_to_device
from small_world import make_examples

from molsaki.methods import terms_of
from molsaki.training import Collator


def tensors_of(value, path=""):
    """Every tensor in a batch, by where it is."""
    if isinstance(value, torch.Tensor):
        return {path: value}
    if isinstance(value, tuple):
        items = enumerate(value)
    elif is_dataclass(value):
        items = ((field.name, getattr(value, field.name)) for field in fields(value))
    else:
        return {}
    return {name: tensor for key, item in items for name, tensor in tensors_of(item, f"{path}.{key}").items()}


@pytest.fixture(params=["molsaki", "logits"])
def batch(request, tmp_path, tokenizer):
    return Collator(tokenizer, terms_of(request.param, {}))(make_examples(tmp_path / "a"))["batch"]


def test_no_tensor_of_a_batch_stays_behind_when_accelerate_moves_it(batch):
    """SpanIndex and the targets are nested; one tensor left on the CPU would fail on a GPU alone."""
    moved = tensors_of(send_to_device({"batch": batch}, torch.device("meta"), non_blocking=True)["batch"])
    assert moved.keys() == tensors_of(batch).keys()
    assert len(moved) > 5
    assert {tensor.device.type for tensor in moved.values()} == {"meta"}


def test_a_batch_survives_a_worker_process(tmp_path, tokenizer):
    examples = make_examples(tmp_path / "b")
    collate = Collator(tokenizer, terms_of("molsaki", {}))
    (made,) = torch.utils.data.DataLoader(examples, batch_size=len(examples), collate_fn=collate, num_workers=1)
    here, there = (tensors_of(inputs["batch"]) for inputs in (collate(examples), made))
    assert here.keys() == there.keys()
    assert all(torch.equal(tensor, there[name]) for name, tensor in here.items())
