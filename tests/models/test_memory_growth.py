"""Memory does not grow with the number of shapes that batches have had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from molsaki.data.pocket import STUDENT

STEPS = f"""
import ctypes, sys
from molsaki.cli.app import main

sys.argv = ["molsaki", "--version"]
try:
    main()
except SystemExit:
    pass

import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained({str(STUDENT)!r})
for step in range(10):
    for length in range(20 + 3 * step, 23 + 3 * step):
        ids = torch.full((2, length), 5)
        with torch.autocast("cpu", torch.bfloat16):
            model(input_ids=ids, labels=ids).loss.backward()
    model.zero_grad()
    ctypes.CDLL(None).malloc_trim(0)
    lines = open("/proc/self/status").read().splitlines()
    print("anonymous", next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and trims the memory of glibc")
def test_a_training_in_bfloat16_does_not_grow_with_every_new_length(tmp_path: Path) -> None:
    """oneDNN would keep its kernels for a thousand shapes, about 0.4 MB each."""
    done = subprocess.run([sys.executable, "-c", STEPS], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    after = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("anonymous")]
    assert len(after) == 10, done.stderr
    assert after[-1] < 1.03 * after[2], after
