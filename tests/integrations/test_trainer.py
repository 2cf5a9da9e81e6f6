"""A subclass of transformers' Trainer with the attention loss: the parent's training, and the loss added to it."""

from __future__ import annotations

import datasets
import pytest
import torch
from small_world import TEMPLATES, make_llama, make_problems, make_store, make_texts, make_tokenizer
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from molsaki import Signals, StepwiseAttentionLoss
from molsaki.errors import InputError
from molsaki.integrations.rows import NO_TEXT, RowCollator
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


def train(kind, folder, signals, batch=4, accumulation=1, model=make_llama, smoothing=0.0, **own):
    if issubclass(kind, AttentionLossMixin):
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
        label_smoothing_factor=smoothing,
    )
    tokenizer, rows = make_tokenizer(), make_rows(signals)
    tokenizer.pad_token = tokenizer.eos_token
    collate = DataCollatorForSeq2Seq(tokenizer)
    trainer = kind(model(), args, collate, rows, processing_class=tokenizer, **own)
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


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_parents_smoothed_labels_are_those_of_an_adapter_too(signals, tmp_path, accumulation):
    """Trainer shifts labels where it knows the model in its wrapper as a causal one."""
    peft = pytest.importorskip("peft")

    def model():
        config = peft.LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.0, task_type="CAUSAL_LM")
        return peft.get_peft_model(make_llama(), config)

    settings = {"model": model, "smoothing": 0.1, "batch": 2, "accumulation": accumulation}
    parent = train(Trainer, tmp_path / "parent", signals, **settings)
    ours = train(AttentionTrainer, tmp_path / "ours", signals, **settings)
    attention = logged(ours, "attention_loss")[0]
    assert logged(ours, "loss")[0] - attention == pytest.approx(logged(parent, "loss")[0], rel=1e-4)


def test_a_parent_may_give_the_model_its_tokens_by_position(signals, tmp_path):
    class Parent(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            outputs = model(inputs["input_ids"], inputs["attention_mask"], labels=inputs["labels"])
            return (outputs.loss, outputs) if return_outputs else outputs.loss

    class ByPosition(AttentionLossMixin, Parent):
        pass

    found = [
        logged(train(kind, tmp_path / kind.__name__, signals), "attention_loss")
        for kind in (ByPosition, AttentionTrainer)
    ]
    assert found[0] == pytest.approx(found[1])


def test_more_inputs_by_position_than_are_known_are_refused(signals, tmp_path):
    class Parent(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return model(inputs["input_ids"], inputs["attention_mask"], None, None, None, inputs["labels"]).loss

    class ByPosition(AttentionLossMixin, Parent):
        pass

    with pytest.raises(InputError, match=r"it gave 6 values"):
        train(ByPosition, tmp_path, signals)


@pytest.mark.parametrize("name", ["beta", "router_learning_rate"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_weight_or_rate_that_is_no_finite_number_is_refused(signals, tmp_path, name, value):
    with pytest.raises(InputError, match=f"finite {name} of at least 0"):
        train(AttentionTrainer, tmp_path, signals, **{name: value})


def test_rows_without_input_ids_are_refused_by_name(signals, tmp_path):
    collate = RowCollator(lambda rows: {"input_ids": torch.zeros(1, 3)}, make_tokenizer(), signals)
    with pytest.raises(InputError, match=r"`input_ids` in each row.*'chosen_ids'"):
        collate([{"id": "1", "prompt_ids": [1], "chosen_ids": [2]}])


def test_a_path_in_place_of_signals_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"load_signals.*got a str"):
        StepwiseAttentionLoss(make_llama(), "runs/pocket")


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
