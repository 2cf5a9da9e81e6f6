"""How many students train at a time: as many as there are cores, and as fit into the memory that is free.

Two students that together need more memory than there is are killed by the system, hours into a study.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molsaki.config.recipe import Recipe
from molsaki.counts import plural
from molsaki.distributed import on_main_process, process_count
from molsaki.models.estimates import show_bytes
from molsaki.models.memory import available_bytes
from molsaki.models.outline import Outline
from molsaki.stages.findings import ModelOutline, count_tokens
from molsaki.stages.workers import visible_gpus
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.training.batch_plan import BatchPlan, plan_batch

if TYPE_CHECKING:
    import torch

PROCESS_BYTES = 500_000_000
"""Memory of a process with its libraries and data, before it loads a model."""
SHARE_USED = 0.9
"""The share of the free memory that students are planned to take."""


def student_plan(
    recipe: Recipe, outline: Outline, lengths: Sequence[int], *, on_gpu: bool, memory: int | None = None
) -> BatchPlan:
    """How the batches of a recipe's students are computed, as an estimate.

    Args:
        recipe: the recipe.
        outline: the student's.
        lengths: tokens of the longest sequence of each example.
        on_gpu: whether the students train on a GPU.
        memory: bytes that a process may take which trains one; None if unknown.
    """
    # An example has one sequence for each task; each is taken as long as the longest.
    tasks = max(len(method.terms.tasks) for method in recipe.methods)
    room = None if memory is None else memory - PROCESS_BYTES
    return plan_batch(outline, recipe.training, [tasks * n for n in lengths], on_gpu=on_gpu, memory=room)


@dataclass(frozen=True, slots=True)
class MemoryShare:
    """The memory that a student may take while others train.

    Attributes:
        room: bytes of main memory; None if unknown.
        students: the number of students at a time on its GPU.
    """

    room: int | None = None
    students: int = 1

    def of(self, device: torch.device) -> int | None:
        """Bytes of a device that the training of the student may take, beside its process; None if unknown."""
        import torch

        if device.type == "cuda":
            return int(SHARE_USED * torch.cuda.get_device_properties(device).total_memory / self.students)
        return None if self.room is None else self.room - PROCESS_BYTES


def share_memory(students: int, workers: int | None = None) -> MemoryShare:
    """The memory that each of some students may take, in every process of a job the same.

    Args:
        students: the number of students.
        workers: how many of them train at a time; by default one per GPU, or one per core.
    """
    gpus = len(visible_gpus())
    together = 1 if process_count() > 1 else max(1, min(workers or gpus or os.cpu_count() or 1, students))
    if gpus:
        return MemoryShare(students=math.ceil(together / gpus))
    free = on_main_process(available_bytes)
    return MemoryShare(None if free is None else int(SHARE_USED * free / (together * process_count())))


def workers_that_fit(memory: int, available: int | None = None) -> int:
    """The number of students of this size that train at a time on the CPU, at least one and at most one per core.

    Args:
        memory: bytes that each takes.
        available: bytes that are free; by default those of this machine, if the system says.
    """
    cores = os.cpu_count() or 1
    free = available_bytes() if available is None else available
    return cores if free is None else max(1, min(cores, int(SHARE_USED * free / memory)))


def describe_choice(workers: int, memory: int, source: str) -> str:
    """The number of students at a time in words, with what it was chosen by."""
    free = available_bytes()
    have = "" if free is None else f", and {show_bytes(free)} are free"
    return (
        f"{plural(workers, 'student')} at a time: each takes about {show_bytes(memory)} of memory ({source}){have}; "
        "--workers chooses another number"
    )


def choose_workers(workspaces: Iterable[Workspace]) -> tuple[int, str]:
    """How many students of some runs to train at a time on the CPU.

    Returns:
        The number, and a sentence that says why.
    """
    memory, source = max(_memory_of(workspace) for workspace in workspaces)
    workers = workers_that_fit(memory)
    return workers, describe_choice(workers, memory, source)


def _memory_of(workspace: Workspace) -> tuple[int, str]:
    """The memory of a student of a run: the largest that was measured of a finished one, or an estimate."""
    recipe = workspace.recipe
    metrics = [workspace.read_metrics(method.label, seed) for method in recipe.methods for seed in recipe.seeds]
    measured = [int(one["peak_memory_bytes"]) for one in metrics if one.get("peak_memory_bytes")]
    if measured:
        return max(measured), "measured"
    model = ModelOutline.load(recipe, recipe.student_of(recipe.seeds[0]))
    prompt = workspace.template("explain")
    _, texts = workspace.read_texts(TRAIN)
    written = [prompt.prompt(text.question) + text.rationale for text in texts.values()]
    context = model.context(recipe.training.max_length)
    lengths = [min(n, context) for n in count_tokens(model.tokenizer, written)]
    return PROCESS_BYTES + student_plan(recipe, model.outline, lengths, on_gpu=False).memory, "estimated"
