"""Training on long traces: memory, seconds of a step, and whether a killed training ends with the same student.

    python benchmarks/long_training.py FOLDER --model STUDENT --tokens 8000 --traces 50 --steps 10

Traces are word problems with their solutions, one after the other, up to the given number of tokens. Their attention is
that of a small random model with the student's tokenizer, since training does not depend on where it comes from. The
student is trained by `molsaki train` in bfloat16 with checkpointing. The process is killed with SIGKILL once its
checkpoint in the middle is complete, and the same command is started again. With --compare another student is trained
without a kill, and the two are compared bit by bit. Peak memory is that of the training processes.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from molsaki.data.pocket.word_problems import SETTINGS, draw_story
from molsaki.training.checkpoints import last_checkpoint
from molsaki_benchmarks.runner import describe_machine

METHOD = "molsaki"
ROOM = 16
"""Tokens of a sequence that are left for its prompt's own text and its end."""


def write_traces(path: Path, tokenizer: Any, tokens: int, traces: int) -> None:
    """A file of problems whose rationales are as long as fits into the given number of tokens."""
    chance = random.Random("long traces")
    rows = []
    for i in range(traces):
        first = draw_story(chance, SETTINGS["chains"])
        room = tokens - ROOM - len(tokenizer(first.text)["input_ids"])
        parts, part = [], first.rationale
        while (room := room - len(tokenizer(f" {part}", add_special_tokens=False)["input_ids"])) >= 0:
            parts.append(part)
            story = draw_story(chance, SETTINGS["chains"])
            part = f"{story.text} {story.rationale}"
        rows.append({"id": str(i), "question": first.text, "label": first.equation, "rationale": " ".join(parts)})
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def write_teacher(folder: Path, tokenizer: Any, tokens: int) -> None:
    """A random model of two layers that reads the student's tokens."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=2, max_position_embeddings=tokens, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def recipe_of(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The recipe of both runs."""
    columns = {name: name for name in ("id", "question", "label", "rationale")}
    return {
        "name": "long-training",
        "seeds": [1],
        "data": {
            "task": "long-traces",
            "root": str(folder.resolve()),
            "train": {"source": "table", "path": "traces.jsonl", "columns": columns},
            "tests": {"in-domain": {"source": "pocket-math", "split": "test", "limit": 1}},
        },
        "teacher": {"reader": {"name": str(folder.resolve() / "teacher")}},
        "rationales": {"source": "dataset", "keep": "all"},
        "attention": {"dtype": "float16", "top": 24},
        "student": {"name": str(options.model.resolve())},
        "methods": [METHOD],
        "training": {
            "steps": options.steps,
            "batch_size": options.batch,
            "max_length": options.tokens,
            "precision": "bf16",
            "checkpointing": True,
            "save_every": options.steps // 2,
        },
    }


def start(stage: str, recipe: Path, run: Path) -> subprocess.Popen[bytes]:
    """Start a stage in a process of its own, whose output goes to a file beside the run directory."""
    with run.with_suffix(".log").open("ab") as log:
        command = [sys.executable, "-m", "molsaki.cli", stage, str(recipe), "--out", str(run)]
        return subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own command


def end(process: subprocess.Popen[bytes], run: Path) -> None:
    """Wait for a stage, which must end well."""
    if process.wait():
        raise SystemExit(f"{run.with_suffix('.log').read_text(encoding='utf-8')}\nFailed: {process.args}")


def train(recipe: Path, run: Path) -> dict[str, Any]:
    """Train the student of a run, or go on with its training; its metrics."""
    end(start("train", recipe, run), run)
    return json.loads((student_of(run) / "metrics.json").read_text(encoding="utf-8"))


def student_of(run: Path) -> Path:
    """The folder of a run's student."""
    return run / "students" / f"{METHOD}-1"


def kill_after_checkpoint(recipe: Path, run: Path) -> tuple[int, int]:
    """Train until there is a complete checkpoint, then kill the process; its peak memory and the checkpoint's step."""
    working = student_of(run).with_name(f"{student_of(run).name}.training")
    process = start("train", recipe, run)
    while (checkpoint := last_checkpoint(working)) is None:
        if process.poll() is not None:
            end(process, run)
            raise SystemExit("Expected a checkpoint before the training ended; raise --steps.")
        time.sleep(0.05)
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    process.send_signal(signal.SIGKILL)
    process.wait()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), (
        checkpoint.steps
    )


def differing_tensors(one: Path, other: Path) -> list[str]:
    """The names of the weights of two students, their routers included, that are not the same bit by bit."""
    found = []
    for name in sorted({path.name for folder in (one, other) for path in folder.glob("*.safetensors")}):
        first, second = (safetensors.torch.load_file(folder / name) for folder in (one, other))
        found += [key for key in {*first, *second} if key not in first or not torch.equal(first[key], second[key])]
    return found


def main() -> None:
    """Prepare, train, kill, resume, print, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the traces and the runs; must not exist")
    parser.add_argument("--model", type=Path, required=True, help="folder of the student")
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--traces", type=int, default=50)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1, help="traces of a step")
    parser.add_argument("--compare", action="store_true", help="train without a kill too, and compare the students")
    options = parser.parse_args()
    folder, recipe = options.folder, options.folder / "recipe.yaml"
    folder.mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    write_traces(folder / "traces.jsonl", tokenizer, options.tokens, options.traces)
    write_teacher(folder / "teacher", tokenizer, options.tokens)
    recipe.write_text(yaml.safe_dump(recipe_of(folder, options)), encoding="utf-8")
    prepared, killed, undisturbed = (folder / name for name in ("prepared", "killed", "undisturbed"))
    for stage in ("generate", "attend"):
        end(start(stage, recipe, prepared), prepared)
    shutil.copytree(prepared, killed)
    peak, step = kill_after_checkpoint(recipe, killed)
    resumed = train(recipe, killed)
    stored = json.loads((prepared / "stages/attend.json").read_text(encoding="utf-8"))["signals"]["steps"]["stored"]
    figures = {
        "traces": options.traces,
        "batch": options.batch,
        "tokens_of_a_step": round(resumed["tokens"] / options.steps),
        "store_bytes": stored["bytes"],
        "steps": resumed["steps"],
        "killed_after_step": step,
        "peak_bytes_until_killed": peak,
        "resumed_from": resumed["resumed_from"],
        "seconds_resumed": resumed["seconds"],
        "peak_bytes_resumed": resumed["peak_memory_bytes"],
        "first_step": resumed["history"][0],
        "machine": describe_machine(torch.get_num_threads()),
    }
    print(json.dumps(figures, indent=2), flush=True)
    if options.compare:
        shutil.copytree(prepared, undisturbed)
        whole = train(recipe, undisturbed)
        differing = differing_tensors(student_of(undisturbed), student_of(killed))
        print(json.dumps({"seconds_without_a_kill": whole["seconds"], "differing_tensors": differing}, indent=2))


if __name__ == "__main__":
    main()
