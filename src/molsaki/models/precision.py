"""The precision that `auto` of a recipe stands for: bfloat16 where this machine is faster in it, else float32.

Processors and cards differ: with matrix units bfloat16 is several times as fast as float32, and without it is slower.
So a product is timed in both, once, when a run begins. The run keeps what was chosen, so that it continues in the same
precision on another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from molsaki.models.estimates import time_call

FAST_ENOUGH = 1.5
"""How many times as fast bfloat16 has to be, to be chosen."""
_SIZE = 512


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """What was measured for `auto`.

    Attributes:
        device: the device.
        speedup: how many times as fast a matrix product is in bfloat16 as in float32; 0 if it has none.
    """

    device: str
    speedup: float

    @property
    def is_bfloat16(self) -> bool:
        """Whether `auto` is bfloat16."""
        return self.speedup >= FAST_ENOUGH

    def describe(self) -> str:
        """The choice in words."""
        chosen = "bfloat16" if self.is_bfloat16 else "float32"
        return (
            f"precision auto is {chosen}: a matrix product in bfloat16 is {self.speedup:.1f} times as fast as in "
            f"float32 ({self.device}), and {FAST_ENOUGH:g} times is needed"
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: object) -> PrecisionChoice | None:
        """The choice of a manifest; None if it has none."""
        if not isinstance(value, Mapping):
            return None
        device, speedup = value.get("device"), value.get("speedup")
        if not isinstance(device, str) or not isinstance(speedup, int | float):
            return None
        return cls(device, float(speedup))


def measure_precision(device: str) -> PrecisionChoice:
    """Time a matrix product in bfloat16 and in float32. Takes a tenth of a second."""
    import torch

    whole = torch.ones(_SIZE, _SIZE, device=device)
    half = whole.bfloat16()
    try:
        seconds = time_call(device, lambda: half @ half)
    except RuntimeError:  # the device has no such product
        return PrecisionChoice(device, 0.0)
    return PrecisionChoice(device, round(time_call(device, lambda: whole @ whole) / seconds, 2))
