"""Measure several ways to do the same thing: what the training and reading benchmarks share.

The ways take turns in one process, so that other load on the machine affects all of them, and the medians are compared.
Peak memory is measured in a process that does nothing else. `training` and `reading` define the ways, `models` the
model and the batch.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from molsaki.errors import InputError
from molsaki.models.memory import peak_bytes
from molsaki_benchmarks.costs import reading_cost
from molsaki_benchmarks.models import Conditions, ModelSize, Shape

MEGABYTE = 2**20
PROCESSES = 3
"""How many processes measure the memory of a way; allocators differ by a few per cent between processes."""
LONG, SHORT = 8192, 1024
"""Texts of more tokens than the first take minutes: a way's time is then taken in the process that measures its memory,
which runs the way once, after a text of as many tokens as the second."""
PLAIN, OUTPUT_ATTENTIONS = "plain", "output_attentions"
"""The way that the others are compared with, and the one that holds a T × T matrix for each layer and head."""


@dataclass(frozen=True)
class Measurement:
    """One way on one shape.

    Attributes:
        shape: `TxB:K`.
        way: the name of the way.
        seconds: wall time of each repeat, in order.
        cpu_seconds: processor time of each repeat, which other load on the machine affects less.
        peak_bytes: peak memory of a process that runs the way twice; the median of `PROCESSES` processes. Of a long
            text: of a process that runs it once.
        rest_bytes: what that process held before: interpreter, libraries, model, optimiser.
    """

    shape: str
    way: str
    seconds: list[float]
    cpu_seconds: list[float]
    peak_bytes: int
    rest_bytes: int

    @property
    def median_seconds(self) -> float:
        """The median over the repeats."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: ways to do the same thing.

    Attributes:
        module: the module that defines it; `python -m` with it measures memory in a separate process.
        ways: the name of each way in tables; `PLAIN` is one of them.
        shapes: the default shapes, `TxB:K`.
        once: what one repeat does, for the line under the table.
        matrices: how many attention matrices per layer `OUTPUT_ATTENTIONS` holds at a time.
        make: builds the model and the batch, and returns a function that runs one repeat in a given way.
    """

    module: str
    ways: Mapping[str, str]
    shapes: tuple[str, ...]
    once: str
    matrices: int
    make: Callable[[Shape, ModelSize, Conditions], Callable[[str], Any]]

    def full_attention_bytes(self, shape: Shape, model: ModelSize) -> int:
        """The least memory that `OUTPUT_ATTENTIONS` takes, in bytes."""
        return (
            self.matrices * model.layers * shape.batch * reading_cost(model.layer, shape.tokens, 1).full_attention_bytes
        )


@dataclass(frozen=True)
class BenchResult:
    """All measurements of one run, with the model and the machine.

    Attributes:
        benchmark: what was measured.
        machine: processor, system and versions.
        model: the model's size.
        conditions: threads and precision.
        repeats: how often each way was repeated.
        measurements: one for each shape and way.
        left_out: what did not fit into memory, one phrase each.
    """

    benchmark: Benchmark
    machine: dict[str, Any]
    model: ModelSize
    conditions: Conditions
    repeats: int
    measurements: list[Measurement]
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: raw numbers, medians and ratios."""
        rows = [{**asdict(m), "median_seconds": m.median_seconds, **self.ratios(m)} for m in self.measurements]
        return {
            "measured": self.benchmark.once,
            "machine": self.machine,
            "model": asdict(self.model),
            "precision": self.conditions.precision,
            "repeats": self.repeats,
            "measurements": rows,
            "left_out": list(self.left_out),
        }

    def ratios(self, measurement: Measurement) -> dict[str, float]:
        """Time, processor time and peak memory as multiples of the plain way on the same shape."""
        plain = next(m for m in self.measurements if m.shape == measurement.shape and m.way == PLAIN)
        return {
            "time_ratio": measurement.median_seconds / plain.median_seconds,
            "cpu_time_ratio": statistics.median(measurement.cpu_seconds) / statistics.median(plain.cpu_seconds),
            "memory_ratio": measurement.peak_bytes / plain.peak_bytes,
        }

    def to_markdown(self) -> str:
        """The table, with the model and the machine under it."""
        lines = [
            "| tokens x batch : keys | way | seconds | x plain | x plain, processor time | peak MB | x plain |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for m in self.measurements:
            ratios = self.ratios(m)
            lines.append(
                f"| {m.shape} | {self.benchmark.ways[m.way]} | {m.median_seconds:.3f} | {ratios['time_ratio']:.2f} | "
                f"{ratios['cpu_time_ratio']:.2f} | {m.peak_bytes / MEGABYTE:.0f} | {ratios['memory_ratio']:.2f} |"
            )
        lines += [f"\nNot run, because memory is too small: {what}." for what in self.left_out]
        model = self.model
        conditions = (
            f"{self.benchmark.once}, median of {self.repeats}, {self.conditions.precision}. Llama-shaped model: "
            f"{model.layers} layers of width {model.width}, {model.heads} heads over {model.key_value_heads} key-value "
            f"heads, vocabulary {model.vocabulary}."
        )
        counted = [
            f"{shape}: {100 * reading_cost(model.layer, shape.tokens, shape.keys).share:.2f} %"
            for shape in dict.fromkeys(Shape.parse(m.shape) for m in self.measurements)
        ]
        share = f"Operations of the attention loss beside a training step's own, counted: {', '.join(counted)}."
        lines += ["", conditions, "", share, "", *(f"- {name}: {value}" for name, value in self.machine.items())]
        return "\n".join(lines) + "\n"


def run_bench(
    benchmark: Benchmark,
    shapes: Sequence[Shape],
    repeats: int = 5,
    ways: Sequence[str] | None = None,
    model: ModelSize | None = None,
    conditions: Conditions | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> BenchResult:
    """Measure every way on every shape.

    Args:
        benchmark: what is measured.
        shapes: the batches.
        repeats: how often each way is repeated, after one warm-up.
        ways: the ways to measure (default: all). `PLAIN` is always measured, since ratios are to it.
        model: the model (default: 8 layers of width 512).
        conditions: threads and precision (default: two threads, float32).
        progress: called with a line of text before each part.

    Raises:
        InputError: a way is unknown, or `repeats` is below 1.
    """
    asked = list(benchmark.ways if ways is None else ways)
    if set(asked) - set(benchmark.ways) or repeats < 1:
        raise InputError(
            f"Expected ways from {list(benchmark.ways)} and at least one repeat; got {asked} and {repeats} repeats. "
            "Nothing was measured."
        )
    model, conditions = model or ModelSize(), conditions or Conditions()
    measurements: list[Measurement] = []
    left_out = []
    for shape in shapes:
        taken = [way for way in benchmark.ways if way in asked or way == PLAIN]
        if OUTPUT_ATTENTIONS in taken and benchmark.full_attention_bytes(shape, model) > available_bytes():
            taken.remove(OUTPUT_ATTENTIONS)
            gigabytes = benchmark.full_attention_bytes(shape, model) / 2**30
            left_out.append(f"{shape} by {OUTPUT_ATTENTIONS}, which would hold about {gigabytes:.0f} GiB")
        measure = _measure_long if shape.tokens > LONG else _measure
        measurements += measure(benchmark, shape, model, conditions, taken, repeats, progress)
    return BenchResult(
        benchmark, describe_machine(conditions.threads), model, conditions, repeats, measurements, tuple(left_out)
    )


def available_bytes() -> int:
    """How much memory a process could take now; 2^62 where the system does not say."""
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text(encoding="utf-8").splitlines() if meminfo.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 2**62)


def describe_machine(threads: int) -> dict[str, Any]:
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
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "molsaki": __version__,
    }


Progress = Callable[[str], None]


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
