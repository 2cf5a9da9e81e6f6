"""What a sliding window and padding on the left cost: a forward pass on SDPA, whose mask has every pair of tokens, and
the same with stepwise attention, which takes them as a rule. No gradients; the ways take turns.

    python benchmarks/windows.py --out windows.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import MistralConfig, MistralForCausalLM

from molsaki.attention import read_attention
from molsaki.models.memory import peak_bytes
from molsaki_benchmarks.models import ModelSize, Shape, make_batch, model_sizes
from molsaki_benchmarks.runner import describe_machine

CASES = {"window of 512": (Shape(4096, 1, 60), 512, 0), "1000 tokens of padding": (Shape(4096, 2, 60), None, 1000)}
"""The batch, the window, and the second example's padding on the left."""
WAYS = ("plain", "stepwise")


def make_reader(case: str) -> Callable[[str], None]:
    """A Llama-shaped model with a window or without, and a batch of random text."""
    shape, window, padding = CASES[case]
    size = ModelSize()
    torch.manual_seed(0)
    config: Any = MistralConfig(**model_sizes(shape, size), sliding_window=window)
    config._attn_implementation = "sdpa"
    model = MistralForCausalLM(config).eval()
    batch = make_batch(shape, size, "cpu")
    batch.attention_mask[1:, :padding] = 0
    spans = [x.masked_fill(batch.attention_mask == 0, -1) for x in (batch.step_of_token, batch.key_of_token)]

    def read(way: str) -> None:
        with torch.inference_mode():
            if way == "plain":
                model(batch.input_ids, attention_mask=batch.attention_mask, use_cache=False, logits_to_keep=1)
            else:
                read_attention(model, batch.input_ids, batch.attention_mask, *spans, logits_to_keep=1)

    return read


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak-of", nargs=2, metavar=("CASE", "WAY"), help="print this one's memory, in a process")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        case, way = options.peak_of
        read = make_reader(case)
        read(way)
        read(way)
        print(peak_bytes())
        return
    rows: list[dict[str, Any]] = []
    print("| mask | way | seconds | x plain | peak MB | x plain |\n| --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        read = make_reader(case)
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(options.repeats + 1):
            for way in WAYS:
                started = time.perf_counter()
                read(way)
                seconds[way].append(time.perf_counter() - started)
        del read
        for way in WAYS:
            command = [sys.executable, __file__, "--threads", str(options.threads), "--peak-of", case, way]
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            row = {"case": case, "way": way, "seconds": seconds[way][1:], "peak_bytes": int(done.stdout)}
            rows.append({**row, "median_seconds": statistics.median(seconds[way][1:])})
            plain = next(x for x in rows if x["case"] == case and x["way"] == "plain")
            ratios = [rows[-1][name] / plain[name] for name in ("median_seconds", "peak_bytes")]
            print(
                f"| {case} | {way} | {rows[-1]['median_seconds']:.2f} | {ratios[0]:.2f} | "
                f"{rows[-1]['peak_bytes'] / 2**20:.0f} | {ratios[1]:.2f} |"
            )
    if options.out:
        result = {"machine": describe_machine(options.threads), "repeats": options.repeats, "measurements": rows}
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
