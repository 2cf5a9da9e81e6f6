"""A log of rows keeps every row that was appended, through kills, full disks and bad rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import JSON_VALUES, fail_writes
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.errors import DataError, StageError
from molsaki.store.row_log import RowLog

ROWS = [{"id": f"r{i}", "output": "text\n" * i, "kept": True} for i in range(10)]

WRITER = """
import os, signal, sys
from pathlib import Path
from molsaki.store.row_log import RowLog
path, batch, cut_at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
log = RowLog(path)
done, real, written = log.ids(), os.write, 0
def write(descriptor, data):
    global written
    if cut_at and written + len(data) > cut_at:
        real(descriptor, bytes(data)[: cut_at - written])
        os.kill(os.getpid(), signal.SIGKILL)
    written += len(data)
    return real(descriptor, data)
os.write = write
print("ready", flush=True)
todo = [i for i in range(400) if f"r{i}" not in done]
for start in range(0, len(todo), batch):
    log.append({"id": f"r{i}", "value": i, "text": "x" * (i % 97) * 40} for i in todo[start : start + batch])
"""


def write_rows(path: Path, batch: int = 7, cut_at: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(batch), str(cut_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> int:
    process.communicate()
    return process.returncode


def as_set(log: RowLog) -> set[str]:
    return {json.dumps(row, sort_keys=True) for row in log.rows()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    path = tmp_path_factory.mktemp("undisturbed") / "rows.jsonl"
    assert finish(write_rows(path)) == 0
    rows = as_set(RowLog(path))
    assert len(rows) == 400
    return rows


def test_rows_come_back_in_order_and_batches_add_up(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "new" / "rows.jsonl")
    assert list(log.rows()) == []
    assert log.ids() == set()
    log.append(ROWS[:3])
    log.append([])
    log.append(iter(ROWS[3:]))
    assert list(RowLog(log.path).rows()) == ROWS
    assert log.ids() == {row["id"] for row in ROWS}
    assert log.cut_rows == 0


@settings(deadline=None, max_examples=25)
@given(rows=st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=4), max_size=5))
def test_any_json_rows_round_trip(rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> None:
    log = RowLog(tmp_path_factory.mktemp("log") / "rows.jsonl")
    log.append(rows)
    assert [json.dumps(row) for row in RowLog(log.path).rows()] == [json.dumps(row) for row in rows]


@pytest.mark.parametrize("cut_at", [1, 1000, 12_345, 100_001, 300_000])
def test_a_kill_in_the_middle_of_an_append_loses_no_finished_row(
    tmp_path: Path, undisturbed: set[str], cut_at: int
) -> None:
    path = tmp_path / "rows.jsonl"
    assert finish(write_rows(path, cut_at=cut_at)) == -signal.SIGKILL
    assert path.stat().st_size == cut_at
    whole = path.read_bytes().count(b"\n")
    log = RowLog(path)
    assert log.cut_rows == 1
    assert as_set(log) < undisturbed
    assert len(list(log.rows())) == whole
    assert finish(write_rows(path)) == 0
    assert as_set(RowLog(path)) == undisturbed
    assert len(list(RowLog(path).rows())) == len(undisturbed)


def test_kills_at_any_time_and_resuming_give_the_same_rows(tmp_path: Path, undisturbed: set[str]) -> None:
    path = tmp_path / "rows.jsonl"
    for round_ in range(4):
        process = write_rows(path, batch=3)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.003 * (round_ + 1))
        process.kill()
        finish(process)
        assert as_set(RowLog(path)) <= undisturbed
    assert finish(write_rows(path)) == 0
    assert as_set(RowLog(path)) == undisturbed
    assert len(list(RowLog(path).rows())) == len(undisturbed)


def test_every_place_a_line_can_be_cut_at_is_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.jsonl"
    RowLog(path).append(ROWS[:2])
    first = len(path.read_bytes().splitlines(keepends=True)[0])
    data = path.read_bytes()
    for length in range(first + 1, len(data)):
        path.write_bytes(data[:length])
        log = RowLog(path)
        whole = length == len(data) - 1  # only the end of the line is missing: the row itself is whole
        assert list(log.rows()) == ROWS[: 1 + whole]
        assert log.cut_rows == (not whole)
        log.append([ROWS[2]])
        assert list(log.rows())[-1] == ROWS[2]
    assert "was cut" in caplog.text


@pytest.mark.parametrize("tail", [b"\0" * 4096, b'{"id": "r9"\0\0\0', b'{"id": "\xc3', b'{"x": ' + b"1" * 300_000])
def test_what_a_crash_can_leave_at_the_end_is_taken_off(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    RowLog(path).append(ROWS)
    with path.open("ab") as file:
        file.write(tail)
    log = RowLog(path)
    assert list(log.rows()) == ROWS
    assert log.cut_rows == 1


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"a,b\n1,2", b"no end of line"])
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"table\.csv to be a log of rows"):
        RowLog(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b'{"id": "cut', b"[1]", b'{"x": NaN}', b"\xff", b"{}{}"])
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row).encode() for row in ROWS]
    path.write_bytes(b"\n".join([*lines[:3], line, *lines[3:], b""]))
    with pytest.raises(DataError, match=r"rows\.jsonl to be one JSON object; line 4 is not"):
        list(RowLog(path).rows())


@pytest.mark.parametrize("taken", [0, 10, 150])
def test_a_full_disk_leaves_all_earlier_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    log = RowLog(tmp_path / "rows.jsonl")
    log.append(ROWS[:4])
    before = log.path.read_bytes()
    with monkeypatch.context() as patch:
        fail_writes(patch, after=taken)
        with pytest.raises(StageError, match=r"None of this batch of 6 rows was kept; all rows before .* space"):
            log.append(ROWS[4:])
    assert log.path.read_bytes() == before
    log.append(ROWS[4:])
    assert list(log.rows()) == ROWS


def test_a_pipe_and_a_device_are_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(DataError, match="a pipe or a device"):
            RowLog(tmp_path / name)


@pytest.mark.parametrize(
    "bad", [{"id": "bad", "x": float("nan")}, {"id": "bad", "x": {1}}, {"id": "bad", "x": "\udc80"}]
)
def test_a_bad_row_is_named_and_takes_no_other_with_it(tmp_path: Path, bad: dict[str, object]) -> None:
    log = RowLog(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match=r"1 of 11 rows .* row 'bad'"):
        log.append([*ROWS[:5], bad, *ROWS[5:]])
    assert list(log.rows()) == ROWS


def test_rows_made_before_their_maker_failed_are_kept(tmp_path: Path) -> None:
    def make() -> Iterator[dict[str, object]]:
        yield from ROWS[:5]
        raise RuntimeError("the model has gone")

    log = RowLog(tmp_path / "rows.jsonl")
    with pytest.raises(RuntimeError, match="the model has gone"):
        log.append(make())
    assert list(log.rows()) == ROWS[:5]


def test_a_log_can_grow_while_it_is_read(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "rows.jsonl")
    log.append(ROWS[:5])
    seen = []
    for row in log.rows():
        seen.append(row)
        log.append([{"id": "new"}])
    assert seen == ROWS[:5]


def test_two_writers_at_a_time_do_not_mix_their_lines(tmp_path: Path, undisturbed: set[str]) -> None:
    path = tmp_path / "rows.jsonl"
    processes = [write_rows(path, batch=5) for _ in range(2)]
    assert [finish(process) for process in processes] == [0, 0]
    assert as_set(RowLog(path)) == undisturbed


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Expected a log of rows at"):
        RowLog(tmp_path)


def test_a_log_that_may_not_be_written_is_a_stage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RowLog(tmp_path / "rows.jsonl")
    log.append(ROWS)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(StageError, match="permissions"):
            log.append(ROWS)
    assert list(log.rows()) == ROWS


def test_a_log_that_may_only_be_read_is_read_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RowLog(tmp_path / "rows.jsonl").append(ROWS)

    def refuse(path: Path, flags: int, *_: int) -> int:
        assert not flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT), "a read-only mount has no file to write"
        return real(path, flags)

    real = os.open
    monkeypatch.setattr(os, "open", refuse)
    log = RowLog(tmp_path / "rows.jsonl")
    assert list(log.rows()) == ROWS
    assert log.count() == len(ROWS)


def test_rows_are_counted_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert RowLog(path).count() == 0
    for data, rows in ((b'{"id": "a"}\n\n  \n{"id": "b"}\n', 2), (b'{"id": "a"}\n{"id": "cut', 1), (b'{"id": "a"}', 1)):
        path.write_bytes(data)
        assert RowLog(path).count() == len(list(RowLog(path).rows())) == rows
