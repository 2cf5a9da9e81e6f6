"""The attention loss in a loop of one's own is the one that `DistillationTrainer` trains with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_world import TEMPLATES, make_llama, make_problems, make_store, make_texts, make_tokenizer
from tokenizers.processors import TemplateProcessing

from molsaki import Signals, SpanCollator, StepwiseAttentionLoss, encode_examples
from molsaki.errors import ArtefactError, InputError
from molsaki.methods import METHODS, AttentionChoice
from molsaki.training import Collator, make_method
from molsaki.training.model import DistillationModel
from molsaki.training.span_collator import CUT, NO_ROOM, NO_TEXT

EXPLAIN = TEMPLATES["explain"]


@pytest.fixture
def problems():
    return make_problems(4)


@pytest.fixture
def signals(problems, tmp_path):
    return Signals(make_texts(problems), make_store(tmp_path, problems))


def rows(problems, signals):
    texts = [signals.texts[problem.id] for problem in problems]
    return [
        {"id": text.id, "prompt": EXPLAIN.prompt(text.question), "completion": EXPLAIN.gap + text.rationale}
        for text in texts
    ]


def own_loss(student, signals, some, **more):
    torch.manual_seed(1)
    loss = StepwiseAttentionLoss(student, signals)
    return loss, loss(student, **SpanCollator(make_tokenizer(), signals)(some), **more)


def test_it_is_the_loss_that_the_trainer_has(problems, signals):
    student = make_llama()
    _, (outputs, attention_loss) = own_loss(student, signals, rows(problems, signals))
    examples, _ = encode_examples(
        make_tokenizer(), problems, signals.texts, TEMPLATES, 512, signals.attention, AttentionChoice()
    )
    method = METHODS["molsaki"]
    torch.manual_seed(1)
    made = make_method(method, method.Settings(), student, signals.teacher_layers)
    found = DistillationModel(student, made)(**Collator(make_tokenizer(), made.terms)(examples))
    torch.testing.assert_close(attention_loss, found["attention_loss"], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(outputs.loss, found["rationale_loss"], rtol=1e-6, atol=1e-7)


def test_accumulated_batches_are_one_batch(problems, signals):
    student = make_llama()
    some = rows(problems, signals)
    _, whole = own_loss(student, signals, some)
    parts = [own_loss(student, signals, part, examples=4)[1].attention_loss for part in (some[:1], some[1:])]
    torch.testing.assert_close(sum(parts), whole.attention_loss)


@pytest.mark.parametrize("kind", [int, float, np.int64, torch.tensor], ids=["int", "float", "numpy", "tensor"])
def test_a_number_of_rows_below_the_batchs_is_refused(problems, signals, kind):
    student, some = make_llama(), rows(problems, signals)
    with pytest.raises(InputError, match="at least the"):
        own_loss(student, signals, some, examples=kind(1))
    _, whole = own_loss(student, signals, some)
    _, half = own_loss(student, signals, some, examples=kind(8))
    torch.testing.assert_close(2 * half.attention_loss, whole.attention_loss)


def test_gradients_reach_student_and_router(problems, signals):
    student = make_llama()
    loss, result = own_loss(student, signals, rows(problems, signals))
    result.attention_loss.backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())
    assert student.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0
    assert not any(parameter is own for own in loss.parameters() for parameter in student.parameters())


def test_a_row_without_a_teacher_is_counted_and_trains_without(problems, signals):
    student = make_llama()
    alone = [{**row, "id": "other"} for row in rows(problems, signals)[:2]]
    collate = SpanCollator(make_tokenizer(), signals)
    batch = collate(alone)
    assert batch["attention"] is None
    assert collate.report.notes == {NO_TEXT: 2}
    outputs, attention_loss = StepwiseAttentionLoss(student, signals)(student, **batch)
    assert attention_loss == 0
    assert outputs.loss > 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompt": "something else"}, "question"),
        ({"completion": "something else"}, "rationale"),
        ({"prompt": None}, "`prompt`"),
        ({"id": 3}, "'id'"),
    ],
)
def test_text_that_the_teacher_did_not_read_is_refused(problems, signals, change, named):
    row = {**rows(problems, signals)[0], **change}
    with pytest.raises(InputError, match=named):
        SpanCollator(make_tokenizer(), signals)([row])


def test_a_repeated_question_is_refused_since_its_place_is_not_known(problems, signals):
    row = rows(problems, signals)[0]
    with pytest.raises(InputError, match="2 times"):
        SpanCollator(make_tokenizer(), signals)([{**row, "prompt": row["prompt"] * 2}])


def test_a_changed_rationale_of_the_teacher_is_refused(problems, signals):
    texts = {name: type(text)(text.id, text.question, "Changed 3.", text.keys) for name, text in signals.texts.items()}
    changed = Signals(texts, signals.attention)
    with pytest.raises(ArtefactError, match="p0"):
        SpanCollator(make_tokenizer(), changed)(rows(problems, changed)[:1])


def test_a_cut_row_keeps_whole_steps_and_keys(problems, signals):
    some = rows(problems, signals)
    whole = SpanCollator(make_tokenizer(), signals)(some)
    length = whole["input_ids"].shape[1]
    cut = SpanCollator(make_tokenizer(), signals, max_length=length - 12)(some)
    assert cut["input_ids"].shape[1] == length - 12
    assert cut["attention"].step_mask_BS.sum() < whole["attention"].step_mask_BS.sum()


@pytest.mark.parametrize(
    "settings",
    [
        {"target": "uniform"},
        {"rows": "words"},
        {"columns": "all"},
        {"steps": "rationale"},
        {"step_pool": "mean"},
        {"heads": "each"},
    ],
    ids=str,
)
def test_settings_that_need_other_batches_are_refused(signals, settings):
    """The collator's batches have sums over all steps and keys; such a loss would compare something else."""
    with pytest.raises(InputError, match="SpanCollator"):
        StepwiseAttentionLoss(make_llama(), signals, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 0.9},
        {"beta": 0},
        {"beta": {"gradient": 0.1}},
        {"beta_schedule": "rising"},
        {"router_learning_rate": 1},
    ],
    ids=str,
)
def test_settings_that_are_the_loops_are_refused(signals, settings):
    with pytest.raises(InputError, match="no effect here"):
        StepwiseAttentionLoss(make_llama(), signals, **settings)


