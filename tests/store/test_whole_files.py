"""Whole files are there as a whole or not at all, whatever the disk does."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from faults import JSON_VALUES, fail_writes, names_in
from hypothesis import given, settings

from molsaki.errors import DataError, StageError
from molsaki.store.whole_files import (
    LEFTOVER_PREFIX,
    disk_is_full,
    read_json,
    remove_unfinished,
    write_json,
    write_whole,
)


@pytest.mark.parametrize("data", ["", "line\r\nline\n", "zählt → 1\u2028", b"\x00\xff", b"x" * 3_000_000])
def test_a_file_holds_exactly_what_was_written(tmp_path: Path, data: str | bytes) -> None:
    path = tmp_path / "new" / "folders" / "file"
    write_whole(path, data)
    assert path.read_bytes() == (data if isinstance(data, bytes) else data.encode())
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_permissions_follow_the_users_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_full_disk_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")
    fail_writes(monkeypatch, after=5, code=code)
    with pytest.raises(StageError, match=r"Nothing of it was kept.* continues") as caught:
        write_whole(path, "0123456789")
    assert str(path) in str(caught.value)
    assert ("space" in str(caught.value)) == (code != errno.EIO)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_a_size_limit_of_the_system_is_a_stage_error_too(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from molsaki.store.whole_files import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_whole(Path(sys.argv[1]), 'x' * 5000)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "file")], capture_output=True, text=True, check=False
    )
    assert "StageError: Expected to write" in run.stderr
    assert names_in(tmp_path) == []


def test_failing_to_force_the_bytes_out_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "file", "old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StageError):
        write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"


def test_paths_that_cannot_be_written_are_stage_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "below", tmp_path, tmp_path / "nul\0", tmp_path / ("n" * 300)):
        with pytest.raises(StageError, match="Expected to write"):
            write_whole(path, "x")
    assert names_in(tmp_path) == ["file"]


def test_a_kill_while_writing_leaves_the_old_content_and_a_leftover_that_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")
    script = (
        "import os, signal, sys; from pathlib import Path; from molsaki.store.whole_files import write_whole\n"
        "real = os.write\n"
        "def write(descriptor, data):\n"
        "    real(descriptor, bytes(data)[: len(data) // 2])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.write = write\n"
        "write_whole(Path(sys.argv[1]), 'new' * 1000)"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert sum(name.startswith(LEFTOVER_PREFIX) for name in names_in(tmp_path)) == 1
    remove_unfinished(tmp_path)
    assert names_in(tmp_path) == ["file"]


@settings(deadline=None, max_examples=25)
@given(value=JSON_VALUES)
def test_json_reads_back_as_it_was_written(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert json.dumps(read_json(path, "a value")) == json.dumps(value)


@pytest.mark.parametrize("value", [float("nan"), {"loss": float("inf")}, {1, 2}, Path("x"), "\ud800"])
def test_what_is_not_json_is_refused_and_nothing_is_written(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "file", {"old": 1})
    with pytest.raises(DataError, match="plain JSON") as caught:
        write_json(tmp_path / "file", value)
    assert "file" in str(caught.value)
    assert read_json(tmp_path / "file", "a value") == {"old": 1}


@pytest.mark.parametrize("data", [b"", b'{"a": 1', b'{"a": NaN}', b"\xff", b"[" * 100_000, b"1" * 5000, b"{} {}"])
def test_cut_or_malformed_json_names_the_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "some.json").write_bytes(data)
    with pytest.raises(DataError, match=r"the thing at .*some\.json .* cut or malformed"):
        read_json(tmp_path / "some.json", "the thing")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match="Expected the thing at") as caught:
            read_json(path, "the thing")
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("save", [torch.save, safetensors.torch.save_file])
@pytest.mark.parametrize("room", [1_000, 300_000])
def test_a_file_of_tensors_that_cannot_grow_is_a_full_disk(tmp_path: Path, save: Any, room: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(Exception, match=r".") as caught:
            save({"a": torch.ones(100_000)}, tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert disk_is_full(caught.value)
    assert disk_is_full(RuntimeError(str(caught.value))), "of another process, only the text of its error comes"
