"""Reading the stepwise attention of a teacher, memory-mapped: opening reads the indices and no values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from molsaki.errors import ArtefactError
from molsaki.store.fingerprints import require_same
from molsaki.store.shards import StoredRow, read_header, read_shard, rows_by_id, shard_numbers, unfinished_shards
from molsaki.store.verify import StoreReport, map_values, row_problems, verify_store


class MissingRowError(ArtefactError, LookupError):
    """The store has no row of this id."""


class AttentionStore:
    """Stepwise attention of a teacher by row id. It may be pickled to a worker process, which opens it anew.

    Args:
        folder: the store, as `AttentionStoreWriter` made it; it may still be growing, and this object has the
            rows that were finished when it was opened.
        fingerprint: what the rows should be made from; None takes the store as it is.

    Attributes:
        folder: the store.
        fingerprint: what the rows are made from.

    Raises:
        ArtefactError: the fingerprints differ (each key that differs is named with both values), or a shard
            is cut, changed or of another store.
        DataError: there is no store, or its header is cut or malformed.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._header = read_header(folder)
        self.fingerprint = self._header.fingerprint
        if fingerprint is not None:
            require_same(self.fingerprint, fingerprint, f"the attention store {folder}")
        self._shards = [read_shard(folder, number, self._header) for number in shard_numbers(folder)]
        self._rows = rows_by_id(self._shards)
        self._values: list[Tensor | None] = [None] * len(self._shards)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, row_id: object) -> bool:
        return row_id in self._rows

    def __reduce__(self) -> tuple[type[AttentionStore], tuple[Path, dict[str, str]]]:
        return type(self), (self.folder, self.fingerprint)

    def ids(self) -> list[str]:
        """The ids in the order in which the rows were written."""
        return list(self._rows)

    def text_hashes(self) -> dict[str, str]:
        """The text hash of every row by id."""
        return {row_id: row.text_hash for row_id, (_, row) in self._rows.items()}

    def shape(self, row_id: str) -> tuple[int, int, int]:
        """L, S, K of a row, without reading its values."""
        return self._find(row_id)[1].shape

    def missing(self, row_id: str) -> tuple[frozenset[int], frozenset[int]]:
        """The steps and the keys of a row that had no token on the teacher's side; their attention is 0."""
        _, row = self._find(row_id)
        return frozenset(row.missing_steps), frozenset(row.missing_keys)

    def step_tokens(self, row_id: str) -> tuple[int, ...]:
        """How many of the teacher's tokens each step of a row has; nothing where that was not kept."""
        return self._find(row_id)[1].step_tokens

    def get(self, row_id: str, text_hash: str) -> Tensor:
        """The attention of one row, a float32 tensor [L, S, K] of its own.

        Args:
            row_id: the row.
            text_hash: the hash of the text that it will be used with.

        Raises:
            MissingRowError: the store has no such row; it is an `ArtefactError` and a `LookupError`.
            ArtefactError: it was made from another text, or its values are damaged, NaN or infinite.
        """
        place, row = self._find(row_id)
        if row.text_hash != text_hash:
            raise ArtefactError(
                f"Expected the attention of the row {row_id!r} in {self.folder} to be made from the text "
                f"with the hash {text_hash!r}; it was made from one with {row.text_hash!r}. Its steps and "
                f"keys would not fit; run the stage that makes the store on this data, into a new folder."
            )
        values = self._shard_values(place)
        problems = row_problems(row, values)
        if problems:
            self._refuse_row(place, row, "; ".join(problems))
        return values[row.start : row.end].view(row.shape).to(torch.float32, copy=True)

    def check(self) -> StoreReport:
        """Read every value of every row, as it is on the disk now, and compare it with what was written."""
        return verify_store(self.folder)

    def _find(self, row_id: str) -> tuple[int, StoredRow]:
        found = self._rows.get(row_id)
        if found is None:
            unfinished = unfinished_shards(self.folder)
            and_also = f" and {len(unfinished)} shards that are not finished" if unfinished else ""
            raise MissingRowError(
                f"Expected the attention of the row {row_id!r} in {self.folder}; the store has {len(self)} "
                f"other rows{and_also}. The row cannot be used; run the stage that makes the store again, "
                f"which adds what is missing, or open the store anew if it has grown."
            )
        return found

    def _shard_values(self, place: int) -> Tensor:
        values = self._values[place]
        if values is None:
            values = self._values[place] = map_values(self._shards[place], getattr(torch, self._header.dtype))
        return values

    def _refuse_row(self, place: int, row: StoredRow, problem: str) -> NoReturn:
        path = self._shards[place].path
        raise ArtefactError(
            f"Expected finite attention as it was written for the row {row.id!r} in {path}; got {problem}. "
            f"The row cannot be used and may not be alone; see `molsaki attend --check`, then delete both "
            f"files of each damaged shard and run the stage again, which makes their rows anew."
        )
