"""Verification of a store: every shard is read, and every problem is reported with its file and row.

Opening a store for use stops at the first damaged shard, so that no row is missing in silence. Repairing a store needs
the list of all problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
"""Returns what is wrong with a row, given its tensors as stored; nothing if the row is valid."""


@dataclass(frozen=True, slots=True)
class StoreReport:
    """The result of verifying a store.

    Attributes:
        rows: the number of rows in readable shards.
        shards: the number of readable shards.
        bytes: the size in bytes of their tensors.
        unfinished: the files of shards that a kill left unfinished; their rows count as missing.
        problems: one line for each row or shard that cannot be used; empty if the store is valid.
        damaged: the ids of rows in readable shards that cannot be used.
    """

    rows: int
    shards: int
    bytes: int
    unfinished: tuple[str, ...]
    problems: tuple[str, ...]
    damaged: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every row can be used."""
        return not self.problems


def verify_store(folder: Path, check_row: RowCheck = lambda _row, _tensors: ()) -> StoreReport:
    """Read every number of every shard and compare it with the index.

    Args:
        folder: the store.
        check_row: a further check of each row, after its hash and the bounds of the schema.

    Raises:
        ArtefactError: the store is of another format.
        DataError: the store does not exist, or its header is cut or malformed.
    """
    header = read_header(folder)
    problems: list[str] = []
    damaged: list[str] = []
    shards: list[Shard] = []
    shard_of: dict[str, Path] = {}
    for number in shard_numbers(folder):
        try:
            shard = read_shard(folder, number, header)
            for row_id, wrong in _problems_of(shard, header, shard_of, check_row):
                damaged.append(row_id)
                problems += [f"row {row_id!r} in {shard.path}: {problem}" for problem in wrong]
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
        damaged=tuple(dict.fromkeys(damaged)),
    )


def _problems_of(
    shard: Shard, header: StoreHeader, shard_of: dict[str, Path], check_row: RowCheck
) -> Iterator[tuple[str, list[str]]]:
    """The ids of a shard's rows that cannot be used, and what is wrong; adds each row's shard to `shard_of`."""
    flat = map_tensors(shard, header.schema)
    for row, starts in zip(shard.rows, shard.starts, strict=True):
        tensors = row_tensors(row, starts, flat, header.schema)
        wrong = list(row_problems(row, tensors, header.schema) or check_row(row, tensors))
        if row.id in shard_of:
            wrong.append(f"its id is in {shard_of[row.id].name} too")
        shard_of.setdefault(row.id, shard.path)
        if wrong:
            yield row.id, wrong


def row_tensors(
    row: StoredRow, starts: Mapping[str, int], flat: Mapping[str, Tensor], schema: Schema
) -> dict[str, Tensor]:
    """A row's tensors as views of the stored ones; do not write to them.

    Args:
        row: its line of the index.
        starts: the first element of its part of each flat tensor.
        flat: the tensors of its shard.
        schema: the store's.
    """
    return {
        name: flat[name][starts[name] : starts[name] + spec.count_in(row.sizes)].view(spec.shape_in(row.sizes))
        for name, spec in schema.items()
    }


def row_problems(row: StoredRow, tensors: Mapping[str, Tensor], schema: Schema, *, whole: bool = True) -> list[str]:
    """What is wrong with a row's tensors by the schema's bounds and the row's hash; nothing if they are valid.

    Args:
        row: its line of the index.
        tensors: the tensors of the schema.
        schema: of these tensors.
        whole: they are all tensors of the row, so that its hash can be compared.
    """
    wrong = [wrong_numbers(name, spec, tensors[name], row.sizes) for name, spec in schema.items()]
    if any(wrong):
        return [problem for problem in wrong if problem]
    if whole and hash_tensors(tensors) != row.hash:
        return ["its numbers are not those that were written (their hash differs)"]
    return []


def map_tensors(shard: Shard, schema: Schema) -> dict[str, Tensor]:
    """The flat tensors of a shard, memory-mapped; do not write to them.

    Raises:
        ArtefactError: the file cannot be read, or its tensors differ from the index and the schema in size or type.
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
