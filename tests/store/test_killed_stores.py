"""A writer of a store that is killed at any moment leaves a store that is gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from molsaki.errors import ArtefactError
from molsaki.store.schema import TensorSpec
from molsaki.store.shards import count_rows
from molsaki.store.signal_reader import SignalStore
from molsaki.store.signal_writer import SignalWriter, flush_if_due
from molsaki.store.whole_files import LEFTOVER_PREFIX

ROWS = 40
FINGERPRINT = {"teacher": "pocket"}
SCHEMA = {"a": TensorSpec("float32", (2, "S", 4)), "b": TensorSpec("int32", ("S",))}

# In order, a writer's writes and renames are: the lock's note (a write only), the header, then for each shard
# its values and its index.
KILLS = {
    "half of the second shard's values": ("write", 4, 6, 0),
    "half of the second shard's index": ("write", 5, 6, 1),
    "the third shard's values before they have their name": ("replace", 5, 12, 0),
    "between values and index": ("replace", 6, 12, 1),
    "rows that wait": ("add", 27, 24, 0),
    "before there is a store": ("replace", 0, None, 0),
}

# One process imports what is needed; each writer is a fork of it and is truly killed.
WRITERS = """
import json, os, signal, sys
from pathlib import Path
import torch
from molsaki.store.schema import TensorSpec
from molsaki.store.signal_writer import SignalWriter, flush_if_due

SCHEMA = {"a": TensorSpec("float32", (2, "S", 4)), "b": TensorSpec("int32", ("S",))}

def work(folder, place, count):
    calls = {"write": 0, "replace": 0, "add": 0}
    def kill_at(name):
        calls[name] += 1
        if name == place and calls[name] > count:
            os.kill(os.getpid(), signal.SIGKILL)
    write, replace = os.write, Path.replace
    def cut_write(descriptor, data):
        if place == "write" and calls["write"] == count:
            write(descriptor, bytes(data)[: len(data) // 2])
        kill_at("write")
        return write(descriptor, data)
    def killed_replace(self, target):
        kill_at("replace")
        return replace(self, target)
    os.write, Path.replace = cut_write, killed_replace
    with SignalWriter(Path(folder), {"teacher": "pocket"}, SCHEMA, shard_rows=6) as writer:
        for i in range(40):
            kill_at("add")
            S = 1 + i % 3
            writer.add(f"r{i}", f"h{i}", {"a": torch.full((2, S, 4), i / 7), "b": torch.full((S,), i)})
            flush_if_due([writer])

for folder, place, count in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        work(folder, place, count)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder that each kill left."""
    folders = {name: tmp_path_factory.mktemp("killed") for name in KILLS}
    jobs = json.dumps([[str(folders[name]), place, count] for name, (place, count, _, _) in KILLS.items()])
    run = subprocess.run(
        [sys.executable, "-c", WRITERS, jobs], stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    assert run.stdout.split() == [str(-signal.SIGKILL)] * len(KILLS)
    return folders


def row(i: int) -> dict[str, torch.Tensor]:
    return {"a": torch.full((2, 1 + i % 3, 4), i / 7), "b": torch.full((1 + i % 3,), i)}


@pytest.mark.parametrize("name", KILLS)
def test_a_kill_costs_at_most_the_rows_that_waited(killed: dict[str, Path], name: str) -> None:
    folder, (_, _, rows, unfinished) = killed[name], KILLS[name]
    if rows is not None:
        store = SignalStore(folder, FINGERPRINT)
        report = store.check()
        assert report.ok
        assert store.ids() == [f"r{i}" for i in range(rows)]
        assert len(report.unfinished) == unfinished
    with SignalWriter(folder, FINGERPRINT, SCHEMA, shard_rows=6) as writer:
        done = writer.done()
        assert done == {f"r{i}" for i in range(rows or 0)}
        for i in range(ROWS):
            if f"r{i}" not in done:
                writer.add(f"r{i}", f"h{i}", row(i))
    store = SignalStore(folder, FINGERPRINT)
    assert store.ids() == [f"r{i}" for i in range(ROWS)]
    for i in range(ROWS):
        got = store.get(f"r{i}", f"h{i}")
        assert all(torch.equal(got[name], tensor) for name, tensor in row(i).items())
    assert store.check().ok
    assert store.check().unfinished == ()
    assert not list(folder.glob(f"{LEFTOVER_PREFIX}*"))


def test_the_rows_of_a_store_are_counted_by_its_indices_alone(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    assert count_rows(folder) == 0
    with SignalWriter(folder, {"teacher": "t"}, SCHEMA, shard_rows=2) as writer:
        assert count_rows(folder) == 0
        for i in range(5):
            writer.add(str(i), "hash", row(i))
            flush_if_due([writer])
    assert count_rows(folder) == 5
    values = folder / "shard-00001.safetensors"
    values.write_bytes(bytes(values.stat().st_size))
    assert count_rows(folder) == 5, "no value is read"
    (folder / "shard-00000.jsonl").unlink()
    assert count_rows(folder) == 3
    values.unlink()
    with pytest.raises(ArtefactError, match="shard-00001"):
        count_rows(folder)
