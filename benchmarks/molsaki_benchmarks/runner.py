"""Measure several ways to do the same thing: what the training and reading benchmarks share.

The ways take turns in one process, so that other load on the machine affects all of them, and the medians are compared.
Peak memory is measured in a process that does nothing else; on CUDA PyTorch knows it (`device`). `training` and
`reading` define the ways, `models` the model and the batch.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from molsaki.errors import InputError
from molsaki.models.memory import peak_bytes
from molsaki_benchmarks.device import Longest, find_longest, measure_on_device, require_device
from molsaki_benchmarks.figures import OUTPUT_ATTENTIONS, PLAIN, Benchmark, BenchResult, Measurement, plain_way
from molsaki_benchmarks.models import Conditions, Device, ModelSize, Shape

PROCESSES = 3
"""How many processes measure the memory of a way; allocators differ by a few per cent between processes."""
LONG, SHORT = 8192, 1024
"""Texts of more tokens than the first take minutes: a way's time is then taken in the process that measures its memory,
which runs the way once, after a text of as many tokens as the second."""


Progress = Callable[[str], None]


def run_bench(
    benchmark: Benchmark,
    shapes: Sequence[Shape],
    repeats: int = 5,
    ways: Sequence[str] | None = None,
    model: ModelSize | None = None,
    conditions: Conditions | None = None,
    progress: Callable[[str], None] = lambda _: None,
    save: Callable[[BenchResult], None] = lambda _: None,
) -> BenchResult:
    """Measure every way on every shape.

    Args:
        benchmark: what is measured.
        shapes: the batches.
        repeats: how often each way is repeated, after one warm-up.
        ways: the ways to measure (default: all), each beside the plain way on the same kernel, since ratios are to it.
        model: the model (default: 8 layers of width 512).
        conditions: how it is computed (default: two threads, float32).
        progress: called with a line of text before each part.
        save: called with the result so far after each shape, so that a killed run leaves what it measured.

    Raises:
        InputError: a way is unknown, or `repeats` is below 1.
    """
    model, conditions = model or ModelSize(), conditions or Conditions()
    known = benchmark.ways_on(conditions.device)
    asked = list(known if ways is None else ways)
    compared = {PLAIN, *asked, *map(plain_way, asked)}
    if set(asked) - set(known) or repeats < 1:
        raise InputError(
            f"Expected ways from {known} on {conditions.device} and at least one repeat; got {asked} and {repeats} "
            "repeats. Nothing was measured."
        )
    require_device(conditions.device)
    machine = describe_machine(conditions.threads, conditions.device)
    result = BenchResult(benchmark, machine, model, conditions, repeats, [], ())
    for shape in shapes:
        taken = [way for way in benchmark.ways if way in compared]
        measurements, left_out = _measure_shape(benchmark, shape, model, conditions, taken, repeats, progress)
        result = replace(
            result,
            measurements=[*result.measurements, *measurements],
            left_out=(*result.left_out, *(f"{shape} by {what}" for what in left_out)),
        )
        save(result)
    return result


def run_longest(
    benchmark: Benchmark,
    first: Shape,
    limit: int,
    ways: Sequence[str] | None,
    model: ModelSize,
    conditions: Conditions,
    progress: Progress,
    save: Callable[[dict[str, Any]], None],
) -> list[Longest]:
    """Find the longest text that each way fits into a GPU's memory.

    Args:
        benchmark: what is run.
        first: the first shape; its tokens are doubled.
        limit: the largest number of tokens that is tried.
        ways: the ways (default: all).
        model: the model.
        conditions: how it is computed.
        progress: called with a line of text before each length.
        save: called with the figures so far after each length.

    Raises:
        InputError: a way is unknown, or the device is the CPU, where a process that takes too much memory is killed.
    """
    if conditions.device != "cuda":
        raise InputError(
            "Expected a GPU to find the longest text on; got the CPU, where a text that does not fit ends the process. "
            "Nothing was measured; choose --device cuda."
        )
    known = benchmark.ways_on(conditions.device)
    asked = list(known if ways is None else ways)
    if set(asked) - set(known):
        raise InputError(f"Expected ways from {known}; got {asked}. Nothing was measured.")
    require_device(conditions.device)
    found: dict[str, Longest] = {}
    for way in asked:
        for longest in find_longest(benchmark, first, limit, model, conditions, way, progress):
            found[way] = longest
            save(
                {
                    "longest": [one.to_dict() for one in found.values()],
                    "limit": limit,
                    "first": str(first),
                    "machine": describe_machine(conditions.threads, conditions.device),
                    "model": asdict(model),
                    **asdict(conditions),
                }
            )
    return list(found.values())


def _measure_shape(
    benchmark: Benchmark,
    shape: Shape,
    model: ModelSize,
    conditions: Conditions,
    ways: list[str],
    repeats: int,
    progress: Progress,
) -> tuple[list[Measurement], list[str]]:
    """The measurements of a shape, and what did not fit."""
    if conditions.device == "cuda":
        return measure_on_device(benchmark, shape, model, conditions, ways, repeats, progress)
    left_out = []
    if OUTPUT_ATTENTIONS in ways and benchmark.full_attention_bytes(shape, model) > available_bytes():
        ways = [way for way in ways if way != OUTPUT_ATTENTIONS]
        gigabytes = benchmark.full_attention_bytes(shape, model) / 2**30
        left_out.append(f"{OUTPUT_ATTENTIONS}, which would hold about {gigabytes:.0f} GiB")
    measure = _measure_long if shape.tokens > LONG else _measure
    return measure(benchmark, shape, model, conditions, ways, repeats, progress), left_out


def available_bytes() -> int:
    """How much memory a process could take now; 2^62 where the system does not say."""
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text(encoding="utf-8").splitlines() if meminfo.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 2**62)


def resident_bytes() -> int:
    """The resident memory of this process now, in bytes; Linux has it in /proc."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def describe_machine(threads: int, device: Device = "cpu") -> dict[str, Any]:
    """Date, processor, system and versions."""
    import torch
    import transformers

    from molsaki import __version__

    model_name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x.split(":", 1)[1].strip() for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model_name = names[0] if names else model_name
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "processor": f"{model_name}, {os.cpu_count()} cores",
        "threads": threads,
        **({"device": torch.cuda.get_device_name()} if device == "cuda" else {}),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "molsaki": __version__,
    }


