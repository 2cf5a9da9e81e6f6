"""Workers end with the process that started them, however that ends, and one that is killed is a message."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from molsaki.errors import StageError
from molsaki.stages.workers import run_in_workers, visible_gpus

BEATS = """
import sys, time
from pathlib import Path
from molsaki.stages.workers import run_in_workers

def beat(folder):
    for n in range(2000):
        Path(folder, "now").write_text(str(n))
        time.sleep(0.05)

if __name__ == "__main__":
    list(run_in_workers(beat, sys.argv[1:], workers=2))
"""


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_workers_exit_when_their_parent_is_killed(tmp_path: Path, ended_by: signal.Signals) -> None:
    script = tmp_path / "beats.py"
    script.write_text(BEATS, encoding="utf-8")
    # More jobs than workers: nor does anybody begin those that are left.
    folders = [tmp_path / str(job) for job in range(4)]
    for folder in folders:
        folder.mkdir()
    errors = tmp_path / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen([sys.executable, script, *folders], stderr=file)
    try:
        deadline = time.monotonic() + 120
        while sum((folder / "now").exists() for folder in folders) < 2:
            assert process.poll() is None, errors.read_text()
            assert time.monotonic() < deadline, "no two workers have begun"
            time.sleep(0.1)
    finally:
        process.send_signal(ended_by)
        process.wait()

    def seen() -> list[str]:
        return [(folder / "now").read_text() for folder in folders if (folder / "now").exists()]

    deadline = time.monotonic() + 30
    before = seen()
    time.sleep(1)
    while (after := seen()) != before:
        assert time.monotonic() < deadline, "workers go on without the process that started them"
        before = after
        time.sleep(1)
    assert len(after) == 2


def test_a_killed_worker_is_an_error() -> None:
    """As the system does it when memory runs out."""
    with pytest.raises(StageError, match=r"2 workers.*3 jobs.*--workers"):
        list(run_in_workers(signal.raise_signal, [signal.SIGKILL] * 3, workers=2))


INTERRUPTED = """
import sys, time
from pathlib import Path
from molsaki.stages.workers import print_line, run_in_workers

def work(folder):
    Path(folder, "begun").touch()
    print_line("begun")
    time.sleep(0.1 if folder.endswith("0") else 60)

if __name__ == "__main__":
    try:
        list(run_in_workers(work, sys.argv[1:], workers=2, print_line=lambda line: print(line, flush=True)))
    except KeyboardInterrupt:
        print("interrupted")
"""


class Unreadable(Exception):  # noqa: N818 - as a library might have it
    """Pickle calls it with its message alone."""

    def __init__(self, validator: str, cause: str) -> None:
        super().__init__(f"{validator}: {cause}")


def fail(item: str) -> None:
    raise Unreadable(item, "sizes differ")


def test_an_error_that_pickle_cannot_read_is_no_killed_worker() -> None:
    with pytest.raises(StageError, match=r"(?s)error of another package.*Unreadable: one: sizes differ"):
        list(run_in_workers(fail, ["one", "one"], workers=2))


def test_an_interrupt_prints_no_traceback_of_a_worker_that_waits_or_works(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(INTERRUPTED, encoding="utf-8")
    folders = [tmp_path / str(job) for job in range(2)]
    for folder in folders:
        folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, script, *folders],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not all((folder / "begun").exists() for folder in folders):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)  # the first worker waits for a job by now
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, errors = process.communicate(timeout=120)
    assert out.splitlines() == ["begun", "begun", "interrupted"]
    assert errors == ""


EARLY = """
import multiprocessing, os, signal, sys, threading, time
from pathlib import Path
from molsaki.stages.workers import run_in_workers

def interrupt():
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)

def work(folder):
    Path(folder, "begun").touch()
    time.sleep(60)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in what runs in the background
    threading.Thread(target=interrupt).start()
    try:
        list(run_in_workers(work, sys.argv[1:], workers=2))
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_an_interrupt_while_workers_start_begins_no_job(tmp_path: Path) -> None:
    """Each worker would train a whole student first, since it ignores interrupts until its job begins."""
    script = tmp_path / "work.py"
    script.write_text(EARLY, encoding="utf-8")
    folders = [tmp_path / str(job) for job in range(4)]
    for folder in folders:
        folder.mkdir()
    done = subprocess.run([sys.executable, script, *folders], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["interrupted"]
    assert done.stderr == ""
    assert not [folder for folder in folders if (folder / "begun").exists()]


@pytest.mark.parametrize(
    ("visible", "devices", "expected"),
    [
        (None, 2, ["0", "1"]),
        ("", 0, []),
        ("-1", 0, []),
        ("2,-1,3", 1, ["2"]),
        ("GPU-1a,GPU-2b", 2, ["GPU-1a", "GPU-2b"]),
        ("0,1", 0, []),
    ],
)
def test_only_devices_that_cuda_has_count_as_gpus(
    visible: str | None, devices: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == expected
