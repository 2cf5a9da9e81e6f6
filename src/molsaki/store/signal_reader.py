"""Reading a teacher's store, memory-mapped: opening it reads the indices and no tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from molsaki.errors import ArtefactError
from molsaki.store.exported_files import repair_advice
from molsaki.store.fingerprints import require_same
from molsaki.store.shards import (
    Shard,
    StoredRow,
    read_header,
    read_shard,
    rows_by_id,
    shard_numbers,
    unfinished_shards,
)
from molsaki.store.verify import StoreReport, map_tensors, row_problems, row_tensors, verify_store


class MissingRowError(ArtefactError, LookupError):
    """The store has no row of this id."""


class SignalStore:
    """One signal of a teacher by row id. It can be pickled to a worker process, which opens the store again.

    Args:
        folder: a store written by `SignalWriter`. It may still be growing; this object has the rows that were
            finished when it was opened.
        fingerprint: the expected fingerprint; None accepts any.

    Attributes:
        folder: the store.
        fingerprint: the fingerprint of the rows.
        schema: the tensors of every row.

    Raises:
        ArtefactError: the fingerprints differ (each key that differs is named with both values), a shard
            is cut, changed or of another store, or the store is of another format.
        DataError: the store does not exist, or its header is cut or malformed.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        header = read_header(folder)
        self.fingerprint, self.schema = header.fingerprint, header.schema
        if fingerprint is not None:
            require_same(self.fingerprint, fingerprint, f"the store {folder}")
        self._shards = [read_shard(folder, number, header) for number in shard_numbers(folder)]
        self._rows = rows_by_id(self._shards)
        self._flat: dict[int, Mapping[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, row_id: object) -> bool:
        return row_id in self._rows

    def __reduce__(self) -> tuple[type[SignalStore], tuple[Path, dict[str, str]]]:
        return type(self), (self.folder, self.fingerprint)

    def ids(self) -> list[str]:
        """The ids in the order of writing."""
        return list(self._rows)

    def text_hashes(self) -> dict[str, str]:
        """The text hash of every row by id."""
        return {row.id: row.text_hash for shard in self._shards for row in shard.rows}

    def sizes(self, row_id: str) -> dict[str, int]:
        """The sizes of a row by the schema's names, without reading its tensors.

        Raises:
            MissingRowError: the store has no row of this id.
        """
        _, row, _ = self._find(row_id)
        return dict(row.sizes)

    def row_hash(self, row_id: str) -> str:
        """The hash of a row's tensors, without reading them.

        Raises:
            MissingRowError: the store has no row of this id.
        """
        return self._find(row_id)[1].hash

    def get(self, row_id: str, text_hash: str, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Copies of the tensors of one row: floating-point numbers in float32, integers in int64.

        Args:
            row_id: the id of the row.
            text_hash: the hash of the text that the row will be used with.
            names: read only these tensors. Their bounds are checked, but the row's hash needs all of them.

        Raises:
            MissingRowError: the store has no row of this id; it is an `ArtefactError` and a `LookupError`.
            ArtefactError: the row belongs to another text, or its tensors are damaged, NaN or infinite.
        """
        number, row, starts = self._find(row_id)
        if row.text_hash != text_hash:
            way_out = repair_advice(self.folder, "run the stage that writes the store on this data, into a new folder.")
            raise ArtefactError(
                f"Expected the row {row_id!r} in {self.folder} to belong to the text with the hash {text_hash!r}; its "
                f"text has the hash {row.text_hash!r}. It does not fit; {way_out}"
            )
        shard = self._shards[number]
        schema = self.schema if names is None else {name: self.schema[name] for name in names}
        tensors = row_tensors(row, starts, self._tensors_of(number, shard), schema)
        if problems := row_problems(row, tensors, schema, whole=names is None):
            _refuse_row(shard.path, row, "; ".join(problems))
        kinds = {True: torch.float32, False: torch.int64}
        return {name: tensor.to(kinds[tensor.is_floating_point()], copy=True) for name, tensor in tensors.items()}

    def check(self) -> StoreReport:
        """Read every number of every row from the disk, and compare it with the recorded hashes."""
        return verify_store(self.folder)

    def _find(self, row_id: str) -> tuple[int, StoredRow, Mapping[str, int]]:
        found = self._rows.get(row_id)
        if found is None:
            unfinished = unfinished_shards(self.folder)
            and_also = f" and {len(unfinished)} shards that are not finished" if unfinished else ""
            way_out = repair_advice(
                self.folder,
                "run the stage that writes the store again, which adds missing rows, or open the store again if it has "
                "grown.",
            )
            raise MissingRowError(
                f"Expected the row {row_id!r} in {self.folder}; the store has {len(self)} other rows{and_also}. The "
                f"row cannot be used; {way_out}"
            )
        number, index = found
        return number, self._shards[number].rows[index], self._shards[number].starts[index]

    def _tensors_of(self, number: int, shard: Shard) -> Mapping[str, Tensor]:
        if number not in self._flat:
            self._flat[number] = map_tensors(shard, self.schema)
        return self._flat[number]


def _refuse_row(path: Path, row: StoredRow, problem: str) -> NoReturn:
    way_out = repair_advice(
        path.parent,
        "see `molsaki attend --check`, then delete both files of each damaged shard and run the stage again, which "
        "computes their rows again.",
    )
    raise ArtefactError(
        f"Expected the row {row.id!r} in {path} as it was written, with finite numbers; got {problem}. The row cannot "
        f"be used and may not be alone; {way_out}"
    )
