"""How many students train at a time: as many as there are cores, and as fit into the memory that is free.

Two students that together need more memory than there is are killed by the system, hours into a study.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from molsaki.config.recipe import Recipe
from molsaki.counts import plural
from molsaki.methods import terms_of
from molsaki.models.estimates import show_bytes, training_memory
from molsaki.models.memory import available_bytes
from molsaki.models.outline import Outline
from molsaki.stages.findings import ModelOutline, count_tokens
from molsaki.stages.workspace import TRAIN, Workspace

PROCESS_BYTES = 500_000_000
"""Memory of a process with its libraries and data, before it loads a model."""
SHARE_USED = 0.9
"""The share of the free memory that students are planned to take."""


def student_memory(recipe: Recipe, outline: Outline, longest: int) -> int:
    """Bytes that a process takes which trains a student of a recipe, as an estimate.

    Args:
        recipe: the recipe.
        outline: the student's.
        longest: tokens of the longest training sequence.
    """
    # An example has one sequence for each task; each is taken as long as the longest.
    tasks = max(len(terms_of(method.name, method.settings).tasks) for method in recipe.methods)
    tokens = recipe.training.batch_size * tasks * longest
    return PROCESS_BYTES + training_memory(outline, tokens, checkpointing=recipe.training.checkpointing)


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
    model = ModelOutline.load(recipe, recipe.student)
    prompt = workspace.template("explain")
    _, texts = workspace.read_texts(TRAIN)
    written = [prompt.prompt(text.question) + text.rationale for text in texts.values()]
    longest = min(max(count_tokens(model.tokenizer, written), default=1), model.context(recipe.training.max_length))
    return student_memory(recipe, model.outline, longest), "estimated"