def _measure(
    benchmark: Benchmark,
    shape: Shape,
    model: ModelSize,
    conditions: Conditions,
    ways: Sequence[str],
    repeats: int,
    progress: Progress,
) -> list[Measurement]:
    """Times of all ways in turn in this process, then the memory of each in processes of its own."""
    progress(f"{shape}: time")
    seconds = _alternate(benchmark.make(shape, model, conditions), ways, repeats)
    measurements = []
    for way in ways:
        progress(f"{shape}: memory of {way}")
        runs = [_run_in_own_process(benchmark, shape, model, conditions, way) for _ in range(PROCESSES)]
        middle = sorted(runs, key=lambda run: run.peak_bytes)[len(runs) // 2]
        measurements.append(Measurement(str(shape), way, *seconds[way], middle.peak_bytes, middle.rest_bytes))
    return measurements


def _measure_long(
    benchmark: Benchmark,
    shape: Shape,
    model: ModelSize,
    conditions: Conditions,
    ways: Sequence[str],
    repeats: int,
    progress: Progress,
) -> list[Measurement]:
    """Times and memory of processes of their own, which take turns and run a way once."""
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way in ways:
            progress(f"{shape}: {way}, {repeat + 1} of {repeats}")
            runs[way].append(_run_in_own_process(benchmark, shape, model, conditions, way))
    return [
        Measurement(
            str(shape),
            way,
            [run.seconds for run in some],
            [run.cpu_seconds for run in some],
            int(statistics.median(run.peak_bytes for run in some)),
            int(statistics.median(run.rest_bytes for run in some)),
        )
        for way, some in runs.items()
    ]


def _alternate(
    do: Callable[[str], Any], ways: Sequence[str], repeats: int
) -> dict[str, tuple[list[float], list[float]]]:
    seconds: dict[str, tuple[list[float], list[float]]] = {way: ([], []) for way in ways}
    for repeat in range(repeats + 1):
        for way in ways:
            started, cpu_started = time.perf_counter(), time.process_time()
            do(way)
            if repeat > 0:
                seconds[way][0].append(time.perf_counter() - started)
                seconds[way][1].append(time.process_time() - cpu_started)
    return seconds


@dataclass(frozen=True)
class Run:
    """What a process of its own measured of one way.

    Attributes:
        peak_bytes: its peak memory.
        rest_bytes: what it held before.
        seconds: wall time of the last run of the way.
        cpu_seconds: processor time of that run.
    """

    peak_bytes: int
    rest_bytes: int
    seconds: float
    cpu_seconds: float


def _run_in_own_process(benchmark: Benchmark, shape: Shape, model: ModelSize, conditions: Conditions, way: str) -> Run:
    command = [sys.executable, "-m", benchmark.module, str(shape), "--peak-of", way]
    command += ["--model", json.dumps(asdict(model)), "--conditions", json.dumps(asdict(conditions))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def print_peak(benchmark: Benchmark, arguments: Sequence[str] | None = None) -> None:
    """Print as JSON the peak memory of a process that runs one way, and the time of its last run.

    The way runs twice; on a long text once, after a short one.
    """
    parser = argparse.ArgumentParser(prog=benchmark.module, description=print_peak.__doc__)
    parser.add_argument("shape", type=Shape.parse, metavar="TxB:K")
    parser.add_argument("--peak-of", choices=list(benchmark.ways), required=True)
    parser.add_argument("--model", type=json.loads, default={}, help="sizes of the model, as JSON")
    parser.add_argument("--conditions", type=json.loads, default={}, help="threads and precision, as JSON")
    options = parser.parse_args(arguments)
    shape, model, conditions = options.shape, ModelSize(**options.model), Conditions(**options.conditions)
    if shape.tokens > LONG:
        before = Shape(SHORT, shape.batch, min(shape.keys, SHORT // 2))
        benchmark.make(before, model, conditions)(options.peak_of)
    do = benchmark.make(shape, model, conditions)
    rest = peak_bytes()
    if shape.tokens <= LONG:
        do(options.peak_of)
    started, cpu_started = time.perf_counter(), time.process_time()
    do(options.peak_of)
    run = Run(peak_bytes(), rest, time.perf_counter() - started, time.process_time() - cpu_started)
    print(json.dumps(asdict(run)))
