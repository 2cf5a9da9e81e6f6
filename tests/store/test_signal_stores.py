"""Rows of tensors come back as they were stored, or an error names what does not fit."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from faults import fail_writes, names_in
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.errors import ArtefactError, DataError, StageError
from molsaki.store.attention_rows import attention_row, attention_schema, pack_attention
from molsaki.store.schema import TensorSpec
from molsaki.store.shard_rows import hash_tensors
from molsaki.store.shards import hash_bytes
from molsaki.store.signal_reader import MissingRowError, SignalStore
from molsaki.store.signal_writer import SignalWriter, flush_if_due

FINGERPRINT = {"teacher": "pocket", "spans": "numbers", "dtype": "bfloat16"}
SCHEMA = attention_schema(3)
HOSTILE = ["../../etc/passwd", "a/b", "nul\0", "line\nbreak", "\u2028", "x" * 5000, "shard-00000.jsonl", " ", "é"]


def attention(seed: int, layers: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(layers, 1 + seed % 4, 1 + seed % 5, generator=generator)


def row(values: torch.Tensor, **missing: Sequence[int]) -> dict[str, torch.Tensor]:
    return pack_attention(values, [7] * values.shape[1], **missing)


def open_writer(folder: Path, dtype: str = "float32", layers: int = 3, **options: Any) -> SignalWriter:
    return SignalWriter(folder, FINGERPRINT, attention_schema(layers, dtype), **options)


def write(folder: Path, rows: range = range(10), shard_rows: int = 4, dtype: str = "float32") -> None:
    with open_writer(folder, dtype, shard_rows=shard_rows) as writer:
        for i in rows:
            writer.add(f"r{i}", f"h{i}", row(attention(i)))
            flush_if_due([writer])


def get(store: SignalStore, row_id: str, text_hash: str) -> torch.Tensor:
    return attention_row(store, row_id, text_hash).attention_LSK


def mend_index(data: bytes) -> bytes:
    """An index whose first line has the hash of its rows, whatever was done to them."""
    first, _, rest = data.partition(b"\n")
    return json.dumps({**json.loads(first), "index": hash_bytes([rest])}).encode() + b"\n" + rest


def change_line(path: Path, number: int, change: Callable[[dict[str, object]], object]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines[number])
    path.write_bytes(mend_index("".join(json.dumps(line) + "\n" for line in lines).encode()))


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
    with open_writer(folder, dtype, layers, shard_rows=shard_rows) as writer:
        for row_id, values in rows.items():
            writer.add(row_id, f"hash of {row_id}", row(values))
            flush_if_due([writer])
    store = SignalStore(folder, FINGERPRINT)
    assert store.ids() == list(rows)
    assert len(store) == len(rows)
    for row_id, values in rows.items():
        got = get(store, row_id, f"hash of {row_id}")
        assert got.dtype == torch.float32
        assert torch.equal(got, values.to(getattr(torch, dtype)).to(torch.float32))
        sizes = {"steps": values.shape[1], "keys": values.shape[2], "missing_steps": 0, "missing_keys": 0}
        assert store.sizes(row_id) == sizes
    report = store.check()
    assert report.ok
    each = 4 if dtype == "float32" else 2
    assert report.rows == len(rows)
    assert report.bytes == sum(each * values.numel() + 4 * values.shape[1] for values in rows.values())


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_rows_of_several_tensors_round_trip(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("store")
    schema = {
        "a": TensorSpec("float32", ("P", data.draw(st.integers(0, 3)))),
        "b": TensorSpec("int32", ("P", 2)),
        "c": TensorSpec("float16", ("Q", "P", "Q")),
        "d": TensorSpec("int32", ("P",), below="Q"),
    }
    rows = {}
    for i in range(data.draw(st.integers(1, 5))):
        sizes = {"P": data.draw(st.integers(0, 4)), "Q": data.draw(st.integers(1, 3))}
        shapes = {name: spec.shape_in(sizes) for name, spec in schema.items()}
        rows[f"r{i}"] = {
            "a": torch.randn(shapes["a"]),
            "b": torch.randint(-(2**31), 2**31, shapes["b"]),
            "c": torch.randn(shapes["c"]).half(),
            "d": torch.randint(0, sizes["Q"], shapes["d"]),
        }
    with SignalWriter(folder, {}, schema, shard_rows=2) as writer:
        for row_id, tensors in rows.items():
            writer.add(row_id, "h", tensors)
            flush_if_due([writer])
    store = SignalStore(folder, {})
    assert store.schema == schema
    for row_id, tensors in rows.items():
        got = store.get(row_id, "h")
        assert list(got) == list(schema)
        assert all(torch.equal(got[name], tensor.to(got[name].dtype)) for name, tensor in tensors.items())
    assert store.check().ok


PAIR = {"a": TensorSpec("float32", ("P", 2)), "b": TensorSpec("int32", ("P",), below="P")}


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"a": torch.ones(3, 2)}, "the tensors a, b"),
        ({"a": torch.ones(3, 2), "b": torch.zeros(2).int()}, r"b of the shape \['P'\]"),
        ({"a": torch.ones(3, 3), "b": torch.zeros(3).int()}, r"a of the shape \['P', 2\]"),
        ({"a": torch.ones(3), "b": torch.zeros(3).int()}, "a of the shape"),
        ({"a": torch.ones(3, 2), "b": torch.zeros(3)}, "whole numbers in its b"),
        ({"a": torch.ones(3, 2).int(), "b": torch.zeros(3).int()}, "floating-point numbers in its a"),
        ({"a": torch.ones(3, 2), "b": torch.tensor([0, 3, 1])}, "b that are not from 0 to 2"),
        ({"a": torch.ones(3, 2), "b": torch.tensor([0, -1, 1])}, "b that are not from 0 to 2"),
        ({"a": torch.full((3, 2), float("inf")), "b": torch.zeros(3).int()}, "infinity among the numbers of its a"),
    ],
)
def test_tensors_that_are_not_the_schemas_are_named(
    tmp_path: Path, tensors: dict[str, torch.Tensor], problem: str
) -> None:
    with (
        SignalWriter(tmp_path, {}, PAIR) as writer,
        pytest.raises(ArtefactError, match=f"{problem}.*'bad'|'bad'.*{problem}"),
    ):
        writer.add("bad", "h", tensors)
    assert len(SignalStore(tmp_path)) == 0


def test_stores_that_are_flushed_together_have_the_same_rows(tmp_path: Path) -> None:
    with open_writer(tmp_path / "a", shard_rows=3) as one, open_writer(tmp_path / "b", shard_rows=100) as other:
        for i in range(7):
            for writer in (one, other):
                writer.add(f"r{i}", "h", row(attention(i)))
            flush_if_due([one, other])
            assert one.done() == other.done() == {f"r{j}" for j in range(3 * ((i + 1) // 3))}
    assert SignalStore(tmp_path / "a").ids() == SignalStore(tmp_path / "b").ids()


def test_ids_are_never_file_names(tmp_path: Path) -> None:
    with open_writer(tmp_path / "s") as writer:
        for i, row_id in enumerate(HOSTILE):
            writer.add(row_id, "h", row(attention(i)))
    assert names_in(tmp_path) == ["s"]
    assert len(names_in(tmp_path / "s")) == 4, "the header, the lock and one shard of two files"
    store = SignalStore(tmp_path / "s")
    assert all(torch.equal(get(store, row_id, "h"), attention(i)) for i, row_id in enumerate(HOSTILE))


@pytest.mark.parametrize("shard_rows", [1, 3, 512])
def test_resuming_continues_and_never_changes_a_finished_shard(tmp_path: Path, shard_rows: int) -> None:
    write(tmp_path, range(5), shard_rows)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("shard-*")}
    with open_writer(tmp_path, shard_rows=shard_rows) as writer:
        assert writer.done() == {f"r{i}" for i in range(5)}
        assert writer.text_hashes() == {f"r{i}": f"h{i}" for i in range(5)}
        writer.add("r5", "h5", row(attention(5)))
        assert "r5" not in writer.done()
        assert (writer.waiting, writer.is_due) == (1, shard_rows == 1)
        writer.flush()
        assert "r5" in writer.done()
    assert all((tmp_path / name).read_bytes() == data for name, data in before.items())
    store = SignalStore(tmp_path, FINGERPRINT)
    assert store.ids() == [f"r{i}" for i in range(6)]
    assert all(torch.equal(get(store, f"r{i}", f"h{i}"), attention(i)) for i in range(6))


def test_the_store_keeps_what_was_added_and_gives_copies(tmp_path: Path) -> None:
    values = attention(0)
    with open_writer(tmp_path) as writer:
        writer.add("a", "h", row(values))
        expected = values.clone()
        values.zero_()
        writer.add("b", "h", row(expected.double().transpose(1, 2).requires_grad_()))
        writer.add("c", "h", row(expected.bfloat16()))
    store = SignalStore(tmp_path)
    get(store, "a", "h").zero_()
    assert torch.equal(get(store, "a", "h"), expected)
    assert torch.equal(get(store, "b", "h"), expected.transpose(1, 2))
    assert torch.equal(get(store, "c", "h"), expected.bfloat16().float())
    assert not get(store, "b", "h").requires_grad


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({**FINGERPRINT, "teacher": "other"}, ['teacher: found "pocket", requested "other"']),
        (
            {**FINGERPRINT, "spans": "w", "x": "1"},
            ['spans: found "numbers", requested "w"', 'x: found absent, requested "1"'],
        ),
        ({"teacher": "pocket", "spans": "numbers"}, ['dtype: found "bfloat16", requested absent']),
    ],
)
def test_a_wrong_fingerprint_names_each_key_with_both_values(
    tmp_path: Path, wanted: Mapping[str, str], named: list[str]
) -> None:
    write(tmp_path)
    for open_store in (lambda: SignalStore(tmp_path, wanted), lambda: SignalWriter(tmp_path, wanted, SCHEMA)):
        with pytest.raises(ArtefactError) as caught:
            open_store()
        assert f"{len(named)} of its keys differ" in str(caught.value)
        assert all(line in str(caught.value) for line in named)
    assert len(SignalStore(tmp_path)) == 10
    open_writer(tmp_path).close()


def test_a_store_of_other_tensors_is_not_continued(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ArtefactError, match=r'attention\.dtype: found "float32", requested "float16"'):
        open_writer(tmp_path, dtype="float16")
    with pytest.raises(ArtefactError, match=r"attention\.shape: found \[3, .*, requested \[5, "):
        open_writer(tmp_path, layers=5)


def test_another_text_and_a_missing_row_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    store = SignalStore(tmp_path)
    with pytest.raises(ArtefactError, match=r"row 'r3' .* hash 'other'.* 'h3'"):
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
        (torch.tensor([[[0.5, NAN]]] * 3), "numbers that can be stored"),
        (torch.tensor([[[0.5, -INF]]] * 3), "numbers that can be stored"),
        (torch.ones(2, 2), "attention of the shape"),
        (torch.ones(3, 2, 2, dtype=torch.long), "floating-point"),
        (torch.ones(5, 2, 2), "attention of the shape"),
        (torch.full((3, 1, 1), 65505.0), "attention up to 65504"),
        (torch.full((3, 1, 1), 1e30, dtype=torch.float64), "attention up to 65504"),
    ],
)
def test_a_bad_row_is_named_and_takes_no_other_with_it(tmp_path: Path, values: torch.Tensor, problem: str) -> None:
    with open_writer(tmp_path, "float16") as writer:
        writer.add("r0", "h0", row(attention(0)))
        with pytest.raises(ArtefactError, match=f"{problem}.* for the row 'bad'"):
            writer.add("bad", "h", row(values))
        writer.add("r1", "h1", row(attention(1)))
    assert SignalStore(tmp_path).ids() == ["r0", "r1"]


def test_half_precision_holds_its_largest_value_and_single_refuses_what_overflows_it(tmp_path: Path) -> None:
    with open_writer(tmp_path / "16", "float16", 1) as writer:
        writer.add("largest", "h", row(torch.full((1, 1, 1), 65504.0)))
    assert get(SignalStore(tmp_path / "16"), "largest", "h").item() == 65504.0
    with open_writer(tmp_path / "32", layers=1) as writer:
        writer.add("r", "h", row(torch.full((1, 1, 1), 65505.0)))
        with pytest.raises(ArtefactError, match=r"as float32 can hold .*'bad'; got 1e\+300"):
            writer.add("bad", "h", row(torch.full((1, 1, 1), 1e300, dtype=torch.float64)))


def test_missing_steps_and_keys_come_back_and_impossible_ones_are_refused(tmp_path: Path) -> None:
    with open_writer(tmp_path, layers=1) as writer:
        writer.add("a", "h", row(torch.ones(1, 3, 4), missing_steps=[0, 2], missing_keys=[3]))
        for name, wrong in (("missing_steps", [3]), ("missing_keys", [-1])):
            with pytest.raises(ArtefactError, match=f"'bad'.*{name}"):
                writer.add("bad", "h", row(torch.ones(1, 3, 4), **{name: wrong}))
        writer.add("b", "h", row(torch.ones(1, 3, 4)))
    store = SignalStore(tmp_path)
    found = attention_row(store, "a", "h")
    assert (found.missing_steps, found.missing_keys, found.step_tokens) == ((0, 2), (3,), (7, 7, 7))
    assert attention_row(store, "b", "h").missing_steps == ()


@pytest.mark.parametrize("row_id", ["r0", "", "\ud800"])
def test_ids_that_repeat_or_cannot_be_written_are_refused(tmp_path: Path, row_id: str) -> None:
    write(tmp_path, range(2))
    with open_writer(tmp_path) as writer:
        writer.add("new", "h", row(attention(0)))
        for bad in (row_id, "new"):
            with pytest.raises(ArtefactError, match="This row was not stored"):
                writer.add(bad, "h", row(attention(0)))
    assert SignalStore(tmp_path).ids() == ["r0", "r1", "new"]


def test_a_full_disk_keeps_all_rows_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, range(4))
    with open_writer(tmp_path, shard_rows=3) as writer:
        for i in (4, 5, 6):
            writer.add(f"r{i}", f"h{i}", row(attention(i)))
        with monkeypatch.context() as patch:
            fail_writes(patch)
            with pytest.raises(StageError, match="space"):
                flush_if_due([writer])
        for room in (100, 900):  # in the values, and after them in the index
            with monkeypatch.context() as patch:
                fail_writes(patch, after=room)
                with pytest.raises(StageError, match="space"):
                    writer.flush()
            assert writer.done() == {f"r{i}" for i in range(4)}
            assert writer.waiting == 3
            assert SignalStore(tmp_path).ids() == [f"r{i}" for i in range(4)]
        writer.flush()
    store = SignalStore(tmp_path)
    assert store.ids() == [f"r{i}" for i in range(7)]
    assert store.check().ok
    assert store.check().unfinished == ()


def test_rows_added_before_an_error_are_written(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)

    def work() -> None:
        with writer:
            writer.add("r0", "h0", row(attention(0)))
            raise RuntimeError("the teacher has gone")

    with pytest.raises(RuntimeError, match="gone"):
        work()
    assert SignalStore(tmp_path).ids() == ["r0"]
    with pytest.raises(ArtefactError, match="an open store"):
        writer.add("r1", "h1", row(attention(1)))


def test_rows_do_not_wait_for_a_full_shard_for_ever(tmp_path: Path) -> None:
    with open_writer(tmp_path, flush_seconds=0.0) as writer:
        assert not writer.is_due
        writer.add("r0", "h0", row(attention(0)))
        flush_if_due([writer])
        assert SignalStore(tmp_path).ids() == ["r0"]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with open_writer(tmp_path):
        with pytest.raises(StageError, match=r"store .* to be free; process \d+"):
            open_writer(tmp_path)
        assert len(SignalStore(tmp_path)) == 0
    open_writer(tmp_path).close()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"notes\.txt"):
        open_writer(tmp_path)
    with pytest.raises(DataError, match="header"):
        SignalStore(tmp_path)
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
        r"shard-00001\.jsonl is cut or was changed",
    ),
    "index empty": (lambda f: damage_index(f, lambda data: b""), r"shard-00001\.jsonl is cut"),
    "index not JSON": (lambda f: damage_index(f, lambda data: data.replace(b"{", b"[", 1)), "malformed"),
    "index not UTF-8": (lambda f: damage_index(f, lambda data: mend_index(data.replace(b"r4", b"\xff4"))), "malformed"),
    "index without a row": (lambda f: damage_index(f, lambda data: mend_index(data.splitlines()[0])), "malformed"),
    "rows swapped": (
        lambda f: damage_index(f, lambda data: b"\n".join([(x := data.split(b"\n"))[0], x[2], x[1], *x[3:]])),
        "is cut or was changed",
    ),
    "sizes changed": (
        lambda f: change_line(f / "shard-00001.jsonl", 2, lambda line: line.update(sizes={"steps": -1, "keys": 2})),
        "is malformed",
    ),
    "sizes beyond the file": (
        lambda f: change_line(f / "shard-00001.jsonl", 2, lambda line: line["sizes"].update(steps=10**9)),  # type: ignore[attr-defined]
        "is cut or was changed",
    ),
    "shard of another store": (
        lambda f: change_line(f / "shard-00001.jsonl", 0, lambda line: line.update(store="other")),
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
    for open_store in (SignalStore, open_writer):
        with pytest.raises(ArtefactError, match=message) as caught:
            open_store(tmp_path)
        assert "delete both files of shard-0000" in str(caught.value)


def test_deleting_a_damaged_shard_and_going_on_makes_only_its_rows_anew(tmp_path: Path) -> None:
    write(tmp_path)
    for path in tmp_path.glob("shard-00001.*"):
        path.unlink()
    with open_writer(tmp_path, shard_rows=4) as writer:
        missing = {f"r{i}" for i in range(10)} - writer.done()
        assert missing == {"r4", "r5", "r6", "r7"}
        for i in range(4, 8):
            writer.add(f"r{i}", f"h{i}", row(attention(i)))
    store = SignalStore(tmp_path)
    assert store.check().ok
    assert all(torch.equal(get(store, f"r{i}", f"h{i}"), attention(i)) for i in range(10))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    """Change the tensors of a store of one row; gives the hash that the row would have."""
    path = folder / "shard-00000.safetensors"
    flat = safetensors.torch.load_file(path)
    change(flat)
    safetensors.torch.save_file(flat, path)
    change_line(folder / "shard-00000.jsonl", 0, lambda line: line.update(bytes=path.stat().st_size))
    return hash_tensors({name: flat[name] for name in SCHEMA if name in flat})


def test_numbers_changed_on_the_disk_are_noticed_and_named(tmp_path: Path) -> None:
    write(tmp_path, range(1))
    change_tensors(tmp_path, lambda flat: flat["attention"].mul_(2))
    store = SignalStore(tmp_path)
    with pytest.raises(ArtefactError, match=r"row 'r0' in .*shard-00000.* hash differs"):
        get(store, "r0", "h0")
    (problem,) = store.check().problems
    assert "row 'r0'" in problem
    assert not store.check().ok


@pytest.mark.parametrize(("name", "number"), [("attention", NAN), ("step_tokens", -1)])
def test_numbers_that_the_schema_excludes_are_noticed_though_their_hash_is_right(
    tmp_path: Path, name: str, number: float
) -> None:
    write(tmp_path, range(1))
    new = change_tensors(tmp_path, lambda flat: flat[name].fill_(number))
    change_line(tmp_path / "shard-00000.jsonl", 1, lambda line: line.update(hash=new))
    store = SignalStore(tmp_path)
    with pytest.raises(ArtefactError, match=f"'r0'.*{name}"):
        get(store, "r0", "h0")
    assert "row 'r0'" in store.check().problems[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda flat: flat.update(attention=flat["attention"].int()),
        lambda flat: flat.update(attention=torch.cat([flat["attention"]] * 2)),
        lambda flat: flat.update(other=flat.pop("attention")),
    ],
)
def test_tensors_of_other_types_sizes_or_names_are_named(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    write(tmp_path, range(1))
    change_tensors(tmp_path, change)
    store = SignalStore(tmp_path)
    with pytest.raises(ArtefactError, match="shard-00000"):
        get(store, "r0", "h0")
    assert "shard-00000" in store.check().problems[0]


def test_a_header_of_another_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write(tmp_path)
    header = json.loads((tmp_path / "store.json").read_text())
    one = header["tensors"]["attention"]
    changes: tuple[dict[str, Any], ...] = (
        {"format": "2"},
        {"fingerprint": None},
        {"tensors": None},
        {"tensors": {}},
        {"tensors": {"a": {**one, "dtype": "int8"}}},
        {"tensors": {"a": {**one, "shape": [-1, "steps"]}}},
        {"tensors": {"a": {**one, "shape": [1.5]}}},
        {"tensors": {"a": {**one, "below": "nothing"}}},
    )
    for change in changes:
        (tmp_path / "store.json").write_text(json.dumps({**header, **change}))
        with pytest.raises(ArtefactError, match=r"store\.json"):
            SignalStore(tmp_path)
    (tmp_path / "store.json").write_text(json.dumps({"format": "molsaki attention store 1", "dtype": "float32"}))
    for open_store in (SignalStore, open_writer):
        with pytest.raises(ArtefactError, match=r"'molsaki attention store 1'.* run `molsaki attend`"):
            open_store(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(DataError, match=r"store\.json"):
        SignalStore(tmp_path)


def test_a_store_can_go_to_a_worker_process(tmp_path: Path) -> None:
    write(tmp_path)
    store = SignalStore(tmp_path)
    get(store, "r0", "h0")
    data = pickle.dumps(store)  # as a data loader sends it; no file is pickled
    assert len(data) < 1000
    assert torch.equal(get(pickle.loads(data), "r9", "h9"), attention(9))  # noqa: S301


def test_ten_thousand_rows_open_and_read_at_once(tmp_path: Path) -> None:
    values = row(torch.rand(4, 6, 9))
    with open_writer(tmp_path, layers=4) as writer:
        for i in range(10_000):
            writer.add(f"r{i}", "h", values)
            flush_if_due([writer])
    start = time.process_time()
    store = SignalStore(tmp_path, FINGERPRINT)
    opened = time.process_time()
    for i in range(0, 10_000, 10):
        get(store, f"r{i}", "h")
    read = time.process_time()
    assert opened - start < 0.8
    assert read - opened < 0.8
