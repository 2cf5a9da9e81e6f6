"""What a training step of a real student takes: its time beside a plain pass of transformers, and its memory.

    python benchmarks/student_step.py time --models FOLDER --data FOLDER --precision bf16
    python benchmarks/student_step.py memory --models FOLDER --data FOLDER --precision bf16 --steps 3

The step is one of the recipe smollm2-svamp: 16 examples in both tasks, forward and backward. `time` lets the ways take
turns in one process, on the same batch of the same student:

- plain: transformers' model with labels, each pass padded as in training; the whole batch, and in the same parts
- dss, molsaki: the model and batches of the Trainer, as `molsaki train` runs them

and times the optimizer (clipping and AdamW), which a plain pass lacks, apart. `memory` trains in a process of its own,
with whole batches and in parts, and prints the memory after each step. What the teacher's attention says changes
neither, so it is read from the student itself (30 layers).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from molsaki.encoding.encode import context_length
from molsaki.methods import METHODS
from molsaki.models.folder import models_in
from molsaki.models.load import load_student, load_tokenizer, quiet_libraries
from molsaki.models.memory import bound_kernel_caches, peak_bytes
from molsaki.stages import pipeline
from molsaki.stages.check import open_workspace, prepare_recipe
from molsaki.stages.signals import open_store
from molsaki.stages.workspace import Workspace
from molsaki.store.whole_files import write_json
from molsaki.training import encode_examples, train_student
from molsaki.training import run as training_run
from molsaki.training.arguments import training_arguments
from molsaki.training.batch_plan import BatchPlan, plan_batch
from molsaki.training.batches import Batch
from molsaki.training.example import Example
from molsaki.training.make_method import make_method
from molsaki.training.too_large import outline_student
from molsaki.training.trainer import DistillationTrainer
from molsaki_benchmarks.runner import describe_machine, resident_bytes

RECIPE, ROWS, SEED = "smollm2-svamp", 224, 1
METHOD_NAMES = ("dss", "molsaki")


class Setup:
    """The training rows of the recipe, read once for a folder, with a student of it."""

    def __init__(self, folder: Path, data: str, precision: str) -> None:
        settings = [f"data.train.limit={ROWS}", "seeds=[1]", f"training.precision={precision}"]
        named = prepare_recipe(RECIPE, data=data)
        settings += [f"teacher.reader.name={named.student.name}", f"data.tests.svamp.limit={1}"]
        settings += [f"data.tests.{name}.limit=1" for name in named.data.tests if name != "svamp"]
        recipe = prepare_recipe(RECIPE, settings=settings, data=data)
        self.workspace: Workspace = open_workspace(recipe, folder / precision)
        pipeline.generate(self.workspace)
        pipeline.attend(self.workspace)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(recipe, recipe.student_of(SEED))

    def student(self) -> PreTrainedModel:
        """The student as its training begins."""
        student = load_student(self.workspace.recipe, self.tokenizer, SEED)
        assert isinstance(student, PreTrainedModel)
        return student

    def examples(self, name: str, student: PreTrainedModel) -> list[Example]:
        """The examples of a method."""
        problems, texts = self.workspace.read_training(SEED)
        terms = METHODS[name].terms_of(METHODS[name].Settings())
        store = None if terms.attention is None else open_store(self.workspace, terms.attention.view.name)
        templates = {task: self.workspace.template(task) for task in ("predict", "explain")}
        longest = context_length(self.tokenizer, student.config, None)
        return encode_examples(self.tokenizer, problems, texts, templates, longest, store, terms.attention, SEED)[0]  # type: ignore[arg-type]

    def trainer(self, name: str, student: PreTrainedModel, plan: BatchPlan, folder: Path) -> DistillationTrainer:
        """The Trainer of a method."""
        examples = self.examples(name, student)
        layers = next((e.teacher.load().shape[0] for e in examples if e.teacher is not None), 0)
        made = make_method(METHODS[name], METHODS[name].Settings(), student, layers)
        args = training_arguments(self.workspace.recipe.training, folder, SEED, False, False, plan)
        return DistillationTrainer(student, made, args, examples, self.tokenizer)


def first_step(trainer: DistillationTrainer) -> list[Batch]:
    """The parts of the first step."""
    loader = iter(trainer.get_train_dataloader())
    return [next(loader)["batch"] for _ in range(trainer.args.gradient_accumulation_steps)]


def plain_way(student: PreTrainedModel, batches: Sequence[Batch], precision: str) -> Callable[[], None]:
    """Forward and backward of transformers' model with labels, over the passes of some batches."""
    passes = []
    for one in (one for batch in batches for one in batch.passes):
        labels = torch.full_like(one.input_ids_RT, -100)
        labels.view(-1)[one.positions_N + 1] = one.targets_N
        passes.append((one.input_ids_RT, labels))

    def run() -> None:
        for ids, labels in passes:
            with autocast(precision):
                loss = student(input_ids=ids, labels=labels, use_cache=False).loss
            loss.backward()

    return run


