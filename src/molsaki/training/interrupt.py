"""Stop training on Ctrl-C with a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class StopOnInterrupt(TrainerCallback):  # type: ignore[misc]
    """On an interrupt, finishes the current step, saves a checkpoint and stops training.

    A second interrupt stops at once.
    """

    def __init__(self) -> None:
        self.interrupted = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle interrupts within the block. Python delivers none outside the main thread; there it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(_number: int, _frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        previous = signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def on_step_end(
        self, _args: TrainingArguments, _state: TrainerState, control: TrainerControl, **_others: Any
    ) -> TrainerControl:
        """Request a checkpoint and the end of training after an interrupt."""
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True
        return control
