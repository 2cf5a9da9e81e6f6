"""Writing the stepwise attention of a teacher so that a kill costs at most a minute's rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import safetensors.torch
import torch
from torch import Tensor

from molsaki.errors import ArtefactError
from molsaki.store.fingerprints import require_same
from molsaki.store.locks import LOCK_NAME, exclusive_lock
from molsaki.store.shard_rows import counts_to_store, places_to_store, refuse_row, require_texts, values_to_store
from molsaki.store.shards import (
    DTYPES,
    STORE_NAME,
    VALUES,
    StoredRow,
    StoreHeader,
    hash_values,
    read_header,
    read_shard,
    rows_by_id,
    shard_numbers,
    unfinished_shards,
    values_path,
    write_header,
    write_index,
)
from molsaki.store.whole_files import LEFTOVER_PREFIX, refuse_write, remove_unfinished, write_whole

MAX_SHARD_VALUES = 1 << 24
"""A shard is written once it has this many values, however few its rows are, so that memory stays bounded."""

_DTYPE_KEY = "dtype of the store"

logger = logging.getLogger(__name__)


class AttentionStoreWriter:
    """Writes rows of stepwise attention, shard after shard; a store that is there is continued.

    One process at a time: the folder is locked until `close`. As a context manager it closes itself, and rows
    that were added before an error are written.

    Args:
        folder: the store; a missing or empty folder becomes one.
        fingerprint: what the rows are made from (see `molsaki.store.fingerprints.fingerprint`).
        dtype: `"float32"`, or `"float16"` at half the size (values up to 65504, about three digits; values
            below 6e-8 become 0).
        shard_rows: rows per shard.
        flush_seconds: rows never wait longer than this for their shard to be written, as long as `add` is
            called.

    Raises:
        ArtefactError: the folder holds something else, or a store of another fingerprint or dtype (each key
            that differs is named with both values), or a damaged shard.
        StageError: another process writes to it, or the disk cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: Mapping[str, str],
        dtype: str = "float32",
        shard_rows: int = 512,
        flush_seconds: float = 60.0,
    ) -> None:
        if dtype not in DTYPES or shard_rows < 1:
            raise ArtefactError(
                f"Expected a dtype of {DTYPES} and at least one row per shard; got {dtype!r} and "
                f"{shard_rows}. No store was opened; choose one of these."
            )
        self.folder = folder
        self._header = StoreHeader(dtype, dict(fingerprint))
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._shard_rows = shard_rows
        self._flush_seconds = flush_seconds
        self._hashes: dict[str, str] = {}
        self._layers: int | None = None
        self._rows: list[StoredRow] = []
        self._values: list[Tensor] = []
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

    def add(
        self,
        row_id: str,
        text_hash: str,
        attention_LSK: Tensor,
        *,
        missing_steps: Sequence[int] = (),
        missing_keys: Sequence[int] = (),
        step_tokens: Sequence[int] = (),
    ) -> None:
        """Add one row; it is on the disk after the next `flush`, `close`, full shard or `flush_seconds`.

        Args:
            row_id: any text that no row of the store has yet.
            text_hash: the hash of the text that it was made from.
            attention_LSK: layers by steps by keys, finite, on any device.
            missing_steps: steps without a token, whose attention is no reading and must not be learned from.
            missing_keys: keys without a token, likewise.
            step_tokens: how many tokens each step has, 0 for one that is missing; nothing if that is not known.

        Raises:
            ArtefactError: the row cannot be stored as it is; the message names it. The writer goes on with
                all other rows, and this one is not in the store.
            StageError: the shard that this row fills cannot be written; no row is lost, and the next `flush`
                tries again.
        """
        require_texts(row_id, text_hash)
        values = values_to_store(row_id, attention_LSK, self._dtype)
        layers, steps, keys = values.shape
        self._check_new(row_id, layers)
        row = StoredRow(
            row_id,
            text_hash,
            (layers, steps, keys),
            self._rows[-1].end if self._rows else 0,
            hash_values(values.numpy().data),
            places_to_store(row_id, "missing steps", missing_steps, steps),
            places_to_store(row_id, "missing keys", missing_keys, keys),
            counts_to_store(row_id, step_tokens, steps),
        )
        self._rows.append(row)
        self._values.append(values.flatten())
        self._hashes[row_id] = text_hash
        self._layers = layers
        waited = time.monotonic() - self._flushed_at
        full = len(self._rows) >= self._shard_rows or self._rows[-1].end >= MAX_SHARD_VALUES
        if full or waited >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait as a shard of their own.

        Raises:
            StageError: the disk is full or cannot be written; the rows still wait, and no shard is changed.
        """
        self._flushed_at = time.monotonic()
        if self._closed or not self._rows:
            return
        data = safetensors.torch.save({VALUES: torch.cat(self._values)}, {"store": self._header.hash})
        write_whole(values_path(self.folder, self._number), data)
        write_index(self.folder, self._number, self._header, self._rows, len(data))
        self._number += 1
        self._rows, self._values = [], []

    def close(self) -> None:
        """Flush and give the folder free, even where flushing fails."""
        if self._closed:
            return
        with self._open:
            try:
                self.flush()
            finally:
                self._closed = True

    @property
    def waiting(self) -> int:
        """How many rows wait to be written."""
        return len(self._rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _prepare(self) -> int:
        """Lock the folder, make or check the store, read what is done; the next shard's number."""
        what = f"the attention store {self.folder}"
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
        self._open.enter_context(exclusive_lock(self.folder, "the attention store"))
        remove_unfinished(self.folder)
        if not (self.folder / STORE_NAME).exists():
            write_header(self.folder, self._header)
        header = read_header(self.folder)
        found = {_DTYPE_KEY: header.dtype, **header.fingerprint}
        require_same(found, {_DTYPE_KEY: self._header.dtype, **self._header.fingerprint}, what)
        for path in unfinished_shards(self.folder):
            logger.warning("%s has no index, as a kill leaves it; its rows count as missing", path)
        return self._read_done()

    def _read_done(self) -> int:
        numbers = shard_numbers(self.folder)
        shards = [read_shard(self.folder, number, self._header) for number in numbers]
        for row_id, (_, row) in rows_by_id(shards).items():
            self._hashes[row_id] = row.text_hash
            self._layers = row.shape[0]
        return numbers[-1] + 1 if numbers else 0

    def _foreign(self) -> list[str]:
        own = (LOCK_NAME, LEFTOVER_PREFIX)
        return sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith(own))

    def _check_new(self, row_id: str, layers: int) -> None:
        if self._closed:
            refuse_row(row_id, "an open store", "one that is closed")
        if row_id in self._hashes:
            refuse_row(row_id, "an id that no row of the store has yet", "a repeated one")
        if self._layers not in (None, layers):
            refuse_row(row_id, f"{self._layers} layers, as the store's other rows have", f"{layers}")
