"""An exported student as a GGUF file, by llama.cpp's converter, where a machine has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONVERTER = os.environ.get("LLAMA_CPP_CONVERTER", "")
MODEL = os.environ.get("LLAMA_CPP_STUDENT", "")


@pytest.mark.skipif(not CONVERTER, reason="LLAMA_CPP_CONVERTER names no convert_hf_to_gguf.py")
@pytest.mark.skipif(not MODEL, reason="LLAMA_CPP_STUDENT names no directory that `molsaki export` wrote")
def test_template_and_end_token_are_the_students(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    from transformers import AutoTokenizer

    file = tmp_path / "student.gguf"
    command = [sys.executable, CONVERTER, MODEL, "--outfile", str(file), "--outtype", "f16"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    fields = gguf.GGUFReader(str(file)).fields
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_token_id
    assert fields["tokenizer.chat_template"].contents() == tokenizer.chat_template
