"""A batch that does not fit into memory, and what would by estimate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from molsaki.attention import find_model
from molsaki.errors import StageError
from molsaki.models.adapters import trained_parameters
from molsaki.models.estimates import show_bytes, training_memory
from molsaki.models.memory import available_bytes, peak_bytes
from molsaki.models.outline import Outline
from molsaki.training.batches import Batch

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

_NO_CPU_MEMORY = "can't allocate memory"
"""What PyTorch's RuntimeError says on a CPU."""
_USED = 0.9
"""The share of the memory that a suggestion may take."""


@contextmanager
def says_what_fits(student: PreTrainedModel | PeftModel, batch: Batch, checkpointing: bool) -> Iterator[None]:
    """Run a training step; if memory is too small for it, say what would fit.

    Args:
        student: the student, for its size.
        batch: the batch of the step.
        checkpointing: layers are computed again in the backward pass.

    Raises:
        StageError: memory was too small.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _NO_CPU_MEMORY not in str(error):
            raise
        device = next(student.parameters()).device
        memory = _memory(device)
        examples = max(one.rows.stop - one.rows.start for some in batch.passes for one in some.tasks)
        rows, width = max((one.input_ids_RT.shape for one in batch.passes), key=lambda shape: shape.numel())
        outline, on_gpu = outline_student(student), device.type != "cpu"
        found = what_fits(outline, examples, rows, width, memory, checkpointing=checkpointing, on_gpu=on_gpu)
        have = "" if memory is None else f" of {show_bytes(memory)}"
        raise StageError(
            f"Expected a batch that fits into the memory of {device}{have}; {examples} examples with {rows} sequences "
            f"of up to {width} tokens do not. The training stopped at its last checkpoint. By estimate these fit: "
            f"{'; '.join(found) or 'no batch of this student, so train a smaller one or an adapter (student.lora)'}."
        ) from error


def outline_student(student: PreTrainedModel | PeftModel) -> Outline:
    """The size of a student that is loaded."""
    trained, every = trained_parameters(student)
    weight = next(student.parameters()).element_size()
    return Outline(find_model(student).config, every, trained, weight)


def what_fits(
    outline: Outline, examples: int, rows: int, width: int, memory: int | None, *, checkpointing: bool, on_gpu: bool
) -> list[str]:
    """Settings whose batch fits by estimate, with the memory that each takes.

    Args:
        outline: the student.
        examples: the number of examples of a batch.
        rows: its number of sequences.
        width: the tokens of the longest.
        memory: bytes of the device; None if unknown.
        checkpointing: the batch that did not fit was computed with checkpointing.
        on_gpu: whether the student is on a GPU.
    """

    def needed(some: int, tokens: int, checkpointing: bool) -> int:
        each = max(1, rows // examples)
        return training_memory(outline, some * each * tokens, checkpointing=checkpointing, on_gpu=on_gpu)

    # A batch that does not fit takes at least all of the memory, whatever the estimate says.
    now = needed(examples, width, checkpointing)
    bound = _USED * (now if memory is None else min(memory, now))
    found = []
    if not checkpointing and (size := needed(examples, width, True)) <= bound:
        found.append(f"training.checkpointing: true ({show_bytes(size)})")
    for again in dict.fromkeys((checkpointing, True)):
        fitting = next((some for some in range(examples - 1, 0, -1) if needed(some, width, again) <= bound), None)
        if fitting is not None:
            more = " with training.checkpointing: true" if again and not checkpointing else ""
            takes = show_bytes(needed(fitting, width, again))
            found.append(f"training.batch_size: {fitting}{more} and as much more training.accumulation ({takes})")
    if not found:
        tokens = next((width >> i for i in range(1, width.bit_length()) if needed(1, width >> i, True) <= bound), 0)
        if tokens:
            takes = show_bytes(needed(1, tokens, True))
            found.append(
                f"training.batch_size: 1 with training.checkpointing: true and training.max_length: {tokens} ({takes})"
            )
    return found


def _memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    free = available_bytes()
    return None if free is None else free + peak_bytes()
