"""Lines about the progress of a training: step, loss, rate and the time that is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from molsaki.models.progress import EVERY, ProgressLines


class TrainingLines(TrainerCallback):  # type: ignore[misc]
    """Prints the progress of a training. The loss is that of the last line of the Trainer's log.

    Args:
        print_line: gets a line.
        what: the student, such as `dss, seed 1`.
        every: seconds between two lines.
    """

    def __init__(self, print_line: Callable[[str], None], what: str, every: float = EVERY) -> None:
        self._lines = ProgressLines(print_line, what, "steps", every)

    def on_train_begin(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_others: Any
    ) -> None:
        """Count from the step that training resumes at."""
        self._lines(state.global_step, state.max_steps)

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_others: Any
    ) -> None:
        """Print a line, if one is due."""
        loss = next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None)
        self._lines(state.global_step, state.max_steps, "" if loss is None else f"loss {loss:.4g}")
