"""The format of a signal's store, except for the tensors.

A store is a folder with `store.json` (format, schema and fingerprint) and numbered shards. A shard is two files that
are written as a whole and never change afterwards. `shard-00000.safetensors` holds, for each tensor of the schema, the
numbers of all rows one after another. `shard-00000.jsonl`, written last, is the index: a first line about the shard,
then one line for each row. So a shard counts once its index exists, and tensors without an index are left over from a
kill.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from molsaki.errors import ArtefactError
from molsaki.records import hash_json
from molsaki.store.exported_files import repair_advice
from molsaki.store.schema import Schema, is_size, row_bytes, schema_from_json, schema_to_json, size_names
from molsaki.store.whole_files import encode_json, parse_json, read_json, read_regular, write_json, write_whole

STORE_NAME = "store.json"

_FORMAT = "molsaki signal store 1"
_INDEX = re.compile(r"shard-(\d{5,9})\.jsonl")


@dataclass(frozen=True, slots=True)
class StoreHeader:
    """The content of `store.json`: the tensors of a row, and the fingerprint of the rows."""

    schema: Schema
    fingerprint: dict[str, str]

    @property
    def hash(self) -> str:
        """The hash that every shard carries, so that a shard of another store is detected."""
        return hash_json([schema_to_json(self.schema), self.fingerprint])


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One line of an index.

    Attributes:
        id: the row's id.
        text_hash: the hash of the text that the row was read on.
        sizes: the row's sizes, by the schema's names.
        hash: the hash of its tensors' bytes as stored.
    """

    id: str
    text_hash: str
    sizes: Mapping[str, int]
    hash: str


@dataclass(frozen=True, slots=True)
class Shard:
    """One finished shard.

    Attributes:
        path: the file of its tensors.
        rows: its rows.
        starts: for each row, the first element of its part of each flat tensor.
        counts: the number of elements of each flat tensor.
    """

    path: Path
    rows: tuple[StoredRow, ...]
    starts: tuple[Mapping[str, int], ...]
    counts: Mapping[str, int]


def tensors_path(folder: Path, number: int) -> Path:
    """The file of a shard's tensors."""
    return folder / f"shard-{number:05d}.safetensors"


def index_path(folder: Path, number: int) -> Path:
    """The file of a shard's index."""
    return folder / f"shard-{number:05d}.jsonl"


