"""Opening untrusted files: checks before reading, and text in a named encoding.

Everything in them is untrusted. Only regular files of bounded size are read, a file that was cut in the middle is an
error and never a shorter data set, and an error names the file and the place, never the file's content.
"""

from __future__ import annotations

import codecs
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO

from molsaki.errors import DataError
from molsaki.store.whole_files import open_regular

MAX_FILE_BYTES = 1 << 30
"""The largest file that is read row by row, in bytes on disk (and, for Parquet, unpacked)."""
MAX_WHOLE_BYTES = 1 << 24
"""The largest file that is read as one value. Parsed JSON takes up to twenty times its bytes."""
MAX_ROW_CHARACTERS = 1 << 22
"""The longest line of a file, or row of a JSON list, that is read."""

UTF_8 = "utf-8"
CUT_WAY_OUT = "Nothing was loaded from it; copy or download the whole file again."
FIX_WAY_OUT = "Nothing was loaded from it; correct that line, or remove it, and load the file again."


def is_folder(path: Path) -> bool:
    """Whether `path` is an existing folder.

    Raises:
        DataError: it cannot be found out: the name is too long, or the folder around it may not be entered.
    """
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:
        _refuse_unreadable(path, error)


def check_file(path: Path, most: int | None = None) -> None:
    """Raise `DataError` unless `path` is a regular file that is neither empty nor larger than `most` bytes."""
    try:
        _check(path, path.stat(), most)
    except FileNotFoundError as error:
        raise DataError(f"Expected a file at {path}; there is none. Check the path, or get the file first.") from error
    except DataError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        _refuse_unreadable(path, error)


def open_file(path: Path, most: int | None = None) -> BinaryIO:
    """Open a regular file of bounded size to read its bytes.

    A device, a FIFO or a folder is refused without waiting, also one that replaces a file while it is opened.

    Args:
        path: the file.
        most: the most bytes that it may have, `MAX_FILE_BYTES` by default.

    Raises:
        DataError: the file is missing, unreadable, empty, too large or no regular file.
    """
    check_file(path, most)
    try:
        file = open_regular(path)
    except OSError as error:
        _refuse_unreadable(path, error)
    try:
        _check(path, os.fstat(file.fileno()), most)
    except BaseException:
        file.close()
        raise
    return file


def read_bytes(path: Path, most: int = MAX_WHOLE_BYTES) -> bytes:
    """The whole content of a file.

    Raises:
        DataError: as `open_file`.
    """
    with open_file(path, most) as file:
        try:
            data = file.read(most + 1)  # a file may grow while it is read
        except OSError as error:
            _refuse_unreadable(path, error)
    if len(data) > most:
        _refuse_large(path, len(data), most)
    return data


def read_text(path: Path, most: int = MAX_WHOLE_BYTES, encoding: str = UTF_8) -> str:
    """The whole text of a file, without a byte order mark.

    Raises:
        DataError: as `open_file`; the file is in another encoding or ends inside a character.
    """
    try:
        return read_bytes(path, most).decode(_with_mark(path, encoding))
    except UnicodeDecodeError:
        _refuse_encoding(path, encoding)


@contextmanager
def open_text(path: Path, encoding: str = UTF_8) -> Iterator[TextIO]:
    r"""Open a file to read its text; a byte order mark is passed over, and only `\n` ends a line.

    Raises:
        DataError: as `open_file`; the file is in another encoding or ends inside a character.
    """
    with open_file(path) as file, io.TextIOWrapper(file, _with_mark(path, encoding), newline="\n") as text:
        try:
            yield text
        except UnicodeDecodeError:
            _refuse_encoding(path, encoding)


def read_lines(path: Path, encoding: str = UTF_8) -> Iterator[str]:
    """The lines of a text file with their ends.

    Raises:
        DataError: as `open_text`, or a line is longer than `MAX_ROW_CHARACTERS`.
    """
    with open_text(path, encoding) as file:
        number = 0
        while line := file.readline(MAX_ROW_CHARACTERS + 1):
            number += 1
            if len(line) > MAX_ROW_CHARACTERS:
                refuse_long_row(path, number)
            yield line


def refuse_long_row(path: Path, line: int) -> NoReturn:
    """Raise for a row that is longer than the limit."""
    raise DataError(
        f"Expected rows of at most {MAX_ROW_CHARACTERS} characters in {path}; the one at line {line} is longer. "
        "Nothing was loaded from it, since it might fill the memory; take that row out, or check the format."
    )


def _check(path: Path, found: os.stat_result, most: int | None) -> None:
    most = MAX_FILE_BYTES if most is None else most
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"Expected a file at {path}; it is a folder, a pipe or a device. Name one regular file.")
    if found.st_size == 0:
        raise DataError(f"Expected a file with content at {path}; it is empty (0 bytes). {CUT_WAY_OUT}")
    if found.st_size > most:
        _refuse_large(path, found.st_size, most)


def _with_mark(path: Path, encoding: str) -> str:
    """The name of the codec; for UTF-8, the variant that skips a byte order mark."""
    try:
        "".encode(encoding)  # a LookupError too for a codec that is none of text, such as zip
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise DataError(
            f"Expected the name of a text encoding, such as utf-8, cp1252 or utf-16; got {encoding[:40]!r} for {path}. "
            "Nothing was loaded from it; correct `encoding`."
        ) from error
    return "utf-8-sig" if name == UTF_8 else name


def _refuse_encoding(path: Path, encoding: str) -> NoReturn:
    """Find the first position of a file that is invalid in its encoding, and raise for it."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    hint = "for Windows often `encoding: cp1252`"
    with open_file(path) as file:
        while True:
            data = file.read(1 << 16)
            if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                hint = "it begins as `encoding: utf-16`"
            try:
                line += decoder.decode(data, final=not data).count("\n")
            except UnicodeDecodeError as error:
                line += error.object[: error.start].decode(encoding, "ignore").count("\n")
                if not data:
                    raise DataError(
                        f"Expected {path} to be {encoding} text; it ends inside a character, at line {line}, so it is "
                        "cut or in another encoding. Nothing was loaded from it; copy it again, or name its encoding."
                    ) from None
                raise DataError(
                    f"Expected {path} to be {encoding} text; line {line} holds the byte "
                    f"0x{error.object[error.start]:02x}, which is none ({error.reason}). Nothing was loaded from it; "
                    f"name its encoding ({hint}), or save it as UTF-8."
                ) from None
            assert data, "some place of the file cannot be decoded"


def _refuse_large(path: Path, size: int, most: int) -> NoReturn:
    raise DataError(
        f"Expected {path} to have at most {most} bytes; it has {size}. It was not read, since it might fill the "
        "memory; split it into smaller files, or save its rows as JSON lines."
    )


def _refuse_unreadable(path: Path, error: Exception) -> NoReturn:
    why = error.strerror if isinstance(error, OSError) else error
    raise DataError(
        f"Expected to read {str(path)[:200]}; the system says: {why}. Nothing was loaded from it; check the path and "
        "its permissions."
    ) from error
