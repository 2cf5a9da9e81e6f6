"""What reading a long text takes: seconds and peak memory of all of a teacher's signals on one made-up rationale.

    python benchmarks/long_texts.py FOLDER --tokens 8192

The steps' attention is kept as the 24 largest keys of a step in float16, and of the next tokens the 32 likeliest.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from molsaki.encoding.prompts import TEACHER, PromptTemplate
from molsaki.models.memory import peak_bytes
from molsaki.spans.text import Text
from molsaki.teacher.read_attention import AttentionSignal
from molsaki.teacher.read_logits import NextTokenSignal
from molsaki.teacher.read_signals import prepare_texts, read_rows

GIGABYTE = 2**30


def make_text(tokens):
    """A rationale of at least the given number of tokens, with one number in every sentence."""
    sentences = [f"In week {i}, Tom gives some of his pens to a friend and buys new ones." for i in range(tokens // 8)]
    return Text("long", "Tom has 12 pens. How many does he have at the end?", " ".join(sentences), "numbers")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of the model")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--chunk", type=int, help="tokens of a chunk (default: what 1 GiB allows)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=options.dtype).eval()
    signals = [AttentionSignal(dtype="float16", top=24), NextTokenSignal(32)]
    text = make_text(options.tokens)
    prepared, _ = prepare_texts(tokenizer, [text], PromptTemplate.parse(TEACHER), options.tokens, signals)
    rest, started, cpu_started = peak_bytes(), time.perf_counter(), time.process_time()
    (row,) = read_rows(model, tokenizer, prepared, signals, options.chunk)
    tokens = prepared[0].items[signals[0].name].tokens
    figures = {
        "tokens": prepared[0].length,
        "steps": tokens.n_steps - len(tokens.missing_steps),
        "keys": tokens.n_keys - len(tokens.missing_keys),
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - cpu_started, 1),
        "before_gib": round(rest / GIGABYTE, 2),
        "peak_gib": round(peak_bytes() / GIGABYTE, 2),
        "row_bytes": sum(x.numel() * x.element_size() for tensors in row.values() for x in tensors.values()),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
