"""The figures of a GPU: training, reading and the longest text that fits, one after the other in one process.

    python benchmarks/on_gpu.py FOLDER                    # all, two to three minutes on an H100
    python benchmarks/on_gpu.py FOLDER --only reading
    python benchmarks/on_gpu.py FOLDER --device cpu --small     # to try it

Every part is a call of `molsaki bench` and writes FOLDER/PART.json after each shape; a part that fails prints its error
and the next one runs.
"""

from __future__ import annotations

import argparse
import time
import traceback
from pathlib import Path

from molsaki.cli.app import app

WEIGHTS = "--precision bf16-weights"
# With the kernel that PyTorch prefers, which on Hopper GPUs is cuDNN's, and with FlashAttention.
BOTH = "--way stepwise --way stepwise-flash"
PARTS = {
    "training": f"2048x8:40 8192x2:80 --model llama-1b {WEIGHTS} {BOTH} --repeats 5",
    "training-long": f"32768x1:200 --model llama-1b {WEIGHTS} {BOTH} --checkpointing --repeats 3",
    "reading": f"32768x1:200 --reading --model qwen2-1.5b --precision bf16 {BOTH} --repeats 5",
    "longest-eager": f"2048x1:40 --model llama-1b {WEIGHTS} --way output_attentions --checkpointing --longest 131072",
    "longest": f"32768x1:200 --model llama-1b {WEIGHTS} --way stepwise --checkpointing --longest 131072",
    "flex": f"8192x2:80 --model llama-1b {WEIGHTS} --way flex --repeats 3",
}
SMALL = {"llama-1b": "small", "qwen2-1.5b": "small", "32768x1": "512x1", "8192x2": "256x2", "2048x8": "256x2"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--small", action="store_true", help="short texts and a small model")
    options = parser.parse_args()
    for name in options.only:
        arguments = PARTS[name]
        for large, small in SMALL.items() if options.small else ():
            arguments = arguments.replace(large, small)
        if options.device == "cpu":
            arguments = arguments.replace(BOTH, "--way stepwise")
        print(f"\n## {name}: molsaki bench {arguments} --device {options.device}\n", flush=True)
        started = time.perf_counter()
        out = ["--device", options.device, "--out", str(options.folder / f"{name}.json")]
        try:
            app(["bench", *arguments.split(), *out], standalone_mode=False)
        except Exception:  # noqa: BLE001 - the next part is worth as much
            traceback.print_exc()
        print(f"\n{time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
