"""File locks: one process at a time works in a folder or appends to a file.

`filelock` takes the lock of the operating system on an open file. The lock ends with the process that holds it, even
if that process is killed, so there is never a stale lock to remove. A folder's lock file stays in the folder when the
lock is released; its text says which process holds the lock.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from molsaki.errors import StageError
from molsaki.store.whole_files import refuse_write, write_all

LOCK_NAME = ".molsaki-lock"

_POLL_SECONDS = 0.01
# EBADF: NFS has no exclusive lock for a file that is open for reading only.
_CANNOT_LOCK = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF})
_CANNOT_WRITE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_OPEN_LOCK = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

logger = logging.getLogger(__name__)


@contextmanager
def exclusive_lock(folder: Path, what: str, *, to_read: bool = False) -> Iterator[bool]:
    """Hold a folder's lock while the context is open. A forked child shares the lock until it ends.

    Args:
        folder: an existing folder; a missing lock file is created.
        what: what the folder is, for the message (`"the run directory"`).
        to_read: the folder is only read, so one that nothing can be written to needs no lock.

    Yields:
        Whether the lock is held.

    Raises:
        StageError: another process holds the lock (the message names it), or the lock file cannot be opened.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, _OPEN_LOCK, 0o666)
    except OSError as error:
        if to_read and error.errno in _CANNOT_WRITE:
            yield False
            return
        refuse_write(path, error, f"{what.capitalize()} {folder} needs this lock file and was not changed.")
    try:
        if not lock_file(descriptor, path, wait=False):
            raise StageError(
                f"Expected {what} {folder} to be free; {_holder(descriptor)} is working in it. Two processes would "
                "mix their rows, so nothing was changed. Wait until it ends, stop it, or choose another directory."
            )
        _write_holder(descriptor, path)
        try:
            yield True
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def lock_file(descriptor: int, path: Path, *, wait: bool) -> bool:
    """Lock an open file until it is closed.

    On a file system without locks, this logs a warning and returns True.

    Args:
        descriptor: the open file.
        path: its name, for the log.
        wait: wait until the lock is free.

    Returns:
        False if another process holds the lock and `wait` is False.
    """
    try:
        return filelock.lock_descriptor(descriptor, blocking=wait, poll_interval=_POLL_SECONDS)
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise
        logger.warning("%s cannot be locked (%s); make sure that only one process writes it", path, error)
    return True


def _write_holder(descriptor: int, path: Path) -> None:
    holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        write_all(descriptor, holder)
    except OSError as error:  # a full disk: the lock holds without the note
        logger.warning("%s is locked, but the holder's process id cannot be written to it: %s", path, error)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.read(descriptor, 1000))
        pid, host = holder["pid"], holder["host"]
    except (OSError, ValueError, TypeError, KeyError):
        return "another process (its id is not known)"
    here = pid == os.getpid() and host == socket.gethostname()
    return f"process {pid} on {host}" + (" (this same process)" if here else "")
