"""Reading files that others made: what is refused before reading, and JSON and JSON lines.

Everything in them is untrusted, so sizes are bounded, numbers that are no numbers (NaN, Infinity) are
refused, and a file that was cut in the middle, as an interrupted download leaves it, is an error and never a
shorter data set. Every error names the file and the line, says what follows from it and what to do.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from molsaki.errors import DataError

MAX_FILE_BYTES = 1 << 30
"""The largest file that is read, in bytes on disk (and, for Parquet, after decompression)."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CUT_WAY_OUT = "Nothing was loaded from it; copy or download the whole file again."
MEND_WAY_OUT = "Nothing was loaded from it; mend that line, or take it out, and load the file again."


def read_bytes(path: Path) -> bytes:
    """The whole content of a file.

    Raises:
        DataError: the file is missing, unreadable, empty or larger than `MAX_FILE_BYTES`.
    """
    check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        _refuse_unreadable(path, error)


def is_folder(path: Path) -> bool:
    """Whether there is a folder at `path`.

    Raises:
        DataError: the system does not say: the name is too long, or lies in a folder that may not be entered.
    """
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:
        _refuse_unreadable(path, error)


def check_file(path: Path) -> None:
    """Raise `DataError` unless `path` is a regular file that is neither empty nor too large."""
    try:
        is_file, exists = path.is_file(), path.exists()
        size = path.stat().st_size if is_file else 0
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        _refuse_unreadable(path, error)
    if not exists:
        raise DataError(f"Expected a data file at {path}; there is none. Check the path, or get the data set first.")
    if not is_file:
        raise DataError(f"Expected a data file at {path}; it is a folder or a device. Name one file inside it.")
    if size == 0:
        raise DataError(f"Expected rows in {path}; the file is empty (0 bytes). {CUT_WAY_OUT}")
    if size > MAX_FILE_BYTES:
        raise DataError(
            f"Expected {path} to have at most {MAX_FILE_BYTES} bytes; it has {size}. It was not read, since "
            f"it might fill the memory; split it into smaller files and load them one by one."
        )


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: the file is missing, too large, not UTF-8, not JSON or cut in the middle.
    """
    data = read_bytes(path).removeprefix(BYTE_ORDER_MARK)
    text = decode(path, data, first_line=1)
    try:
        return _parse_json(text)
    except json.JSONDecodeError as error:
        if _is_cut(text, error):
            raise DataError(
                f"Expected {path} to hold one whole JSON value; it ends in the middle of it, at line "
                f"{text.count(chr(10)) + 1} ({error.msg}). {CUT_WAY_OUT}"
            ) from error
        raise DataError(
            f"Expected {path} to hold one JSON value; line {error.lineno}, column {error.colno}: "
            f"{error.msg}. {MEND_WAY_OUT}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"Expected {path} to hold one JSON value; got: {error}. {MEND_WAY_OUT}") from error


def read_json_lines(path: Path) -> Iterator[Any]:
    """The values of a JSON lines file in order; blank lines are passed over.

    Raises:
        DataError: the file is missing, too large or not UTF-8; a line is not JSON; the last line is cut.
    """
    check_file(path)
    found_any = False
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            data = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if not data.strip():
                continue
            found_any = True
            yield _parse_line(path, number, data)
    if not found_any:
        raise DataError(f"Expected rows in {path}; all its lines are blank. {CUT_WAY_OUT}")


def read_json_list(path: Path) -> list[Any]:
    """The rows of a file that is one JSON list.

    Raises:
        DataError: as `read_json`, or the value is not a list.
    """
    value = read_json(path)
    if not isinstance(value, list):
        raise DataError(
            f"Expected {path} to hold a JSON list of rows; got {type(value).__name__}. No row can be read "
            f"from it; check that it is the file that the data set's name stands for."
        )
    return value


def _parse_line(path: Path, number: int, data: bytes) -> Any:
    whole = data.endswith(b"\n")
    try:
        return _parse_json(decode(path, data, first_line=number))
    except (ValueError, RecursionError) as error:  # DataError (not UTF-8) and JSONDecodeError are ValueErrors
        if not whole:
            raise DataError(
                f"Expected every line of {path} to be one JSON value; line {number}, the last one, has no "
                f"end of line and is cut after {len(data)} bytes. {CUT_WAY_OUT}"
            ) from error
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"Expected every line of {path} to be one JSON value; line {number}: {error}. {MEND_WAY_OUT}"
        ) from error


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Whether parsing failed because the text ends, perhaps inside a word such as `tru`, and nothing else."""
    rest = text[error.pos :].strip()
    return error.msg.startswith("Unterminated string") or (len(rest) <= 6 and not re.search(r"[\]}]", rest))


def _parse_json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float)


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]!r} is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def decode(path: Path, data: bytes, first_line: int = 1) -> str:
    """The text of a file's bytes, or of some of them that begin at a line.

    Raises:
        DataError: they are not UTF-8, or end inside a character.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        if error.reason == "unexpected end of data" and error.end == len(data):
            raise DataError(
                f"Expected {path} to be whole; it ends inside a character, at line {line}. {CUT_WAY_OUT}"
            ) from error
        raise DataError(
            f"Expected {path} to be UTF-8 text; line {line} holds the byte 0x{data[error.start]:02x} "
            f"({error.reason}). Reading it as another encoding would change the text; save the file as UTF-8."
        ) from error


def _refuse_unreadable(path: Path, error: Exception) -> NoReturn:
    raise DataError(
        f"Expected to read {path}; the system says: {error}. Nothing was loaded from it; check the path and "
        f"its permissions."
    ) from error
