"""What each stage of a run took: time, processor time and memory, each in a file of its own in the folder `costs`.

A stage that was interrupted adds its sessions up; a session that was killed is not counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from molsaki.distributed import is_main
from molsaki.errors import MolsakiError
from molsaki.models.memory import peak_bytes, reset_peak
from molsaki.stages.workspace import Workspace
from molsaki.store.whole_files import read_json, write_json

FOLDER = "costs"
TRAINING, TESTING = "train", "evaluate"
"""Names of the two stages that have a file for each student."""
STAGES = ("data", "generate", "attend", TRAINING, TESTING, "references", "report")
"""The stages in their order."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage, or one of its students, took.

    Attributes:
        seconds: on the wall clock, of all sessions.
        processor_seconds: of all cores together, likewise.
        peak_memory_bytes: the most main memory that its process held, with what earlier stages left there.
        peak_gpu_bytes: the most that PyTorch allocated on the GPU; 0 without one.
        sessions: how often it was started, without those that were killed.
    """

    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak_memory_bytes: int = 0
    peak_gpu_bytes: int = 0
    sessions: int = 0

    def and_then(self, other: Cost) -> Cost:
        """The cost of both, one after the other."""
        return Cost(
            round(self.seconds + other.seconds, 2),
            round(self.processor_seconds + other.processor_seconds, 2),
            max(self.peak_memory_bytes, other.peak_memory_bytes),
            max(self.peak_gpu_bytes, other.peak_gpu_bytes),
            self.sessions + other.sessions,
        )


@dataclass(slots=True)
class Session:
    """One run of a stage.

    Attributes:
        counts: whether its cost is added to the run's; not if it found everything made.
    """

    counts: bool = True


@contextmanager
def costs_of(workspace: Workspace, stage: str, student: str = "", *, again: bool = False) -> Iterator[Session]:
    """Measure what the block takes and add it to the run.

    Args:
        workspace: the run.
        stage: one of `STAGES`.
        student: the label and seed, for a stage with a file for each student.
        again: the block makes everything again, so earlier sessions do not count.

    Yields:
        The session, which the block may take out of the count.
    """
    reset_peak()
    cuda = _cuda()
    if cuda is not None:
        cuda.reset_peak_memory_stats()
    started, processor = time.perf_counter(), time.process_time()
    session, whole = Session(), False
    try:
        yield session
        whole = True
    finally:
        cuda = _cuda()
        now = Cost(
            time.perf_counter() - started,
            time.process_time() - processor,
            peak_bytes(),
            0 if cuda is None else int(cuda.max_memory_allocated()),
            1,
        )
        path = _file(workspace, stage, student)
        # A run whose first stage failed stays empty, so that it takes the recipe again once that is corrected.
        if session.counts and is_main() and (whole or path.parent.is_dir()):
            earlier = Cost() if again else read_cost(workspace, stage, student)
            path.parent.mkdir(exist_ok=True)
            write_json(path, asdict(earlier.and_then(now)))


def read_cost(workspace: Workspace, stage: str, student: str = "") -> Cost:
    """What a stage has taken so far; nothing if it was not run, or its file is not whole."""
    path = _file(workspace, stage, student)
    try:
        return Cost(**read_json(path, "what a stage took")) if path.is_file() else Cost()
    except (MolsakiError, TypeError):
        return Cost()


def stage_costs(workspace: Workspace) -> dict[str, list[Cost]]:
    """What each stage took that was run: one cost, or one for each student."""
    students = [f"{m.label}-{seed}" for m in workspace.recipe.methods for seed in workspace.recipe.seeds]
    found = {
        stage: [read_cost(workspace, stage, one) for one in (students if stage in (TRAINING, TESTING) else [""])]
        for stage in STAGES
    }
    ran = {stage: [cost for cost in costs if cost.sessions] for stage, costs in found.items()}
    return {stage: costs for stage, costs in ran.items() if costs}


def _file(workspace: Workspace, stage: str, student: str) -> Path:
    return workspace.run.path(FOLDER, f"{stage}-{student}.json" if student else f"{stage}.json")


def _cuda() -> Any:
    """PyTorch's CUDA, if a model has been on it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
