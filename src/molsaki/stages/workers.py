"""Several independent jobs at a time, each in a process of its own.

Small students gain little from a second core but a whole second student from it, so on a CPU every job gets one
thread; on GPUs every worker sees one device.

The lock of a run directory is the starting process's and is free again once that is killed. A worker ends with it, as
a kill ends it: files are whole or not there, and nobody goes on writing into a run that another process may have taken.
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
    """Yield the results as they come.

    Args:
        function: importable by name, since it runs in other processes.
        items: one argument for each job.
        workers: how many processes; by default one a GPU, or one a core without GPUs. With 1, the jobs run in this
            process with all its threads, as they do under `accelerate launch`.

    Raises:
        StageError: a worker was killed; the others have been stopped.
    """
    slots = _slots(workers, len(items))
    if len(slots) <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    devices: Queue[str | None] = context.Queue()
    for slot in slots:
        devices.put(slot)
    threads = max(1, (os.cpu_count() or 1) // len(slots))
    with ProcessPoolExecutor(len(slots), context, _start_worker, (devices, threads)) as pool:
        try:
            futures = [pool.submit(function, item) for item in items]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise StageError(
                f"Expected {len(slots)} workers to do {len(items)} jobs; one of them was killed in the middle, often "
                "by the system for want of memory, and the others were stopped. What is whole stays; run the same "
                "command again, which goes on from there, with fewer --workers if memory is short."
            ) from error
        except BaseException:
            # Jobs that have begun stop by themselves, with a checkpoint; those that have not are not begun.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _slots(workers: int | None, jobs: int) -> list[str | None]:
    """One entry for each worker: the GPU that it sees, or None."""
    if workers is not None and workers <= 1:
        return [None]
    gpus = _visible_gpus()
    count = min(workers or (len(gpus) or os.cpu_count() or 1), jobs)
    return [gpus[i % len(gpus)] if gpus else None for i in range(count)]


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _start_worker(devices: Queue[str | None], threads: int) -> None:
    threading.Thread(target=_end_with_parent, name="molsaki-parent", daemon=True).start()
    device = devices.get()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.default_int_handler)

    import torch

    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    """End this process at once when the one that started it is gone; a pool's worker would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker was started by nobody"
    wait([parent.sentinel])
    os._exit(1)
