"""Rough estimates of memory and time from the size of a model and the speed of this machine.

They separate an hour from a month, and 8 GB from 80 GB. Times are lower bounds. They count the arithmetic at the speed
of a plain matrix product and, for generation, one read of all weights for each token.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molsaki.counts import show_number

if TYPE_CHECKING:
    from molsaki.models.outline import Outline

ADAMW_BYTES = 16
"""Bytes per trained parameter in float32: its weight, its gradient and AdamW's two moments."""
LOGITS_HELD = 1 << 24
"""The largest number of logits that a training step on a CPU holds at a time; 64 MB in float32."""
LOGIT_BYTES = 32
"""Bytes per logit that is held: itself and up to seven values of its size that losses and gradients are made of."""
GAP_BYTES = 19
"""Bytes per token, layer and hidden unit that glibc's allocator loses to gaps with checkpointing, by the memory of a
training on texts of 8,000 tokens; fewer on shorter ones."""
_PROBE_SIZE = 1024


@dataclass(frozen=True, slots=True)
class Machine:
    """The speed and memory of this machine.

    Attributes:
        device: the device that models run on.
        memory: of that device, in bytes; 0 if unknown.
        speed: of a matrix product, in floating-point operations per second.
        bandwidth: of memory, in bytes per second.
    """

    device: str
    memory: int
    speed: float
    bandwidth: float


def probe_machine(device: str, dtype: str) -> Machine:
    """Time a matrix product and a copy of a block of memory. Takes about half a second."""
    import torch

    square = torch.ones(_PROBE_SIZE, _PROBE_SIZE, dtype=getattr(torch, dtype), device=device)
    block = torch.ones(1 << 24, dtype=torch.uint8, device=device)
    product_seconds = time_call(device, lambda: square @ square)
    copy_seconds = time_call(device, lambda: block.clone())
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
    else:
        known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 0
    return Machine(device, memory, 2 * _PROBE_SIZE**3 / product_seconds, block.numel() / copy_seconds)


def reading_seconds(outline: Outline, tokens: int, machine: Machine) -> float:
    """Seconds of a forward pass over `tokens` tokens, at 2 operations per parameter and token."""
    return 2 * outline.parameters * tokens / machine.speed


def writing_seconds(outline: Outline, rows: int, batch: int, tokens: int, machine: Machine) -> float:
    """Seconds to generate up to `tokens` tokens for each of `rows` prompts. Each step reads all weights once."""
    steps = math.ceil(rows / batch) * tokens
    arithmetic = reading_seconds(outline, rows * tokens, machine)
    return max(arithmetic, steps * outline.parameters * outline.weight_bytes / machine.bandwidth)


def training_seconds(outline: Outline, tokens: int, machine: Machine, *, checkpointing: bool) -> float:
    """Seconds to train on `tokens` tokens: forward, backward (twice as long), and forward again to recompute."""
    return (4 if checkpointing else 3) * reading_seconds(outline, tokens, machine)


def reading_memory(outline: Outline, tokens: int) -> int:
    """Bytes of the weights and of the activations of one layer for `tokens` tokens."""
    values = tokens * (6 * outline.text.hidden_size + 2 * outline.inner)  # of quantised weights, in 16 bits
    return int(outline.weight_bytes * outline.parameters + max(2.0, outline.weight_bytes) * values)


def training_memory(outline: Outline, tokens: int, *, checkpointing: bool, on_gpu: bool) -> int:
    """Bytes of weights, AdamW state, activations and logits for a batch of `tokens` tokens in float32.

    Logits are held for one block of tokens at a time (`training/token_outputs.py`): themselves, what losses keep of
    them, and the gradients of both.

    Weights that an adapter leaves frozen have no gradient and no state. With checkpointing, a CPU's allocator loses
    memory to gaps between the inputs of layers.
    """
    frozen = 0 if outline.trained == outline.parameters else outline.parameters
    weights = ADAMW_BYTES * outline.trained + outline.weight_bytes * frozen
    logits = LOGIT_BYTES * min(tokens * outline.text.vocab_size, LOGITS_HELD)
    gaps = GAP_BYTES * tokens * outline.text.hidden_size * outline.text.num_hidden_layers
    lost = gaps if checkpointing and not on_gpu else 0
    return int(weights + logits + lost) + activation_memory(outline, tokens, checkpointing=checkpointing)


def activation_memory(outline: Outline, tokens: int, *, checkpointing: bool) -> int:
    """Bytes of what the layers keep of a batch of `tokens` tokens for the backward pass, in float32.

    For each token a layer keeps eleven values for each hidden unit (inputs of the norms before and after their weights,
    queries, keys, values, what attention gives) and four for each inner unit, as a gated layer does; others keep two.
    With checkpointing it keeps its input alone, and one layer at a time is computed again, whose gradients are as
    large. `benchmarks/activations.py` measures this.
    """
    hidden, layers = outline.text.hidden_size, outline.text.num_hidden_layers
    layer = 44 * hidden + 16 * outline.inner
    return int(tokens * (4 * hidden * layers + 2 * layer if checkpointing else layer * layers))


def show_bytes(count: float) -> str:
    """Format a size, such as `3.2 MB` or `15 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:  # else it is rounded to 1,000
            return f"{show_number(count)} {unit}"
        count /= 1000
    return f"{show_number(count)} TB"


def show_seconds(seconds: float) -> str:
    """Format a duration, such as `40 s`, `12 min`, `3.1 h` or `4.5 days`."""
    if seconds < 100:
        return f"{max(1.0, seconds):.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.1f} days"


def time_call(device: str, call: Callable[[], object]) -> float:
    """Seconds of the fastest of four calls on a device, after one to warm up."""
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
