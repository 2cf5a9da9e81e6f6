"""Fixtures of the trainings."""

from __future__ import annotations

import pytest
import torch
from small_world import make_examples, make_tokenizer


@pytest.fixture
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def examples(tmp_path):
    """Eight examples, two of them without the teacher's attention."""
    return make_examples(tmp_path / "attention")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Sums in one order, so that runs can be compared to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
