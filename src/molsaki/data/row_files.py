"""Reading rows from CSV, Parquet, JSON lines or JSON, by the extension of the file's name.

What the extension does not determine (a delimiter, an encoding, where in an object the rows are) is part of the
mapping of columns. Nothing is guessed: a file that needs one of these is refused with what to write.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molsaki.data.columns import SHAPES
from molsaki.data.files import CUT_WAY_OUT, FIX_WAY_OUT, MAX_ROW_CHARACTERS, UTF_8, open_file, open_text, read_lines
from molsaki.data.json_files import breaks_off, is_json, read_json, read_json_lines, read_json_list
from molsaki.data.parquet import read_parquet
from molsaki.errors import DataError

JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
CSV_SUFFIXES = frozenset({".csv", ".tsv"})
PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
OTHER_DELIMITERS = {";": "';'", "\t": '"\\t"', "|": "'|'"}
"""The delimiters that a recipe may name instead of a comma."""

_BEGINNINGS = {
    b"PK\x03\x04": "a zip archive, such as an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "a file packed with gzip",
    b"\x28\xb5\x2f\xfd": "a file packed with zstd",
    b"BZh": "a file packed with bzip2",
    b"\xfd7zXZ": "a file packed with xz",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\x89HDF": "HDF5",
    b"SQLite f": "a database of SQLite",
    b"version https://git-lfs": "a pointer of Git LFS (get the file itself by `git lfs pull`)",
    b"<!DOCTYPE": "a page of HTML (get the file itself)",
    b"<!doctype": "a page of HTML (get the file itself)",
    b"<html": "a page of HTML (get the file itself)",
}
_SPREADSHEET = "save a spreadsheet as CSV"
_PACKED = "unpack it"
_ARROW = "save it as Parquet (`datasets.Dataset.from_file(path).to_parquet(...)`)"
_WAYS_OUT = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), _SPREADSHEET),
    **dict.fromkeys((".gz", ".zst", ".bz2", ".xz", ".zip", ".7z", ".tar", ".tgz"), _PACKED),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), _ARROW),
    **dict.fromkeys(
        (".pkl", ".pickle", ".pt", ".npy", ".npz"), "save its rows as JSON lines; pickles are never opened"
    ),
}
"""What to do with files of other extensions."""


@dataclass(frozen=True, slots=True)
class FileFormat:
    """The settings of a format that the extension does not determine.

    Attributes:
        encoding: of text, by Python's name of it.
        delimiter: of CSV, one character; by default a comma, in `.tsv` a tab.
        rows: of a JSON file that is one object, the key of the list of rows.
    """

    encoding: str = UTF_8
    delimiter: str | None = None
    rows: str | None = None


PLAIN = FileFormat()


def read_rows(path: Path, wanted: Collection[str] | None = None, form: FileFormat = PLAIN) -> Iterator[Any]:
    """The rows of a file, read by the extension of its name.

    `.jsonl`, `.ndjson` and `.json` are JSON lines, one JSON list of rows, or one object; `.csv` and `.tsv` have a
    header line; `.parquet` is Parquet.

    Args:
        path: the file.
        wanted: names of the columns that are needed, which is all that is read of a Parquet file.
        form: see `FileFormat`.

    Raises:
        DataError: the ending is none of these, the file cannot be read as that format, or `form` does not fit it.
    """
    suffix = path.suffix.lower()
    if suffix not in CSV_SUFFIXES and form.delimiter is not None:
        raise _unused(path, "delimiter", "CSV")
    if suffix not in JSON_SUFFIXES and form.rows is not None:
        raise _unused(path, "rows", "JSON")
    if suffix in JSON_SUFFIXES | CSV_SUFFIXES | PARQUET_SUFFIXES:
        _require_format(path)
    if suffix in JSON_SUFFIXES:
        return _read_json_rows(path, wanted, form)
    if suffix in CSV_SUFFIXES:
        return read_csv(path, form.delimiter or ("\t" if suffix == ".tsv" else ","), form.encoding)
    if suffix in PARQUET_SUFFIXES:
        if form.encoding != UTF_8:
            raise _unused(path, "encoding", "text")
        return read_parquet(path, wanted)
    way_out = _WAYS_OUT.get(suffix, "rename it if it is one of these, or save its rows as JSON lines")
    known = ", ".join(sorted(JSON_SUFFIXES | CSV_SUFFIXES | PARQUET_SUFFIXES))
    raise DataError(
        f"Expected a file whose name ends in one of {known}; got {path.name!r}. Its format is not guessed "
        f"from its content; {way_out}."
    )


def _require_format(path: Path) -> None:
    """Refuse a file that begins as one of another format."""
    with open_file(path) as file:
        begin = file.read(max(map(len, _BEGINNINGS)))
    found = next((what for mark, what in _BEGINNINGS.items() if begin.startswith(mark)), None)
    if found is not None and not (found == "Parquet" and path.suffix.lower() in PARQUET_SUFFIXES):
        raise DataError(
            f"Expected {path.suffix} in {path}; it begins as {found}. Nothing was loaded from it; rename it if that "
            "is what it is, unpack it if it is packed, or save a spreadsheet as CSV."
        )


def read_csv(path: Path, delimiter: str = ",", encoding: str = UTF_8) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a header line, as dicts from column name to cell text.

    Raises:
        DataError: the file is missing, too large or in another encoding; the header is empty, repeats a name or has
            another delimiter; a row has more or fewer cells than the header; the file ends inside a quoted cell.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise DataError(f"Expected one character as delimiter of {path}; got {delimiter[:20]!r}. Nothing was loaded.")
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_CHARACTERS))
    reader = csv.reader(read_lines(path, encoding), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _require_header(path, header, delimiter)
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
            f"Expected {path} to be CSV; at line {reader.line_num}: {error}. {CUT_WAY_OUT if cut else FIX_WAY_OUT}"
        ) from error


def _require_header(path: Path, header: list[str], delimiter: str) -> None:
    if header and re.fullmatch(r"sep=.?", header[0]):
        raise DataError(
            f"Expected the columns' names in the first line of {path}; it is a line for Excel alone, {header[0]!r}. "
            "Nothing was loaded from it; take that line out, and write the `delimiter` beside its columns."
        )
    # pandas writes its index first, in a column without a name.
    first = 1 if len(header) > 1 and not header[0].strip() else 0
    wrong = [i + 1 for i in range(first, len(header)) if not header[i].strip() or header[i] in header[:i]]
    if not header or wrong:
        raise DataError(
            f"Expected the first line of {path} to name every column once; it names {len(header)}, of which number "
            f"{', '.join(map(str, wrong[:5])) or 0} is empty or named before. Rows cannot be distinguished by column; "
            "write a header line, and load the file again."
        )
    others = [written for other, written in OTHER_DELIMITERS.items() if other in header[0] and other != delimiter]
    if len(header) == 1 and others:
        raise DataError(
            f"Expected {delimiter!r} between the columns' names in the first line of {path}; there is none, but "
            f"{others[0]} is there. Nothing was loaded from it; write `delimiter: {others[0]}` beside its columns."
        )


def _read_json_rows(path: Path, wanted: Collection[str] | None, form: FileFormat) -> Iterator[Any]:
    if form.rows is not None:
        return read_json_list(path, form.encoding, under=form.rows)
    with open_text(path, form.encoding) as file:
        start = file.read(4096).lstrip()
    if start.startswith("["):
        return read_json_list(path, form.encoding)
    lines = (line for line in read_lines(path, form.encoding) if line.strip())
    first, second = next(lines, ""), next(lines, "")
    lines.close()
    if second and not breaks_off(first):
        return read_json_lines(path, form.encoding)
    if not second and (path.suffix.lower() != ".json" or not is_json(first)):
        return read_json_lines(path, form.encoding)
    return _one_object(path, read_json(path, form.encoding), wanted)


def _one_object(path: Path, value: Any, wanted: Collection[str] | None) -> Iterator[Any]:
    """The single row of a file that is one JSON value; raises if the value contains rows or columns."""
    if not isinstance(value, Mapping):
        return iter([value])
    parts = [part for part in value.values() if isinstance(part, (list, Mapping))]
    of_rows = all(isinstance(item, Mapping) for part in parts for item in part)
    if len(value) > 1 and not of_rows and len(parts) == len(value) and len({len(part) for part in parts}) == 1:
        raise DataError(
            f"Expected rows in {path}; it is one JSON object of columns. Nothing was loaded from it; save its rows as "
            "JSON lines (pandas: `to_json(path, orient='records', lines=True)`)."
        )
    lists = [str(key)[:60] for key, part in value.items() if isinstance(part, list) and key not in SHAPES]
    if lists and wanted is not None and not set(value) & set(wanted):
        raise DataError(
            f"Expected rows in {path}; it is one JSON object, and its keys {lists[:5]} hold lists. Nothing was loaded "
            f"from it; if the rows are one of these lists, write `rows: {lists[0]}` beside its columns."
        )
    return iter([value])


def _unused(path: Path, what: str, kind: str) -> DataError:
    return DataError(f"Expected no `{what}` for {path}, which is not {kind}. It would have no effect; leave it out.")
