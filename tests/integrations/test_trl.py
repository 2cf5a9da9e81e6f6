"""TRL's trainer with the attention loss: the loss of `StepwiseAttentionLoss` added to TRL's own, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import small_world
import torch
from launching import launch_script
from small_world import TEMPLATES, make_gpt2, make_llama, make_problems, make_store, make_texts, make_tokenizer

from molsaki import Signals, SpanCollator, StepwiseAttentionLoss
from molsaki.errors import ArtefactError, InputError

trl = pytest.importorskip("trl", reason="trl is not installed")
datasets = pytest.importorskip("datasets")

from molsaki.integrations.rows import NO_QUESTION, NO_RATIONALE, NO_TEXT  # noqa: E402
from molsaki.integrations.trainer import ROUTER_WEIGHTS  # noqa: E402
from molsaki.integrations.trl import AttentionSFTTrainer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # TRL's own default

EXPLAIN = TEMPLATES["explain"]
CHAT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token if m.role == 'assistant' }}{% endfor %}"
CHAT += "{% if add_generation_prompt %}[assistant]{% endif %}"


@pytest.fixture
def signals(tmp_path):
    problems = make_problems(8)
    return Signals(make_texts(problems), make_store(tmp_path / "attention", problems, without=("p1", "p6")))


def make_rows(signals, form="text"):
    texts = signals.texts.values()
    if form == "chat":
        pairs = [
            ([{"role": "user", "content": t.question}], [{"role": "assistant", "content": f"{t.rationale} Done."}])
            for t in texts
        ]
    else:
        pairs = [(EXPLAIN.prompt(t.question), EXPLAIN.gap + t.rationale) for t in texts]
    rows = [{"id": t.id, "prompt": p, "completion": c} for t, (p, c) in zip(texts, pairs, strict=True)]
    return datasets.Dataset.from_list(rows)


def make_trainer(folder, signals, form="text", kind=AttentionSFTTrainer, model=make_llama, tokenizer=None, **changes):
    arguments = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 3e-3, **changes}
    names = ("beta", "peft_config", "optimizers", "eval_dataset")
    own = {name: arguments.pop(name) for name in names if name in arguments}
    if kind is AttentionSFTTrainer:
        own["signals"] = signals
    tokenizer = tokenizer or make_tokenizer()
    tokenizer.chat_template = CHAT
    args = trl.SFTConfig(
        str(folder),
        max_length=arguments.pop("max_length", None),
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        save_strategy=arguments.pop("save_strategy", "no"),
        **arguments,
    )
    rows = make_rows(signals, form)
    return kind(model=model(), args=args, train_dataset=rows, processing_class=tokenizer, **own)


def history(trainer, name="loss"):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def weights(trainer):
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def assert_equal(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], msg=name, **tolerance)


@pytest.mark.parametrize("model", [make_llama, make_gpt2])
def test_with_beta_0_every_weight_is_that_of_trl_alone(signals, tmp_path, model):
    plain = make_trainer(tmp_path / "a", signals, kind=trl.SFTTrainer, model=model)
    ours = make_trainer(tmp_path / "b", signals, model=model, beta=0.0)
    plain.train()
    ours.train()
    assert history(ours) == history(plain)
    assert_equal(weights(ours), weights(plain), rtol=0, atol=0)


def test_the_loss_is_trls_and_that_of_the_plain_loop(signals, tmp_path):
    rows = make_rows(signals)
    plain = make_trainer(tmp_path / "a", signals, kind=trl.SFTTrainer, max_steps=1, per_device_train_batch_size=8)
    ours = make_trainer(tmp_path / "b", signals, beta=0.5, max_steps=1, per_device_train_batch_size=8)
    plain.train()
    ours.train()
    student = make_llama()
    with torch.random.fork_rng():
        torch.manual_seed(ours.args.seed)
        loss = StepwiseAttentionLoss(student, signals)
    outputs, attention_loss = loss(student, **SpanCollator(make_tokenizer(), signals)(list(rows)))
    assert history(ours, "attention_loss")[0] == pytest.approx(attention_loss.item(), rel=1e-6)
    assert history(plain)[0] == pytest.approx(outputs.loss.item(), rel=1e-5)
    assert history(ours)[0] == pytest.approx((outputs.loss + 0.5 * attention_loss).item(), rel=1e-5)


def test_accumulated_batches_are_one_batch(signals, tmp_path):
    whole = make_trainer(tmp_path / "a", signals, per_device_train_batch_size=8, max_grad_norm=1e9)
    split = make_trainer(
        tmp_path / "b", signals, per_device_train_batch_size=2, gradient_accumulation_steps=4, max_grad_norm=1e9
    )
    whole.train()
    split.train()
    assert history(split, "attention_loss") == pytest.approx(history(whole, "attention_loss"), rel=1e-4)
    assert_equal(weights(split), weights(whole), rtol=1e-3, atol=2e-4)


def test_chats_have_the_attention_of_plain_text(signals, tmp_path):
    trainer = make_trainer(tmp_path, signals, "chat", per_device_train_batch_size=8)
    trainer.train()
    assert not {NO_QUESTION, NO_RATIONALE} & trainer.attention_report.notes.keys()
    assert all(value > 0 for value in history(trainer, "attention_loss"))


@pytest.mark.parametrize("form", ["chat", "messages"])
def test_a_chat_of_the_plain_loop_has_the_tokens_of_trl(signals, tmp_path, form):
    trainer = make_trainer(tmp_path, signals, "chat", per_device_train_batch_size=8)
    rows = [dict(row) for row in make_rows(signals, "chat")]
    if form == "messages":
        rows = [{"id": row["id"], "messages": row["prompt"] + row["completion"]} for row in rows]
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    collate = SpanCollator(tokenizer, signals)
    ours, theirs = collate(rows), trainer.data_collator([dict(row) for row in trainer.train_dataset])
    for name in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(ours[name], theirs[name]), name
    assert torch.equal(ours["attention"].teacher_BLSK, theirs["attention"].teacher_BLSK)
    assert torch.equal(ours["attention"].visible_BSK, theirs["attention"].visible_BSK)
    assert torch.equal(ours["attention"].step_tokens_BS, theirs["attention"].step_tokens_BS)
    assert not collate.report.notes.keys() - trainer.attention_report.notes.keys()


def test_a_row_with_another_text_is_counted_and_trains_without_attention(signals, tmp_path):
    trainer = make_trainer(tmp_path, signals, max_steps=1, per_device_train_batch_size=8)
    rows = [dict(row) for row in trainer.train_dataset]
    other = make_tokenizer()("something else").input_ids
    rows[0] |= {"input_ids": other, "labels": other}
    question = make_tokenizer()(signals.texts[rows[1]["id"]].question).input_ids
    rows[1] |= {"input_ids": question, "labels": question}
    batch = trainer.data_collator([{k: row[k] for k in ("id", "input_ids", "labels")} for row in rows])
    assert trainer.attention_report.notes[NO_QUESTION] == 1
    assert trainer.attention_report.notes[NO_RATIONALE] == 1
    assert len(batch["input_ids"]) == 8


def test_rows_that_lose_the_attention_loss_are_said_once(signals, tmp_path, caplog):
    quiet = make_trainer(tmp_path / "a", signals, max_steps=2)
    for text in list(signals.texts):
        if text != "p0":
            del signals.texts[text]
    quiet.train()
    warnings = [record.message for record in caplog.records if "no attention loss" in record.message]
    assert len(warnings) == 1
    assert NO_TEXT in warnings[0]


def test_a_rationale_that_is_cut_keeps_its_whole_steps(signals, tmp_path):
    trainer = make_trainer(tmp_path, signals, max_length=110)
    row = max(trainer.train_dataset, key=lambda row: len(signals.texts[row["id"]].rationale))
    assert len(row["input_ids"]) == 110
    targets = trainer.data_collator([{k: row[k] for k in ("id", "input_ids", "labels")}])["attention"]
    text = signals.texts[row["id"]]
    assert 1 < targets.teacher_BLSK.shape[2] < text.rationale.count(".") + 1


def test_killed_and_resumed_it_is_the_training_in_one_piece(signals, tmp_path):
    changes = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = make_trainer(tmp_path / "a", signals, **changes)
    whole.train()
    resumed = make_trainer(tmp_path / "b", signals, **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert_equal(weights(resumed), weights(whole), rtol=0, atol=0)
    assert_equal(resumed.attention_loss.state_dict(), whole.attention_loss.state_dict(), rtol=0, atol=0)
    assert history(resumed, "attention_loss") == history(whole, "attention_loss")
    start = make_trainer(tmp_path / "c", signals, max_steps=1).attention_loss.state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in whole.attention_loss.state_dict().items())


@pytest.mark.parametrize("kind", [str, Path])
def test_a_renamed_checkpoint_is_resumed(signals, tmp_path, kind):
    changes = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = make_trainer(tmp_path / "a", signals, **changes)
    whole.train()
    (tmp_path / "a" / "checkpoint-2").rename(tmp_path / "best")
    resumed = make_trainer(tmp_path / "b", signals, **changes)
    resumed.train(resume_from_checkpoint=kind(tmp_path / "best"))
    assert history(resumed, "attention_loss") == history(whole, "attention_loss")


def test_the_best_student_has_its_own_router(signals, tmp_path):
    changes = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    trainer = make_trainer(
        tmp_path,
        signals,
        eval_dataset=make_rows(signals),
        load_best_model_at_end=True,
        greater_is_better=True,
        metric_for_best_model="eval_loss",  # falls, so that the first is the best
        **changes,
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-1")
    kept = safetensors.torch.load_file(tmp_path / "checkpoint-1" / ROUTER_WEIGHTS)
    assert_equal(trainer.attention_loss.state_dict(), kept, rtol=0, atol=0)
    last = safetensors.torch.load_file(tmp_path / "checkpoint-2" / ROUTER_WEIGHTS)
    assert any(not torch.equal(value, last[name]) for name, value in kept.items())


def test_a_rationale_that_repeats_its_question_keeps_its_attention(signals, tmp_path):
    trainer = make_trainer(tmp_path, signals, max_steps=1)
    text = replace(signals.texts["p0"], rationale=f"{signals.texts['p0'].question} {signals.texts['p0'].rationale}")
    ids = make_tokenizer()(EXPLAIN.prompt(text.question) + EXPLAIN.gap + text.rationale).input_ids
    signals.texts["p0"] = text
    with pytest.raises(ArtefactError, match="p0"):  # found, and read on another text here
        trainer.data_collator([{"id": "p0", "input_ids": ids, "labels": ids}])


def test_a_training_of_rows_that_the_signals_do_not_have_is_said_at_every_log(signals, tmp_path, caplog):
    trainer = make_trainer(tmp_path, signals, max_steps=3)
    signals.texts.clear()
    trainer.train()
    said = [record.message for record in caplog.records if record.message.startswith("None of the first")]
    assert len(said) == 3
    assert NO_TEXT in said[0]


def test_a_checkpoint_without_the_router_is_refused(signals, tmp_path):
    make_trainer(tmp_path / "a", signals, max_steps=2, save_strategy="steps", save_steps=1).train()
    (tmp_path / "a" / "checkpoint-1" / ROUTER_WEIGHTS).unlink()
    trainer = make_trainer(tmp_path / "a", signals, max_steps=2)
    with pytest.raises(ArtefactError, match="checkpoint-1"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-1"))


def test_adapters_get_the_gradient_of_attention(signals, tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.0, init_lora_weights=False)
    both = {}
    for beta in (0.0, 1.0):
        trainer = make_trainer(tmp_path / str(beta), signals, beta=beta, peft_config=config, max_steps=1)
        trainer.train()
        both[beta] = weights(trainer)
    changed = [name for name in both[0.0] if not torch.equal(both[0.0][name], both[1.0][name])]
    assert changed
    assert all("lora" in name for name in changed)


def test_evaluation_has_the_parents_loss(signals, tmp_path):
    losses = []
    for kind in (trl.SFTTrainer, AttentionSFTTrainer):
        trainer = make_trainer(tmp_path / kind.__name__, signals, kind=kind)
        losses.append(trainer.evaluate(make_rows(signals))["eval_loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["packing", "padding_free"])
def test_joined_rows_are_refused_by_name(signals, tmp_path, name):
    with pytest.raises(InputError, match=name):
        make_trainer(tmp_path, signals, **{name: True, "max_length": 64 if name == "packing" else None})


def test_a_data_set_without_ids_is_refused(signals, tmp_path):
    args = trl.SFTConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    rows = make_rows(signals).remove_columns("id")
    with pytest.raises(InputError, match="`id`"):
        AttentionSFTTrainer(make_llama(), args, train_dataset=rows, processing_class=make_tokenizer(), signals=signals)


def test_an_optimizer_that_cannot_know_the_router_is_refused(signals, tmp_path):
    with pytest.raises(InputError, match="optimizers"):
        make_trainer(tmp_path, signals, optimizers=(torch.optim.SGD(make_llama().parameters(), 0.1), None))


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import torch
torch.set_num_threads(1)
from small_world import make_problems, make_texts
from molsaki import Signals
from molsaki.store.signal_reader import SignalStore
from test_trl import make_trainer
folder = Path(sys.argv[3])
signals = Signals(make_texts(make_problems(8)), SignalStore(folder / "attention"))
trainer = make_trainer(folder / "two", signals, per_device_train_batch_size=4, max_grad_norm=1e9)
trainer.train()
trainer.save_model()
"""


def test_two_processes_are_one(signals, tmp_path):
    one = make_trainer(tmp_path / "one", signals, per_device_train_batch_size=8, max_grad_norm=1e9)
    one.train()
    one.save_model()
    folders = [str(Path(small_world.__file__).parent), str(Path(__file__).parent)]
    launch_script(SCRIPT, [*folders, str(tmp_path)], tmp_path)
    for name in ("model.safetensors", ROUTER_WEIGHTS):
        files = [safetensors.torch.load_file(tmp_path / folder / name) for folder in ("one", "two")]
        assert_equal(*files, rtol=1e-3, atol=2e-4)
