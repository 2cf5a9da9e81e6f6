"""A teacher's stepwise attention on disk is the model's own, however it was read and however often it was stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import cpu_offload
from teacher_texts import TEMPLATE, load_teacher, make_texts, read_all
from transformers import AutoModelForCausalLM, AutoTokenizer

from molsaki.attention import stepwise_attention
from molsaki.data.pocket import TEACHER as FOLDER
from molsaki.encoding.chats import render_template
from molsaki.encoding.encode import encode_teacher
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError, TokenizerError
from molsaki.methods.layers import mix_layers, teacher_layer_weights
from molsaki.models.shapes import shapes_of
from molsaki.spans.find import find_spans
from molsaki.spans.text import Text
from molsaki.spans.views import HEADS, STEPS, WORDS
from molsaki.spans.words import find_words
from molsaki.store.attention_rows import attention_row
from molsaki.teacher.collect_attention import LayerMix
from molsaki.teacher.read_attention import NO_KEYS, AttentionSignal
from molsaki.teacher.signals import CUT


@pytest.fixture(scope="module")
def teacher():
    return load_teacher()


def read(teacher, folder, texts, dtype="float32", view=STEPS, mix=None, **options):
    stores, reports = read_all(teacher, folder, texts, [AttentionSignal(view, "numbers", dtype, mix)], **options)
    return stores[view.name], reports[view.name]


def attention(store, text):
    return attention_row(store, text.id, text.text_hash).attention_LSK


def missing(store, text):
    row = attention_row(store, text.id, text.text_hash)
    return row.missing_steps, row.missing_keys


def lengths(teacher, texts):
    return {t.id: len(encode_teacher(teacher[1], TEMPLATE, t.question, t.rationale, 200).input_ids) for t in texts}


def assert_same_rows(one, other, texts, atol=1e-6):
    assert set(one.ids()) == set(other.ids())
    for text in texts:
        torch.testing.assert_close(attention(one, text), attention(other, text), atol=atol, rtol=1e-4)


def test_rows_are_the_models_own_stepwise_attention(teacher, tmp_path):
    model, tokenizer = teacher
    texts = make_texts(5)
    store, report = read(teacher, tmp_path / "a", texts, batch_tokens=200)
    assert (report.read, report.kept) == (5, 5)
    for text in texts:
        spans = find_spans(text.question, text.rationale, "numbers")
        encoded = encode_teacher(tokenizer, TEMPLATE, text.question, text.rationale, 200)
        tokens = encoded.align(spans)
        ids, steps, keys = (
            torch.tensor([row]) for row in (encoded.input_ids, tokens.step_of_token, tokens.key_of_token)
        )
        with torch.no_grad():
            expected = stepwise_attention(model, ids, None, steps, keys)[0]
        row = attention(store, text)
        counts = tuple(tokens.step_of_token.count(s) for s in range(tokens.n_steps))
        assert attention_row(store, text.id, text.text_hash).step_tokens == counts
        assert row.shape == (model.config.num_hidden_layers, len(spans.steps), len(spans.keys))
        torch.testing.assert_close(row, expected, atol=1e-6, rtol=1e-4)
        assert missing(store, text) == ((), ())


def test_each_head_is_read_where_it_is_asked_for(teacher, tmp_path):
    texts = make_texts(5)
    mean, _ = read(teacher, tmp_path / "mean", texts)
    each, report = read(teacher, tmp_path / "each", texts, view=HEADS, batch_tokens=200)
    heads = shapes_of(teacher[0]).heads
    assert heads == (teacher[0].config.num_attention_heads,) * teacher[0].config.num_hidden_layers
    assert report.kept == 5
    for text in texts:
        row_ISK = attention(each, text)
        assert row_ISK.shape[0] == sum(heads)
        expected = torch.stack([layer.mean(0) for layer in row_ISK.split(list(heads))])
        torch.testing.assert_close(expected, attention(mean, text), atol=1e-6, rtol=1e-4)


def test_words_are_read_as_the_whole_matrix_has_them(teacher, tmp_path):
    model, tokenizer = teacher
    texts = make_texts(3)
    store, report = read(teacher, tmp_path / "a", texts, view=WORDS)
    assert report.kept == 3
    model.set_attn_implementation("eager")
    for text in texts:
        encoded = encode_teacher(tokenizer, TEMPLATE, text.question, text.rationale, 200)
        tokens = encoded.align(find_words(text.question, text.rationale))
        with torch.no_grad():
            maps = model(torch.tensor([encoded.input_ids]), output_attentions=True).attentions
        rows_ST = torch.tensor(tokens.step_of_token) == torch.arange(tokens.n_steps)[:, None]
        columns_KT = torch.tensor(tokens.key_of_token) == torch.arange(tokens.n_keys)[:, None]
        expected = [rows_ST.float() @ layer[0].mean(0) @ columns_KT.float().T for layer in maps]
        torch.testing.assert_close(attention(store, text), torch.stack(expected), atol=1e-6, rtol=1e-4)
        assert attention_row(store, text.id, text.text_hash).step_tokens == tokens.tokens_of_steps
    model.set_attn_implementation("sdpa")


def test_the_size_of_a_batch_changes_nothing(teacher, tmp_path):
    texts = make_texts(9)
    one, _ = read(teacher, tmp_path / "a", texts, batch_tokens=1)
    other, _ = read(teacher, tmp_path / "b", texts, batch_tokens=2000)
    assert_same_rows(one, other, texts)


def test_a_store_in_half_precision_is_close(teacher, tmp_path):
    texts = make_texts(4)
    one, _ = read(teacher, tmp_path / "a", texts)
    other, _ = read(teacher, tmp_path / "b", texts, dtype="float16")
    for text in texts:
        row, half = (attention(store, text) for store in (one, other))
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, row, atol=1e-7, rtol=1e-3)


def test_the_longest_texts_are_read_first(teacher, tmp_path):
    texts = make_texts(9)
    store, _ = read(teacher, tmp_path / "a", texts, batch_tokens=150)
    read_lengths = [lengths(teacher, texts)[row] for row in store.ids()]
    assert read_lengths == sorted(read_lengths, reverse=True)


def test_batches_are_neighbours_in_length_within_the_budget(teacher, monkeypatch, tmp_path):
    texts = make_texts(9)
    shapes = []
    forward = teacher[0].forward

    def log_metrics(**given):
        if given["input_ids"].shape != (1, 2):  # the two tokens that find the layers
            shapes.append(given["input_ids"].shape)
        return forward(**given)

    monkeypatch.setattr(teacher[0], "forward", log_metrics)
    monkeypatch.setattr("molsaki.teacher.read_signals.last_logits", lambda *_: {})
    read(teacher, tmp_path / "a", texts, batch_tokens=170)
    assert sum(rows for rows, _ in shapes) == 9
    assert all(rows * width <= 170 or rows == 1 for rows, width in shapes)
    assert len(shapes) < 9
    widths = [width for _, width in shapes]
    assert widths == sorted(widths, reverse=True)


def test_layers_stored_mixed_are_what_training_would_mix(teacher, tmp_path):
    texts = make_texts(4)
    whole = encode_teacher(teacher[1], TEMPLATE, texts[2].question, texts[2].rationale, 200)
    cut = len(whole.input_ids) - 3
    store, _ = read(teacher, tmp_path / "a", texts, max_length=cut)
    mixed, _ = read(teacher, tmp_path / "b", texts, max_length=cut, mix=LayerMix(0.05))
    assert any(any(missing(store, text)) for text in texts)
    for text in texts:
        missing_steps, missing_keys = missing(store, text)
        row = attention(store, text)
        steps = [step for step in range(row.shape[1]) if step not in missing_steps]
        keys = [key for key in range(row.shape[2]) if key not in missing_keys]
        seen = row[:, steps][:, :, keys][None]
        masks = torch.ones(1, len(steps), dtype=torch.bool), torch.ones(1, len(keys), dtype=torch.bool)
        expected = mix_layers(seen, teacher_layer_weights(seen, *masks, 0.05))[0]
        got = attention(mixed, text)
        assert got.shape == (1, *row.shape[1:])
        torch.testing.assert_close(got[0, steps][:, keys], expected)


def test_progress_counts_texts_and_ends_at_all_of_them(teacher, tmp_path):
    texts = [*make_texts(5), Text("none", "Why?", "Because.", "numbers")]
    seen = []
    longest = max(lengths(teacher, texts).values())
    read(teacher, tmp_path / "a", texts, batch_tokens=2 * longest, progress=lambda *at: seen.append(at))
    assert seen == [(3, 6), (5, 6), (6, 6)]


def test_a_model_in_training_mode_is_read_without_dropout_and_left_as_it_was(teacher, tmp_path):
    model, _ = teacher
    texts = make_texts(3)
    expected, _ = read(teacher, tmp_path / "a", texts)
    model.train()
    try:
        store, _ = read(teacher, tmp_path / "b", texts)
        assert all(module.training for module in model.modules())
    finally:
        model.eval()
    assert_same_rows(expected, store, texts)


def test_a_model_whose_weights_come_to_the_device_when_needed_is_read_the_same(teacher, tmp_path):
    texts = make_texts(3)
    expected, _ = read(teacher, tmp_path / "a", texts)
    spread = AutoModelForCausalLM.from_pretrained(FOLDER)
    cpu_offload(spread, execution_device=torch.device("cpu"))
    assert spread.get_input_embeddings().weight.is_meta
    store, _ = read((spread, teacher[1]), tmp_path / "b", texts)
    assert_same_rows(expected, store, texts)


def test_a_chat_is_read_as_the_model_would_be_asked(teacher):
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    turns = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}<assistant>{% endif %}"
    chat = PromptTemplate.parse("[user]\nSolve: {question}\n[assistant]\n{rationale}")
    text = make_texts(1)[0]
    encoded = encode_teacher(tokenizer, render_template(tokenizer, chat), text.question, text.rationale, 200)
    expected = f"<user>Solve: {text.question}</user><assistant>{text.rationale}"
    assert list(encoded.input_ids) == tokenizer(expected, add_special_tokens=False)["input_ids"]
    assert expected[encoded.offsets[encoded.completion_token][0] :].strip() == text.rationale
    assert expected[encoded.question_start :].startswith(text.question)


def test_what_is_left_out_is_counted_with_its_reason(teacher, tmp_path):
    texts = [*make_texts(2), Text("none", "Why does he?", "He likes it.", "numbers")]
    store, report = read(teacher, tmp_path / "a", texts)
    assert (report.read, report.kept) == (3, 2)
    assert report.skipped == {NO_KEYS: 1}
    assert report.examples[NO_KEYS] == ["none"]
    assert "none" not in store


def test_what_is_cut_is_counted_and_marked_as_missing(teacher, tmp_path):
    _, tokenizer = teacher
    text = make_texts(3)[2]
    whole = encode_teacher(tokenizer, TEMPLATE, text.question, text.rationale, 200)
    store, report = read(teacher, tmp_path / "a", [text], max_length=len(whole.input_ids) - 3)
    assert report.notes == {CUT: 1}
    spans = find_spans(text.question, text.rationale)
    missing_steps, missing_keys = missing(store, text)
    assert len(spans.steps) - 1 in missing_steps
    assert len(spans.keys) - 1 in missing_keys
    row = attention(store, text)
    assert row.shape[1:] == (len(spans.steps), len(spans.keys))
    assert row[:, missing_steps].abs().max() == 0
    assert row[:, :, missing_keys].abs().max() == 0
    assert row.abs().max() > 0


def test_a_question_that_fills_the_context_is_counted(teacher, tmp_path):
    text = make_texts(1)[0]
    store, report = read(
        teacher, tmp_path / "a", [replace(text, question="Are " + "very " * 99 + "many 3?")], max_length=20
    )
    assert len(store) == 0
    assert report.kept == 0
    assert sum(report.skipped.values()) == 1


def test_a_second_reading_reads_nothing_twice(teacher, tmp_path):
    texts = make_texts(6)
    read(teacher, tmp_path / "a", texts[:4])
    seen = []
    store, report = read(teacher, tmp_path / "a", texts, progress=lambda done, total: seen.append(done))
    assert seen == [6]
    assert report.kept == 6
    expected, _ = read(teacher, tmp_path / "b", texts)
    assert_same_rows(store, expected, texts)


def test_a_store_that_was_read_on_other_text_is_refused_before_anything_is_read(teacher, tmp_path):
    texts = make_texts(3)
    read(teacher, tmp_path / "a", texts)
    with pytest.raises(ArtefactError, match="'t1'"):
        read(teacher, tmp_path / "a", [texts[0], replace(texts[1], rationale="It is 7.")])


def test_a_teachers_tokenizer_without_offsets_is_refused(teacher, tmp_path):
    class Slow:
        is_fast = False
        name_or_path = "slow"

    with pytest.raises(TokenizerError, match="fast tokenizer"):
        read((teacher[0], Slow()), tmp_path / "a", make_texts(1))
