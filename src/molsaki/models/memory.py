"""The largest memory that this process has used, the memory that is free, and a bound on that of compiled kernels."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

KERNELS_KEPT = 128
"""The compiled kernels that oneDNN keeps, and PyTorch beside it; each keeps 1,024 by default."""


def bound_kernel_caches() -> None:
    """Let this process, and those that it starts, keep fewer compiled kernels; variables that are set already stay.

    In bfloat16 on a CPU, oneDNN compiles kernels for each shape of a matrix product, of about 0.4 MB. All layers share
    them, but batches differ in length, so that memory would grow with every training step. What is compiled again costs
    less than can be measured beside a step. Call it before the first matrix product, when the variables are read.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KERNELS_KEPT))


def peak_bytes() -> int:
    """The largest resident memory of this process so far, or since `reset_peak`, in bytes.

    Linux reports it in /proc. `getrusage` is only the fallback: its value is inherited from the parent process and
    hides everything smaller.
    """
    file = Path("/proc/self/status")
    if file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak() -> None:
    """Let `peak_bytes` count from now on, where the system allows that: Linux does."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def available_bytes() -> int | None:
    """The memory that new processes can take without swapping, in bytes; None where the system does not say.

    It is the smaller of what Linux calls available and what the control group of this process has left.
    """
    found = [*_of_machine(), *_of_group()]
    return min(found, default=None)


def _of_machine() -> list[int]:
    file = Path("/proc/meminfo")
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


def _of_group() -> list[int]:
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / f"memory.{name}").read_text(encoding="utf-8").strip() for name in ("max", "current"))
        reclaimable = next(
            int(line.split()[1])
            for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
            if line.startswith("inactive_file ")
        )
    except (OSError, StopIteration):
        return []
    return [max(0, int(limit) - int(used) + reclaimable)] if limit.isdecimal() else []
