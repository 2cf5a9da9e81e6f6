"""Reading rows from CSV, Parquet, JSON lines or a JSON list, told apart by the ending of the file's name.

The same rules hold as for `files`: bounded sizes, and a file that was cut in the middle is an error.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from molsaki.data import files
from molsaki.data.files import (
    BYTE_ORDER_MARK,
    CUT_WAY_OUT,
    MEND_WAY_OUT,
    check_file,
    decode,
    read_bytes,
    read_json_lines,
    read_json_list,
)
from molsaki.errors import DataError

JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
CSV_SUFFIXES = frozenset({".csv", ".tsv"})
PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})


def read_csv(path: Path, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a header line, as dicts from column name to cell text.

    Raises:
        DataError: the file is missing, too large or not UTF-8; the header is empty or repeats a name; a row
            has more or fewer cells than the header; the file ends inside a quoted cell.
    """
    text = decode(path, read_bytes(path).removeprefix(BYTE_ORDER_MARK))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if not header or not all(name.strip() for name in header) or len(set(header)) != len(header):
            raise DataError(
                f"Expected the first line of {path} to name every column once; got {header[:20]}. Rows "
                f"cannot be told apart by column; write a header line and load the file again."
            )
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"Expected {len(header)} cells in each row of {path}; the row that ends at line "
                    f"{reader.line_num} has {len(cells)}. The file is cut there, or a cell holds a bare "
                    f"{delimiter!r}; get the whole file again, or put quotes around that cell."
                )
            yield dict(zip(header, cells, strict=True))
    except csv.Error as error:
        cut = "unexpected end of data" in str(error)
        raise DataError(
            f"Expected {path} to be CSV; at line {reader.line_num}: {error}. {CUT_WAY_OUT if cut else MEND_WAY_OUT}"
        ) from error


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, as dicts from column name to value.

    Raises:
        DataError: the file is missing, too large (on disk or decompressed), cut or not Parquet.
    """
    import pyarrow
    import pyarrow.parquet

    check_file(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            groups = range(table.metadata.num_row_groups)
            unpacked = sum(table.metadata.row_group(i).total_byte_size for i in groups)
            if unpacked > files.MAX_FILE_BYTES:
                raise DataError(
                    f"Expected {path} to unpack into at most {files.MAX_FILE_BYTES} bytes; it says "
                    f"{unpacked}. It was not read, since it might fill the memory; split it into smaller "
                    f"files and load them one by one."
                )
            for batch in table.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"Expected {path} to be a whole Parquet file; it cannot be read: {error}. The file is cut or in "
            f"another format. {CUT_WAY_OUT}"
        ) from error


def read_rows(path: Path) -> Iterator[Any]:
    """The rows of a file, read as its name's ending says.

    `.jsonl`, `.ndjson` and `.json` are JSON lines, or one JSON list of rows; `.csv` and `.tsv` have a header
    line; `.parquet` is Parquet.

    Raises:
        DataError: the ending is none of these, or the file cannot be read as that format.
    """
    suffix = path.suffix.lower()
    if suffix in JSON_SUFFIXES:
        return _read_json_rows(path)
    if suffix in CSV_SUFFIXES:
        return read_csv(path, delimiter="\t" if suffix == ".tsv" else ",")
    if suffix in PARQUET_SUFFIXES:
        return read_parquet(path)
    known = ", ".join(sorted(JSON_SUFFIXES | CSV_SUFFIXES | PARQUET_SUFFIXES))
    raise DataError(
        f"Expected a file whose name ends in one of {known}; got {path.name!r}. Its format is not guessed "
        f"from its content; rename it, or unpack it first if it is compressed."
    )


def _read_json_rows(path: Path) -> Iterator[Any]:
    check_file(path)
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(BYTE_ORDER_MARK).lstrip()
    return iter(read_json_list(path)) if start.startswith(b"[") else read_json_lines(path)
