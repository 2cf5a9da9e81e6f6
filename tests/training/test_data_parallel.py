"""Two processes that share a batch take the step that one process takes on all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import small_world
import torch
from launching import launch_script
from small_world import make_examples, train

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from small_world import make_problems, train
from molsaki.training import encode_examples
folder = Path(sys.argv[2])
from small_world import TEMPLATES, CONTEXT, make_tokenizer, make_texts
from molsaki.store.signal_reader import SignalStore
problems = make_problems(8)
examples, _ = encode_examples(
    make_tokenizer(), problems, make_texts(problems), TEMPLATES, CONTEXT, SignalStore(folder / "attention")
)
student, metrics = train(folder / "two", examples, batch_size=2, accumulation=2, steps=3, log_every=1, model="llama")
print("process done", metrics["steps"])
"""


def test_two_processes_are_one(tmp_path):
    examples = make_examples(tmp_path / "attention")
    train(tmp_path / "one", examples, batch_size=8, accumulation=1, steps=3, log_every=1, model="llama")
    launch_script(SCRIPT, [str(Path(small_world.__file__).parent), str(tmp_path)], tmp_path)
    one, two = (
        [entry for entry in json.loads((tmp_path / name / "metrics.json").read_text())["history"] if "loss" in entry]
        for name in ("one", "two")
    )
    for expected, got in zip(one, two, strict=True):
        for key in ("loss", "label_loss", "rationale_loss", "attention_loss", "label_share", "grad_norm"):
            assert got[key] == pytest.approx(expected[key], rel=1e-4), key
    expected, got = (safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, atol=2e-4, rtol=1e-3, msg=name)
    assert not (tmp_path / "two.training").exists()
