"""One process at a time in a folder.

The lock is the operating system's: it ends with the process that holds it, however that ends, so that there
is never a stale lock to remove by hand. The lock file only says who holds it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from molsaki.errors import StageError
from molsaki.store.whole_files import refuse_write, write_all

if sys.platform != "win32":
    import fcntl

LOCK_NAME = ".molsaki-lock"

_CANNOT_LOCK = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
_OPEN_LOCK = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

logger = logging.getLogger(__name__)


@contextmanager
def exclusive_lock(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder's lock for as long as the context lasts.

    A process that is forked from the holder shares the lock until it ends.

    Args:
        folder: an existing folder; its lock file is made if it is not there.
        what: what the folder is, for the message (`"the run directory"`).

    Raises:
        StageError: another process holds the lock; the message names it. Or the lock file cannot be opened.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, _OPEN_LOCK, 0o666)
    except OSError as error:
        refuse_write(path, error, f"Nothing was done to {what} {folder}, which needs it.")
    try:
        if not lock_file(descriptor, path, wait=False):
            raise StageError(
                f"Expected {what} {folder} to be free; {_holder(descriptor)} is working in it. Two at a time "
                f"would mix their rows; wait until it has ended, end it, or choose another directory."
            )
        _say_who(descriptor, path)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def lock_file(descriptor: int, path: Path, *, wait: bool, shared: bool = False) -> bool:
    """Lock an open file until it is closed.

    Where the file system has no locks this is logged, and the file counts as locked.

    Args:
        descriptor: the open file.
        path: its name, for the log.
        wait: wait for whoever holds the lock.
        shared: lock it for reading, together with other readers.

    Returns:
        False if another holds the lock and `wait` is false.
    """
    if sys.platform == "win32":
        logger.warning("this system has no file locks; see to it that only one process writes %s", path)
        return True
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise
        logger.warning("%s cannot be locked (%s); see to it that only one process writes it", path, error)
    return True


def _say_who(descriptor: int, path: Path) -> None:
    who = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        write_all(descriptor, who)
    except OSError as error:  # a full disk: the lock holds all the same, only its note is missing
        logger.warning("%s is locked, but cannot say by whom: %s", path, error)


def _holder(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, 1000, 0))
        pid, host = note["pid"], note["host"]
    except (OSError, ValueError, TypeError, KeyError):
        return "another process (its id is not known)"
    here = pid == os.getpid() and host == socket.gethostname()
    return f"process {pid} on {host}" + (" (this very process, elsewhere in the program)" if here else "")
