"""One forward pass a batch gives all signals of a teacher, and a reading that is killed goes on to the same rows."""

from __future__ import annotations

import os
import signal as signals_of_the_system
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from teacher_texts import TEMPLATE, load_teacher, make_signals, make_texts, read_all
from tiny_models import make_model

from molsaki.encoding.token_map import NO_SPAN
from molsaki.errors import ArtefactError, TokenizerError
from molsaki.spans.text import Text
from molsaki.spans.views import STEPS, WORDS
from molsaki.store.next_tokens import LOG_PROBS, LOG_SUMS, next_tokens
from molsaki.teacher.collect_attention import LayerMix
from molsaki.teacher.read_attention import NO_KEYS, AttentionSignal
from molsaki.teacher.read_logits import NOTHING_LEFT, NextTokenSignal
from molsaki.teacher.read_signals import batches_of, prepare_texts, read_rows
from molsaki.teacher.signals import CUT

NAMES = ["steps", "heads", "words", "next-tokens"]


@pytest.fixture(scope="module")
def teacher():
    return load_teacher()


def assert_same(one, other, texts, atol=0.0):
    """Two sets of stores have the same rows: bit for bit, or floating-point numbers to within `atol`."""
    assert one.keys() == other.keys()
    for name, store in one.items():
        assert set(store.ids()) == set(other[name].ids())
        for text in (text for text in texts if text.id in store):
            mine, theirs = store.get(text.id, text.text_hash), other[name].get(text.id, text.text_hash)
            for part, tensor in mine.items():
                torch.testing.assert_close(tensor, theirs[part], atol=atol, rtol=atol, msg=f"{name} {text.id} {part}")


def count_passes(model, monkeypatch):
    """The lengths of the batches that a model reads from now on."""
    widths, forward = [], model.forward

    def counted(*arguments, **given):
        if given["input_ids"].shape != (1, 2):  # the two tokens that find the layers
            widths.append(given["input_ids"].shape[1])
        return forward(*arguments, **given)

    monkeypatch.setattr(model, "forward", counted)
    return widths


def test_a_batch_is_read_once_however_many_signals_there_are(teacher, tmp_path, monkeypatch):
    texts = make_texts(9)
    prepared, _ = prepare_texts(teacher[1], texts, TEMPLATE, 200, make_signals())
    expected = len(list(batches_of(prepared, 170)))
    for some in (make_signals()[:1], make_signals()):
        monkeypatch.undo()
        widths = count_passes(teacher[0], monkeypatch)
        read_all(teacher, tmp_path / str(len(some)), texts, some, batch_tokens=170)
        assert len(widths) == expected


def test_one_pass_gives_what_a_pass_for_each_signal_gives(teacher, tmp_path):
    texts = [*make_texts(7), Text("none", "Why does he?", "He likes it.", "numbers")]
    together, reports = read_all(teacher, tmp_path / "all", texts, batch_tokens=200)
    for signal in make_signals():
        alone, report = read_all(teacher, tmp_path / "alone", texts, [signal], batch_tokens=200)
        # The text without a key is in the batches of some signals alone, and next tokens alone are read without the
        # attention's kernels: rounding differs.
        assert_same({signal.name: together[signal.name]}, alone, texts, atol=1e-6)
        assert reports[signal.name] == report[signal.name]


def test_of_the_same_batch_one_pass_gives_the_same_bits(teacher, tmp_path):
    texts = make_texts(6)
    together, _ = read_all(teacher, tmp_path / "all", texts)
    for signal in make_signals()[:3]:
        alone, _ = read_all(teacher, tmp_path / "alone", texts, [signal])
        assert_same({signal.name: together[signal.name]}, alone, texts)
    pair, _ = read_all(teacher, tmp_path / "pair", texts, [make_signals()[0], make_signals()[3]])
    assert_same({"next-tokens": together["next-tokens"]}, {"next-tokens": pair["next-tokens"]}, texts)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_every_architecture_gives_the_same_together_and_alone(teacher, architecture):
    tokenizer = teacher[1]
    more = {"n_positions": 256} if architecture == "gpt2" else {"max_position_embeddings": 256}
    model = make_model(architecture, vocab_size=len(tokenizer), **more)
    prepared, _ = prepare_texts(tokenizer, make_texts(4), TEMPLATE, 200, make_signals())
    together = read_rows(model, tokenizer, prepared, make_signals())
    for signal in make_signals():
        for rows, alone in zip(together, read_rows(model, tokenizer, prepared, [signal]), strict=True):
            for part, tensor in alone[signal.name].items():
                tolerance = 1e-6 if signal.name == "next-tokens" else 0.0
                torch.testing.assert_close(rows[signal.name][part], tensor, atol=tolerance, rtol=tolerance)


