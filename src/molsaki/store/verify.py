"""Opening every shard of a store and saying all that is wrong, each with its place.

Reading stops at the first shard that is damaged, since a row that is missing in silence is worse than none. Who
wants to mend a store has to know all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from molsaki.errors import ArtefactError
from molsaki.store.shards import (
    VALUES,
    Shard,
    StoredRow,
    hash_values,
    read_header,
    read_shard,
    refuse_shard,
    shard_numbers,
    unfinished_shards,
)

RowCheck = Callable[[StoredRow, Tensor], Sequence[str]]
"""Says what is wrong with a row, given its values [L, S, K] as stored; nothing if all is well."""


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a look at every value of a store found.

    Attributes:
        rows: how many rows there are in the shards that can be read.
        shards: how many such shards.
        values: how many values.
        unfinished: the files of shards that a kill left unfinished; their rows count as missing.
        problems: one line for each row or shard that cannot be used; empty if all is well.
    """

    rows: int
    shards: int
    values: int
    unfinished: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every row can be used."""
        return not self.problems


def verify_store(folder: Path, check_row: RowCheck = lambda _row, _values: ()) -> StoreReport:
    """Read every value of every shard and compare it with what its index says.

    Args:
        folder: the store.
        check_row: says what else is wrong with a row, beside its hash and numbers that are not finite.

    Raises:
        ArtefactError: the store is of another format.
        DataError: there is no store, or its header is cut or malformed.
    """
    header = read_header(folder)
    dtype: torch.dtype = getattr(torch, header.dtype)
    problems: list[str] = []
    shards: list[Shard] = []
    place_of: dict[str, Path] = {}
    layers: int | None = None
    for number in shard_numbers(folder):
        try:
            shard = read_shard(folder, number, header)
            values = map_values(shard, dtype)
        except ArtefactError as error:
            problems.append(str(error))
            continue
        shards.append(shard)
        for row in shard.rows:
            wrong = list(row_problems(row, values, check_row))
            if row.id in place_of:
                wrong.append(f"its id is in {place_of[row.id].name} too")
            if row.shape[0] != (layers := layers or row.shape[0]):
                wrong.append(f"it has {row.shape[0]} layers, the rows before it {layers}")
            place_of.setdefault(row.id, shard.path)
            problems += [f"row {row.id!r} in {shard.path}: {problem}" for problem in wrong]
    return StoreReport(
        rows=len(place_of),
        shards=len(shards),
        values=sum(shard.values for shard in shards),
        unfinished=tuple(str(path) for path in unfinished_shards(folder)),
        problems=tuple(problems),
    )


def row_problems(row: StoredRow, values: Tensor, check_row: RowCheck = lambda _row, _values: ()) -> Sequence[str]:
    """What is wrong with a row.

    Args:
        row: its line of the index.
        values: the flat values of its shard.
        check_row: as for `verify_store`; it is not asked about values that are not those that were written.
    """
    stored = values[row.start : row.end].view(row.shape)
    if not bool(torch.isfinite(stored).all()):
        return ["NaN or infinity among its values"]
    if hash_values(stored.numpy().data) != row.hash:
        return ["its values are not those that were written (their hash differs)"]
    return check_row(row, stored)


def map_values(shard: Shard, dtype: torch.dtype) -> Tensor:
    """The flat values of a shard, memory-mapped; never to be written to.

    Raises:
        ArtefactError: they cannot be read, or are not as many as the index says or of another type.
    """
    try:
        with safetensors.safe_open(shard.path, framework="pt") as file:
            values: Tensor = file.get_tensor(VALUES)
    except (OSError, safetensors.SafetensorError) as error:
        refuse_shard(shard.path, f"cannot be read: {error}")
    if values.dtype != dtype or values.shape != (shard.values,):
        refuse_shard(
            shard.path,
            f"was changed: {shard.values} values of {dtype} were written, it has {tuple(values.shape)} of "
            f"{values.dtype}",
        )
    return values
