"""What the attention loss costs beside plain cross-entropy: time and peak memory of one optimiser step.

`python -m molsaki.bench --lengths 256x8:24 2048x1:40 4096x1:60 --repeats 5` measures a Llama-shaped model on this
machine. The ways to train take turns, so that what else the machine does falls on all of them, and the medians
are compared; peak memory is that of a process which does nothing but one of them.

Legend: B batch, T tokens, S steps, K keys.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from molsaki.costs import LayerShape, reading_cost
from molsaki.errors import InputError
from molsaki.memory import peak_bytes

TOKENS_PER_STEP = 40
MEGABYTE = 2**20


@dataclass(frozen=True)
class Shape:
    """A batch: T tokens, B examples, K key tokens in each, each its own key."""

    tokens: int
    batch: int
    keys: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read `TxB:K`, for example `2048x1:40`.

        Raises:
            InputError: the text is something else, or there is no room for the keys.
        """
        try:
            size, keys = text.split(":")
            tokens, batch = size.split("x")
            shape = cls(int(tokens), int(batch), int(keys))
        except ValueError as error:
            raise InputError(f"Expected a shape TxB:K such as 2048x1:40; got {text!r}.") from error
        if min(shape.batch, shape.keys) < 1 or shape.tokens < shape.keys + TOKENS_PER_STEP:
            raise InputError(
                f"Expected at least one example, one key and room for {TOKENS_PER_STEP} tokens more than keys; got "
                f"{text!r}."
            )
        return shape

    def __str__(self) -> str:
        return f"{self.tokens}x{self.batch}:{self.keys}"


@dataclass(frozen=True)
class ModelSize:
    """A Llama-shaped model with random weights."""

    layers: int = 8
    width: int = 512
    heads: int = 8
    key_value_heads: int = 4
    vocabulary: int = 8192

    @property
    def layer(self) -> LayerShape:
        """One of its layers."""
        return LayerShape(self.width, self.width * self.key_value_heads // self.heads, self.width * 11 // 4, self.heads)


@dataclass(frozen=True)
class Measurement:
    """One way to train on one shape.

    Attributes:
        shape: `TxB:K`.
        way: which of `WAYS`.
        seconds: each repeat's time of one optimiser step, in the order they were taken.
        cpu_seconds: the processor time of each, which other jobs on the machine disturb less.
        peak_bytes: the largest memory of a process that took one such step after one to warm up.
        rest_bytes: what that process held before its first step: interpreter, libraries, model, optimiser.
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
class BenchResult:
    """All measurements of one run, with what they were measured on."""

    machine: dict[str, Any]
    model: ModelSize
    repeats: int
    measurements: list[Measurement]
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with medians and ratios beside the raw numbers."""
        rows = [{**asdict(m), "median_seconds": m.median_seconds, **self.ratios(m)} for m in self.measurements]
        return {
            "machine": self.machine,
            "model": asdict(self.model),
            "repeats": self.repeats,
            "measurements": rows,
            "left_out": list(self.left_out),
        }

    def ratios(self, measurement: Measurement) -> dict[str, float]:
        """Time and peak memory as multiples of plain cross-entropy on the same shape."""
        plain = next(m for m in self.measurements if m.shape == measurement.shape and m.way == "plain")
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
                f"| {m.shape} | {WAYS[m.way]} | {m.median_seconds:.2f} | {ratios['time_ratio']:.2f} | "
                f"{ratios['cpu_time_ratio']:.2f} | "
                f"{m.peak_bytes / MEGABYTE:.0f} | {ratios['memory_ratio']:.2f} |"
            )
        model = self.model
        counted = [
            f"{shape}: {100 * reading_cost(model.layer, shape.tokens, shape.keys).share:.2f} %"
            for shape in dict.fromkeys(Shape.parse(m.shape) for m in self.measurements)
        ]
        conditions = (
            f"One optimiser step (forward, backward, AdamW), median of {self.repeats}, float32. Llama-shaped model: "
            f"{model.layers} layers of width {model.width}, {model.heads} heads over {model.key_value_heads} "
            f"key-value heads, vocabulary {model.vocabulary}."
        )
        share = f"Operations of the attention loss beside the layers' own, counted: {', '.join(counted)}."
        lines += [f"\nNot run, for want of memory: {what}." for what in self.left_out]
        lines += ["", conditions, "", share, "", *(f"- {name}: {value}" for name, value in self.machine.items())]
        return "\n".join(lines) + "\n"


