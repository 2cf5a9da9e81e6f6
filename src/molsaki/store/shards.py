"""The format of an attention store, and everything in it that needs no tensor.

A store is a folder with `store.json` (format, dtype and fingerprint) and numbered shards. A shard is two
files that are written as a whole and never change afterwards: `shard-00000.safetensors` holds the values of
its rows one after another in one flat tensor, and `shard-00000.jsonl`, written last, says what they are: a
first line about the shard, then one line for each row. So a shard counts once its index is there, and values
without an index are what a kill left.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from molsaki.errors import ArtefactError
from molsaki.records import hash_json
from molsaki.store.whole_files import encode_json, parse_json, read_json, write_json, write_whole

STORE_NAME = "store.json"
VALUES = "values"
"""The name of the one tensor in a shard's safetensors file."""

DTYPES = ("float32", "float16")
BYTES_OF = {"float32": 4, "float16": 2}

_FORMAT = "molsaki attention store 1"
_INDEX = re.compile(r"shard-(\d{5,9})\.jsonl")


@dataclass(frozen=True, slots=True)
class StoreHeader:
    """What `store.json` says: the type of the values and what they were made from."""

    dtype: str
    fingerprint: dict[str, str]

    @property
    def hash(self) -> str:
        """What every shard of the store carries, so that one of another store is noticed."""
        return hash_json([self.dtype, self.fingerprint])


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One line of an index.

    Attributes:
        id: the row's id.
        text_hash: the hash of the text that the row was made from.
        shape: L, S, K.
        start: where its values begin in the shard's flat tensor.
        hash: of its values' bytes as stored.
        missing_steps: steps without a token on the teacher side, whose values are no reading.
        missing_keys: keys without a token, likewise.
        step_tokens: how many of the teacher's tokens each step has; empty where that was not kept.
    """

    id: str
    text_hash: str
    shape: tuple[int, int, int]
    start: int
    hash: str
    missing_steps: tuple[int, ...] = ()
    missing_keys: tuple[int, ...] = ()
    step_tokens: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """Where its values end."""
        return self.start + math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Shard:
    """One finished shard: the file of its values, how many there are, and its rows."""

    path: Path
    values: int
    rows: tuple[StoredRow, ...]


def values_path(folder: Path, number: int) -> Path:
    """The file of a shard's values."""
    return folder / f"shard-{number:05d}.safetensors"


def index_path(folder: Path, number: int) -> Path:
    """The file of a shard's index."""
    return folder / f"shard-{number:05d}.jsonl"


