"""Several processes that work on one job, as `accelerate launch` and `torchrun` start them.

Only process 0 locks the run directory, writes files and prints. The others take part in the computation. Messages
between the processes are JSON or tensors of numbers and go over gloo. In a process that was started alone, every
function here returns at once.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from molsaki.errors import InputError, OtherProcessError

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")

TIMEOUT = datetime.timedelta(days=7)
"""How long a process waits for the others. A stage that process 0 runs alone must take less time."""


def process_count() -> int:
    """The number of processes in this job."""
    return _read_variable("WORLD_SIZE", 1)


def process_number() -> int:
    """The rank of this process, from 0."""
    return _read_variable("RANK", 0)


def is_main() -> bool:
    """Whether this is process 0, which locks, writes and prints."""
    return process_number() == 0


def init_group() -> None:
    """Create the process group. Returns when all processes have joined; each then has its own device."""
    if process_count() > 1:
        _group()


def close_group() -> None:
    """Destroy the process group at the end of a job without errors."""
    if process_count() > 1:
        import torch.distributed

        if torch.distributed.is_initialized():
            wait()
            _group.cache_clear()
            torch.distributed.destroy_process_group()


def broadcast_json(value: Any = None) -> Any:
    """Send the value of process 0 to all processes.

    Args:
        value: JSON; ignored in the other processes.
    """
    if process_count() == 1:
        return value
    import torch
    import torch.distributed

    data = json.dumps(value).encode() if is_main() else b""
    size = torch.tensor([len(data)])
    torch.distributed.broadcast(size, 0, group=_group())
    buffer = torch.zeros(int(size), dtype=torch.uint8)
    if is_main():
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    torch.distributed.broadcast(buffer, 0, group=_group())
    return json.loads(buffer.numpy().tobytes())


def on_main_process(function: Callable[[], Value]) -> Value:
    """Call a function in process 0 and return its result, which must be JSON, in all processes.

    Raises:
        OtherProcessError: in the other processes, if the function raises. Process 0 raises the error itself.
    """
    if process_count() == 1:
        return function()
    if not is_main():
        sent = broadcast_json()
        if "error" in sent:
            raise OtherProcessError(
                f"Expected a result from process 0 in process {process_number()}; process 0 failed: {sent['error']}"
            )
        result: Value = sent["value"]
        return result
    try:
        value = function()
    except BaseException as error:
        with contextlib.suppress(RuntimeError):  # the others may have ended already
            broadcast_json({"error": str(error) or type(error).__name__})
        raise
    broadcast_json({"value": value})
    return value


def wait() -> None:
    """Wait until all processes have called this function."""
    if process_count() > 1:
        import torch.distributed

        torch.distributed.barrier(_group())


def gather_numbers(numbers: Tensor, sizes: list[int]) -> list[Tensor]:
    """Gather a one-dimensional tensor from every process in process 0.

    Args:
        numbers: the tensor of this process, [N].
        sizes: N of each process; the same list in all processes.

    Returns:
        In process 0 the tensors in the order of the processes; an empty list in the others.
    """
    if process_count() == 1:
        return [numbers]
    import torch
    import torch.distributed

    padded = numbers.new_zeros(max(sizes))
    padded[: len(numbers)] = numbers
    parts = [torch.empty_like(padded) for _ in sizes] if is_main() else None
    torch.distributed.gather(padded, parts, dst=0, group=_group())
    return [part[:size] for part, size in zip(parts or [], sizes, strict=False)]


@lru_cache(maxsize=1)
def _group() -> Any:
    """The gloo group of all processes. It uses the CPU, whatever device they compute on."""
    import torch
    import torch.distributed
    from accelerate import PartialState

    on_cpu = not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    PartialState(cpu=on_cpu, timeout=TIMEOUT)
    if torch.distributed.get_backend() == "gloo":
        return torch.distributed.group.WORLD
    return torch.distributed.new_group(backend="gloo", timeout=TIMEOUT)


def _read_variable(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise InputError(
            f"Expected a whole number in the environment variable {name}; got {text!r}. The number of processes is "
            "unknown. Unset the variable, or start with `accelerate launch`."
        ) from error