WAYS = {
    "plain": "cross-entropy on SDPA",
    "stepwise": "+ attention loss",
    "second-pass": "+ attention loss, second pass",
    "output_attentions": "+ attention loss by output_attentions",
}


def run_bench(
    shapes: Sequence[Shape],
    repeats: int = 5,
    ways: Sequence[str] = tuple(WAYS),
    model: ModelSize | None = None,
    threads: int = 2,
    progress: Callable[[str], None] = lambda _: None,
) -> BenchResult:
    """Measure every way on every shape.

    Args:
        shapes: the batches.
        repeats: how often each way takes its turn, after one turn to warm up.
        ways: which of `WAYS`; plain cross-entropy is always among them, since the ratios are to it.
        model: the model; 8 layers of width 512 by default.
        threads: CPU threads for PyTorch.
        progress: is told what is being done.

    Raises:
        InputError: a way is unknown, or there is nothing to repeat.
    """
    unknown = sorted(set(ways) - set(WAYS))
    if unknown or repeats < 1:
        raise InputError(f"Expected ways of {list(WAYS)} and at least one repeat; got {list(ways)} and {repeats}.")
    model = model or ModelSize()
    ways = [way for way in WAYS if way in ways or way == "plain"]
    measurements = []
    left_out = []
    for shape in shapes:
        too_large = whole_attention_bytes(shape, model) > available_bytes()
        taken = [way for way in ways if not (too_large and way == "output_attentions")]
        if len(taken) < len(ways):
            gigabytes = whole_attention_bytes(shape, model) / 2**30
            left_out.append(f"{shape} by output_attentions, which would hold about {gigabytes:.0f} GiB")
        progress(f"{shape}: time")
        seconds = _alternate(shape, model, taken, repeats, threads)
        for way in taken:
            progress(f"{shape}: memory of {way}")
            peak, rest = _peak_in_own_process(shape, model, way, threads)
            measurements.append(Measurement(str(shape), way, *seconds[way], peak, rest))
    return BenchResult(describe_machine(threads), model, repeats, measurements, tuple(left_out))


def whole_attention_bytes(shape: Shape, model: ModelSize) -> int:
    """What `output_attentions` holds for the backward pass: every layer's weights, before and after the softmax."""
    return 2 * model.layers * shape.batch * reading_cost(model.layer, shape.tokens, shape.keys).whole_bytes


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
    shape: Shape, model: ModelSize, ways: Sequence[str], repeats: int, threads: int
) -> dict[str, tuple[list[float], list[float]]]:
    step = _make_stepper(shape, model, threads)
    seconds: dict[str, tuple[list[float], list[float]]] = {way: ([], []) for way in ways}
    for repeat in range(repeats + 1):
        for way in ways:
            started, cpu_started = time.perf_counter(), time.process_time()
            step(way)
            if repeat > 0:
                seconds[way][0].append(time.perf_counter() - started)
                seconds[way][1].append(time.process_time() - cpu_started)
    return seconds