def hash_values(data: bytes | memoryview) -> str:
    """SHA-256 (first 16 hex digits) of a row's bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def shard_numbers(folder: Path) -> list[int]:
    """The numbers of the finished shards, in order."""
    return sorted(int(match[1]) for entry in folder.iterdir() if (match := _INDEX.fullmatch(entry.name)))


def unfinished_shards(folder: Path) -> list[Path]:
    """Values without an index, as a kill between the two leaves them."""
    return sorted(path for path in folder.glob("shard-*.safetensors") if not path.with_suffix(".jsonl").exists())


def write_header(folder: Path, header: StoreHeader) -> None:
    """Write `store.json`."""
    write_json(folder / STORE_NAME, {"format": _FORMAT, **asdict(header)})


def read_header(folder: Path) -> StoreHeader:
    """Read `store.json`.

    Raises:
        ArtefactError: it is of another format.
        DataError: it is missing, cut or malformed.
    """
    path = folder / STORE_NAME
    value = read_json(path, "the header of an attention store")
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        got = value.get("format") if isinstance(value, dict) else value
        raise ArtefactError(
            f"Expected an attention store of the format {_FORMAT!r} at {path}; got {got!r}. It cannot be "
            f"read; choose another folder, or make the store anew in an empty one."
        )
    dtype, parts = value.get("dtype"), value.get("fingerprint")
    if dtype not in DTYPES or not isinstance(parts, dict):
        raise ArtefactError(
            f"Expected {path} to name a dtype of {DTYPES} and a fingerprint; got {value!r}. The store cannot "
            f"be read; put the file back from a copy, or make the store anew in an empty folder."
        )
    return StoreHeader(dtype, {str(key): str(part) for key, part in parts.items()})


def write_index(folder: Path, number: int, header: StoreHeader, rows: Sequence[StoredRow], size: int) -> None:
    """Write the index of a shard whose values are there, which makes the shard count.

    Args:
        folder: the store.
        number: the shard's number.
        header: the store's header.
        rows: its rows in the order of their values.
        size: the size of its file of values in bytes.
    """
    first = {"rows": len(rows), "values": rows[-1].end, "bytes": size, "store": header.hash}
    lines = itertools.chain([first], map(asdict, rows))
    data = b"".join(encode_json(line, "a line of a shard's index") + b"\n" for line in lines)
    write_whole(index_path(folder, number), data)


def read_shard(folder: Path, number: int, header: StoreHeader) -> Shard:
    """Read a shard's index and prove that it is whole and fits its values' size.

    Raises:
        ArtefactError: the index or the values are cut, malformed or of another store.
    """
    path, values = index_path(folder, number), values_path(folder, number)
    try:
        data = path.read_bytes()
        size = values.stat().st_size
    except OSError as error:
        refuse_shard(values, f"cannot be read: {error}")
    if not data.endswith(b"\n"):
        refuse_shard(path, "is cut: its last line has no end")
    try:
        first, *lines = [parse_json(line) for line in data.split(b"\n")[:-1]]
        rows = tuple(_row(line) for line in lines)
        count, total, expected_size, store = (first[key] for key in ("rows", "values", "bytes", "store"))
    except (ValueError, TypeError, KeyError) as error:
        refuse_shard(path, f"is malformed: {error!r}")
    if store != header.hash:
        refuse_shard(path, "belongs to another store (another fingerprint or dtype)")
    if count != len(rows) or not rows:
        refuse_shard(path, f"is cut or was changed: it promises {count} rows and has {len(rows)}")
    starts = [0, *(row.end for row in rows)]
    if starts != [*(row.start for row in rows), total]:
        refuse_shard(path, "was changed: its rows do not lie one after another")
    if size != expected_size or size < total * BYTES_OF[header.dtype]:
        refuse_shard(values, f"is cut or was changed: its index promises {expected_size} bytes, it has {size}")
    return Shard(values, total, rows)


def rows_by_id(shards: Sequence[Shard]) -> dict[str, tuple[int, StoredRow]]:
    """The rows of all shards: id to the shard's place in the sequence and the row.

    Raises:
        ArtefactError: two rows share an id.
    """
    rows: dict[str, tuple[int, StoredRow]] = {}
    for place, shard in enumerate(shards):
        for row in shard.rows:
            if row.id in rows:
                other = shards[rows[row.id][0]].path
                refuse_shard(shard.path, f"repeats the id {row.id!r} of {other.name}")
            rows[row.id] = (place, row)
    return rows


def count_rows(folder: Path) -> int:
    """How many rows the finished shards of a store have, by their indices alone; 0 where there is no store.

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
    raise ArtefactError(
        f"Expected a whole shard of an attention store; {path} {problem}. Nothing of the store is used, "
        f"since rows would be missing or wrong; put the file back from a copy, or delete both files of "
        f"{shard} and run the stage again, which makes only their rows anew."
    )


def _row(line: Mapping[str, Any]) -> StoredRow:
    shape = tuple(line["shape"])
    missing = [tuple(line.get(name, ())) for name in ("missing_steps", "missing_keys")]
    tokens = tuple(line.get("step_tokens", ()))
    row = StoredRow(line["id"], line["text_hash"], shape, line["start"], line["hash"], missing[0], missing[1], tokens)
    texts = isinstance(row.id, str) and isinstance(row.text_hash, str) and isinstance(row.hash, str)
    if not texts or len(shape) != 3 or any(type(size) is not int or size < 1 for size in shape):
        raise ValueError(f"a row of it is {str(dict(line))[:200]}")
    for indices, size in zip(missing, shape[1:], strict=True):
        if any(type(index) is not int or not 0 <= index < size for index in indices):
            raise ValueError(f"missing steps or keys that a row does not have: {str(dict(line))[:200]}")
    if tokens and (len(tokens) != shape[1] or any(type(count) is not int or count < 0 for count in tokens)):
        raise ValueError(f"not one number of tokens for each of its steps: {str(dict(line))[:200]}")
    return row
