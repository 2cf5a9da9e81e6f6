"""Opening every shard of a store and saying all that is wrong, each with its place.

Reading stops at the first shard that is damaged, since a row that is missing in silence is worse than none. To mend a
store one has to know all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from molsaki.errors import ArtefactError
from molsaki.store.schema import Schema, row_bytes
from molsaki.store.shard_rows import hash_tensors, wrong_numbers
from molsaki.store.shards import (
    Shard,
    StoredRow,
    StoreHeader,
    read_header,
    read_shard,
    refuse_shard,
    shard_numbers,
    unfinished_shards,
)

RowCheck = Callable[[StoredRow, Mapping[str, Tensor]], Sequence[str]]
"""Says what is wrong with a row, given its tensors as stored; nothing if all is well."""


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a look at every number of a store found.

    Attributes:
        rows: how many rows there are in the shards that can be read.
        shards: how many such shards.
        bytes: how many bytes their tensors have.
        unfinished: the files of shards that a kill left unfinished; their rows count as missing.
        problems: one line for each row or shard that cannot be used; empty if all is well.
    """

    rows: int
    shards: int
    bytes: int
    unfinished: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every row can be used."""
        return not self.problems


def verify_store(folder: Path, check_row: RowCheck = lambda _row, _tensors: ()) -> StoreReport:
    """Read every number of every shard and compare it with what its index says.

    Args:
        folder: the store.
        check_row: says what else is wrong with a row, beside its hash and numbers that the schema excludes.

    Raises:
        ArtefactError: the store is of another format.
        DataError: there is no store, or its header is cut or malformed.
    """
    header = read_header(folder)
    problems: list[str] = []
    shards: list[Shard] = []
    shard_of: dict[str, Path] = {}
    for number in shard_numbers(folder):
        try:
            shard = read_shard(folder, number, header)
            problems += _problems_of(shard, header, shard_of, check_row)
        except ArtefactError as error:
            problems.append(str(error))
            continue
        shards.append(shard)
    return StoreReport(
        rows=len(shard_of),
        shards=len(shards),
        bytes=sum(row_bytes(header.schema, row.sizes) for shard in shards for row in shard.rows),
        unfinished=tuple(str(path) for path in unfinished_shards(folder)),
        problems=tuple(problems),
    )


def _problems_of(shard: Shard, header: StoreHeader, shard_of: dict[str, Path], check_row: RowCheck) -> list[str]:
    """What is wrong with a shard's rows; each row's shard is noted."""
    flat = map_tensors(shard, header.schema)
    found = []
    for row, starts in zip(shard.rows, shard.starts, strict=True):
        tensors = row_tensors(row, starts, flat, header.schema)
        wrong = list(row_problems(row, tensors, header.schema) or check_row(row, tensors))
        if row.id in shard_of:
            wrong.append(f"its id is in {shard_of[row.id].name} too")
        shard_of.setdefault(row.id, shard.path)
        found += [f"row {row.id!r} in {shard.path}: {problem}" for problem in wrong]
    return found


def row_tensors(
    row: StoredRow, starts: Mapping[str, int], flat: Mapping[str, Tensor], schema: Schema
) -> dict[str, Tensor]:
    """A row's tensors as they are stored; never to be written to.

    Args:
        row: its line of the index.
        starts: where its part of each flat tensor begins.
        flat: the tensors of its shard.
        schema: the store's.
    """
    return {
        name: flat[name][starts[name] : starts[name] + spec.count_in(row.sizes)].view(spec.shape_in(row.sizes))
        for name, spec in schema.items()
    }


def row_problems(row: StoredRow, tensors: Mapping[str, Tensor], schema: Schema) -> list[str]:
    """What is wrong with a row's tensors, as far as the store itself can say."""
    wrong = [wrong_numbers(name, spec, tensors[name], row.sizes) for name, spec in schema.items()]
    if any(wrong):
        return [problem for problem in wrong if problem]
    if hash_tensors(tensors) != row.hash:
        return ["its numbers are not those that were written (their hash differs)"]
    return []


def map_tensors(shard: Shard, schema: Schema) -> dict[str, Tensor]:
    """The flat tensors of a shard, memory-mapped; never to be written to.

    Raises:
        ArtefactError: they cannot be read, or are not as many or of other types than the index and the schema say.
    """
    try:
        with safetensors.safe_open(shard.path, framework="pt") as file:
            flat: dict[str, Tensor] = {name: file.get_tensor(name) for name in schema}
    except (OSError, safetensors.SafetensorError) as error:
        refuse_shard(shard.path, f"cannot be read: {error}")
    for name, tensor in flat.items():
        dtype, count = getattr(torch, schema[name].dtype), shard.counts[name]
        if tensor.dtype != dtype or tensor.shape != (count,):
            refuse_shard(
                shard.path,
                f"was changed: {count} numbers of {dtype} were written to {name}, it has {tuple(tensor.shape)} of "
                f"{tensor.dtype}",
            )
    return flat
