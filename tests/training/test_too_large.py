"""A batch that does not fit into memory: the error says what would."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from small_world import make_gpt2, train
from transformers import LlamaConfig

from molsaki.errors import StageError
from molsaki.models.estimates import training_memory
from molsaki.models.outline import Outline
from molsaki.training import too_large
from molsaki.training.model import DistillationModel

GIGABYTE = 10**9
STUDENT = Outline(
    LlamaConfig(vocab_size=49152, hidden_size=576, num_hidden_layers=30, intermediate_size=1536),
    135 * 10**6,
    135 * 10**6,
    4,
)


def sizes(found):
    """The number of examples, whether layers are checkpointed and the tokens that each suggestion names."""
    for text in found:
        size, length = re.search(r"batch_size: (\d+)", text), re.search(r"max_length: (\d+)", text)
        yield size and int(size[1]), "checkpointing" in text, length and int(length[1])


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize(("memory", "checkpointing"), [(16, False), (16, True), (4, False), (80, False), (None, False)])
def test_what_is_suggested_fits_by_estimate_and_is_smaller(memory, checkpointing, on_gpu):
    memory = None if memory is None else memory * GIGABYTE
    now = training_memory(STUDENT, 16 * 8000, checkpointing=checkpointing, on_gpu=on_gpu)
    found = list(sizes(too_large.what_fits(STUDENT, 8, 16, 8000, memory, checkpointing=checkpointing, on_gpu=on_gpu)))
    assert found
    for examples, checkpointed, tokens in found:
        size = training_memory(
            STUDENT,
            2 * (examples or 8) * (tokens or 8000),
            checkpointing=checkpointed or checkpointing,
            on_gpu=on_gpu,
        )
        assert size <= 0.9 * (memory or now)
        assert size < now


@pytest.mark.parametrize(
    ("sizes", "inner"),
    [({"intermediate_size": [8, 24, 16]}, 24), ({"ffn_dim": 40}, 40), ({"n_inner": None}, 32), ({}, 32)],
)
def test_layers_have_inner_units_under_several_names(sizes, inner):
    text = SimpleNamespace(hidden_size=8, num_hidden_layers=3, vocab_size=10, **sizes)
    outline = Outline(SimpleNamespace(get_text_config=lambda: text), 100, 100, 4)
    assert outline.inner == inner
    assert training_memory(outline, 5, checkpointing=False, on_gpu=True) > 16 * inner * 3 * 5
    assert training_memory(outline, 5, checkpointing=True, on_gpu=False) > training_memory(
        outline, 5, checkpointing=True, on_gpu=True
    )


def test_nothing_is_suggested_where_the_weights_alone_do_not_fit():
    assert too_large.what_fits(STUDENT, 8, 16, 8000, GIGABYTE, checkpointing=False, on_gpu=False) == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"),
    ],
)
def test_a_training_whose_batch_does_not_fit_says_what_would(error, examples, tmp_path, monkeypatch):
    def forward(*_, **__):
        raise error

    monkeypatch.setattr(DistillationModel, "forward", forward)
    with pytest.raises(StageError, match=r"fits into the memory of cpu.*checkpointing: true") as caught:
        train(tmp_path / "s", examples, student=make_gpt2())
    assert caught.value.__cause__ is error


def test_another_error_of_a_step_stays_as_it_is(examples, tmp_path, monkeypatch):
    def forward(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(DistillationModel, "forward", forward)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(tmp_path / "s", examples)
