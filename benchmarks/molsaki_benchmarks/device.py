"""Measure on a GPU: times with its work finished, memory from PyTorch's allocator, and the longest text that fits.

All is done in one process: on a GPU the peak is known for each repeat, and starting a process costs more than a step.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from molsaki.errors import InputError
from molsaki_benchmarks.figures import Benchmark, Measurement
from molsaki_benchmarks.models import Conditions, Device, ModelSize, Shape

Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Run:
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def measure_on_device(
    benchmark: Benchmark,
    shape: Shape,
    model: ModelSize,
    conditions: Conditions,
    ways: Sequence[str],
    repeats: int,
    progress: Progress,
) -> tuple[list[Measurement], list[str]]:
    """Run the ways in turn, after a warm-up of each.

    Returns:
        The measurements, and the ways that did not fit into the device's memory.
    """
    import torch

    free(conditions.device)
    progress(f"{shape}: model")
    do = benchmark.make(shape, model, conditions)
    rest = allocated(conditions.device)
    runs: dict[str, list[_Run]] = {}
    left_out = []
    for way in ways:
        progress(f"{shape}: {way}, warm-up")
        try:
            run_once(do, way, conditions.device)
        except torch.OutOfMemoryError:
            left_out.append(way)
            free(conditions.device)
        else:
            runs[way] = []
    for repeat in range(repeats):
        for way, some in runs.items():
            some.append(run_once(do, way, conditions.device))
        progress(f"{shape}: {repeat + 1} of {repeats}")
    measurements = [
        Measurement(
            str(shape),
            way,
            [run.seconds for run in some],
            [run.cpu_seconds for run in some],
            max(run.peak_bytes for run in some),
            rest,
        )
        for way, some in runs.items()
    ]
    del do
    free(conditions.device)
    return measurements, left_out


def require_device(device: Device) -> None:
    """Raise `InputError` if PyTorch finds no such device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "Expected a CUDA device; PyTorch finds none. Nothing was measured; measure on --device cpu, or install a "
            "PyTorch for this GPU."
        )


def run_once(do: Callable[[str], Any], way: str, device: Device) -> _Run:
    """Run a way once and wait until the device has finished."""
    import torch

    _synchronise(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started, cpu_started = time.perf_counter(), time.process_time()
    do(way)
    _synchronise(device)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return _Run(seconds, cpu_seconds, torch.cuda.max_memory_allocated() if device == "cuda" else 0)


def _synchronise(device: Device) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def allocated(device: Device) -> int:
    """The bytes that PyTorch has allocated on a GPU; 0 on a CPU."""
    import torch

    return torch.cuda.memory_allocated() if device == "cuda" else 0


def free(device: Device) -> None:
    """Give back what nothing refers to any more."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Longest:
    """The longest text that a way fits into the device's memory, by doubling.

    Attributes:
        way: the way.
        tokens: of the longest text that fitted; None if the first did not.
        seconds: of one repeat with it, without a warm-up.
        peak_bytes: the most that PyTorch allocated.
        next_fits: None if no longer text was tried, otherwise False.
    """

    way: str
    tokens: int | None
    seconds: float | None
    peak_bytes: int | None
    next_fits: bool | None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    def __str__(self) -> str:
        if self.tokens is None:
            return f"{self.way}: not even the shortest text fits"
        more = "no longer one was tried" if self.next_fits is None else "twice as many do not fit"
        return (
            f"{self.way}: {self.tokens} tokens ({(self.peak_bytes or 0) / 2**30:.1f} GiB, {self.seconds:.1f} s); {more}"
        )


def find_longest(
    benchmark: Benchmark,
    first: Shape,
    limit: int,
    model: ModelSize,
    conditions: Conditions,
    way: str,
    progress: Progress,
) -> Iterator[Longest]:
    """Double the tokens of a shape until a way does not fit into memory; yield what is known after each length.

    Args:
        benchmark: what is run.
        first: the first shape.
        limit: the largest number of tokens that is tried.
        model: the model.
        conditions: the device, the precision and checkpointing.
        way: the way.
        progress: called with a line of text before each length.
    """
    import torch

    tokens, found = first.tokens, Longest(way, None, None, None, None)
    while tokens <= limit and found.next_fits is None:
        shape = Shape(tokens, first.batch, first.keys)
        progress(f"longest, {way}: {shape}")
        free(conditions.device)
        try:
            run = run_once(benchmark.make(shape, model, conditions), way, conditions.device)
        except torch.OutOfMemoryError:
            found = replace(found, next_fits=False)
        else:
            found = Longest(way, tokens, run.seconds, run.peak_bytes, next_fits=None)
        yield found
        tokens *= 2
    free(conditions.device)
