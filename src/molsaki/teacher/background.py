"""Runs a coroutine in a separate thread; its results arrive in a queue.

Requests continue while the rows that have arrived are filtered and written. It also works in a program that already
runs an event loop, such as a notebook.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


@contextmanager
def background_thread(
    work: Coroutine[Any, Any, None], arrived: queue.SimpleQueue[Item | None]
) -> Iterator[Future[None]]:
    """Run a coroutine in a new thread until the context ends.

    Args:
        work: the coroutine; it puts its results into `arrived`.
        arrived: gets None after the last result.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="molsaki-teacher", daemon=True)
    thread.start()
    future: Future[None] = asyncio.run_coroutine_threadsafe(work, loop)
    future.add_done_callback(lambda _: arrived.put(None))
    try:
        yield future
    finally:
        future.cancel()
        # All in that thread: if the caller has a running loop, this loop cannot run in the caller's thread.
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
