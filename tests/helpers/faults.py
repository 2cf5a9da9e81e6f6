"""What the tests of artefacts share: values to write, and disks that fill up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import strategies as st

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def fail_writes(monkeypatch: pytest.MonkeyPatch, after: int = 0, code: int = errno.ENOSPC) -> None:
    """Let the disk take `after` more bytes and then be full."""
    real, left = os.write, [after]

    def write(descriptor: int, data: bytes) -> int:
        if left[0] <= 0:
            raise OSError(code, os.strerror(code))
        taken = real(descriptor, bytes(data)[: left[0]])
        left[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", write)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())