def test_next_tokens_are_the_models_own(teacher, tmp_path):
    model, tokenizer = teacher
    texts = make_texts(5)
    stores, report = read_all(teacher, tmp_path / "a", texts, batch_tokens=200)
    assert report["next-tokens"].kept == 5
    prepared, _ = prepare_texts(tokenizer, texts, TEMPLATE, 200, make_signals())
    for item in prepared:
        with torch.no_grad():
            logits_TV = model(input_ids=torch.tensor([item.encoded.input_ids])).logits[0]
        start = item.encoded.completion_token - 1
        for temperature in (1.0, 2.0):
            found = next_tokens(stores["next-tokens"], item.text.id, item.text.text_hash, temperature)
            expected = (logits_TV[start:] / temperature).log_softmax(1)
            assert torch.equal(found.ids_PC, expected.topk(5).indices)
            torch.testing.assert_close(found.log_probs_PC, expected.topk(5).values, atol=1e-5, rtol=1e-4)
            assert found.spans[-1] == (len(item.text.rationale),) * 2
            assert len(found.spans) == len(expected)
            words = [item.text.rationale[max(0, a) : b] for a, b in found.spans if (a, b) != NO_SPAN]
            assert "".join(words).split() == item.text.rationale.split()


def test_a_temperature_that_was_not_read_is_refused(teacher, tmp_path):
    (text,) = make_texts(1)
    stores, _ = read_all(teacher, tmp_path / "a", [text], [NextTokenSignal(3)])
    row = stores["next-tokens"].get(text.id, text.text_hash)
    assert (row[LOG_PROBS].shape[1], row[LOG_SUMS].shape[1]) == (3, 0)
    with pytest.raises(ArtefactError, match="temperature 2"):
        next_tokens(stores["next-tokens"], text.id, text.text_hash, 2.0)


def test_what_one_signal_cannot_read_another_may(teacher, tmp_path):
    texts = [*make_texts(2), Text("none", "Why does he?", "He likes it.", "numbers")]
    stores, reports = read_all(teacher, tmp_path / "a", texts)
    assert [NO_KEYS in reports[name].skipped for name in NAMES] == [True, True, False, False]
    assert ["none" in stores[name] for name in NAMES] == [False, False, True, True]


def test_a_question_that_fills_the_context_is_counted_by_every_signal(teacher, tmp_path):
    text = replace(make_texts(1)[0], question="Are " + "very " * 99 + "many 3?")
    stores, reports = read_all(teacher, tmp_path / "a", [text], max_length=20)
    assert not any(len(store) for store in stores.values())
    assert all(report.kept == 0 for report in reports.values())
    assert reports["next-tokens"].skipped == {NOTHING_LEFT: 1}


def test_a_cut_rationale_has_no_end_among_its_next_tokens(teacher, tmp_path):
    text = make_texts(3)[2]
    whole, _ = read_all(teacher, tmp_path / "whole", [text])
    length = len(prepare_texts(teacher[1], [text], TEMPLATE, 200, make_signals())[0][0].encoded.input_ids)
    cut, reports = read_all(teacher, tmp_path / "cut", [text], max_length=length - 3)
    assert all(report.notes[CUT] == 1 for report in reports.values())
    ends = [next_tokens(stores["next-tokens"], text.id, text.text_hash).spans for stores in (whole, cut)]
    assert ends[0][:-4] == ends[1]