def _peak_in_own_process(shape: Shape, model: ModelSize, way: str, threads: int) -> tuple[int, int]:
    command = [sys.executable, "-m", "molsaki.bench", "--lengths", str(shape), "--threads", str(threads)]
    command += ["--peak-of", way, "--model", json.dumps(asdict(model))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    peak, rest = json.loads(done.stdout.splitlines()[-1])
    return peak, rest


def _print_peak(shape: Shape, model: ModelSize, way: str, threads: int) -> None:
    step = _make_stepper(shape, model, threads)
    rest = peak_bytes()
    step(way)
    step(way)
    print(json.dumps([peak_bytes(), rest]))


def _make_stepper(shape: Shape, size: ModelSize, threads: int) -> Callable[[str], None]:
    """One model, one optimiser, one batch; the function takes one step in the way it is given."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from molsaki.attention import read_attention
    from molsaki.mixture import LayerRouter, mix_layers
    from molsaki.objectives import attention_loss

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.layer.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        max_position_embeddings=shape.tokens,
    )
    config._attn_implementation = "sdpa"
    model = LlamaForCausalLM(config).train()
    router = LayerRouter([size.width * size.key_value_heads // size.heads] * size.layers)
    optimiser = torch.optim.AdamW([*model.parameters(), *router.parameters()], lr=1e-5)
    input_ids = torch.randint(size.vocabulary, (shape.batch, shape.tokens))
    mask = torch.ones_like(input_ids)
    step_of_token = (torch.arange(shape.tokens) // TOKENS_PER_STEP).expand(shape.batch, -1).contiguous()
    key_of_token = torch.full_like(input_ids, -1)
    key_of_token[:, torch.linspace(0, shape.tokens - 1, shape.keys).long()] = torch.arange(shape.keys)
    steps = int(step_of_token.max()) + 1
    masks = torch.ones(shape.batch, steps, dtype=torch.bool), torch.ones(shape.batch, shape.keys, dtype=torch.bool)
    teacher = torch.rand(shape.batch, steps, shape.keys)

    def whole_loss(way: str) -> torch.Tensor:
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": mask}
        if way == "plain":
            return cast(torch.Tensor, model(**inputs, labels=input_ids, use_cache=False).loss)
        if way == "output_attentions":
            config._attn_implementation = "eager"
            outputs = model(**inputs, labels=input_ids, use_cache=False, output_attentions=True)
            config._attn_implementation = "sdpa"
            step_columns = torch.nn.functional.one_hot(step_of_token, steps).float().mT
            key_columns = torch.nn.functional.one_hot(key_of_token + 1, shape.keys + 1)[..., 1:].float()
            layers = [step_columns @ weights.mean(1) @ key_columns for weights in outputs.attentions]
            student = torch.stack(layers, dim=1).mean(1)
            return cast(torch.Tensor, outputs.loss + attention_loss(teacher, student, *masks))
        reading = read_attention(
            model,
            **inputs,
            step_of_token=step_of_token,
            key_of_token=key_of_token,
            values=True,
            kernel="second-pass" if way == "second-pass" else "auto",
            labels=input_ids,
        )
        assert reading.values is not None
        student = mix_layers(reading.attention, router(reading.values, mask))
        return cast(torch.Tensor, reading.outputs.loss + attention_loss(teacher, student, *masks))

    def step(way: str) -> None:
        whole_loss(way).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()

    return step


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `python -m molsaki.bench`."""
    parser = argparse.ArgumentParser(prog="molsaki.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--lengths", nargs="+", default=["256x8:24", "2048x1:40", "4096x1:60"], metavar="TxB:K")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    parser.add_argument("--peak-of", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=json.loads, default={}, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    shapes, model = [Shape.parse(text) for text in options.lengths], ModelSize(**options.model)
    if options.peak_of:
        _print_peak(shapes[0], model, options.peak_of, options.threads)
        return
    result = run_bench(
        shapes, options.repeats, options.ways, model, options.threads, lambda what: print(what, file=sys.stderr)
    )
    print(result.to_markdown())
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.with_suffix(".json").write_text(json.dumps(result.to_dict(), indent=1) + "\n")
        options.output.with_suffix(".md").write_text(result.to_markdown())


if __name__ == "__main__":
    main()
