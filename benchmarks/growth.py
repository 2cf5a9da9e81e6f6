"""How the work of a reading grows: seconds of what it adds to a layer, against tokens times key tokens.

    python benchmarks/growth.py docs/pictures/growth.svg --out benchmarks/DATE/growth.json

Timed are the weights of the key tokens, their sums over steps and keys, and all gradients, forward and backward, for a
layer of 8 heads of width 64 over 4 key-value heads. Each point is the least processor time of the repeats, which take
turns, on one thread. Lines are fitted to the logarithms, of all points and of those with many key tokens; their slopes
have the 95 % interval of least squares.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import scipy.stats
import torch

from molsaki.attention.columns import sum_over_spans
from molsaki.attention.span_index import make_span_index
from molsaki_benchmarks.models import ModelSize, Shape, make_batch
from molsaki_benchmarks.runner import describe_machine

mpl.use("svg")
HEADS, SHARED, WIDTH = 8, 4, 64
TOKENS, KEYS = (1024, 2048, 4096, 8192, 16384), (40, 80, 160, 320, 640)
MANY = 160


def make_step(tokens, keys):
    batch = make_batch(Shape(tokens, 1, keys), ModelSize(), "cpu")
    spans = make_span_index(batch.step_of_token, batch.key_of_token, None)
    query, key = (torch.randn(1, n, tokens, WIDTH, requires_grad=True) for n in (HEADS, SHARED))
    log_sum_exp = torch.full((1, HEADS, tokens), 6.0, requires_grad=True)

    def step():
        started = time.process_time()
        found = sum_over_spans(query, key, log_sum_exp, None, spans, is_causal=True, scale=WIDTH**-0.5)
        found.backward(torch.ones_like(found))
        return time.process_time() - started

    return step


def measure(repeats):
    steps = {pair: make_step(*pair) for pair in itertools.product(TOKENS, KEYS)}
    seconds = {pair: [] for pair in steps}
    for repeat in range(repeats + 1):
        for pair, step in steps.items():
            taken = step()
            if repeat > 0:
                seconds[pair].append(taken)
    return [
        {"tokens": tokens, "key_tokens": keys, "seconds": some, "least": min(some)}
        for (tokens, keys), some in seconds.items()
    ]


def fit(points):
    x = np.log10([point["tokens"] * point["key_tokens"] for point in points])
    line = scipy.stats.linregress(x, np.log10([point["least"] for point in points]))
    half = scipy.stats.t.ppf(0.975, len(points) - 2) * line.stderr
    return line, (float(line.slope - half), float(line.slope + half))


def describe(points):
    line, interval = fit(points)
    return f"slope {line.slope:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def draw(points, file):
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
    for tokens, marker in zip(TOKENS, "osD^v", strict=True):
        some = [point for point in points if point["tokens"] == tokens]
        x = [tokens * point["key_tokens"] for point in some]
        axes.loglog(x, [point["least"] for point in some], marker, label=f"{tokens} tokens")
    for name, some, style in ((f"{MANY} key tokens and more", with_many(points), "k-"), ("all", points, "k:")):
        line, _ = fit(some)
        x = np.array(sorted({point["tokens"] * point["key_tokens"] for point in some}))
        label = f"{name}: {describe(some)}"
        axes.loglog(x, 10 ** (line.intercept + line.slope * np.log10(x)), style, linewidth=1, label=label)
    axes.set_xlabel("tokens × key tokens")
    axes.set_ylabel("processor seconds added to a layer")
    figure.legend(loc="outside upper center", ncols=2, fontsize="small")  # beside the points, not over them
    mpl.rcParams["svg.hashsalt"] = "molsaki"
    figure.savefig(file, metadata={"Date": None})


def with_many(points):
    return [point for point in points if point["key_tokens"] >= MANY]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    points = measure(options.repeats)
    print(f"{MANY} key tokens and more: {describe(with_many(points))}; all {len(points)} points: {describe(points)}")
    draw(points, options.picture)
    if options.out is not None:
        machine = describe_machine(1)
        slopes = {"many": describe(with_many(points)), "all": describe(points)}
        figures = {"slopes": slopes, "machine": machine, "points": points}
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
