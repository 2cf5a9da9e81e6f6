"""Atomic writing of files: a file has its old content or its new content, and never a part.

A file is written under a temporary name in its own folder, synced to the disk and then renamed. A concurrent reader
gets the old content or the new one. A kill leaves at most a temporary file, which the next holder of the folder's lock
removes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from molsaki.errors import DataError, StageError

LEFTOVER_PREFIX = ".molsaki-unfinished-"
"""The prefix of a file's temporary name."""

MAX_BYTES = 1 << 30
"""The largest file that is read as one value."""
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_SPACE_TEXT = re.compile(
    rf"\(os error ({'|'.join(map(str, _NO_SPACE))})\)"  # of Rust, such as safetensors
    # Of PyTorch; the second is of a file that ends before its end.
    r"|PytorchStreamWriter failed writing|inline_container\.cc.* unexpected pos"
)

logger = logging.getLogger(__name__)


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file atomically, replacing an existing one; missing folders are created.

    Args:
        path: the file.
        data: its content; text is written as UTF-8 with unchanged line ends.

    Raises:
        StageError: the disk is full or the file cannot be written; an existing file at `path` is unchanged.
        DataError: the text cannot be written as UTF-8.
    """
    content = data if isinstance(data, bytes) else _as_utf8(path, data)
    _write(path, [content])


def copy_whole(source: Path, path: Path) -> None:
    """Copy a file atomically, replacing an existing one; missing folders are created.

    Raises:
        OSError: the source is not a regular file, or cannot be opened.
        StageError: as `write_whole`.
    """
    with open_regular(source) as file:
        _write(path, iter(partial(file.read, 1 << 20), b""))


def _write(path: Path, parts: Iterable[bytes]) -> None:
    """Write the parts of a file under a temporary name, and rename it."""
    unfinished = path.parent / f"{LEFTOVER_PREFIX}{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                for part in parts:
                    write_all(descriptor, part)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            unfinished.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        refuse_write(path, error, "Nothing of it was kept; an existing file is unchanged.")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value atomically, indented, with its keys in their order.

    Raises:
        DataError: the value is not JSON (NaN and infinities are not); nothing is written.
        StageError: as `write_whole`.
    """
    write_whole(path, encode_json(value, f"the value for {path}", indent=2) + b"\n")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes.

    Raises:
        OSError: there is no such file, or it is a folder, a FIFO or a device, which is refused without waiting.
    """
    # Without O_NONBLOCK, opening a FIFO waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is a folder, a pipe or a device", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most: int = MAX_BYTES) -> bytes:
    """The content of a regular file of bounded size.

    Raises:
        OSError: as `open_regular`, or the file is larger than `most` bytes.
    """
    with open_regular(path) as file:
        data = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else b""
        if len(data) > most or file.read(1):
            raise OSError(errno.EINVAL, f"it has more than {most} bytes", str(path))
    return data


def read_json(path: Path, expected: str) -> Any:
    """The value of a JSON file that a stage wrote.

    Args:
        path: the file.
        expected: the expected content, for the message (`"the manifest of a run"`).

    Raises:
        DataError: the file is missing, unreadable, cut or malformed; the message names it.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError as error:
        raise DataError(
            f"Expected {expected} at {path}; the file does not exist. Nothing that depends on it can run; check "
            f"the path, or run the stage that writes it."
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"Expected {expected} at {path}; the system says: {error}. Nothing was read from it; check the "
            f"path and its permissions."
        ) from error
    try:
        return parse_json(data)
    except ValueError as error:
        raise DataError(
            f"Expected {expected} at {path} to be one whole JSON value; it has {len(data)} bytes and is "
            f"cut or malformed: {error}. Nothing was read from it; molsaki writes such files atomically, so "
            f"it was changed afterwards: put it back from a copy, or move it away and run its stage again."
        ) from error


def encode_json(value: Any, what: str, indent: int | None = None) -> bytes:
    """The UTF-8 bytes of a JSON value.

    Raises:
        DataError: the value has no JSON form that reads back as the same value.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"Expected {what} to be plain JSON (objects, lists, text in valid Unicode, finite numbers, true, "
            f"false, null); got something else: {error}. It was not written, since it could not be read "
            f"back; fix the value."
        ) from error


def parse_json(data: bytes) -> Any:
    """The value of JSON bytes; raises `ValueError` for any problem with them."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte to an open file; one call of the system may write only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Sync a folder's names to the disk, if the system supports it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do not support it
            raise
    finally:
        os.close(descriptor)


def unfinished_files(folder: Path) -> Iterator[Path]:
    """The temporary files that killed writers left in a folder."""
    return folder.glob(f"{LEFTOVER_PREFIX}*")


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of killed writers; the caller must hold the folder's lock."""
    for path in unfinished_files(folder):
        logger.warning("%s was left by a writer that was interrupted; it is removed", path)
        path.unlink(missing_ok=True)


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error means that no space is left; errors of Rust and C++ libraries say it only in their text."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in _NO_SPACE) or _NO_SPACE_TEXT.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def refuse_write(path: Path, error: Exception, consequence: str) -> NoReturn:
    """Raise the `StageError` for a file that cannot be written.

    Args:
        path: the file.
        error: the system's error.
        consequence: what this means for the data, in one or two sentences.
    """
    way_out = "Free some space (or raise the quota)" if disk_is_full(error) else "Check the path and its permissions"
    raise StageError(
        f"Expected to write {path}; the system says: {error}. {consequence} {way_out} and run the same "
        f"command again; it continues where it stopped."
    ) from error


def _as_utf8(path: Path, text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"Expected the text for {path} to be valid Unicode; got {error.reason} at character "
            f"{error.start}. Nothing was written; remove that character."
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
