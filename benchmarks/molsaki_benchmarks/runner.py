"""Measuring ways to do one thing beside each other: what training and reading benchmarks share.

The ways take turns, so that what else the machine does falls on all of them, and the medians are compared; peak
memory is that of a process which does nothing but one of them. `bench_training` and `bench_reading` have the ways,
`bench_models` what they are measured on.
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
from molsaki_benchmarks.models import ModelSize, Shape

MEGABYTE = 2**20
PROCESSES = 3
"""How many processes measure the memory of a way; allocators differ by some per cent from one to the next."""
PLAIN, WHOLE = "plain", "output_attentions"
"""The way that the others are compared with, and the one that holds every pair of tokens."""


@dataclass(frozen=True)
class Measurement:
    """One way on one shape.

    Attributes:
        shape: `TxB:K`.
        way: one of its kind's.
        seconds: each repeat's time, in the order they were taken.
        cpu_seconds: the processor time of each, which other jobs on the machine disturb less.
        peak_bytes: the largest memory of a process that did it once after once to warm up, the median of some.
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
class Kind:
    """What is measured.

    Attributes:
        module: the module that has it, which measures memory in a process of its own.
        ways: what each way is called in tables; `PLAIN` is among them.
        shapes: what is measured if nothing else is asked for, `TxB:K`.
        once: what is done once, for the line under the table.
        matrices: how many attention matrices of every layer `WHOLE` holds at a time.
        make: a model and a batch made ready; the function does the thing once in the way that it is given.
    """

    module: str
    ways: Mapping[str, str]
    shapes: tuple[str, ...]
    once: str
    matrices: int
    make: Callable[[Shape, ModelSize, int], Callable[[str], Any]]

    def whole_bytes(self, shape: Shape, model: ModelSize) -> int:
        """What `WHOLE` holds at the least."""
        return self.matrices * model.layers * shape.batch * reading_cost(model.layer, shape.tokens, 1).whole_bytes


@dataclass(frozen=True)
class BenchResult:
    """All measurements of one run, with what they were measured on.

    Attributes:
        kind: what was measured.
        machine: on what.
        model: with which model.
        repeats: how often.
        measurements: by shape and way.
        left_out: what did not fit into memory, a phrase each.
    """

    kind: Kind
    machine: dict[str, Any]
    model: ModelSize
    repeats: int
    measurements: list[Measurement]
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with medians and ratios beside the raw numbers."""
        rows = [{**asdict(m), "median_seconds": m.median_seconds, **self.ratios(m)} for m in self.measurements]
        return {
            "measured": self.kind.once,
            "machine": self.machine,
            "model": asdict(self.model),
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
        """The table, and under it what it was measured on."""
        lines = [
            "| tokens x batch : keys | way | seconds | x plain | x plain, processor time | peak MB | x plain |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for m in self.measurements:
            ratios = self.ratios(m)
            lines.append(
                f"| {m.shape} | {self.kind.ways[m.way]} | {m.median_seconds:.3f} | {ratios['time_ratio']:.2f} | "
                f"{ratios['cpu_time_ratio']:.2f} | {m.peak_bytes / MEGABYTE:.0f} | {ratios['memory_ratio']:.2f} |"
            )
        lines += [f"\nNot run, for want of memory: {what}." for what in self.left_out]
        model = self.model
        conditions = (
            f"{self.kind.once}, median of {self.repeats}, float32. Llama-shaped model: {model.layers} layers of width "
            f"{model.width}, {model.heads} heads over {model.key_value_heads} key-value heads, vocabulary "
            f"{model.vocabulary}."
        )
        counted = [
            f"{shape}: {100 * reading_cost(model.layer, shape.tokens, shape.keys).share:.2f} %"
            for shape in dict.fromkeys(Shape.parse(m.shape) for m in self.measurements)
        ]
        share = f"Operations of the attention loss beside a training step's own, counted: {', '.join(counted)}."
        lines += ["", conditions, "", share, "", *(f"- {name}: {value}" for name, value in self.machine.items())]
        return "\n".join(lines) + "\n"


def run_bench(
    kind: Kind,
    shapes: Sequence[Shape],
    repeats: int = 5,
    ways: Sequence[str] | None = None,
    model: ModelSize | None = None,
    threads: int = 2,
    progress: Callable[[str], None] = lambda _: None,
) -> BenchResult:
    """Measure every way on every shape.

    Args:
        kind: what is measured.
        shapes: the batches.
        repeats: how often each way takes its turn, after one turn to warm up.
        ways: which of the kind's; all by default, and the plain one always, since the ratios are to it.
        model: the model; 8 layers of width 512 by default.
        threads: CPU threads for PyTorch.
        progress: is told what is being done.

    Raises:
        InputError: a way is unknown, or there is nothing to repeat.
    """
    asked = list(kind.ways if ways is None else ways)
    if set(asked) - set(kind.ways) or repeats < 1:
        raise InputError(f"Expected ways of {list(kind.ways)} and at least one repeat; got {asked} and {repeats}.")
    model = model or ModelSize()
    measurements = []
    left_out = []
    for shape in shapes:
        taken = [way for way in kind.ways if way in asked or way == PLAIN]
        if WHOLE in taken and kind.whole_bytes(shape, model) > available_bytes():
            taken.remove(WHOLE)
            gigabytes = kind.whole_bytes(shape, model) / 2**30
            left_out.append(f"{shape} by {WHOLE}, which would hold about {gigabytes:.0f} GiB")
        progress(f"{shape}: time")
        seconds = _alternate(kind.make(shape, model, threads), taken, repeats)
        for way in taken:
            progress(f"{shape}: memory of {way}")
            peaks = [_peak_in_own_process(kind, shape, model, way, threads) for _ in range(PROCESSES)]
            peak, rest = sorted(peaks)[len(peaks) // 2]
            measurements.append(Measurement(str(shape), way, *seconds[way], peak, rest))
    return BenchResult(kind, describe_machine(threads), model, repeats, measurements, tuple(left_out))


def available_bytes() -> int:
    """How much memory a process could take now; no bound where the system does not say."""
    told = Path("/proc/meminfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 2**62)


def describe_machine(threads: int) -> dict[str, Any]:
    """What a number was measured on: date, processor, versions."""
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


def _peak_in_own_process(kind: Kind, shape: Shape, model: ModelSize, way: str, threads: int) -> tuple[int, int]:
    command = [sys.executable, "-m", kind.module, str(shape), "--threads", str(threads)]
    command += ["--peak-of", way, "--model", json.dumps(asdict(model))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    peak, rest = json.loads(done.stdout.splitlines()[-1])
    return peak, rest


def print_peak(kind: Kind, arguments: Sequence[str] | None = None) -> None:
    """Print, in bytes, the peak memory of one way done twice and what the process held before."""
    parser = argparse.ArgumentParser(prog=kind.module, description=print_peak.__doc__)
    parser.add_argument("shape", type=Shape.parse, metavar="TxB:K")
    parser.add_argument("--peak-of", choices=list(kind.ways), required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=json.loads, default={}, help="sizes of the model, as JSON")
    options = parser.parse_args(arguments)
    do = kind.make(options.shape, ModelSize(**options.model), options.threads)
    rest = peak_bytes()
    do(options.peak_of)
    do(options.peak_of)
    print(json.dumps([peak_bytes(), rest]))
