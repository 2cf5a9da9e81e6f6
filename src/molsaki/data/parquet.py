"""Rows of Parquet files, in bounded memory.

A Parquet file of one kilobyte can unpack into gigabytes: a text that is stored once may be repeated in a million rows,
and a list's million nulls take no space. So the sizes that the file states are checked first, texts are decoded as
indices into a dictionary, and rows are made only as many at a time as fit `BATCH_BYTES` when they are unpacked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.data import files
from molsaki.data.files import CUT_WAY_OUT, open_file
from molsaki.errors import DataError

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

BATCH_ROWS = 1024
BATCH_BYTES = 1 << 26
"""The limits on the rows and on the bytes that are unpacked at a time."""
MAX_VALUES = 1 << 24
"""The most values (the elements of lists count) that one column may have in a row group."""
MAX_FIXED_BYTES = 64
DELTA_ROWS = 16
"""Rows that are decoded together where texts are stored as differences, which have no dictionary."""


def read_parquet(path: Path, wanted: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, as dicts from column name to value.

    A float32 or float16 becomes the shortest decimal that rounds to it: 0.1, not 0.10000000149011612.

    Args:
        path: the file.
        wanted: the columns to read, where the file has them; all by default. Of the others a row has the names, with
            None.

    Raises:
        DataError: the file is missing, too large (on disk or unpacked), cut or not Parquet, or a column cannot be read.
    """
    import pyarrow
    import pyarrow.parquet

    with open_file(path) as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
            schema, metadata = table.schema_arrow, table.metadata
            if len(set(schema.names)) < len(schema.names):
                raise DataError(f"Expected columns with names of their own in {path}; two have one name. {CUT_WAY_OUT}")
            names = [name for name in schema.names if wanted is None or name in wanted]
            others = dict.fromkeys(name for name in schema.names if name not in names)
            for name in names:
                _require_readable(path, name, schema.field(name).type)
            leaves = _leaves(metadata, names)
            deltas = _require_bounded(path, metadata, leaves)
            texts = [] if deltas else [*leaves.values()]
            table = pyarrow.parquet.ParquetFile(file, metadata=metadata, read_dictionary=texts)
            rows = DELTA_ROWS if deltas else BATCH_ROWS
            for batch in table.iter_batches(rows, columns=names, use_threads=False):
                for part in _parts(path, batch):
                    plain = _plain(part)
                    halves = [field for field in plain.schema if "halffloat" in str(field.type)]
                    for row in plain.to_pylist():
                        row |= {field.name: _shortened(field.type, row[field.name]) for field in halves}
                        yield {**row, **others}
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"Expected {path} to be a whole Parquet file; it cannot be read ({type(error).__name__}). The file is "
                f"cut or in another format. {CUT_WAY_OUT}"
            ) from error


def _leaves(metadata: Any, names: Collection[str]) -> dict[int, str]:
    """The paths of the columns as they are stored, by their place: a list's elements are a column of their own."""
    paths = {i: metadata.schema.column(i).path for i in range(metadata.num_columns)}
    return {i: leaf for i, leaf in paths.items() if leaf.split(".")[0] in names or leaf in names}


def _require_bounded(path: Path, metadata: Any, leaves: Collection[int]) -> bool:
    """Raise for sizes in the metadata above the limits; returns whether a column is stored as differences."""
    unpacked, deltas = 0, False
    for group in range(metadata.num_row_groups):
        for leaf in leaves:
            column = metadata.row_group(group).column(leaf)
            unpacked += column.total_uncompressed_size
            deltas |= "DELTA_BYTE_ARRAY" in column.encodings or "DELTA_LENGTH_BYTE_ARRAY" in column.encodings
            if column.num_values > MAX_VALUES:
                raise DataError(
                    f"Expected at most {MAX_VALUES} values in a column of a row group of {path}; one states "
                    f"{column.num_values}. It was not read, since it might fill the memory; write smaller row groups."
                )
    if unpacked > files.MAX_FILE_BYTES:
        raise DataError(
            f"Expected {path} to unpack into at most {files.MAX_FILE_BYTES} bytes; it says {unpacked}. It was not "
            "read, since it might fill the memory; split it into smaller files and load them one by one."
        )
    return deltas


def _require_readable(path: Path, name: str, kind: Any) -> None:
    """Refuse types whose values may be of any size without a dictionary to bound them."""
    from pyarrow import types

    inner = [kind.field(i).type for i in range(kind.num_fields)]
    if types.is_map(kind) or types.is_union(kind) or types.is_run_end_encoded(kind):
        raise _unreadable(path, name, kind)
    if types.is_fixed_size_binary(kind) and kind.byte_width > MAX_FIXED_BYTES:
        raise _unreadable(path, name, kind)
    for part in inner:
        _require_readable(path, name, part)


def _unreadable(path: Path, name: str, kind: Any) -> DataError:
    return DataError(
        f"Expected texts, numbers, lists and structs in the column {name!r} of {path}; it holds {str(kind)[:60]}. "
        "It was not read; save that column as another type."
    )


def _parts(path: Path, batch: pyarrow.RecordBatch) -> Iterator[pyarrow.RecordBatch]:
    """Split a batch into pieces that each fit `BATCH_BYTES`."""
    size = sum(_unpacked(column) for column in batch.columns)
    if size <= BATCH_BYTES:
        yield batch
        return
    if batch.num_rows == 1:
        raise DataError(
            f"Expected every row of {path} to unpack into at most {BATCH_BYTES} bytes; one takes {size}. Nothing was "
            "loaded from it, since it might fill the memory; take that row out."
        )
    half = batch.num_rows // 2
    yield from _parts(path, batch.slice(0, half))
    yield from _parts(path, batch.slice(half))


def _unpacked(array: pyarrow.Array) -> int:
    """The estimated size in bytes of an array's values as Python objects."""
    import pyarrow
    from pyarrow import compute, types

    size: int = array.nbytes + 8 * len(array)
    if types.is_dictionary(array.type):
        lengths = compute.take(compute.binary_length(array.dictionary), array.indices)
        return size + (compute.sum(compute.cast(lengths, pyarrow.int64())).as_py() or 0)
    if types.is_struct(array.type):
        return size + sum(map(_unpacked, array.flatten()))
    return size + _unpacked(array.flatten()) if types.is_nested(array.type) else size


def _plain(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """A batch without dictionaries, whose floats are float64."""
    import pyarrow

    written = [column.cast(_plain_type(column.type, pyarrow.string())) for column in batch.columns]
    read = [
        there.cast(_plain_type(column.type, pyarrow.float64()))
        for there, column in zip(written, batch.columns, strict=True)
    ]
    return pyarrow.RecordBatch.from_arrays(read, names=batch.schema.names)


def _shortened(kind: Any, value: Any) -> Any:
    """A value with its float16 as the shortest decimals; Arrow writes them out in full."""
    import numpy
    from pyarrow import types

    if value is None:
        return None
    if types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return {field.name: _shortened(field.type, value[field.name]) for field in fields}
    if types.is_nested(kind):
        return [_shortened(kind.value_type, item) for item in value]
    return float(str(numpy.float16(value))) if types.is_float16(kind) else value


def _plain_type(kind: Any, float32: Any) -> Any:
    """A type without dictionaries, and with another type instead of float32."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(kind):
        return _plain_type(kind.value_type, float32)
    if types.is_float32(kind):
        return float32
    if types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return pyarrow.struct([pyarrow.field(field.name, _plain_type(field.type, float32)) for field in fields])
    return pyarrow.list_(_plain_type(kind.value_type, float32)) if types.is_nested(kind) else kind
