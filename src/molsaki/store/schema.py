"""The tensors of a store's rows: their types, their shapes, and which of their sizes are equal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BYTES_OF = {"float32": 4, "float16": 2, "int32": 4, "int16": 2}
"""The types of stored tensors and their bytes for each number."""
_MOST = 1 << 31


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of every row.

    Attributes:
        dtype: one of `BYTES_OF`.
        shape: its sizes. A number applies to all rows. A name is a size of the row, shared by all tensors of the row.
        below: an upper bound: all numbers are integers from 0 to `below` − 1. A name is that size of the row; None
            for no bound.
    """

    dtype: str
    shape: tuple[int | str, ...]
    below: int | str | None = None

    def shape_in(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape in a row of these sizes."""
        return tuple(size if isinstance(size, int) else sizes[size] for size in self.shape)

    def count_in(self, sizes: Mapping[str, int]) -> int:
        """The number of its elements in a row of these sizes."""
        return math.prod(self.shape_in(sizes))


Schema = Mapping[str, TensorSpec]
"""The tensors of a store's rows by name, in the order in which they are hashed."""


def size_names(schema: Schema) -> tuple[str, ...]:
    """The sizes that every row has, in the order in which they occur."""
    named = [size for spec in schema.values() for size in spec.shape if isinstance(size, str)]
    return tuple(dict.fromkeys(named))


def row_bytes(schema: Schema, sizes: Mapping[str, int]) -> int:
    """The size in bytes of the tensors of a row of these sizes."""
    return sum(BYTES_OF[spec.dtype] * spec.count_in(sizes) for spec in schema.values())


def schema_to_json(schema: Schema) -> dict[str, Any]:
    """The JSON form."""
    return {
        name: {"dtype": spec.dtype, "shape": list(spec.shape), "below": spec.below} for name, spec in schema.items()
    }


def schema_from_json(value: Any) -> dict[str, TensorSpec]:
    """Read the JSON form.

    Raises:
        ValueError: the value is not the JSON form of a schema.
    """
    if not isinstance(value, dict) or not value:
        raise ValueError("expected its tensors by name")
    found = {str(name): _spec(entry) for name, entry in value.items()}
    names = size_names(found)
    for name, spec in found.items():
        if isinstance(spec.below, str) and spec.below not in names:
            raise ValueError(f"the tensor {name!r} is bounded by a size {spec.below!r} that no row has")
    return found


def _spec(entry: Any) -> TensorSpec:
    if not isinstance(entry, dict) or entry.get("dtype") not in BYTES_OF or not isinstance(entry.get("shape"), list):
        raise ValueError(f"expected a tensor's dtype ({', '.join(BYTES_OF)}) and shape; got {str(entry)[:200]}")
    sizes, below = entry["shape"], entry.get("below")
    for size in [*sizes, *([] if below is None else [below])]:
        if not isinstance(size, str) and not is_size(size):
            raise ValueError(f"expected sizes as names or whole numbers; got {str(size)[:200]}")
    return TensorSpec(entry["dtype"], tuple(sizes), below)


def is_size(value: Any) -> bool:
    """Whether a value can be the size of a tensor."""
    return type(value) is int and 0 <= value <= _MOST
