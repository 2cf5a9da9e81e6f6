"""Train and test the students of a run.

A job is one student: it is trained if it does not exist, and tested on the sets without predictions. Jobs run in worker
processes. They read and write only files of the run directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from molsaki.distributed import on_main_process, process_count, process_number, wait
from molsaki.errors import InputError, MolsakiError
from molsaki.models.load import quiet_libraries
from molsaki.stages.costs import TRAINING, costs_of
from molsaki.stages.evaluate_student import evaluate_one, untested_sets
from molsaki.stages.fit import MemoryShare, choose_workers, share_memory
from molsaki.stages.train_student import train_one
from molsaki.stages.workers import redirect_lines, run_in_workers, visible_gpus
from molsaki.stages.workspace import Workspace
from molsaki.store.whole_files import disk_is_full, refuse_write


@dataclass(frozen=True, slots=True)
class Job:
    """A student to train, to test, or both.

    Attributes:
        run: the run directory.
        label, seed: the student's method and seed.
        train: train the student if it does not exist.
        test: test it on the sets without predictions.
        share: the memory that it may take.
    """

    run: Path
    label: str
    seed: int
    train: bool = True
    test: bool = True
    share: MemoryShare = field(default_factory=MemoryShare)


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job.

    Attributes:
        job: the job.
        trained: whether the job trained the student; False if it existed.
        tested: the test sets that the job tested it on.
        accuracy: accuracy on every test set.
        seconds: time of the training.
        parameters: how many parameters were trained, and how many the student has.
        notes: counts of training examples by what was left out or cut.
    """

    job: Job
    trained: bool
    tested: tuple[str, ...]
    accuracy: Mapping[str, float]
    seconds: float
    parameters: tuple[int, int]
    notes: Mapping[str, int]


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    on_done: Callable[[JobResult], None] | None = None,
    print_line: Callable[[str], None] = lambda _: None,
) -> list[JobResult]:
    """Run the jobs of one run or of several. See `pipeline.students` for the arguments.

    Raises:
        InputError: `workers` is given, and several processes work on this job.
    """
    if process_count() > 1 and workers not in (None, 1):
        raise InputError(
            f"Expected no --workers with {process_count()} processes that train each student together; got {workers}. "
            "Nothing was trained. Leave --workers out, or start one process."
        )
    if workers is None and process_count() == 1 and len(jobs) > 1 and not visible_gpus():
        workers = _workers_that_fit(jobs, print_line)
    share = share_memory(len(jobs), workers)
    jobs = [replace(job, share=share) for job in jobs]
    results = []
    with redirect_lines(print_line):
        together = process_count() > 1
        for result in _run_together(jobs) if together else run_in_workers(run_job, jobs, workers, print_line):
            if on_done is not None:
                on_done(result)
            results.append(result)
    return results


def _workers_that_fit(jobs: Sequence[Job], print_line: Callable[[str], None]) -> int | None:
    """How many students fit into memory, if some are to be trained; None otherwise."""
    opened = {folder: Workspace.open(folder) for folder in {job.run for job in jobs}}
    left = {job.run for job in jobs if job.train and not opened[job.run].student(job.label, job.seed).is_dir()}
    if not left:
        return None
    workers, sentence = choose_workers(opened[folder] for folder in left)
    print_line(sentence)
    return workers


def run_job(job: Job) -> JobResult:
    """Run one job.

    Raises:
        StageError: the disk is full. Complete checkpoints stay, and the next run continues from them.
    """
    try:
        return _run_job(job)
    except Exception as error:
        if isinstance(error, MolsakiError) or not disk_is_full(error):
            raise
        consequence = f"The student {job.label} with seed {job.seed} is not finished. Complete checkpoints stay."
        refuse_write(job.run, error, consequence)


def _run_together(jobs: Sequence[Job]) -> Iterator[JobResult]:
    """Train the students one after another with all processes; then each process tests its share of them.

    Yields:
        In every process, the results of all jobs. Results with tests come after the last training.
    """
    trained: list[JobResult] = []
    for job in jobs:
        result = run_job(replace(job, test=False))
        trained.append(replace(result, job=job))
        if not job.test:
            yield trained[-1]
    to_test = [job for job in jobs if job.test]
    untested = on_main_process(lambda: [untested_sets(Workspace.open(job.run), job.label, job.seed) for job in to_test])
    for job in to_test[process_number() :: process_count()]:
        run_job(replace(job, train=False))
    wait()
    for result, sets in zip([result for result in trained if result.job.test], untested, strict=True):
        accuracy = run_job(replace(result.job, train=False)).accuracy  # reads the predictions of all processes
        yield replace(result, tested=tuple(sets), accuracy=accuracy)


def _run_job(job: Job) -> JobResult:
    quiet_libraries()
    workspace = Workspace.open(job.run)
    folder = workspace.student(job.label, job.seed)
    result = JobResult(job, trained=False, tested=(), accuracy={}, seconds=0.0, parameters=(0, 0), notes={})
    if job.train and not on_main_process(folder.is_dir):
        with costs_of(workspace, TRAINING, folder.name):
            metrics = train_one(workspace, job.label, job.seed, job.share)
        parameters = metrics["trained_parameters"], metrics["parameters"]
        result = replace(
            result, trained=True, seconds=metrics["seconds"], parameters=parameters, notes=metrics["notes"]
        )
    if job.test:
        tested, accuracy = evaluate_one(workspace, job.label, job.seed)
        result = replace(result, tested=tested, accuracy=accuracy)
    return result
