"""What it saves that rows which have ended leave their batch: decode_batches beside transformers' generate.

    python benchmarks/decoding.py FOLDER --data FOLDER --rows 64 --tokens 256

A chat model writes solutions of SVAMP's test problems. Both ways decode the same batches greedily and take turns;
`generate` computes all rows of a batch until the last one has ended.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from molsaki.data.svamp import load_svamp_dss
from molsaki.models.decode import decode_batches, end_tokens
from molsaki.models.load import pick_device, quiet_libraries
from molsaki.models.memory import bound_kernel_caches
from molsaki_benchmarks.runner import describe_machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of the model, with a chat template")
    parser.add_argument("--data", type=Path, required=True, help="the folder with svamp/dss")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=256, help="the most tokens of a solution")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a file for the figures")
    options = parser.parse_args()
    quiet_libraries()
    bound_kernel_caches()
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    model = AutoModelForCausalLM.from_pretrained(options.folder, dtype=options.dtype).eval().to(pick_device())
    problems = load_svamp_dss(options.data / "svamp" / "dss" / "svamp_test.json", "test", options.rows).problems
    turns = [[{"role": "user", "content": problem.question}] for problem in problems]
    prompts = [tokenizer.apply_chat_template(t, add_generation_prompt=True, return_dict=False) for t in turns]
    prompts.sort(key=len, reverse=True)
    ends = end_tokens(model, tokenizer)

    def rows_leave() -> list[int]:
        batches = decode_batches(
            model, tokenizer, prompts, max_new_tokens=options.tokens, batch_size=options.batch_size
        )
        found = sorted((completion for batch in batches for completion in batch), key=lambda one: one.index)
        return [completion.tokens for completion in found]

    def rows_stay() -> list[int]:
        counts = []
        for start in range(0, len(prompts), options.batch_size):
            batch = prompts[start : start + options.batch_size]
            width = max(map(len, batch))
            config = GenerationConfig(
                max_new_tokens=options.tokens, do_sample=False, eos_token_id=ends, pad_token_id=ends[0]
            )
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=model.device)
            written = model.generate(
                input_ids=torch.tensor([[ends[0]] * (width - len(row)) + row for row in batch], device=model.device),
                attention_mask=mask,
                generation_config=config,
            )
            rows = written[:, width:].tolist()
            counts += [next((i for i, token in enumerate(row) if token in ends), len(row)) for row in rows]
        return counts

    seconds: dict[str, list[float]] = {"rows leave": [], "rows stay": []}
    tokens: dict[str, list[int]] = {}
    for _ in range(options.repeats):
        for name, way in (("rows leave", rows_leave), ("rows stay", rows_stay)):
            started = time.perf_counter()
            tokens[name] = way()
            seconds[name].append(round(time.perf_counter() - started, 1))
    same = sum(a == b for a, b in zip(*tokens.values(), strict=True))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    counts = tokens["rows leave"]
    print(f"{len(counts)} texts of {min(counts)} to {max(counts)} tokens, on average {statistics.mean(counts):.1f}")
    print(f"rows leave: {median['rows leave']:.1f} s; rows stay: {median['rows stay']:.1f} s; ", end="")
    print(f"{median['rows stay'] / median['rows leave']:.2f} times as fast; {same} texts as long as in the other way")
    if options.out:
        figures = {
            "machine": describe_machine(torch.get_num_threads()),
            "seconds": seconds,
            "tokens": tokens,
            "same_length": same,
        }
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
