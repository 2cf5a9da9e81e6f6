"""An append-only log of rows that survives a kill at any moment.

A row is one line of JSON, and counts once the whole line is written. A kill in the middle of a line leaves a cut last
line. It is removed when the log is opened, and its row is computed again like any missing one.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from molsaki.errors import DataError
from molsaki.store.locks import lock_file
from molsaki.store.whole_files import encode_json, open_regular, parse_json, refuse_write, sync_folder, write_all

_CHUNK = 1 << 16

logger = logging.getLogger(__name__)


class RowLog:
    """An append-only file of JSON lines.

    Several processes may append to one log and read it at the same time: a batch is written under the file's
    lock, and readers see whole batches, or what a kill left of one.

    Args:
        path: the file; the first append creates it. A cut last line is removed at once.

    Attributes:
        cut_rows: the number of cut last lines that this object has removed.

    Raises:
        DataError: the file cannot be read or is not a log of rows.
        StageError: the last line is cut and the file cannot be repaired.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut_rows = 0
        self._repair()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows in the order they were appended.

        Raises:
            DataError: a line is not a JSON object; the message names the file and the line.
        """
        for number, line in self._lines():
            yield self._parse(number, line)

    def count(self) -> int:
        """The number of rows, without parsing them."""
        return sum(1 for _ in self._lines())

    def ids(self) -> set[str]:
        """The ids of the rows that have one."""
        return {row["id"] for row in self.rows() if isinstance(row.get("id"), str)}

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append one batch and force it to the disk.

        If some rows are not plain JSON, all others are appended before the error is raised. The same applies to the
        rows before an error in the iterable itself.

        Raises:
            DataError: some rows are not plain JSON; the message names them by id. All others are in the log.
            StageError: the disk is full or the file cannot be written. None of the batch is in the log; all
                earlier batches are.
        """
        lines: list[bytes] = []
        refused: list[str] = []
        try:
            for index, row in enumerate(rows):
                try:
                    lines.append(encode_json(dict(row), f"row {row.get('id', f'number {index}')!r}") + b"\n")
                except DataError as error:
                    refused.append(str(error))
        finally:
            if lines:
                self._append(lines)
        if refused:
            raise DataError(
                f"{len(refused)} of {len(lines) + len(refused)} rows for {self.path} were left out, and the "
                f"others were appended. The first: {refused[0]}"
            )

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """The whole lines that are not blank, each with its number from 1."""
        self._repair()
        if not self.path.exists():
            return
        end = self._whole_bytes()
        with open_regular(self.path) as file:
            for number, line in enumerate(file, start=1):
                end -= len(line)
                if end < 0:
                    return
                if line.strip():
                    yield number, line

    def _append(self, lines: list[bytes]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened(os.O_CREAT) as descriptor:
                end = os.lseek(descriptor, 0, os.SEEK_END)
                try:
                    write_all(descriptor, b"".join(lines))
                    os.fsync(descriptor)
                except OSError:
                    with contextlib.suppress(OSError):
                        os.ftruncate(descriptor, end)
                    raise
            if not end:
                sync_folder(self.path.parent)
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            refuse_write(
                self.path,
                error,
                f"None of this batch of {len(lines)} rows was kept; all rows before it are whole.",
            )

    def _repair(self) -> None:
        try:
            if not self.path.exists() or _ends_whole(self.path):
                return
        except (OSError, ValueError) as error:
            raise DataError(
                f"Expected a log of rows at {self.path}; the system says: {error}. Nothing was read from it; "
                f"check the path and its permissions."
            ) from error
        try:
            with self._opened():
                pass
        except OSError as error:
            refuse_write(self.path, error, "Its last line is cut and could not be taken off.")

    @contextmanager
    def _opened(self, flags: int = 0) -> Iterator[int]:
        """The file, open for reading and writing, locked and repaired."""
        descriptor = os.open(self.path, os.O_RDWR | flags, 0o666)
        try:
            lock_file(descriptor, self.path, wait=True)
            self._repair_tail(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    def _repair_tail(self, descriptor: int) -> None:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        start = _start_of_last_line(descriptor, size)
        tail = _read_at(descriptor, start, size - start)
        if tail and _is_row(tail):
            os.lseek(descriptor, 0, os.SEEK_END)
            write_all(descriptor, b"\n")
        elif tail:
            if tail.strip(b"\0")[:1] not in (b"", b"{"):
                self._refuse("its last line is not a row")
            os.ftruncate(descriptor, start)
            os.fsync(descriptor)
            self.cut_rows += 1
            logger.warning(
                "the last line of %s was cut (%d bytes, by a kill or a crash); it is removed, and its row "
                "counts as missing",
                self.path,
                len(tail),
            )
        if start and _read_at(descriptor, 0, 1) != b"{":
            self._refuse("its first line is not a row")

    def _whole_bytes(self) -> int:
        """The file's size in bytes, at a moment when no process is in the middle of a batch."""
        with open_regular(self.path) as file:
            lock_file(file.fileno(), self.path, wait=True)
            return os.fstat(file.fileno()).st_size

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = parse_json(line)
            if isinstance(row, dict):
                return row
            problem = f"it is a {type(row).__name__}"
        except ValueError as error:
            problem = str(error)
        raise DataError(
            f"Expected every line of {self.path} to be one JSON object; line {number} is not: {problem}. The "
            f"file was changed after it was written, and no row from there on was read; fix that line, or "
            f"delete it so that its row is computed again."
        )

    def _refuse(self, what: str) -> NoReturn:
        raise DataError(
            f"Expected {self.path} to be a log of rows, one JSON object on each line; {what}. It was not "
            f"changed, since it may be a file of another kind; choose another path or move it away."
        )


def _ends_whole(path: Path) -> bool:
    with open_regular(path) as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            return False
        file.seek(0)
        return file.read(1) == b"{"


def _start_of_last_line(descriptor: int, size: int) -> int:
    """The position after the last line end; `size` if the file ends with a line end."""
    end = size
    while end:
        begin = max(0, end - _CHUNK)
        newline = _read_at(descriptor, begin, end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def _read_at(descriptor: int, start: int, length: int) -> bytes:
    """Up to `length` bytes from `start` on."""
    os.lseek(descriptor, start, os.SEEK_SET)
    pieces: list[bytes] = []
    while length > 0 and (piece := os.read(descriptor, length)):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _is_row(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return False
