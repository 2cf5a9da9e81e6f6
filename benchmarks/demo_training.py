"""What batches of about one length, and a pass for each task, save in the demo's training: both ways in turn.

    molsaki run pocket && python benchmarks/demo_training.py runs/pocket

"Before" is one pass for both tasks and a random order, as a Trainer has it by itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import RandomSampler

from molsaki.encoding.prompts import PromptTemplate
from molsaki.methods import METHODS, Task
from molsaki.models.load import load_model, load_tokenizer, quiet_libraries
from molsaki.spans.views import STEPS
from molsaki.stages.signals import open_store
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.training import DistillationTrainer, encode_examples, make_method
from molsaki.training.arguments import training_arguments
from molsaki_benchmarks.runner import describe_machine


class Ungrouped(DistillationTrainer):
    """The trainer without what is measured here."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:  # noqa: ARG002
        self.data_collator.separate = False
        return RandomSampler(self.train_dataset)


def seconds_of(trainer: type[DistillationTrainer], workspace: Workspace, name: str, steps: int) -> float:
    """One training's time, without making its examples."""
    recipe = workspace.recipe
    method = METHODS[name]
    tokenizer = load_tokenizer(recipe, recipe.student)
    student = load_model(recipe, recipe.student, tokenizer)
    problems, texts = workspace.read_texts(TRAIN)
    templates: dict[Task, PromptTemplate] = {
        "predict": workspace.template("predict"),
        "explain": workspace.template("explain"),
    }
    store = open_store(workspace, STEPS.name) if method.terms_of(method.Settings()).attention else None
    examples, _ = encode_examples(tokenizer, problems, texts, templates, 512, store)
    settings = recipe.training.model_copy(update={"steps": steps})
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(settings, Path(folder), seed=1, show_progress=False, validating=False)
        made = make_method(method, method.Settings(), student)
        ready = trainer(student, made, arguments, examples, tokenizer)
        started = time.perf_counter()
        ready.train()
        return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory with rationales and attention")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(options.threads)
    workspace = Workspace.open(options.run)
    print("| method | before, s | now, s | faster by |\n| --- | --- | --- | --- |")
    for name in ("label-only", "dss", "molsaki"):
        taken: dict[type[DistillationTrainer], list[float]] = {Ungrouped: [], DistillationTrainer: []}
        for _ in range(options.repeats):
            for trainer, seconds in taken.items():
                seconds.append(seconds_of(trainer, workspace, name, options.steps))
        before, now = (statistics.median(seconds) for seconds in taken.values())
        print(f"| {name} | {before:.1f} | {now:.1f} | {before / now:.2f} |", flush=True)
    print(f"\n{options.steps} steps, median of {options.repeats}. {json.dumps(describe_machine(options.threads))}")


if __name__ == "__main__":
    main()
