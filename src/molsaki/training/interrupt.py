"""Stopping a training on Ctrl-C without losing what it has learned."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class StopOnInterrupt(TrainerCallback):  # type: ignore[misc]
    """Turns an interrupt into a checkpoint: the step in flight is finished, saved, and training stops.

    A second interrupt stops at once.
    """

    def __init__(self) -> None:
        self.interrupted = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for interrupts; outside the main thread, where Python delivers none, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(_number: int, _frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        previous = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def on_step_end(
        self, _args: TrainingArguments, _state: TrainerState, control: TrainerControl, **_others: Any
    ) -> TrainerControl:
        """Ask for a checkpoint and for the end."""
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True
        return control
