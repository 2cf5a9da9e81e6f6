"""Run independent jobs in parallel, each in a process of its own.

A second core speeds up the training of a small student little, but it can train a second student. So the workers share
the cores of a CPU, and each worker sees one GPU.

The parent process holds the lock of the run directory, which is released if the parent is killed. Workers then exit at
once, so that none writes into a run that another process has locked. Nothing is lost, since files are written whole.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.queues import Queue
from typing import TypeVar

from molsaki.errors import StageError

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_in_workers(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[Result]:
    """Call a function with each item in worker processes, and yield the results as they arrive.

    Args:
        function: a function that can be imported by name.
        items: the arguments, one per job.
        workers: number of processes; by default one per GPU, or one per core without GPUs. With 1, the jobs run in
            this process.

    Raises:
        StageError: a worker was killed. The others were stopped.
    """
    gpus = _assign_gpus(workers, len(items))
    if len(gpus) <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    queue: Queue[str | None] = context.Queue()
    for gpu in gpus:
        queue.put(gpu)
    threads = max(1, (os.cpu_count() or 1) // len(gpus))
    with ProcessPoolExecutor(len(gpus), context, _start_worker, (queue, threads)) as pool:
        try:
            futures = [pool.submit(function, item) for item in items]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise StageError(
                f"Expected {len(gpus)} workers to finish {len(items)} jobs; one was killed, often because memory ran "
                "out. The others were stopped, and finished work stays. Run the same command again, with fewer "
                "--workers if memory is short."
            ) from error
        except BaseException:
            # Running jobs receive the interrupt too and save a checkpoint. Jobs that wait are cancelled.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _assign_gpus(workers: int | None, jobs: int) -> list[str | None]:
    """One entry for each worker: its GPU, or None without GPUs."""
    if workers is not None and workers <= 1:
        return [None]
    gpus = _visible_gpus()
    count = min(workers or (len(gpus) or os.cpu_count() or 1), jobs)
    return [gpus[i % len(gpus)] if gpus else None for i in range(count)]


def _visible_gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _start_worker(gpus: Queue[str | None], threads: int) -> None:
    threading.Thread(target=_exit_with_parent, name="molsaki-parent", daemon=True).start()
    gpu = gpus.get()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.default_int_handler)

    import torch

    torch.set_num_threads(threads)


def _exit_with_parent() -> None:
    """Exit as soon as the parent process has ended. A worker of a pool would wait for it forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent process"
    wait([parent.sentinel])
    os._exit(1)
