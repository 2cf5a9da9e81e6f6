"""Rough figures for memory and time, from a model's size and this machine's speed.

They tell an hour from a month and 8 GB from 80, no more. Times are lower bounds: those of the arithmetic alone, at the
speed of a plain matrix product here, and, where a model writes one token after another, of reading its weights once
for each.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molsaki.models.load import Outline

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ADAMW_BYTES = 16
"""Bytes for each parameter that is trained in float32: weight, gradient and AdamW's two means."""
_PROBE = 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine does.

    Attributes:
        device: where models run.
        memory: of that device, in bytes; 0 where it is not known.
        speed: operations a second in a matrix product.
        bandwidth: bytes a second that are read.
    """

    device: str
    memory: int
    speed: float
    bandwidth: float


def probe_machine(device: str, dtype: str) -> Machine:
    """Measure a matrix product and a sum over memory, about half a second in all."""
    import torch

    kind = getattr(torch, dtype)
    square = torch.ones(_PROBE, _PROBE, dtype=kind, device=device)
    block = torch.ones(1 << 24, dtype=torch.uint8, device=device)
    product = _seconds(device, lambda: square @ square)
    copied = _seconds(device, lambda: block.clone())
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
    else:
        known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 0
    return Machine(device, memory, 2 * _PROBE**3 / product, block.numel() / copied)


def reading_seconds(outline: Outline, tokens: int, machine: Machine) -> float:
    """Time to read so many tokens, 2 operations for each parameter and token."""
    return 2 * outline.parameters * tokens / machine.speed


def writing_seconds(outline: Outline, dtype: str, rows: int, batch: int, tokens: int, machine: Machine) -> float:
    """Time to write up to so many tokens for each row, in batches: every step reads all weights once."""
    steps = math.ceil(rows / batch) * tokens
    arithmetic = reading_seconds(outline, rows * tokens, machine)
    return max(arithmetic, steps * outline.parameters * BYTES[dtype] / machine.bandwidth)


def training_seconds(outline: Outline, tokens: int, machine: Machine, *, checkpointing: bool) -> float:
    """Time to train on so many tokens: forward, backward (twice that) and, with checkpointing, forward again."""
    return (4 if checkpointing else 3) * reading_seconds(outline, tokens, machine)


def reading_memory(outline: Outline, dtype: str, tokens: int) -> int:
    """Bytes of the weights and of one layer's activations on so many tokens."""
    text = outline.text
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    return int(BYTES[dtype] * (outline.parameters + tokens * (6 * text.hidden_size + 2 * inner)))


def training_memory(outline: Outline, tokens: int, *, checkpointing: bool) -> int:
    """Bytes of the weights with AdamW's state, the activations and the logits of one batch, in float32.

    Activations of a layer are 68 bytes for each token and unit of width (Korthikanti et al., 2022, "Reducing
    Activation Recomputation in Large Transformer Models": 34 in 16 bits, without the attention matrix).
    """
    text = outline.text
    layer = 4 if checkpointing else 68
    activations = tokens * text.hidden_size * (layer * text.num_hidden_layers + (68 if checkpointing else 0))
    return int(ADAMW_BYTES * outline.parameters + activations + 8 * tokens * text.vocab_size)


def show_bytes(count: float) -> str:
    """A size for people: `3.2 MB`, `15 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def show_seconds(seconds: float) -> str:
    """A time for people: `40 s`, `12 min`, `3.1 h`, `4.5 days`."""
    if seconds < 100:
        return f"{max(1.0, seconds):.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.1f} days"


def _seconds(device: str, call: Callable[[], object]) -> float:
    """The best of a few calls, after one to warm up."""
    import torch

    best = math.inf
    call()
    for _ in range(4):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return max(best, 1e-9)