def test_a_cut_row_is_counted_and_one_without_room_is_skipped(problems, signals):
    some = rows(problems, signals)
    tokenizer = make_tokenizer()
    whole = SpanCollator(tokenizer, signals)([some[0]])["input_ids"].shape[1]
    collate = SpanCollator(tokenizer, signals, max_length=whole - 1)
    collate([some[0]])
    assert collate.report.notes[CUT] == 1, "the end-of-text token is cut"
    prompt = len(tokenizer(some[0]["prompt"])["input_ids"])
    long = {**some[1], "prompt": some[1]["prompt"] + "!" * 200}
    collate = SpanCollator(tokenizer, signals, max_length=prompt + 20)
    batch = collate([long, some[0]])
    assert batch["input_ids"].shape[0] == 1
    assert collate.report.skipped == {NO_ROOM: 1}
    with pytest.raises(InputError, match="none of the 1 rows"):
        collate([long])


def test_special_tokens_are_the_tokenizers_unless_a_chat_has_them(problems, signals):
    tokenizer = make_tokenizer()
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    row = rows(problems, signals)[0]
    with_them = SpanCollator(tokenizer, signals)([row])
    without = SpanCollator(tokenizer, signals, special_tokens=False)([row])
    assert with_them["input_ids"][0, 0] == tokenizer.eos_token_id
    assert with_them["input_ids"][0, 1:].tolist() == without["input_ids"][0].tolist()


def test_the_default_length_is_the_tokenizers(problems, signals):
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 60
    assert SpanCollator(tokenizer, signals)(rows(problems, signals)[:1])["input_ids"].shape[1] == 60


@pytest.mark.parametrize("length", [0, -5])
def test_a_length_of_no_token_is_refused(signals, length):
    with pytest.raises(InputError, match=str(length)):
        SpanCollator(make_tokenizer(), signals, max_length=length)


def test_a_longer_length_than_the_tokenizers_is_taken(problems, signals):
    tokenizer = make_tokenizer()
    whole = SpanCollator(tokenizer, signals)(rows(problems, signals)[:1])["input_ids"].shape[1]
    tokenizer.model_max_length = 60
    assert SpanCollator(tokenizer, signals, max_length=512)(rows(problems, signals)[:1])["input_ids"].shape[1] == whole