def our_way(trainer: DistillationTrainer, batches: Sequence[Batch], precision: str) -> Callable[[], None]:
    """Forward and backward of a method over the parts of a step, as the Trainer does it."""
    model = trainer.model.train()
    totals = torch.stack([batch.counts for batch in batches]).sum(0)

    def run() -> None:
        for batch in batches:
            with autocast(precision):
                loss = model(batch=batch, totals=totals)["loss"]
            loss.backward()

    return run


def autocast(precision: str) -> Any:
    """Mixed precision as the Trainer has it."""
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def measure_time(setup: Setup, precision: str, repeats: int, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Seconds of every way, in turn, and of the optimizer; saved after each round."""
    student = setup.student()
    examples = setup.examples("dss", student)
    lengths = [sum(len(text.input_ids) for text in e.sequences.values()) for e in examples]
    plan = plan_batch(outline_student(student), setup.workspace.recipe.training, lengths, on_gpu=False)
    mean = round(sum(lengths) / len(lengths), 1)
    found: dict[str, Any] = {"precision": precision, "tokens of an example": mean, "parts": plan.parts}
    with tempfile.TemporaryDirectory() as folder:
        whole = setup.trainer("dss", student, BatchPlan(), Path(folder))
        trainers = {name: setup.trainer(name, student, plan, Path(folder)) for name in METHOD_NAMES}
        steps = {name: first_step(trainer) for name, trainer in trainers.items()}
        ways = {"plain, whole batch": plain_way(student, first_step(whole), precision)}
        ways[f"plain, {plan.parts} parts"] = plain_way(student, steps["dss"], precision)
        ways |= {
            f"{name}, {plan.parts} parts": our_way(trainers[name], steps[name], precision) for name in METHOD_NAMES
        }
        optimizer = trainers["dss"].create_optimizer()
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in [*ways, "optimizer"]}
        our_way(trainers["molsaki"], steps["molsaki"][:1], precision)()  # a warm-up: one part
        for _ in range(repeats):
            for way, do in ways.items():
                student.zero_grad(set_to_none=True)
                taken[way].append(timed(do))
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)  # its state is made outside of the clock
            optimizer.step()
            student_step = [lambda: torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0), optimizer.step]
            taken["optimizer"].append(timed(lambda: [one() for one in student_step]))  # noqa: B023
            found["seconds"] = taken
            save(found)
    return found


def timed(do: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the wall clock and of the processor."""
    started, processor = time.perf_counter(), time.process_time()
    do()
    return round(time.perf_counter() - started, 3), round(time.process_time() - processor, 3)


def print_time(found: dict[str, Any]) -> None:
    """A table of the ways: the fastest round of each, which other work on the machine disturbs least, and medians."""
    fastest = {way: [min(column) for column in zip(*some, strict=True)] for way, some in found["seconds"].items()}
    plain = min(wall for way, (wall, _) in fastest.items() if way.startswith("plain"))
    rounds = len(found["seconds"]["optimizer"])
    print(f"| {found['precision']}, rounds: {rounds} | seconds | median | processor seconds | times plain |")
    print("| --- | --- | --- | --- | --- |")
    for way, (wall, processor) in fastest.items():
        ratio = f"{wall / plain:.2f}" if way != "optimizer" else ""
        median = statistics.median(wall for wall, _ in found["seconds"][way])
        print(f"| {way} | {wall:.2f} | {median:.2f} | {processor:.2f} | {ratio} |")


class Watch(TrainerCallback):
    """Notes the memory and time of each step, and prints them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.started = time.perf_counter(), time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        wall, processor = self.started
        self.steps.append(
            {
                "seconds": round(time.perf_counter() - wall, 2),
                "processor_seconds": round(time.process_time() - processor, 2),
                "memory": resident_bytes(),
                "peak": peak_bytes(),
            }
        )
        print(json.dumps(self.steps[-1]), file=sys.stderr, flush=True)


def train_watched(setup: Setup, name: str, steps: int, whole: bool) -> list[dict[str, float]]:
    """Train for some steps in this process, with a checkpoint at the end."""
    if whole:
        training_run.plan_batch = lambda *_, **__: BatchPlan()  # type: ignore[assignment]
    watch, student = Watch(), setup.student()
    training = setup.workspace.recipe.training.model_copy(update={"steps": steps, "save_every": steps})
    with tempfile.TemporaryDirectory() as folder:
        train_student(
            student,
            setup.tokenizer,
            METHODS[name],
            METHODS[name].Settings(),
            setup.examples(name, student),
            training,
            seed=SEED,
            output=Path(folder) / "student",
            callbacks=[watch],
            show_progress=False,
        )
    return [*watch.steps, {"memory": resident_bytes(), "peak": peak_bytes()}]


def measure_memory(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The memory of trainings in processes of their own."""
    found: dict[str, Any] = {}
    for way in ("--whole", "--parts"):
        for name in options.methods:
            command = [sys.executable, __file__, "memory-of", way, "--run", str(folder), "--data", options.data]
            command += ["--models", str(options.models), "--precision", options.precision, "--methods", name]
            command += ["--steps", str(options.steps), "--threads", str(options.threads)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
            found[f"{name}, {way.removeprefix('--')}"] = json.loads(done.stdout.splitlines()[-1])
    return {"precision": options.precision, "steps": found}


def print_memory(found: dict[str, Any]) -> None:
    """A table of the trainings."""
    print(f"| {found['precision']} | processor seconds a step | memory after each step, GB | peak, GB |")
    print("| --- | --- | --- | --- |")
    for way, (*steps, end) in found["steps"].items():
        seconds = statistics.median(step["processor_seconds"] for step in steps[1:])
        after = ", ".join(f"{step['memory'] / 1e9:.2f}" for step in steps)
        print(f"| {way} | {seconds:.1f} | {after} | {end['peak'] / 1e9:.2f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["time", "memory", "memory-of"])
    parser.add_argument("--models", type=Path, required=True, help="the folder of model directories")
    parser.add_argument("--data", required=True, help="the folder of data sets")
    parser.add_argument("--run", type=Path, help="keep the rows here (default: a temporary folder)")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="bf16")
    parser.add_argument("--methods", nargs="+", choices=METHOD_NAMES, default=["molsaki"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--parts", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()

    def save(found: dict[str, Any]) -> None:
        if options.out:
            write_json(options.out, {"machine": describe_machine(options.threads), **found})

    quiet_libraries()
    bound_kernel_caches()  # as the command line does
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary, models_in(options.models):
        folder = options.run or Path(temporary)
        setup = Setup(folder, options.data, options.precision)
        if options.what == "memory-of":
            print(json.dumps(train_watched(setup, options.methods[0], options.steps, options.whole)))
            return
        if options.what == "time":
            print_time(measure_time(setup, options.precision, options.repeats, save))
        else:
            found = measure_memory(options, folder)
            save(found)
            print_memory(found)


if __name__ == "__main__":
    main()
