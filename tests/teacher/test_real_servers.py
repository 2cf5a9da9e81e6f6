"""Real servers with the pocket teacher behind them write what it writes here."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "served_teacher.py"
NEEDED = ("fastapi", "uvicorn", "openai", "gguf", "xllamacpp")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs pip install 'molsaki[servers]'; missing: {', '.join(MISSING)}")
def test_served_teachers_write_what_the_model_writes_here() -> None:
    shown = subprocess.run(
        [sys.executable, BENCHMARK, "--questions", "12", "--rows", "50", "--repeats", "1", "--threads", "1"],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    for name in ("transformers serve", "llama.cpp"):
        found = re.search(rf"^{re.escape(name)}: .*same text as here for (\d+) of 18 ", shown.stdout, re.MULTILINE)
        assert found is not None, shown.stdout
        assert int(found[1]) >= 17
    assert "one request in ten failing" in shown.stdout
    assert shown.stdout.count("50 rows there, 0 twice, 0 without an answer") == 2
