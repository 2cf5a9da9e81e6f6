"""The size of a teacher's stores, known from the texts before anything is read, and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from molsaki.errors import InputError
from molsaki.models.estimates import show_bytes
from molsaki.store import attention_rows as rows
from molsaki.store.schema import Schema, row_bytes
from molsaki.teacher.signals import ModelSizes, PreparedSignals, Signal

MEGABYTE, GIGABYTE = 10**6, 10**9
_MAX_KEPT = 4096


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """The largest stores that may be written.

    Attributes:
        row_mb: megabytes of a row.
        store_gb: gigabytes of a signal's store.
    """

    row_mb: float
    store_gb: float


def require_room(
    prepared: Sequence[PreparedSignals], signals: Sequence[Signal[Any]], model: ModelSizes, limits: StoreLimits
) -> None:
    """Refuse to read texts whose rows would be too large. Only their numbers of steps and keys are needed.

    Raises:
        InputError: a row or a store would be larger than its limit; the message has the sizes and what to set.
    """
    for signal in signals:
        sizes = {text.text.id: signal.sizes(text.items[signal.name]) for text in prepared if signal.name in text.items}
        if problem := over_limits(signal.title, signal.schema(model), sizes, limits):
            raise InputError(f"{problem} Nothing was read.")


def over_limits(title: str, schema: Schema, sizes: Mapping[str, Mapping[str, int]], limits: StoreLimits) -> str:
    """What is too large about a store of rows of these sizes, and what would fit; empty if it is within the limits.

    Args:
        title: of the signal.
        schema: of its rows.
        sizes: of each row, by its id.
        limits: the limits.
    """
    each = {row_id: row_bytes(schema, some) for row_id, some in sizes.items()}
    if not each:
        return ""
    largest = max(each, key=each.__getitem__)
    some, total = sizes[largest], sum(each.values())
    if rows.ATTENTION in schema and rows.TOP_KEYS in schema and some[rows.KEYS] - 1 > rows.MAX_KEY:
        return (
            f"Expected at most {rows.MAX_KEY + 1} keys in a row of {title} with attention.top; {largest!r} has "
            f"{some[rows.KEYS]}. Leave attention.top out, or cut texts with attention.max_length."
        )
    row_limit, store_limit = limits.row_mb * MEGABYTE, limits.store_gb * GIGABYTE
    if each[largest] <= row_limit and total <= store_limit:
        return ""
    shape = ", ".join(f"{size} {name}" for name, size in some.items() if size)
    found = (
        f"Expected rows of {title} of at most {show_bytes(row_limit)} and a store of at most "
        f"{show_bytes(store_limit)}; the row of {largest!r} would have {show_bytes(each[largest])} ({shape}) and all "
        f"{len(each)} rows {show_bytes(total)}."
    )
    return f"{found} {_way_out(schema, some, min(row_limit, store_limit * each[largest] / total))}"


def _way_out(schema: Schema, sizes: Mapping[str, int], fitting: float) -> str:
    raised = "raise attention.max_row_mb or attention.max_store_gb"
    if rows.ATTENTION not in schema:
        return f"Set a smaller logits.top, or {raised}."
    layers = schema[rows.ATTENTION].shape[0]
    assert isinstance(layers, int)
    # Bytes of a compact row: 2 for a kept number, 2 for its key, 2 for the rest; 8 for each step and key beside them.
    others = 8 * (sizes[rows.STEPS] + sizes[rows.KEYS] + 1)
    kept = int(((fitting - others) / (layers * sizes[rows.STEPS]) - 2) // 4)
    if kept < 1:
        return f"Set attention.layers to mixed for a method that mixes layers by Eq. 4, or {raised}."
    top = min(kept, _MAX_KEPT)
    return f"Set attention.top to {top} or less with attention.dtype float16, or {raised}."
