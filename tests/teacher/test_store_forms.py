"""A compact store is the teacher's attention within its measured error, and one that is too large is never begun."""

from __future__ import annotations

import pytest
import torch
from teacher_texts import TEMPLATE, load_teacher, make_texts, read_all

from molsaki.errors import InputError
from molsaki.spans.views import STEPS, WORDS
from molsaki.store.attention_rows import ATTENTION, KEPT, REST, TOP_KEYS, attention_row, stored_error
from molsaki.teacher import read_signals
from molsaki.teacher.collect_attention import LayerMix
from molsaki.teacher.read_attention import AttentionSignal
from molsaki.teacher.read_signals import prepare_texts
from molsaki.teacher.store_sizes import StoreLimits


@pytest.fixture(scope="module")
def teacher():
    return load_teacher()


def signal(view=STEPS, dtype="float16", mix=None, top=2):
    return AttentionSignal(view, "numbers", dtype, mix, top)


@pytest.mark.parametrize(("view", "mix", "top"), [(STEPS, None, 2), (WORDS, None, 4), (STEPS, LayerMix(), None)])
def test_a_form_reads_back_within_its_own_error(view, mix, top, teacher, tmp_path):
    texts = make_texts(5)
    compact = signal(view, "float16", mix, top)
    (full,), (kept,) = (
        read_all(teacher, tmp_path / name, texts, [one])[0].values()
        for name, one in (("full", AttentionSignal(view, "numbers", "float32", mix)), ("kept", compact))
    )
    largest, mean = stored_error(kept)
    rows = [[attention_row(s, t.id, t.text_hash).attention_LSK for s in (full, kept)] for t in texts]
    apart = torch.cat([(one - other).abs().flatten() for one, other in rows])
    assert 0 < mean <= largest
    assert (float(apart.max()), float(apart.mean())) == pytest.approx((largest, mean), rel=1e-3)
    prepared, _ = prepare_texts(teacher[1], texts, TEMPLATE, 200, [compact])
    for text in prepared:
        row = kept.get(text.text.id, text.text.text_hash)
        assert compact.check(text.items[view.name], row) == []
        assert kept.sizes(text.text.id) == compact.sizes(text.items[view.name])


def test_a_compact_reading_that_was_killed_goes_on_to_the_same_rows(teacher, tmp_path):
    texts = make_texts(7)
    (whole,), (resumed,) = (
        [read_all(teacher, tmp_path / name, some, [signal()])[0][STEPS.name] for some in parts][-1:]
        for name, parts in (("a", [texts]), ("b", [texts[:3], texts]))
    )
    for text in texts:
        one, other = (store.get(text.id, text.text_hash) for store in (whole, resumed))
        torch.testing.assert_close(one[ATTENTION], other[ATTENTION], rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(one[REST], other[REST], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("cut", [60, 75, 200])
def test_cut_texts_have_compact_rows_that_pass_the_check(cut, teacher, tmp_path):
    texts, one = make_texts(4), signal()
    store = read_all(teacher, tmp_path, texts, [one], max_length=cut)[0][STEPS.name]
    for text in prepare_texts(teacher[1], texts, TEMPLATE, cut, [one])[0]:
        assert one.check(text.items[STEPS.name], store.get(text.text.id, text.text.text_hash)) == []


def test_a_compact_row_that_is_impossible_is_found(teacher, tmp_path):
    texts, one = make_texts(1), signal()
    store = read_all(teacher, tmp_path, texts, [one])[0][STEPS.name]
    (text,) = prepare_texts(teacher[1], texts, TEMPLATE, 200, [one])[0]
    row, item = store.get(text.text.id, text.text.text_hash), text.items[STEPS.name]
    for name, value in ((REST, 1e4), (ATTENTION, -1.0)):
        assert one.check(item, {**row, name: torch.full_like(row[name], value)})
    assert one.check(item, {**row, "first_step": row["first_step"] + 1})
    assert set(row[TOP_KEYS].unique().tolist()) <= set(range(item.tokens.n_keys))


@pytest.mark.parametrize("limits", [StoreLimits(row_mb=2e-3, store_gb=1), StoreLimits(row_mb=1, store_gb=4e-6)])
def test_a_store_that_is_too_large_is_refused_before_anything_is_read(limits, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(read_signals, "read_rows", lambda *_: pytest.fail("the teacher was read"))
    with pytest.raises(InputError) as error:
        read_all(teacher, tmp_path, make_texts(4), [AttentionSignal(WORDS)], limits=limits)
    for said in ("attention.top", "attention.max_row_mb", "attention.max_store_gb", "words"):
        assert said in str(error.value)


def test_the_setting_that_a_refusal_names_is_small_enough(teacher, tmp_path):
    texts, limits = make_texts(4), StoreLimits(row_mb=2e-3, store_gb=1)
    with pytest.raises(InputError) as error:
        read_all(teacher, tmp_path, texts, [AttentionSignal(WORDS)], limits=limits)
    top = int(str(error.value).split("attention.top to ")[1].split()[0])
    store = read_all(teacher, tmp_path / "b", texts, [signal(WORDS, top=top)], limits=limits)[0][WORDS.name]
    assert max(store.sizes(row)[KEPT] for row in store.ids()) == top
    assert len(store) == 4


def test_sizes_are_known_before_a_rationale_is_written(teacher):
    one = signal(top=3)
    expected, _ = one.expected_sizes(100)
    assert expected[KEPT] == 3
    (prepared,) = prepare_texts(teacher[1], make_texts(1), TEMPLATE, 200, [one])[0]
    assert set(expected) == set(one.sizes(prepared.items[STEPS.name]))