def hash_bytes(parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 (first 16 hex digits) of some bytes, one part after another."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def shard_numbers(folder: Path) -> list[int]:
    """The numbers of the finished shards, in order."""
    return sorted(int(match[1]) for entry in folder.iterdir() if (match := _INDEX.fullmatch(entry.name)))


def unfinished_shards(folder: Path) -> list[Path]:
    """Files of tensors without an index, left over from a kill between the two writes."""
    return sorted(path for path in folder.glob("shard-*.safetensors") if not path.with_suffix(".jsonl").exists())


def files_in_order(folder: Path) -> list[Path]:
    """The files of a store as they were written: its header, then each shard's tensors and index."""
    numbers = shard_numbers(folder)
    shards = [path for number in numbers for path in (tensors_path(folder, number), index_path(folder, number))]
    return [folder / STORE_NAME, *shards]


def write_header(folder: Path, header: StoreHeader) -> None:
    """Write `store.json`."""
    value = {"format": _FORMAT, "tensors": schema_to_json(header.schema), "fingerprint": header.fingerprint}
    write_json(folder / STORE_NAME, value)


def read_header(folder: Path) -> StoreHeader:
    """Read `store.json`.

    Raises:
        ArtefactError: it is of another format, perhaps an earlier one.
        DataError: it is missing, cut or malformed.
    """
    path = folder / STORE_NAME
    value = read_json(path, "the header of a signal's store")
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        got = value.get("format") if isinstance(value, dict) else value
        way_out = repair_advice(folder, "move the folder away and run `molsaki attend`, which reads the teacher again.")
        raise ArtefactError(
            f"Expected a store of the format {_FORMAT!r} at {path}; got {got!r}. Stores of other formats are not read; "
            f"{way_out}"
        )
    try:
        schema = schema_from_json(value["tensors"])
        fingerprint = {str(key): str(part) for key, part in value["fingerprint"].items()}
    except (KeyError, ValueError, AttributeError) as error:
        way_out = repair_advice(folder, "put the file back from a copy, or create the store again in an empty folder.")
        raise ArtefactError(
            f"Expected {path} to name the tensors of its rows and a fingerprint; got {error!r}. The store cannot be "
            f"read; {way_out}"
        ) from error
    return StoreHeader(schema, fingerprint)


def write_index(folder: Path, number: int, header: StoreHeader, rows: Sequence[StoredRow], size: int) -> None:
    """Write the index of a shard after its tensors, which finishes the shard.

    Args:
        folder: the store.
        number: the shard's number.
        header: the store's header.
        rows: its rows in the order of their tensors.
        size: the size in bytes of its file of tensors.
    """
    lines = [{"id": row.id, "text_hash": row.text_hash, "sizes": dict(row.sizes), "hash": row.hash} for row in rows]
    data = b"".join(encode_json(line, "a line of a shard's index") + b"\n" for line in lines)
    first = {"bytes": size, "store": header.hash, "index": hash_bytes([data])}
    write_whole(index_path(folder, number), encode_json(first, "a shard's first line") + b"\n" + data)


def read_shard(folder: Path, number: int, header: StoreHeader) -> Shard:
    """Read a shard's index, and check that it is whole and that the file of tensors has the recorded size.

    Raises:
        ArtefactError: the index or the tensors are cut, malformed or of another store.
    """
    path, tensors = index_path(folder, number), tensors_path(folder, number)
    try:
        head, _, data = read_regular(path).partition(b"\n")
        size = tensors.stat().st_size
    except OSError as error:
        refuse_shard(tensors, f"cannot be read: {error}")
    try:
        first = parse_json(head)
        expected_size, store, index = (first[key] for key in ("bytes", "store", "index"))
    except (ValueError, TypeError, KeyError) as error:
        refuse_shard(path, f"is cut or malformed: {error!r}")
    if store != header.hash:
        refuse_shard(path, "belongs to another store (another fingerprint or schema)")
    if index != hash_bytes([data]):
        refuse_shard(path, "is cut or was changed: its rows are not those that were written (their hash differs)")
    names = frozenset(size_names(header.schema))
    try:
        rows = tuple(_row(parse_json(line), names) for line in data.split(b"\n")[:-1])
        if not rows:
            raise ValueError("it has no row")
    except (ValueError, TypeError, KeyError) as error:
        refuse_shard(path, f"is malformed: {error!r}")
    if size != expected_size or size < sum(row_bytes(header.schema, row.sizes) for row in rows):
        refuse_shard(tensors, f"is cut or was changed: its index promises {expected_size} bytes, it has {size}")
    starts, counts = _places(header.schema, rows)
    return Shard(tensors, rows, starts, counts)


def _places(schema: Schema, rows: Sequence[StoredRow]) -> tuple[tuple[dict[str, int], ...], dict[str, int]]:
    """The first element of each row's part of each flat tensor, and the number of elements of each flat tensor."""
    starts = []
    ends = dict.fromkeys(schema, 0)
    for row in rows:
        starts.append(dict(ends))
        for name, spec in schema.items():
            ends[name] += spec.count_in(row.sizes)
    return tuple(starts), ends


def rows_by_id(shards: Sequence[Shard]) -> dict[str, tuple[int, int]]:
    """The rows of all shards: from the id to the index of the shard and the index of the row within the shard.

    Raises:
        ArtefactError: two rows share an id.
    """
    rows: dict[str, tuple[int, int]] = {}
    for number, shard in enumerate(shards):
        for index, row in enumerate(shard.rows):
            if row.id in rows:
                other = shards[rows[row.id][0]].path
                refuse_shard(shard.path, f"repeats the id {row.id!r} of {other.name}")
            rows[row.id] = (number, index)
    return rows


def count_rows(folder: Path) -> int:
    """The number of rows in the finished shards of a store, read from their indices; 0 if the store does not exist.

    Raises:
        ArtefactError: a shard is cut, malformed or of another store.
        DataError: the store's header is cut or malformed.
    """
    if not (folder / STORE_NAME).is_file():
        return 0
    header = read_header(folder)
    return len(rows_by_id([read_shard(folder, number, header) for number in shard_numbers(folder)]))


def refuse_shard(path: Path, problem: str) -> NoReturn:
    """Raise the `ArtefactError` for a shard that cannot be used."""
    shard = path.with_suffix("").name
    way_out = repair_advice(
        path.parent,
        f"put the file back from a copy, or delete both files of {shard} and run the stage again, which computes only "
        "their rows again.",
    )
    raise ArtefactError(
        f"Expected a whole shard of a signal's store; {path} {problem}. Nothing of the store is used, since rows would "
        f"be missing or wrong; {way_out}"
    )


def _row(line: Mapping[str, Any], names: frozenset[str]) -> StoredRow:
    row = StoredRow(line["id"], line["text_hash"], line["sizes"], line["hash"])
    texts = isinstance(row.id, str) and isinstance(row.text_hash, str) and isinstance(row.hash, str)
    if not texts or not isinstance(row.sizes, dict) or row.sizes.keys() != names:
        raise ValueError("one of its rows is not a row of a store")
    if not all(is_size(size) for size in row.sizes.values()):
        raise ValueError("sizes that no tensor has")
    return row
