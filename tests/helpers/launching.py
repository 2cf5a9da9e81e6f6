"""Several processes that work together, as `accelerate launch` and `torchrun` start them on processors."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def launch(arguments: Sequence[str | Path], count: int = 2) -> list[tuple[int, str]]:
    """Run Python with these arguments in `count` processes that find each other; exit status and output of each."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {
        **os.environ,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "TOKENIZERS_PARALLELISM": "false",
    }
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        outputs = [process.communicate(timeout=600)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    return [(process.returncode, output) for process, output in zip(started, outputs, strict=True)]


def launch_script(script: str, arguments: Sequence[str | Path], folder: Path, count: int = 2) -> None:
    """Run a script, written into `folder`, in `count` processes; all must end well."""
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    ended = launch([path, *arguments], count)
    assert [code for code, _ in ended] == [0] * count, "\n".join(output for _, output in ended)
