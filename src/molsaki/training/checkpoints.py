"""A student's checkpoints: the plain student or its adapter, and its method's own parameters in a file beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from peft import PeftModel
from torch import Tensor
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging

from molsaki.models.adapters import restore_adapter, save_adapter
from molsaki.training.model import DistillationModel

METHOD_WEIGHTS = "method.safetensors"
"""File name of the method's own parameters (a router) in a checkpoint."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint, and the number of steps before it."""

    steps: int
    folder: Path


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint, or None.

    The Trainer writes the state file last; a folder without a complete one comes from a process that was killed.
    """
    whole = []
    for candidate in folder.glob("checkpoint-*"):
        try:
            state = json.loads((candidate / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
            whole.append(Checkpoint(int(state["global_step"]), candidate))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return max(whole, key=lambda checkpoint: checkpoint.steps, default=None)


def save_parts(folder: Path, model: DistillationModel, state_dict: Mapping[str, Tensor]) -> None:
    """Save the plain student, or its adapter alone, and the method's own parameters beside it.

    Args:
        folder: of the checkpoint.
        model: the student and its method.
        state_dict: of `model`, as it is to be saved.
    """
    own_weights = _part(state_dict, "student.")
    with _without_bars():
        if isinstance(model.student, PeftModel):
            save_adapter(folder, model.student, own_weights)
        else:
            model.student.save_pretrained(folder, state_dict=own_weights)
    own = {name: value.contiguous() for name, value in _part(state_dict, "method.").items()}
    if own:
        safetensors.torch.save_file(own, folder / METHOD_WEIGHTS)


def load_parts(folder: Path, model: DistillationModel) -> None:
    """Load what `save_parts` wrote."""
    if isinstance(model.student, PeftModel):
        restore_adapter(folder, model.student)
    else:
        with _without_bars():
            loaded = type(model.student).from_pretrained(folder, dtype=model.student.dtype)
        model.student.load_state_dict(loaded.state_dict())
    own = folder / METHOD_WEIGHTS
    if own.is_file():
        model.method.load_state_dict(safetensors.torch.load_file(own))


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hide transformers' progress bars for files of weights, which would break up the training's."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _part(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
