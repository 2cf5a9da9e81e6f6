"""A subclass of transformers' Trainer with the attention loss: the parent's training, and the loss added to it."""

from __future__ import annotations

import datasets
import pytest
import torch
from small_world import TEMPLATES, make_llama, make_problems, make_store, make_texts, make_tokenizer
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from molsaki import Signals
from molsaki.errors import InputError
from molsaki.integrations.rows import NO_TEXT
from molsaki.integrations.trainer import AttentionLossMixin

EXPLAIN = TEMPLATES["explain"]


class AttentionTrainer(AttentionLossMixin, Trainer):
    """What docs/trl.md tells readers to write."""


@pytest.fixture
def signals(tmp_path):
    problems = make_problems(8)
    return Signals(make_texts(problems), make_store(tmp_path / "attention", problems))


def make_rows(signals):
    tokenizer, rows = make_tokenizer(), []
    for text in signals.texts.values():
        ids = tokenizer(EXPLAIN.prompt(text.question) + EXPLAIN.gap + text.rationale).input_ids
        rows.append({"id": text.id, "note": "no column of a model", "input_ids": ids, "labels": ids})
    return datasets.Dataset.from_list(rows)


def train(kind, folder, signals, batch=4, accumulation=1, **own):
    if kind is AttentionTrainer:
        own["signals"] = signals
    args = TrainingArguments(
        str(folder),
        max_steps=2,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=3e-3,
        max_grad_norm=1e9,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
    )
    tokenizer, rows = make_tokenizer(), make_rows(signals)
    tokenizer.pad_token = tokenizer.eos_token
    collate = DataCollatorForSeq2Seq(tokenizer)
    trainer = kind(make_llama(), args, collate, rows, processing_class=tokenizer, **own)
    trainer.train()
    return trainer


def logged(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def test_with_beta_0_every_weight_is_that_of_the_parent(signals, tmp_path):
    plain = train(Trainer, tmp_path, signals)
    ours = train(AttentionTrainer, tmp_path, signals, beta=0.0)
    assert logged(ours, "loss") == logged(plain, "loss")
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, ours.model.state_dict()[name]), name


def test_accumulated_batches_are_one_batch(signals, tmp_path):
    whole = train(AttentionTrainer, tmp_path, signals, batch=8)
    split = train(AttentionTrainer, tmp_path, signals, batch=2, accumulation=4)
    assert all(value > 0 for value in logged(whole, "attention_loss"))
    for name in ("loss", "attention_loss"):
        assert logged(split, name) == pytest.approx(logged(whole, name), rel=1e-4)


def test_rows_of_evaluation_need_no_id_and_have_the_parents_loss(signals, tmp_path):
    ours = train(AttentionTrainer, tmp_path, signals, beta=0.0)
    plain = train(Trainer, tmp_path, signals)
    rows, read = make_rows(signals), ours.attention_report.read
    expected = plain.evaluate(rows)["eval_loss"]
    assert ours.evaluate(rows)["eval_loss"] == expected
    assert ours.evaluate(rows.remove_columns("id"))["eval_loss"] == expected
    assert len(ours.predict(rows.remove_columns("id")).predictions) == len(rows)
    assert ours.attention_report.read == read, "the report is of training"


def test_a_trainer_without_a_tokenizer_is_refused(signals, tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(InputError, match="processing_class"):
        AttentionTrainer(make_llama(), args, train_dataset=make_rows(signals), signals=signals)


def test_an_id_that_is_a_number_is_refused_as_one(signals, tmp_path):
    trainer = train(AttentionTrainer, tmp_path, signals)
    rows = [
        {"id": i, "input_ids": row["input_ids"], "labels": row["labels"]} for i, row in enumerate(make_rows(signals))
    ]
    with pytest.raises(InputError, match="'id': 'int'"):
        trainer.data_collator(rows)


def test_the_report_counts_rows_with_and_without_attention(signals, tmp_path):
    trainer = train(AttentionTrainer, tmp_path, signals)
    report = trainer.attention_report
    assert report.kept >= 8
    assert NO_TEXT not in report.notes
    del signals.texts["p0"]
    trainer.data_collator([{k: row[k] for k in ("id", "input_ids", "labels")} for row in trainer.train_dataset])
    assert report.notes[NO_TEXT] == 1
