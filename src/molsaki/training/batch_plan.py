"""How a batch is computed so that it takes little memory: in parts, and if that is not enough with checkpointing.

A batch's loss is a sum over its examples, so its gradient is the sum of the gradients of its parts. A part keeps only
its own activations. Checkpointing keeps one hidden state a layer and computes the others again. Both give the same step
to rounding (with dropout, other random draws), so what is chosen changes memory and time alone.

The choice is kept beside the checkpoints: a training that was interrupted continues in the same arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from molsaki.config.student_settings import TrainingSettings
from molsaki.counts import plural
from molsaki.models.estimates import activation_memory, show_bytes, training_memory
from molsaki.models.outline import Outline
from molsaki.store.whole_files import read_json, write_json

BATCH_PLAN = "batch.json"
"""File name of the choice, in the folder of a training's checkpoints."""
ACTIVATIONS_HELD = 1 << 30
"""Bytes of activations that a part on a CPU may hold before a batch is divided further."""
MIN_TOKENS = 512
"""Tokens of a part below which a CPU is slower: every part reads all weights, and adds to all gradients."""
MIN_TOKENS_ON_GPU = 4096
"""The same of a GPU."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How a batch is computed.

    Attributes:
        parts: the number of equal parts that its examples run in, one after the other.
        checkpointing: layers are computed again in the backward pass.
        memory: bytes of the training by estimate; 0 if unknown.
        setting: `training.checkpointing` that it was chosen under.
    """

    parts: int = 1
    checkpointing: bool = False
    memory: int = 0
    setting: bool | str = "auto"

    def describe(self, batch_size: int) -> str:
        """The choice in words."""
        examples = plural(batch_size, "example")
        parts = f"{self.parts} parts, one after the other" if self.parts > 1 else "one part"
        layers = ", layers computed again in the backward pass" if self.checkpointing else ""
        memory = f"; about {show_bytes(self.memory)} by estimate" if self.memory else ""
        return f"a batch of {examples} in {parts}{layers}{memory}"


def plan_batch(
    outline: Outline, training: TrainingSettings, lengths: Sequence[int], *, on_gpu: bool, memory: int | None = None
) -> BatchPlan:
    """Choose how the batches of a training are computed.

    On a CPU a batch is divided until a part holds at most a gigabyte of activations, as long as a part has 512 tokens:
    this costs no time. On a GPU parts cost time, so a batch stays whole if it fits. If memory is too small, the batch
    is divided further; then checkpointing is used, unless the recipe forbids it; then both. The last plan is returned
    if none fits.

    Args:
        outline: the student.
        training: its settings.
        lengths: the tokens of each example, in all tasks.
        on_gpu: whether the student is on a GPU.
        memory: bytes that the training may take; None if unknown.
    """
    mean, longest = sum(lengths) / max(1, len(lengths)), max(lengths, default=1)
    least = MIN_TOKENS_ON_GPU if on_gpu else MIN_TOKENS
    sizes = [n for n in range(training.batch_size, 0, -1) if training.batch_size % n == 0]
    efficient = [n for n in sizes if n * mean >= least] or sizes[:1]
    choices = (False, True) if training.checkpointing == "auto" else (training.checkpointing,)
    plans = []
    for checkpointing in choices:
        first = efficient[0] if on_gpu else _small_enough(outline, efficient, mean, checkpointing)
        # Where no other choice is left, parts may be small too.
        for n in sizes if checkpointing == choices[-1] else efficient:
            if n <= first:
                size = training_memory(outline, n * longest, checkpointing=checkpointing, on_gpu=on_gpu)
                plans.append(BatchPlan(training.batch_size // n, checkpointing, size, training.checkpointing))
    return next((plan for plan in plans if memory is None or plan.memory <= memory), plans[-1])


def settle_plan(folder: Path, setting: bool | str, begun: bool, choose: Callable[[], BatchPlan]) -> BatchPlan:
    """The plan of an earlier session of a training, or a new one.

    Args:
        folder: of the training's checkpoints.
        setting: `training.checkpointing`; under another one, the plan is chosen again.
        begun: whether there is a checkpoint. One without a plan was made with whole batches.
        choose: makes a new plan.

    Raises:
        DataError: the file is cut or malformed.
    """
    path = folder / BATCH_PLAN
    found = _from_json(read_json(path, "how a training's batches are computed")) if path.is_file() else None
    if found is not None and found.setting == setting:
        return found
    plan = BatchPlan(checkpointing=setting is True, setting=setting) if begun and found is None else choose()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(plan))
    return plan


def _small_enough(outline: Outline, sizes: Sequence[int], mean: float, checkpointing: bool) -> int:
    """The largest of some numbers of examples whose activations are small enough, or the smallest."""
    held = (activation_memory(outline, math.ceil(n * mean), checkpointing=checkpointing) for n in sizes)
    return next((n for n, size in zip(sizes, held, strict=True) if size <= ACTIVATIONS_HELD), sizes[-1])


def _from_json(value: Any) -> BatchPlan | None:
    if not isinstance(value, Mapping):
        return None
    try:
        plan = BatchPlan(**value)
    except TypeError:
        return None
    return plan if isinstance(plan.parts, int) and plan.parts > 0 else None
