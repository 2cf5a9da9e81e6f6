"""What a benchmark is and what it measured: ways, measurements, and the table of a run."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from molsaki_benchmarks.costs import reading_cost
from molsaki_benchmarks.models import Conditions, Device, ModelSize, Shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MEGABYTE = 2**20
PLAIN, OUTPUT_ATTENTIONS = "plain", "output_attentions"
"""The way that the others are compared with, and the one that holds a T × T matrix for each layer and head."""
ON_FLASH = "-flash"
"""The end of the names of ways that run on PyTorch's FlashAttention, on GPUs where it prefers another kernel."""


def plain_way(way: str) -> str:
    """The way that a way is compared with: the plain one on the same kernel."""
    return PLAIN + ON_FLASH if way.endswith(ON_FLASH) else PLAIN


@contextlib.contextmanager
def in_way(model: PreTrainedModel, way: str) -> Iterator[str]:
    """Give a model the attention of a way, also for a checkpointed backward pass; gives the way without its kernel."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    model.config._attn_implementation = "eager" if way == OUTPUT_ATTENTIONS else "sdpa"
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if way.endswith(ON_FLASH) else contextlib.nullcontext():
        yield way.removesuffix(ON_FLASH)


@dataclass(frozen=True)
class Measurement:
    """One way on one shape.

    Attributes:
        shape: `TxB:K`.
        way: the name of the way.
        seconds: wall time of each repeat, in order.
        cpu_seconds: processor time of each repeat, which other load on the machine affects less.
        peak_bytes: peak memory of a process that runs the way twice; the median of `PROCESSES` processes. Of a long
            text: of a process that runs it once. On CUDA: the most that PyTorch allocated on the device.
        rest_bytes: what that process (or the device) held before: interpreter, libraries, model, optimizer.
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
        gpu_ways: the ways that a CPU does not have.
    """

    module: str
    ways: Mapping[str, str]
    shapes: tuple[str, ...]
    once: str
    matrices: int
    make: Callable[[Shape, ModelSize, Conditions], Callable[[str], Any]]
    gpu_ways: tuple[str, ...] = ()

    def ways_on(self, device: Device) -> list[str]:
        """The ways that a device has."""
        return [way for way in self.ways if device != "cpu" or way not in self.gpu_ways]

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
        conditions: threads, precision, device and checkpointing.
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
            **asdict(self.conditions),
            "repeats": self.repeats,
            "measurements": rows,
            "left_out": list(self.left_out),
        }

    def ratios(self, measurement: Measurement) -> dict[str, float]:
        """Time, processor time and peak memory as multiples of the plain way on the same shape and kernel."""
        plain = next(
            m for m in self.measurements if m.shape == measurement.shape and m.way == plain_way(measurement.way)
        )
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
        where = f"{self.conditions.precision} on {self.conditions.device}"
        where += ", layers checkpointed" if self.conditions.checkpointing else ""
        conditions = (
            f"{self.benchmark.once}, median of {self.repeats}, {where}. Model of the shape of {model.family}: "
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
