"""What a model's layers keep for the backward pass on a CPU, beside the estimate of it.

    python benchmarks/activations.py FOLDER
    python benchmarks/activations.py FOLDER --checkpointing

Each measurement is of one pass forward and backward in a process of its own, with random weights, few layers and a
small vocabulary. Differences between two numbers of tokens and of layers give the bytes of one token in one layer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from molsaki.attention import read_attention
from molsaki.models.estimates import training_memory
from molsaki.models.load import quiet_libraries
from molsaki.models.memory import peak_bytes, reset_peak
from molsaki.models.outline import Outline
from molsaki_benchmarks.runner import describe_machine, resident_bytes

LAYERS, TOKENS = (4, 12), (2048, 4096)
VOCABULARY = 1000


def config_of(options, layers):
    """The model's shape with some layers; the vocabulary is small, since logits are not measured."""
    config = AutoConfig.from_pretrained(options.folder)
    config.num_hidden_layers, config.vocab_size = layers, VOCABULARY
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    return config


def measure(options):
    """Bytes at the peak of one pass above those before it, gradients included before it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_config(config_of(options, options.layers), dtype=torch.float32).train()
    if options.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.config.use_cache = False
    width = min(options.row, options.tokens)
    rows = options.tokens // width
    ids = torch.randint(0, VOCABULARY, (rows, width))
    place = torch.arange(width)
    steps = (place // 32).expand(rows, width)
    keys = torch.where(place % 8 == 0, place // 8, -1).expand(rows, width)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = resident_bytes()
    reset_peak()
    with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
        if options.attention:
            reading = read_attention(model, ids, None, steps, keys, values=True, logits_to_keep=1)
            loss = reading.outputs.logits[:, -1].float().square().mean() + reading.attention.square().sum()
        else:
            loss = model(ids, logits_to_keep=1).logits.float().square().mean()
    loss.backward()
    return peak_bytes() - before


def expected_bytes(options, layers):
    """The estimate of the bytes of a token, without logits."""
    config = config_of(options, layers)
    config.vocab_size = 0
    tokens = TOKENS[1]
    size = training_memory(Outline(config, 0, 0, 4), tokens, checkpointing=options.checkpointing, on_gpu=False)
    return size / tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="bf16")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--row", type=int, default=512, help="tokens of a text")
    parser.add_argument("--attention", action="store_true", help="read stepwise attention and values too")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--layers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet_libraries()
    if options.layers:
        print(json.dumps(measure(options)))
        return
    flags = [f"--{name}" for name in ("checkpointing", "attention") if getattr(options, name)]
    command = [sys.executable, __file__, str(options.folder), "--precision", options.precision, *flags]
    command += ["--row", str(options.row)]
    peaks = {}
    for layers in LAYERS:
        for tokens in TOKENS:
            sizes = ["--layers", str(layers), "--tokens", str(tokens)]
            shown = subprocess.run([*command, *sizes], check=True, capture_output=True, text=True).stdout  # noqa: S603
            peaks[layers, tokens] = int(shown.splitlines()[-1])
    of_token = {
        layers: (peaks[layers, TOKENS[1]] - peaks[layers, TOKENS[0]]) / (TOKENS[1] - TOKENS[0]) for layers in LAYERS
    }
    expected = {layers: expected_bytes(options, layers) for layers in LAYERS}
    found = {
        "machine": describe_machine(1),
        "precision": options.precision,
        "checkpointing": options.checkpointing,
        "attention": options.attention,
        "tokens_of_a_text": options.row,
        "bytes_of_a_token": {str(layers): round(of_token[layers]) for layers in LAYERS},
        "estimated": {str(layers): round(expected[layers]) for layers in LAYERS},
        "bytes_of_a_token_in_a_layer": round((of_token[LAYERS[1]] - of_token[LAYERS[0]]) / (LAYERS[1] - LAYERS[0])),
        "estimated_in_a_layer": round((expected[LAYERS[1]] - expected[LAYERS[0]]) / (LAYERS[1] - LAYERS[0])),
    }
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
