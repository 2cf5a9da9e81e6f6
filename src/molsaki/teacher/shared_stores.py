"""The stores of several signals, written with the rows of several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from molsaki.distributed import gather_numbers, process_count, process_number
from molsaki.store.schema import Schema
from molsaki.store.signal_writer import SignalWriter, flush_if_due
from molsaki.teacher.signals import PreparedSignals, Row, Signal


class SharedStores:
    """Gathers the rows of all processes on process 0, which adds the missing ones to each store.

    Rows are sent as one vector of 32-bit numbers per batch. All processes know their sizes from the texts.
    """

    def __init__(
        self,
        signals: Sequence[Signal[Any]],
        writers: Mapping[str, SignalWriter] | None,
        schemas: Mapping[str, Schema],
        lacking: Mapping[str, Sequence[str]],
    ) -> None:
        self._signals = {signal.name: signal for signal in signals}
        self._writers = writers
        self._schemas = schemas
        self._lacking = lacking

    def add(self, round_: Sequence[Sequence[PreparedSignals]], mine: Sequence[Mapping[str, Row]]) -> None:
        """Store one round.

        Args:
            round_: the batches of all processes.
            mine: the rows that this process has read.
        """
        counts = [sum(self._count(item, name) for item, name in self._wanted(batch)) for batch in round_]
        counts += [0] * (process_count() - len(round_))
        batch = round_[process_number()] if mine else []
        by_id = {item.text.id: rows for item, rows in zip(batch, mine, strict=True)}
        numbers = [_to_numbers(by_id[item.text.id][name]) for item, name in self._wanted(batch)]
        vectors = gather_numbers(torch.cat(numbers) if numbers else torch.zeros(0, dtype=torch.int32), counts)
        if self._writers is None:
            return
        for some, vector in zip(round_, vectors, strict=False):
            wanted = self._wanted(some)
            parts = torch.split(vector, [self._count(item, name) for item, name in wanted])
            for (item, name), part in zip(wanted, parts, strict=True):
                row = _from_numbers(part, self._schemas[name], self._sizes(item, name))
                self._writers[name].add(item.text.id, item.text.text_hash, row)
        # Flush only between rounds, so that a store has all rows of a batch or none.
        flush_if_due(self._writers.values())

    def _wanted(self, batch: Sequence[PreparedSignals]) -> list[tuple[PreparedSignals, str]]:
        return [(item, name) for item in batch for name in self._lacking[item.text.id]]

    def _sizes(self, item: PreparedSignals, name: str) -> dict[str, int]:
        return self._signals[name].sizes(item.items[name])

    def _count(self, item: PreparedSignals, name: str) -> int:
        sizes = self._sizes(item, name)
        return sum(spec.count_in(sizes) for spec in self._schemas[name].values())


def _to_numbers(row: Row) -> Tensor:
    """A row's tensors, of float32 and int32, reinterpreted bit for bit as one vector of int32."""
    return torch.cat([tensor.contiguous().view(torch.int32).flatten() for tensor in row.values()])


def _from_numbers(numbers: Tensor, schema: Schema, sizes: Mapping[str, int]) -> Row:
    """Inverse of `_to_numbers`; tensors that are stored in float16 are float32 here."""
    row: Row = {}
    parts = torch.split(numbers, [spec.count_in(sizes) for spec in schema.values()])
    for (name, spec), part in zip(schema.items(), parts, strict=True):
        dtype = torch.float32 if spec.dtype.startswith("float") else torch.int32
        row[name] = part.view(dtype).view(spec.shape_in(sizes))
    return row