def test_a_model_whose_attention_nobody_asks_for_runs_as_it_is(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("molsaki.attention.chunks.read_many_spans", None)
    stores, _ = read_all(teacher, tmp_path / "a", make_texts(2), [NextTokenSignal(5)])
    assert len(stores["next-tokens"]) == 2


def test_a_signal_that_is_asked_for_later_is_read_alone(teacher, tmp_path, monkeypatch):
    texts = make_texts(5)
    steps, words = AttentionSignal(STEPS), make_signals()[2]
    read_all(teacher, tmp_path / "a", texts, [steps])
    before = {path.name: path.read_bytes() for path in (tmp_path / "a/steps").iterdir()}
    widths = count_passes(teacher[0], monkeypatch)
    stores, _ = read_all(teacher, tmp_path / "a", texts, [words])
    assert len(widths) == 1
    assert len(stores["words"]) == 5
    assert {path.name: path.read_bytes() for path in (tmp_path / "a/steps").iterdir()} == before


def test_what_is_there_is_not_read_again(teacher, tmp_path, monkeypatch):
    texts = make_texts(6)
    read_all(teacher, tmp_path / "a", texts)
    widths, seen = count_passes(teacher[0], monkeypatch), []
    read_all(teacher, tmp_path / "a", texts, progress=lambda *at: seen.append(at))
    assert not [width for width in widths if width > 2]
    assert seen == []


def test_stores_of_other_text_are_refused_before_anything_is_read(teacher, tmp_path, monkeypatch):
    texts = make_texts(3)
    read_all(teacher, tmp_path / "a", texts)
    widths = count_passes(teacher[0], monkeypatch)
    with pytest.raises(ArtefactError, match="'t1'"):
        read_all(teacher, tmp_path / "a", [texts[0], replace(texts[1], rationale="It is 7.")])
    assert not [width for width in widths if width > 2]


def test_a_teachers_tokenizer_without_offsets_is_refused(teacher, tmp_path):
    class Slow:
        is_fast = False
        name_or_path = "slow"

    with pytest.raises(TokenizerError, match="fast tokenizer"):
        read_all((teacher[0], Slow()), tmp_path / "a", make_texts(1))


# ---- kills ----

SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from teacher_texts import load_teacher, make_texts, read_all
from molsaki.store import signal_writer

folder, kind, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
seen = 0

def kill_at(name):
    global seen
    seen += name == kind
    if name == kind and seen > count:
        os.kill(os.getpid(), signal.SIGKILL)

write_index = signal_writer.write_index
def killed_index(*arguments):
    kill_at("index")
    write_index(*arguments)
signal_writer.write_index = killed_index
read_all(load_teacher(), folder, make_texts(12), batch_tokens=170, progress=lambda *_: kill_at("batch"))
"""


@pytest.mark.parametrize(
    ("kind", "count"), [("batch", 2), ("index", 0), ("index", 1), ("index", 2), ("index", 3), ("index", 5)]
)
def test_killed_at_any_place_between_signals_it_goes_on_to_the_same_rows(teacher, tmp_path, kind, count):
    texts = make_texts(12)
    helpers = str(Path(__file__).parents[1] / "helpers")
    arguments = [sys.executable, "-c", SCRIPT, str(tmp_path / "a"), kind, str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, helpers])}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert done.returncode == -signals_of_the_system.SIGKILL, done.stderr
    stores, reports = read_all(teacher, tmp_path / "a", texts, batch_tokens=170)
    assert all((report.read, report.kept) == (12, 12) for report in reports.values())
    expected, _ = read_all(teacher, tmp_path / "b", texts, batch_tokens=170)
    assert_same(stores, expected, texts)
    assert all(store.check().ok for store in stores.values())


@pytest.mark.parametrize("chunk", [5, 16])
@pytest.mark.parametrize("form", [{}, {"top": 3}, {"top": 2, "mix": LayerMix()}], ids=["full", "compact", "mixed"])
def test_long_texts_in_chunks_have_the_rows_of_one_pass(form, chunk, teacher, tmp_path):
    texts, signals = make_texts(4), [AttentionSignal(view, **form) for view in (STEPS, WORDS)]
    signals.append(NextTokenSignal(5, ("1", "2")))
    whole, _ = read_all(teacher, tmp_path / "whole", texts, signals)
    chunks, _ = read_all(teacher, tmp_path / "chunks", texts, signals, chunk=chunk)
    for name, store in whole.items():
        for row_id, text_hash in store.text_hashes().items():
            expected, got = store.get(row_id, text_hash), chunks[name].get(row_id, text_hash)
            for part, tensor in expected.items():
                torch.testing.assert_close(got[part], tensor, atol=1e-5, rtol=1e-4)
