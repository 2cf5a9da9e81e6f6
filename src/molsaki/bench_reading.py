"""What `attend` costs beside a plain forward pass of the same batches: time and peak memory.

`molsaki bench --reading 512x4:24 2048x1:40` measures a Llama-shaped model on this machine, as `molsaki.bench` does a
training step: the ways take turns, medians are compared, and peak memory is that of a process which does nothing but
one of them. No gradients, no cache, and only the last position's logits, as `attend` reads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from molsaki.bench import MEGABYTE, TOKENS_PER_STEP, Measurement, ModelSize, Shape, describe_machine
from molsaki.errors import InputError
from molsaki.memory import peak_bytes

DEFAULT_SHAPES = ("512x4:24", "2048x1:40")
WAYS = {
    "plain": "forward pass on SDPA",
    "stepwise": "+ stepwise attention",
    "output_attentions": "+ stepwise attention by output_attentions",
}


@dataclass(frozen=True)
class ReadingResult:
    """All measurements of one run, with what they were measured on."""

    machine: dict[str, Any]
    model: ModelSize
    repeats: int
    measurements: list[Measurement]

    def ratios(self, measurement: Measurement) -> dict[str, float]:
        """Time, processor time and peak memory as multiples of a plain forward pass of the same batch."""
        plain = next(m for m in self.measurements if m.shape == measurement.shape and m.way == "plain")
        return {
            "time_ratio": measurement.median_seconds / plain.median_seconds,
            "cpu_time_ratio": statistics.median(measurement.cpu_seconds) / statistics.median(plain.cpu_seconds),
            "memory_ratio": measurement.peak_bytes / plain.peak_bytes,
        }

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with medians and ratios beside the raw numbers."""
        rows = [{**asdict(m), "median_seconds": m.median_seconds, **self.ratios(m)} for m in self.measurements]
        return {"machine": self.machine, "model": asdict(self.model), "repeats": self.repeats, "measurements": rows}

    def to_markdown(self) -> str:
        """The table, and under it what it was measured on."""
        lines = [
            "| tokens x batch : keys | way | seconds | x plain | x plain, processor time | peak MB | x plain |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for m in self.measurements:
            ratios = self.ratios(m)
            lines.append(
                f"| {m.shape} | {WAYS[m.way]} | {m.median_seconds:.3f} | {ratios['time_ratio']:.2f} | "
                f"{ratios['cpu_time_ratio']:.2f} | {m.peak_bytes / MEGABYTE:.0f} | {ratios['memory_ratio']:.2f} |"
            )
        size = self.model
        conditions = (
            f"One forward pass without gradients, median of {self.repeats}, float32. Llama-shaped model: {size.layers} "
            f"layers of width {size.width}, {size.heads} heads over {size.key_value_heads} key-value heads, "
            f"vocabulary {size.vocabulary}."
        )
        return "\n".join([*lines, "", conditions, "", *(f"- {name}: {v}" for name, v in self.machine.items())]) + "\n"


def run_reading_bench(
    shapes: Sequence[Shape],
    repeats: int = 5,
    ways: Sequence[str] = tuple(WAYS),
    model: ModelSize | None = None,
    threads: int = 2,
    progress: Callable[[str], None] = lambda _: None,
) -> ReadingResult:
    """Measure every way to read on every shape.

    Args:
        shapes: the batches.
        repeats: how often each way takes its turn, after one turn to warm up.
        ways: which of `WAYS`; the plain pass is always among them, since the ratios are to it.
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
    for shape in shapes:
        progress(f"{shape}: time")
        seconds = _alternate(shape, model, ways, repeats, threads)
        for way in ways:
            progress(f"{shape}: memory of {way}")
            peak, rest = _peak_in_own_process(shape, model, way, threads)
            measurements.append(Measurement(str(shape), way, *seconds[way], peak, rest))
    return ReadingResult(describe_machine(threads), model, repeats, measurements)


def _alternate(
    shape: Shape, model: ModelSize, ways: Sequence[str], repeats: int, threads: int
) -> dict[str, tuple[list[float], list[float]]]:
    read = make_reader(shape, model, threads)
    seconds: dict[str, tuple[list[float], list[float]]] = {way: ([], []) for way in ways}
    for repeat in range(repeats + 1):
        for way in ways:
            started, cpu_started = time.perf_counter(), time.process_time()
            read(way)
            if repeat > 0:
                seconds[way][0].append(time.perf_counter() - started)
                seconds[way][1].append(time.process_time() - cpu_started)
    return seconds


def _peak_in_own_process(shape: Shape, model: ModelSize, way: str, threads: int) -> tuple[int, int]:
    command = [sys.executable, "-m", "molsaki.bench_reading", str(shape), "--threads", str(threads)]
    command += ["--peak-of", way, "--model", json.dumps(asdict(model))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    peak, rest = json.loads(done.stdout.splitlines()[-1])
    return peak, rest


def make_reader(shape: Shape, size: ModelSize, threads: int) -> Callable[[str], Any]:
    """One model, one batch; the function reads it in the way it is given and gives A [B, L, S, K] (plain: None)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from molsaki.attention import read_attention

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.width * 11 // 4,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_value_heads,
        max_position_embeddings=shape.tokens,
    )
    config._attn_implementation = "sdpa"
    model = LlamaForCausalLM(config).eval()
    input_ids = torch.randint(size.vocabulary, (shape.batch, shape.tokens))
    mask = torch.ones_like(input_ids)
    step_of_token = (torch.arange(shape.tokens) // TOKENS_PER_STEP).expand(shape.batch, -1).contiguous()
    key_of_token = torch.full_like(input_ids, -1)
    key_of_token[:, torch.linspace(0, shape.tokens - 1, shape.keys).long()] = torch.arange(shape.keys)
    steps = int(step_of_token.max()) + 1

    def read(way: str) -> Any:
        with torch.inference_mode():
            if way == "plain":
                model(input_ids=input_ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
                return None
            if way == "stepwise":
                spans = step_of_token, key_of_token
                reading = read_attention(model, input_ids, mask, *spans, steps=steps, keys=shape.keys, logits_to_keep=1)
                return reading.attention
            config._attn_implementation = "eager"
            outputs = model(
                input_ids=input_ids, attention_mask=mask, use_cache=False, logits_to_keep=1, output_attentions=True
            )
            config._attn_implementation = "sdpa"
            step_columns = torch.nn.functional.one_hot(step_of_token, steps).float().mT
            key_columns = torch.nn.functional.one_hot(key_of_token + 1, shape.keys + 1)[..., 1:].float()
            layers = [step_columns @ weights.mean(1) @ key_columns for weights in outputs.attentions]
            return torch.stack(layers, dim=1)

    return read


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the peak memory of one way and what the process held before, which `molsaki bench --reading` asks for."""
    parser = argparse.ArgumentParser(prog="molsaki.bench_reading", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("shape", type=Shape.parse, metavar="TxB:K")
    parser.add_argument("--peak-of", choices=list(WAYS), required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=json.loads, default={})
    options = parser.parse_args(arguments)
    read = make_reader(options.shape, ModelSize(**options.model), options.threads)
    rest = peak_bytes()
    read(options.peak_of)
    read(options.peak_of)
    print(json.dumps([peak_bytes(), rest]))


if __name__ == "__main__":
    main()
