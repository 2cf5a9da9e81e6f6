"""A long trace's rows take little space, and what that costs is measured and stored beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from molsaki.errors import ArtefactError
from molsaki.store import attention_rows as rows
from molsaki.store.schema import row_bytes
from molsaki.store.signal_reader import SignalStore
from molsaki.store.signal_writer import SignalWriter


def peaked(layers: int, steps: int, keys: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention on a few keys of each step, exactly 0 on keys that start later, and which keys a step can see."""
    generator = torch.Generator().manual_seed(seed)
    visible_SK = torch.arange(keys) * steps <= torch.arange(1, steps + 1)[:, None] * keys
    logits_LSK = 3 * torch.randn(layers, steps, keys, generator=generator)
    return 10 * logits_LSK.masked_fill(~visible_SK, -torch.inf).softmax(2), visible_SK


def pack(full: torch.Tensor, visible: torch.Tensor, top: int, dtype: str = "float16") -> dict[str, torch.Tensor]:
    row, middle = rows.CompactRow((~visible).sum(0), top, dtype), full.shape[1] // 2
    for part in (full[:, :middle], full[:, middle:]):
        if part.shape[1]:
            row.add(part)
    return row.finish(rows.pack_numbers([12] * full.shape[1]))


def store_one(folder: Path, row: dict[str, torch.Tensor], layers: int, dtype: str = "float16") -> SignalStore:
    with SignalWriter(folder, {"teacher": "random"}, rows.compact_schema(layers, dtype)) as writer:
        writer.add("a", "h", row)
    return SignalStore(folder)


def test_a_trace_of_ten_thousand_tokens_takes_two_megabytes(tmp_path: Path) -> None:
    full, visible = peaked(32, 600, 800)
    store = store_one(tmp_path, pack(full, visible, 24), 32)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_000_000
    read = rows.attention_row(store, "a", "h").attention_LSK
    largest, mean = rows.stored_error(store)
    apart = (read - full).abs()
    assert (float(apart.max()), float(apart.mean())) == pytest.approx((largest, mean), rel=1e-4)
    torch.testing.assert_close(read.sum(2), full.sum(2), rtol=2e-3, atol=1e-3)
    assert not read[:, ~visible].any(), "a step got attention on a key that starts later"


def test_words_of_a_long_trace_take_twenty_megabytes() -> None:
    sizes = {rows.STEPS: 5000, rows.KEYS: 5000, rows.KEPT: 24, rows.MISSING_STEPS: 0, rows.MISSING_KEYS: 0}
    assert row_bytes(rows.compact_schema(32, "float16"), sizes) < 20_000_000


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_all_keys_kept_is_the_full_row(dtype: str, tmp_path: Path) -> None:
    full, visible = peaked(3, 7, 5)
    store = store_one(tmp_path, pack(full, visible, 99, dtype), 3, dtype)
    read = rows.attention_row(store, "a", "h").attention_LSK
    assert store.sizes("a")[rows.KEPT] == 5
    assert torch.equal(read, rows.round_to(full, dtype))
    assert (rows.stored_error(store)[0] == 0) == (dtype == "float32")


def test_the_rest_is_not_spread_over_keys_that_no_step_has(tmp_path: Path) -> None:
    full, visible = peaked(2, 6, 9)
    full[:, :, 3], full[:, 2] = 0, 0  # a key and a step without a token of the teacher
    visible = visible.clone()
    visible[:, 3] = False
    read = rows.attention_row(store_one(tmp_path, pack(full, visible, 2), 2), "a", "h").attention_LSK
    assert not read[:, :, 3].any()
    assert not read[:, 2].any()


def test_an_error_over_several_rows_is_weighted_by_their_numbers(tmp_path: Path) -> None:
    cases = [peaked(2, 4, 5, 1), peaked(2, 30, 40, 2)]
    with SignalWriter(tmp_path, {}, rows.compact_schema(2, "float16"), shard_rows=1) as writer:
        for i, (full, visible) in enumerate(cases):
            writer.add(f"r{i}", "h", pack(full, visible, 3))
            writer.flush()
    store = SignalStore(tmp_path)
    apart = [(rows.attention_row(store, f"r{i}", "h").attention_LSK - full).abs() for i, (full, _) in enumerate(cases)]
    every = torch.cat([one.flatten() for one in apart])
    assert rows.stored_error(store) == pytest.approx((float(every.max()), float(every.mean())), rel=1e-4)


def test_a_key_beyond_sixteen_bits_is_refused_by_name(tmp_path: Path) -> None:
    full = torch.zeros(1, 1, 40_000)
    full[0, 0, 39_000] = 1
    with SignalWriter(tmp_path, {}, rows.compact_schema(1, "float16")) as writer, pytest.raises(ArtefactError) as error:
        writer.add("a", "h", pack(full, torch.ones(1, 40_000, dtype=torch.bool), 2))
    assert "'a'" in str(error.value)
    assert rows.TOP_KEYS in str(error.value)


def test_the_spans_of_a_row_are_read_without_its_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, visible = peaked(2, 4, 5)
    store = store_one(tmp_path, pack(full, visible, 3), 2)
    asked: list[object] = []
    get = SignalStore.get
    monkeypatch.setattr(SignalStore, "get", lambda self, *args: asked.append(args[2:]) or get(self, *args))
    spans = rows.row_spans(store, "a", "h")
    assert (spans.steps, spans.keys, spans.step_tokens) == (4, 5, (12,) * 4)
    assert all(names and rows.ATTENTION not in names[0] for names in asked)


def test_a_refused_reading_leaves_a_store_that_another_form_can_take(tmp_path: Path) -> None:
    with SignalWriter(tmp_path, {"form": "full"}, rows.attention_schema(2)):
        pass
    full, visible = peaked(2, 4, 5)
    assert len(store_one(tmp_path, pack(full, visible, 3), 2)) == 1
    with pytest.raises(ArtefactError):
        SignalWriter(tmp_path, {"form": "full"}, rows.attention_schema(2))


def test_a_compact_row_with_other_numbers_is_found(tmp_path: Path) -> None:
    full, visible = peaked(2, 4, 5)
    store = store_one(tmp_path, pack(full, visible, 3), 2)
    path = next(tmp_path.glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert not store.check().ok
    with pytest.raises(ArtefactError):
        SignalStore(tmp_path).get("a", "h")
