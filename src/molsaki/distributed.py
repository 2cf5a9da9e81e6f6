"""Several processes that do one job together, as `accelerate launch` and `torchrun` start them.

Process 0 alone locks the run's directory, writes and shows; the others compute with it. What they say to one another
goes over gloo, as JSON and plain numbers. A process that was started alone is process 0 of one, and nothing here
costs it anything.
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

PATIENCE = datetime.timedelta(days=7)
"""How long a process waits for the others: as long as a stage may take that one of them does alone."""


def process_count() -> int:
    """How many processes do this job together."""
    return _number("WORLD_SIZE", 1)


def process_number() -> int:
    """Which of them this one is, from 0."""
    return _number("RANK", 0)


def is_main() -> bool:
    """Whether this is process 0, which locks, writes and shows."""
    return process_number() == 0


def init_group() -> None:
    """Wait until all processes of the job are there; from then on they can talk, and each has its own device."""
    if process_count() > 1:
        _group()


def close_group() -> None:
    """End the talk, at the end of a job that went well."""
    if process_count() > 1:
        import torch.distributed

        if torch.distributed.is_initialized():
            wait()
            _group.cache_clear()
            torch.distributed.destroy_process_group()


def broadcast_json(value: Any = None) -> Any:
    """Give process 0's value to all.

    Args:
        value: plain JSON; that of the other processes does not matter.
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
    """Call a function in process 0 alone, and give its result, plain JSON, to all; the others wait.

    Raises:
        OtherProcessError: in the other processes, if the function raised; in process 0 its own error.
    """
    if process_count() == 1:
        return function()
    if not is_main():
        sent = broadcast_json()
        if "error" in sent:
            raise OtherProcessError(
                f"Expected process 0 to do its part for process {process_number()}; it failed: {sent['error']}"
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
    """Wait until all processes have come here."""
    if process_count() > 1:
        import torch.distributed

        torch.distributed.barrier(_group())


def gather_numbers(numbers: Tensor, sizes: list[int]) -> list[Tensor]:
    """Bring every process's numbers to process 0.

    Args:
        numbers: this process's, one-dimensional.
        sizes: how many each process has; the same list in all.

    Returns:
        In process 0 the numbers of each process in order, in the others nothing.
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
    """The group that all processes talk in, on the processor whatever device they compute on."""
    import torch
    import torch.distributed
    from accelerate import PartialState

    on_cpu = not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    PartialState(cpu=on_cpu, timeout=PATIENCE)
    if torch.distributed.get_backend() == "gloo":
        return torch.distributed.group.WORLD
    return torch.distributed.new_group(backend="gloo", timeout=PATIENCE)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise InputError(
            f"Expected a whole number in the variable {name}, as launchers set it; got {text!r}. It is not known how "
            "many processes work together; unset it, or start with `accelerate launch`."
        ) from error
