"""Run independent jobs in parallel, each in a process of its own.

A second core speeds up the training of a small student little, but it can train a second student. So the workers share
the cores of a CPU, and each worker sees one GPU.

The parent process holds the lock of the run directory, which is released if the parent is killed. Workers then exit at
once, so that none writes into a run that another process has locked. Nothing is lost, since files are written whole.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from traceback import format_exception
from typing import TypeVar

from molsaki.errors import StageError
from molsaki.models.quantization import quiet_bitsandbytes

Item = TypeVar("Item")
Result = TypeVar("Result")

_print_line: Callable[[str], object] = lambda _: None  # noqa: E731 - replaced where jobs run
_is_stopping: Callable[[], bool] = lambda: False  # noqa: E731 - replaced in workers


def print_line(line: str) -> None:
    """Pass a line from a job to the process that started it."""
    _print_line(line)


def run_in_workers(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None = None,
    print_line: Callable[[str], None] = lambda _: None,
) -> Iterator[Result]:
    """Call a function with each item in worker processes, and yield the results as they arrive.

    Args:
        function: a function that can be imported by name.
        items: the arguments, one per job.
        workers: number of processes; by default one per GPU, or one per core without GPUs. With 1, the jobs run in
            this process.
        print_line: called with each line that a job in a worker prints, in a thread of its own. Without workers, see
            `redirect_lines`.

    Raises:
        StageError: a worker was killed. The others were stopped.
    """
    gpus = _assign_gpus(workers, len(items))
    if len(gpus) <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    queue: Queue[str | None] = context.Queue()
    stopping = context.Event()
    for gpu in gpus:
        queue.put(gpu)
    threads = max(1, (os.cpu_count() or 1) // len(gpus))
    with (
        _forward_lines(context.Queue(), print_line) as lines,
        ProcessPoolExecutor(len(gpus), context, _start_worker, (queue, lines, stopping, threads)) as pool,
    ):
        try:
            for future in as_completed(_submit_all(pool, function, items)):
                yield future.result()
        except BrokenProcessPool as error:
            raise StageError(
                f"Expected {len(gpus)} workers to finish {len(items)} jobs; one was killed, often because memory ran "
                "out. The others were stopped, and finished work stays. Run the same command again, with fewer "
                "--workers if memory is short."
            ) from error
        except BaseException:
            # Running jobs receive the interrupt too and save a checkpoint. Jobs that wait are cancelled, and those that
            # a worker has taken but not begun, while it starts, end at once.
            stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _submit_all(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item]
) -> list[Future[Result]]:
    """Submit the jobs. Workers start here and inherit that they ignore interrupts while they run no job."""
    if threading.current_thread() is not threading.main_thread():
        return [pool.submit(_run_job, function, item) for item in items]
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return [pool.submit(_run_job, function, item) for item in items]
    finally:
        signal.signal(signal.SIGINT, previous)


def _run_job(function: Callable[[Item], Result], item: Item) -> Result:
    """Run a job in a worker. Between jobs a worker ignores interrupts: it would end with a traceback.

    Raises:
        KeyboardInterrupt: the parent has stopped, or an interrupt arrives.
        StageError: the job raised an error that no other process can read.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if _is_stopping():
            raise KeyboardInterrupt
        return function(item)
    except Exception as error:
        if _can_be_sent(error):
            raise
        # The pool would take it for the death of the worker, without a word of it.
        raise StageError(
            "Expected a job to finish; an error of another package ended it, which only its own process could read in "
            "full. The jobs that run are finished and kept. Look for its last line in that package's documentation, or "
            f"report it with these lines.\n{''.join(format_exception(error))}"
        ) from None
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _can_be_sent(error: Exception) -> bool:
    """Whether the parent process can read an error. Some libraries' have arguments that pickle does not give them."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - whatever the error's own code raises
        return False
    return True


@contextmanager
def redirect_lines(print_line: Callable[[str], object]) -> Iterator[None]:
    """Pass on the lines of jobs that run in this process within the block."""
    global _print_line
    before, _print_line = _print_line, print_line
    try:
        yield
    finally:
        _print_line = before


@contextmanager
def _forward_lines(lines: Queue[str | None], print_line: Callable[[str], None]) -> Iterator[Queue[str | None]]:
    """Pass the lines of workers on while the block runs."""

    def listen() -> None:
        while (line := lines.get()) is not None:
            print_line(line)

    listener = threading.Thread(target=listen, name="molsaki-lines", daemon=True)
    listener.start()
    try:
        yield lines
    finally:
        lines.put(None)
        listener.join(timeout=5)  # a worker that was killed may have left half a line, which is never complete


def _assign_gpus(workers: int | None, jobs: int) -> list[str | None]:
    """One entry for each worker: its GPU, or None without GPUs."""
    if workers is not None and workers <= 1:
        return [None]
    gpus = visible_gpus()
    count = min(workers or (len(gpus) or os.cpu_count() or 1), jobs)
    return [gpus[i % len(gpus)] if gpus else None for i in range(count)]


def visible_gpus() -> list[str]:
    """The GPUs that workers share, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # CUDA ignores the first entry that names no device, and all after it.
    return [str(index) for index in range(count)] if visible is None else visible.split(",")[:count]


def _start_worker(gpus: Queue[str | None], lines: Queue[str | None], stopping: Event, threads: int) -> None:
    global _print_line, _is_stopping
    threading.Thread(target=_exit_with_parent, name="molsaki-parent", daemon=True).start()
    gpu = gpus.get()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines.cancel_join_thread()
    _print_line = lines.put
    _is_stopping = stopping.is_set
    quiet_bitsandbytes()

    import torch

    torch.set_num_threads(threads)


def _exit_with_parent() -> None:
    """Exit as soon as the parent process has ended. A worker of a pool would wait for it forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent process"
    wait([parent.sentinel])
    os._exit(1)