def test_a_batch_of_no_row_is_refused(signals):
    with pytest.raises(InputError, match="at least one row"):
        SpanCollator(make_tokenizer(), signals)([])


def rolled(batch):
    """The batch padded on the left."""
    shifts = (1 - batch["attention_mask"]).sum(1).tolist()
    names = ("input_ids", "attention_mask", "labels")
    pairs = {name: zip(batch[name], shifts, strict=True) for name in names}
    return batch | {name: torch.stack([row.roll(shift) for row, shift in pairs[name]]) for name in names}


@pytest.mark.parametrize(
    "change",
    [
        rolled,
        lambda batch: {k: v[:2] if torch.is_tensor(v) else v for k, v in batch.items()},
        lambda batch: {k: v.flip(0) if torch.is_tensor(v) else v for k, v in batch.items()},
        lambda batch: {k: torch.cat([v, v[:, :1]], 1) if torch.is_tensor(v) else v for k, v in batch.items()},
        lambda batch: batch | {"examples": 0},
        lambda batch: batch | {"examples": 3},
    ],
    ids=["left", "sliced", "sorted", "wider", "no-examples", "fewer-examples"],
)
def test_a_batch_that_is_not_as_it_was_collated_is_refused(problems, signals, change):
    """Steps and keys would be read at other tokens, or other rows' be compared, without a sign of it in the loss."""
    student = make_llama()
    batch = SpanCollator(make_tokenizer(), signals)(rows(problems, signals))
    assert len(set(batch["attention_mask"].sum(1).tolist())) > 1, "rows of other lengths"
    with pytest.raises(InputError, match=r"collated|examples"):
        StepwiseAttentionLoss(student, signals)(student, **change(batch))


def test_batches_without_attention_are_said_once(problems, signals, caplog):
    collate = SpanCollator(make_tokenizer(), signals)
    for _ in range(2):
        collate([{**row, "id": "x" + row["id"]} for row in rows(problems, signals)])
    (record,) = caplog.records
    assert f"{NO_TEXT}: 4" in record.message


def test_no_end_token_lies_between_prompt_and_completion(problems, signals):
    """Tokenizers with `add_eos_token` put one behind every text, also behind a prompt."""
    tokenizer = make_tokenizer()
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    some = rows(problems, signals)[:1]
    with_them = SpanCollator(tokenizer, signals)(some)
    ids = with_them["input_ids"][0].tolist()
    assert [i for i, token in enumerate(ids) if token == tokenizer.eos_token_id] == [0, len(ids) - 1]
    alone = SpanCollator(make_tokenizer(), signals)(some)
    torch.testing.assert_close(with_them["attention"].teacher_BLSK, alone["attention"].teacher_BLSK)
    assert ids[1:] == alone["input_ids"][0].tolist()


def test_an_unknown_setting_is_refused(signals):
    with pytest.raises(InputError, match="temprature: there is no such key; did you mean 'kl_temperature'") as error:
        StepwiseAttentionLoss(make_llama(), signals, kl_temprature=1)
    assert "https:" not in str(error.value)


def test_settings_of_another_mixture_than_the_stored_one_are_refused(problems, tmp_path):
    """They would have no effect: the layers are mixed already."""
    mixed = {"layers": "mixed by Eq. 4, temperature 0.1, sum change"}
    signals = Signals(make_texts(problems), make_store(tmp_path, problems, layers=1, fingerprint=mixed))
    StepwiseAttentionLoss(make_llama(), signals, teacher_temperature=0.1)
    for settings in ({"teacher_temperature": 5.0}, {"layer_change": "mean"}, {"teacher_weights": "uniform"}):
        with pytest.raises(InputError, match="mixture"):
            StepwiseAttentionLoss(make_llama(), signals, **settings)


def test_a_batch_without_attention_takes_the_models_own_inputs(problems, signals):
    student = make_llama()
    loss, _ = own_loss(student, signals, rows(problems, signals))
    ids = torch.arange(5, 13)[None]
    assert loss(student, ids, use_cache=False).attention_loss == 0
