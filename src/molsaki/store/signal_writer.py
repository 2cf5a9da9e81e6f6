"""Writing a teacher's signals so that a kill loses at most the rows of one minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import safetensors.torch
import torch
from torch import Tensor

from molsaki.errors import ArtefactError
from molsaki.store.fingerprints import require_same
from molsaki.store.locks import LOCK_NAME, exclusive_lock
from molsaki.store.schema import Schema, row_bytes, schema_to_json
from molsaki.store.shard_rows import refuse_row, row_to_store
from molsaki.store.shards import (
    STORE_NAME,
    StoredRow,
    StoreHeader,
    read_header,
    read_shard,
    rows_by_id,
    shard_numbers,
    tensors_path,
    unfinished_shards,
    write_header,
    write_index,
)
from molsaki.store.whole_files import LEFTOVER_PREFIX, refuse_write, remove_unfinished, write_whole

MAX_SHARD_BYTES = 1 << 26
"""A shard is due once it has this many bytes, so that memory stays bounded for large rows."""

logger = logging.getLogger(__name__)


class SignalWriter:
    """Writes rows of one signal, shard after shard; continues an existing store.

    Rows wait in memory until `flush` writes them as a shard; `flush_if_due` does so for several stores together. One
    process writes at a time: the folder is locked until `close`. As a context manager it closes on exit, and rows
    added before an error are written.

    Args:
        folder: the store; a missing or empty folder becomes one.
        fingerprint: the fingerprint of the rows (see `molsaki.store.fingerprints.fingerprint`).
        schema: the tensors of every row.
        shard_rows: a shard is due once it has this many rows.
        flush_seconds: a shard is due once its first row has waited this long.

    Raises:
        ArtefactError: the folder holds something else, or a store of another fingerprint or schema (each key
            that differs is named with both values), or a damaged shard.
        StageError: another process writes to it, or the disk cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: Mapping[str, str],
        schema: Schema,
        shard_rows: int = 512,
        flush_seconds: float = 60.0,
    ) -> None:
        self.folder = folder
        self._header = StoreHeader(dict(schema), dict(fingerprint))
        self._shard_rows = shard_rows
        self._flush_seconds = flush_seconds
        self._hashes: dict[str, str] = {}
        self._rows: list[StoredRow] = []
        self._tensors: dict[str, list[Tensor]] = {name: [] for name in schema}
        self._bytes = 0
        self._flushed_at = time.monotonic()
        self._open = ExitStack()
        self._closed = False
        try:
            self._number = self._prepare()
        except BaseException:
            self._open.close()
            raise

    def done(self) -> set[str]:
        """The ids of the rows that are on the disk."""
        return self._hashes.keys() - {row.id for row in self._rows}

    def text_hashes(self) -> dict[str, str]:
        """The text hashes of the rows that are on the disk, by id."""
        return {row_id: self._hashes[row_id] for row_id in self.done()}

    def add(self, row_id: str, text_hash: str, tensors: Mapping[str, Tensor]) -> None:
        """Add one row; it is on the disk after the next `flush` or `close`.

        Args:
            row_id: any text that no row of the store has yet.
            text_hash: the hash of the text that the row was read on.
            tensors: the row's tensors by the schema's names, finite, on any device.

        Raises:
            ArtefactError: the row cannot be stored; the message names it. The row is left out, and the writer can
                be used further.
        """
        row, stored = row_to_store(row_id, text_hash, tensors, self._header.schema)
        if self._closed:
            refuse_row(row_id, "an open store", "one that is closed")
        if row_id in self._hashes:
            refuse_row(row_id, "an id that no row of the store has yet", "a repeated one")
        self._rows.append(row)
        for name, tensor in stored.items():
            self._tensors[name].append(tensor.flatten())
        self._bytes += row_bytes(self._header.schema, row.sizes)
        self._hashes[row_id] = text_hash

    @property
    def is_due(self) -> bool:
        """Whether enough rows wait, or some have waited long enough, for a shard."""
        full = len(self._rows) >= self._shard_rows or self._bytes >= MAX_SHARD_BYTES
        return bool(self._rows) and (full or time.monotonic() - self._flushed_at >= self._flush_seconds)

    def flush(self) -> None:
        """Write the waiting rows as a shard.

        Raises:
            StageError: the disk is full or cannot be written; the rows still wait, and no shard is changed.
        """
        self._flushed_at = time.monotonic()
        if self._closed or not self._rows:
            return
        flat = {name: torch.cat(parts) for name, parts in self._tensors.items()}
        data = safetensors.torch.save(flat, {"store": self._header.hash})
        write_whole(tensors_path(self.folder, self._number), data)
        write_index(self.folder, self._number, self._header, self._rows, len(data))
        self._number += 1
        self._rows, self._bytes = [], 0
        self._tensors = {name: [] for name in flat}

    def close(self) -> None:
        """Flush and unlock the folder, even if flushing fails."""
        if self._closed:
            return
        with self._open:
            try:
                self.flush()
            finally:
                self._closed = True

    @property
    def waiting(self) -> int:
        """The number of rows that wait to be written."""
        return len(self._rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _prepare(self) -> int:
        """Lock the folder, create or check the store, and read its rows; returns the number of the next shard."""
        what = f"the store {self.folder}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            foreign = not (self.folder / STORE_NAME).exists() and self._foreign()
        except (OSError, ValueError) as error:
            refuse_write(self.folder, error, "No row was stored.")
        if foreign:
            raise ArtefactError(
                f"Expected {what} or an empty folder; it holds {foreign[:5]} and no {STORE_NAME}. Nothing "
                f"was written there; choose another folder, or put {STORE_NAME} back from a copy."
            )
        self._open.enter_context(exclusive_lock(self.folder, "the store"))
        remove_unfinished(self.folder)
        # A store without a row is of no teacher yet: its header may be that of a reading that was refused.
        if not (self.folder / STORE_NAME).exists() or not shard_numbers(self.folder):
            write_header(self.folder, self._header)
        header = read_header(self.folder)
        require_same(_all_of(header), _all_of(self._header), what)
        for path in unfinished_shards(self.folder):
            logger.warning("%s has no index, as after a kill; its rows count as missing", path)
        return self._read_done()

    def _read_done(self) -> int:
        numbers = shard_numbers(self.folder)
        shards = [read_shard(self.folder, number, self._header) for number in numbers]
        for row_id, (number, index) in rows_by_id(shards).items():
            self._hashes[row_id] = shards[number].rows[index].text_hash
        return numbers[-1] + 1 if numbers else 0

    def _foreign(self) -> list[str]:
        own = (LOCK_NAME, LEFTOVER_PREFIX)
        return sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith(own))


def flush_if_due(writers: Iterable[SignalWriter]) -> None:
    """Flush several stores together once one of them is due, so that all have the rows of the same texts.

    Raises:
        StageError: the disk is full or cannot be written; the rows still wait.
    """
    together = list(writers)
    if any(writer.is_due for writer in together):
        for writer in together:
            writer.flush()


def _all_of(header: StoreHeader) -> dict[str, object]:
    return {"tensors": schema_to_json(header.schema), **header.fingerprint}
