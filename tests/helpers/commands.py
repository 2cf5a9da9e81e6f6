"""Running `molsaki` commands inside the test's process, and small recipes to run."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml

from molsaki.cli import app as cli
from molsaki.config.load import override

SMALL: dict[str, Any] = {
    "name": "small",
    "seeds": [1],
    "data": {
        "task": "pocket-math",
        "train": {"source": "pocket-math", "split": "train", "limit": 8},
        "tests": {
            "in-domain": {"source": "pocket-math", "split": "test", "limit": 8},
            "chains": {"source": "pocket-math", "split": "chains", "limit": 8},
        },
    },
    "teacher": {"writer": {"name": "pocket:teacher"}},
    "rationales": {"max_new_tokens": 128, "batch_size": 8},
    "student": {"name": "pocket:student"},
    "methods": ["label-only", "dss", "molsaki"],
    "baseline": "dss",
    "training": {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "log_every": 3},
    "evaluation": {"max_new_tokens": 12, "untrained": False, "teacher_rows": 0},
}


@dataclass(frozen=True)
class Shown:
    """What a command printed, and how it ended."""

    code: int
    out: str
    error: str

    @property
    def text(self) -> str:
        """The output as one line, since tables and messages are wrapped to the terminal."""
        return " ".join(self.out.split())


def molsaki(*arguments: str | Path) -> Shown:
    """Run a command as `molsaki` would, in this process."""
    out, error = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
        mock.patch.object(sys, "argv", ["molsaki", *map(str, arguments)]),
        mock.patch.dict(os.environ, {"COLUMNS": "200"}),
    ):
        try:
            cli.main()
            code: Any = 0
        except SystemExit as exit_:
            code = exit_.code
    return Shown(code or 0, out.getvalue(), error.getvalue())


def recipe(folder: Path, *settings: str, base: dict[str, Any] = SMALL) -> Path:
    """Write the small recipe with some values changed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(override(base, settings)), encoding="utf-8")
    return path


def run(path: Path, out: Path, *more: str | Path, command: str = "run") -> Shown:
    """Run a recipe into a directory, one student at a time, without a report."""
    workers = ("--workers", "1") if command in ("run", "train", "evaluate") else ()
    report = ("--no-report",) if command == "run" else ()
    return molsaki(command, path, "--out", out, *workers, *report, *more)


def start(*arguments: str | Path, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """Start a command in a process of its own, with as many threads as this one has."""
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        [sys.executable, "-m", "molsaki.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads},
        preexec_fn=before,
    )


def stop_when(
    process: subprocess.Popen[str], ready: Callable[[], bool], number: signal.Signals, patience: float = 600
) -> tuple[str, str]:
    """Send a signal as soon as something is there, and wait for the end."""
    end = time.monotonic() + patience
    try:
        while not ready():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "nothing to interrupt came"
            time.sleep(0.01)
        process.send_signal(number)
        return process.communicate(timeout=patience)
    finally:
        process.kill()
        process.communicate()


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a directory but its lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".molsaki-lock"
    }
