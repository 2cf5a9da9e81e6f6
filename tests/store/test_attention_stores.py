"""Attention comes back as it was stored, or an error names what does not fit."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from faults import fail_writes, names_in
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.errors import ArtefactError, DataError, StageError
from molsaki.store.shards import hash_values
from molsaki.store.signal_reader import AttentionStore, MissingRowError
from molsaki.store.signal_writer import AttentionStoreWriter

FINGERPRINT = {"teacher": "pocket", "spans": "numbers", "dtype": "bfloat16"}
HOSTILE = ["../../etc/passwd", "a/b", "nul\0", "line\nbreak", "\u2028", "x" * 5000, "shard-00000.jsonl", " ", "é"]


def attention(seed: int, layers: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(layers, 1 + seed % 4, 1 + seed % 5, generator=generator)


def write(folder: Path, rows: range = range(10), shard_rows: int = 4, dtype: str = "float32") -> None:
    with AttentionStoreWriter(folder, FINGERPRINT, dtype=dtype, shard_rows=shard_rows) as writer:
        for i in rows:
            writer.add(f"r{i}", f"h{i}", attention(i))


def change_line(path: Path, number: int, change: Callable[[dict[str, object]], object]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines[number])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@settings(deadline=None, max_examples=25)
@given(data=st.data(), dtype=st.sampled_from(["float32", "float16"]), shard_rows=st.integers(1, 5))
def test_any_shapes_round_trip(
    data: st.DataObject, dtype: str, shard_rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    layers = data.draw(st.integers(1, 4))
    shapes = data.draw(
        st.dictionaries(st.text(min_size=1), st.tuples(st.integers(1, 6), st.integers(1, 9)), max_size=12)
    )
    rows = {row_id: torch.randn(layers, *shape) for row_id, shape in shapes.items()}
    with AttentionStoreWriter(folder, FINGERPRINT, dtype, shard_rows) as writer:
        for row_id, values in rows.items():
            writer.add(row_id, f"hash of {row_id}", values)
    store = AttentionStore(folder, FINGERPRINT)
    assert store.ids() == list(rows)
    assert len(store) == len(rows)
    for row_id, values in rows.items():
        got = store.get(row_id, f"hash of {row_id}")
        assert got.dtype == torch.float32
        assert torch.equal(got, values.to(getattr(torch, dtype)).to(torch.float32))
        assert store.shape(row_id) == tuple(values.shape)
    report = store.check()
    assert report.ok
    assert (report.rows, report.values) == (len(rows), sum(values.numel() for values in rows.values()))


def test_ids_are_never_file_names(tmp_path: Path) -> None:
    with AttentionStoreWriter(tmp_path / "s", FINGERPRINT) as writer:
        for i, row_id in enumerate(HOSTILE):
            writer.add(row_id, "h", attention(i))
    assert names_in(tmp_path) == ["s"]
    assert len(names_in(tmp_path / "s")) == 4, "the header, the lock and one shard of two files"
    store = AttentionStore(tmp_path / "s")
    assert all(torch.equal(store.get(row_id, "h"), attention(i)) for i, row_id in enumerate(HOSTILE))


@pytest.mark.parametrize("shard_rows", [1, 3, 512])
def test_resuming_continues_and_never_changes_a_finished_shard(tmp_path: Path, shard_rows: int) -> None:
    write(tmp_path, range(5), shard_rows)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("shard-*")}
    with AttentionStoreWriter(tmp_path, FINGERPRINT, shard_rows=shard_rows) as writer:
        assert writer.done() == {f"r{i}" for i in range(5)}
        assert writer.text_hashes() == {f"r{i}": f"h{i}" for i in range(5)}
        writer.add("r5", "h5", attention(5))
        if shard_rows > 1:
            assert "r5" not in writer.done()
            assert writer.waiting == 1
        writer.flush()
        assert "r5" in writer.done()
    assert all((tmp_path / name).read_bytes() == data for name, data in before.items())
    store = AttentionStore(tmp_path, FINGERPRINT)
    assert store.ids() == [f"r{i}" for i in range(6)]
    assert all(torch.equal(store.get(f"r{i}", f"h{i}"), attention(i)) for i in range(6))


def test_the_store_keeps_what_was_added_and_gives_copies(tmp_path: Path) -> None:
    values = attention(0)
    with AttentionStoreWriter(tmp_path, FINGERPRINT) as writer:
        writer.add("a", "h", values)
        expected = values.clone()
        values.zero_()
        writer.add("b", "h", expected.double().transpose(1, 2).requires_grad_())
        writer.add("c", "h", expected.bfloat16())
    store = AttentionStore(tmp_path)
    store.get("a", "h").zero_()
    assert torch.equal(store.get("a", "h"), expected)
    assert torch.equal(store.get("b", "h"), expected.transpose(1, 2))
    assert torch.equal(store.get("c", "h"), expected.bfloat16().float())
    assert not store.get("b", "h").requires_grad


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({**FINGERPRINT, "teacher": "other"}, ['teacher: "pocket" there, "other" asked for']),
        ({**FINGERPRINT, "spans": "w", "x": "1"}, ['spans: "numbers" there, "w"', 'x: absent there, "1"']),
        ({"teacher": "pocket", "spans": "numbers"}, ['dtype: "bfloat16" there, absent asked for']),
    ],
)
def test_a_wrong_fingerprint_names_each_key_with_both_values(
    tmp_path: Path, wanted: Mapping[str, str], named: list[str]
) -> None:
    write(tmp_path)
    for open_store in (AttentionStore, AttentionStoreWriter):
        with pytest.raises(ArtefactError) as caught:
            open_store(tmp_path, wanted)
        assert f"{len(named)} of its keys differ" in str(caught.value)
        assert all(line in str(caught.value) for line in named)
    assert len(AttentionStore(tmp_path)) == 10
    AttentionStoreWriter(tmp_path, FINGERPRINT).close()


def test_a_store_of_another_dtype_is_not_continued(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ArtefactError, match='dtype of the store: "float32" there, "float16" asked for'):
        AttentionStoreWriter(tmp_path, FINGERPRINT, dtype="float16")


def test_another_text_and_a_missing_row_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    store = AttentionStore(tmp_path)
    with pytest.raises(ArtefactError, match=r"row 'r3' .* hash 'other'; it was made from one with 'h3'"):
        store.get("r3", "other")
    with pytest.raises(MissingRowError, match=r"row 'r99' in .* 10 other rows") as caught:
        store.get("r99", "h")
    assert isinstance(caught.value, ArtefactError)
    assert isinstance(caught.value, LookupError)
    assert "r3" in store
    assert "r99" not in store


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (torch.tensor([[[0.5, NAN]]] * 3), "finite attention"),
        (torch.tensor([[[0.5, -INF]]] * 3), "finite attention"),
        (torch.ones(2, 2), "at least one layer, step and key"),
        (torch.ones(3, 0, 2), "at least one layer, step and key"),
        (torch.ones(3, 2, 0), "at least one layer, step and key"),
        (torch.ones(3, 2, 2, dtype=torch.long), "floating-point"),
        (torch.ones(5, 2, 2), "3 layers, as the store's other rows have"),
        (torch.full((3, 1, 1), 65505.0), "values up to 65504"),
        (torch.full((3, 1, 1), 1e30, dtype=torch.float64), "values up to 65504"),
    ],
)
def test_a_bad_row_is_named_and_takes_no_other_with_it(tmp_path: Path, values: torch.Tensor, problem: str) -> None:
    with AttentionStoreWriter(tmp_path, FINGERPRINT, dtype="float16") as writer:
        writer.add("r0", "h0", attention(0))
        with pytest.raises(ArtefactError, match=f"{problem}.* for the row 'bad'"):
            writer.add("bad", "h", values)
        writer.add("r1", "h1", attention(1))
    assert AttentionStore(tmp_path).ids() == ["r0", "r1"]


def test_half_precision_holds_its_largest_value_and_single_refuses_what_overflows_it(tmp_path: Path) -> None:
    with AttentionStoreWriter(tmp_path / "16", FINGERPRINT, dtype="float16") as writer:
        writer.add("largest", "h", torch.full((1, 1, 1), 65504.0))
    assert AttentionStore(tmp_path / "16").get("largest", "h").item() == 65504.0
    with AttentionStoreWriter(tmp_path / "32", FINGERPRINT) as writer:
        writer.add("r", "h", torch.full((1, 1, 1), 65505.0))
        with pytest.raises(ArtefactError, match=r"as float32 can hold .*'bad'; got 1e\+300"):
            writer.add("bad", "h", torch.full((1, 1, 1), 1e300, dtype=torch.float64))


def test_missing_steps_and_keys_come_back_and_impossible_ones_are_refused(tmp_path: Path) -> None:
    with AttentionStoreWriter(tmp_path, FINGERPRINT) as writer:
        writer.add("a", "h", torch.ones(1, 3, 4), missing_steps=torch.tensor([2, 0]), missing_keys=[3])
        for wrong in ({"missing_steps": [3]}, {"missing_keys": [-1]}, {"missing_keys": ["x"]}):
            with pytest.raises(ArtefactError, match=r"missing .* for the row 'bad'"):
                writer.add("bad", "h", torch.ones(1, 3, 4), **wrong)
        writer.add("b", "h", torch.ones(1, 3, 4))
    store = AttentionStore(tmp_path)
    assert store.missing("a") == ({0, 2}, {3})
    assert store.missing("b") == (set(), set())
    change_line(tmp_path / "shard-00000.jsonl", 1, lambda row: row.update(missing_keys=[4]))
    with pytest.raises(ArtefactError, match="missing steps or keys that a row does not have"):
        AttentionStore(tmp_path)


@pytest.mark.parametrize("row_id", ["r0", "", "\ud800"])
def test_ids_that_repeat_or_cannot_be_written_are_refused(tmp_path: Path, row_id: str) -> None:
    write(tmp_path, range(2))
    with AttentionStoreWriter(tmp_path, FINGERPRINT) as writer:
        writer.add("new", "h", attention(0))
        for bad in (row_id, "new"):
            with pytest.raises(ArtefactError, match="This row was not stored"):
                writer.add(bad, "h", attention(0))
    assert AttentionStore(tmp_path).ids() == ["r0", "r1", "new"]


def test_a_full_disk_keeps_all_rows_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, range(4))
    with AttentionStoreWriter(tmp_path, FINGERPRINT, shard_rows=3) as writer:
        writer.add("r4", "h4", attention(4))
        writer.add("r5", "h5", attention(5))
        with monkeypatch.context() as patch:
            fail_writes(patch)
            with pytest.raises(StageError, match="space"):
                writer.add("r6", "h6", attention(6))
        for room in (100, 600):  # in the values, and after them in the index
            with monkeypatch.context() as patch:
                fail_writes(patch, after=room)
                with pytest.raises(StageError, match="space"):
                    writer.flush()
            assert writer.done() == {f"r{i}" for i in range(4)}
            assert writer.waiting == 3
            assert AttentionStore(tmp_path).ids() == [f"r{i}" for i in range(4)]
        writer.flush()
    store = AttentionStore(tmp_path)
    assert store.ids() == [f"r{i}" for i in range(7)]
    assert store.check().ok
    assert store.check().unfinished == ()


def test_rows_added_before_an_error_are_written(tmp_path: Path) -> None:
    writer = AttentionStoreWriter(tmp_path, FINGERPRINT)

    def work() -> None:
        with writer:
            writer.add("r0", "h0", attention(0))
            raise RuntimeError("the teacher has gone")

    with pytest.raises(RuntimeError, match="gone"):
        work()
    assert AttentionStore(tmp_path).ids() == ["r0"]
    with pytest.raises(ArtefactError, match="an open store"):
        writer.add("r1", "h1", attention(1))


def test_rows_do_not_wait_for_a_full_shard_for_ever(tmp_path: Path) -> None:
    with AttentionStoreWriter(tmp_path, FINGERPRINT, flush_seconds=0.0) as writer:
        writer.add("r0", "h0", attention(0))
        assert AttentionStore(tmp_path).ids() == ["r0"]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with AttentionStoreWriter(tmp_path, FINGERPRINT):
        with pytest.raises(StageError, match=r"attention store .* to be free; process \d+"):
            AttentionStoreWriter(tmp_path, FINGERPRINT)
        assert len(AttentionStore(tmp_path)) == 0
    AttentionStoreWriter(tmp_path, FINGERPRINT).close()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"notes\.txt"):
        AttentionStoreWriter(tmp_path, FINGERPRINT)
    with pytest.raises(DataError, match="header of an attention store"):
        AttentionStore(tmp_path)
    assert names_in(tmp_path) == ["notes.txt"]


def damage_index(folder: Path, change: Callable[[bytes], bytes]) -> None:
    path = folder / "shard-00001.jsonl"
    path.write_bytes(change(path.read_bytes()))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "values cut": (lambda f: _cut(f / "shard-00001.safetensors", 40), r"shard-00001\.safetensors is cut"),
    "values empty": (lambda f: _cut(f / "shard-00001.safetensors", 10**6), r"safetensors is cut"),
    "values gone": (lambda f: (f / "shard-00001.safetensors").unlink(), r"shard-00001\.safetensors cannot be read"),
    "index cut in a line": (lambda f: _cut(f / "shard-00001.jsonl", 10), r"shard-00001\.jsonl is cut"),
    "index cut at a line": (
        lambda f: damage_index(f, lambda data: b"".join(data.splitlines(keepends=True)[:-1])),
        r"shard-00001\.jsonl is cut or was changed: it promises 4 rows and has 3",
    ),
    "index empty": (lambda f: damage_index(f, lambda data: b""), r"shard-00001\.jsonl is cut"),
    "index not JSON": (lambda f: damage_index(f, lambda data: data.replace(b"{", b"[", 1)), "is malformed"),
    "index not UTF-8": (lambda f: damage_index(f, lambda data: data.replace(b"r4", b"\xff4")), "is malformed"),
    "rows swapped": (
        lambda f: damage_index(f, lambda data: b"\n".join([(x := data.split(b"\n"))[0], x[2], x[1], *x[3:]])),
        "do not lie one after another",
    ),
    "shape changed": (
        lambda f: change_line(f / "shard-00001.jsonl", 2, lambda row: row.update(shape=[-1, 2, 2])),
        "is malformed",
    ),
    "shard of another store": (
        lambda f: change_line(f / "shard-00001.jsonl", 0, lambda row: row.update(store="other")),
        "belongs to another store",
    ),
    "shard copied": (
        lambda f: [
            (f / f"shard-00009.{x}").write_bytes((f / f"shard-00001.{x}").read_bytes())
            for x in ("jsonl", "safetensors")
        ],
        r"shard-00009\.safetensors repeats the id 'r4' of shard-00001\.safetensors",
    ),
}


def _cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_by_reader_and_writer(tmp_path: Path, damage: str) -> None:
    write(tmp_path)
    apply, message = DAMAGES[damage]
    apply(tmp_path)
    for open_store in (AttentionStore, AttentionStoreWriter):
        with pytest.raises(ArtefactError, match=message) as caught:
            open_store(tmp_path, FINGERPRINT)
        assert "delete both files of shard-0000" in str(caught.value)


def test_deleting_a_damaged_shard_and_going_on_makes_only_its_rows_anew(tmp_path: Path) -> None:
    write(tmp_path)
    for path in tmp_path.glob("shard-00001.*"):
        path.unlink()
    with AttentionStoreWriter(tmp_path, FINGERPRINT, shard_rows=4) as writer:
        missing = {f"r{i}" for i in range(10)} - writer.done()
        assert missing == {"r4", "r5", "r6", "r7"}
        for i in range(4, 8):
            writer.add(f"r{i}", f"h{i}", attention(i))
    store = AttentionStore(tmp_path)
    assert store.check().ok
    assert all(torch.equal(store.get(f"r{i}", f"h{i}"), attention(i)) for i in range(10))


def test_values_changed_on_the_disk_are_noticed_and_named(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    store = AttentionStore(tmp_path)
    with pytest.raises(ArtefactError, match=r"row 'r7' in .*shard-00001.* hash differs"):
        store.get("r7", "h7")
    assert torch.equal(store.get("r6", "h6"), attention(6))
    (problem,) = store.check().problems
    assert "row 'r7'" in problem
    assert not store.check().ok


def test_not_a_number_on_the_disk_is_noticed_though_its_hash_is_right(tmp_path: Path) -> None:
    write(tmp_path, range(1))
    path, values = tmp_path / "shard-00000.safetensors", attention(0)
    values[0] = NAN
    metadata = {"store": json.loads((tmp_path / "shard-00000.jsonl").read_text().splitlines()[0])["store"]}
    safetensors.torch.save_file({"values": values.flatten()}, path, metadata)
    new = hash_values(values.numpy().data)
    change_line(tmp_path / "shard-00000.jsonl", 1, lambda row: row.update(hash=new))
    store = AttentionStore(tmp_path)
    with pytest.raises(ArtefactError, match=r"finite attention .* row 'r0' .* NaN"):
        store.get("r0", "h0")
    assert "row 'r0'" in store.check().problems[0]


def test_a_header_of_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    header = json.loads((tmp_path / "store.json").read_text())
    for change in ({"format": "2"}, {"dtype": "int8"}, {"fingerprint": None}):
        (tmp_path / "store.json").write_text(json.dumps({**header, **change}))
        with pytest.raises(ArtefactError, match=r"store\.json"):
            AttentionStore(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(DataError, match=r"store\.json"):
        AttentionStore(tmp_path)


def test_a_store_can_go_to_a_worker_process(tmp_path: Path) -> None:
    write(tmp_path)
    store = AttentionStore(tmp_path)
    store.get("r0", "h0")
    data = pickle.dumps(store)  # as a data loader sends it; no file is pickled
    assert len(data) < 1000
    assert torch.equal(pickle.loads(data).get("r9", "h9"), attention(9))  # noqa: S301


def test_ten_thousand_rows_open_and_read_at_once(tmp_path: Path) -> None:
    values = torch.rand(4, 6, 9)
    with AttentionStoreWriter(tmp_path, FINGERPRINT) as writer:
        for i in range(10_000):
            writer.add(f"r{i}", "h", values)
    start = time.process_time()
    store = AttentionStore(tmp_path, FINGERPRINT)
    opened = time.process_time()
    for i in range(0, 10_000, 10):
        store.get(f"r{i}", "h")
    read = time.process_time()
    assert opened - start < 0.8
    assert read - opened < 0.8
