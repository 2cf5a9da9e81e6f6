"""Failures that would look like training that works, each under its own name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_world import (
    CONTEXT,
    MODELS,
    TEMPLATES,
    make_examples,
    make_gpt2,
    make_problems,
    make_store,
    make_texts,
    make_tokenizer,
    train,
)
from transformers import TrainingArguments

from molsaki.errors import ArtefactError, InputError, MolsakiError, StageError, TokenizerError, UnreadableModelError
from molsaki.methods import METHODS, StudentShape, terms_of
from molsaki.records import Problem
from molsaki.spans.text import Text
from molsaki.store.attention_rows import attention_schema, pack_attention
from molsaki.store.signal_reader import SignalStore
from molsaki.store.signal_writer import SignalWriter
from molsaki.training import Collator, DistillationTrainer, encode_examples, encode_labels, make_method
from molsaki.training.example import TeacherRow
from molsaki.training.examples import CUT, TOO_LONG
from molsaki.training.shared_attention import DROPPED, NO_ATTENTION, NOTHING_LEFT


def encode(problems, store=None, max_length=CONTEXT, texts=None, tokenizer=None):
    return encode_examples(
        tokenizer or make_tokenizer(), problems, texts or make_texts(problems), TEMPLATES, max_length, store
    )


def test_no_examples(tmp_path):
    with pytest.raises(InputError, match="at least one training example"):
        train(tmp_path / "s", [])


def test_nothing_is_left_to_learn_from_since_no_text_fits(tmp_path):
    examples, report = encode(make_problems(4), max_length=1)
    with pytest.raises(InputError, match=rf"got none \({TOO_LONG}: 4\)\. .* raise training\.max_length") as caught:
        train(tmp_path / "s", examples, notes={**report.skipped, **report.notes})
    assert "molsaki generate" not in str(caught.value)
    with pytest.raises(InputError, match=r"got none \(fewer than asked: 3\)\. .* counts of `molsaki generate`"):
        train(tmp_path / "s", [], notes={"fewer than asked": 3})


def test_attention_asked_for_but_no_example_has_any(tmp_path):
    examples, _ = encode(make_problems(3))
    with pytest.raises(InputError, match="no example has any"):
        train(tmp_path / "s", examples)
    with pytest.raises(InputError, match=rf"no example has any \({NOTHING_LEFT}: 3\)"):
        train(tmp_path / "s", examples, notes={NOTHING_LEFT: 3})
    train(tmp_path / "s", examples, name="dss", steps=1)


def test_attention_of_some_examples_only_is_counted(tmp_path):
    problems = make_problems(4)
    examples, report = encode(problems, make_store(tmp_path / "a", problems, without=("p1",)))
    assert report.notes[NO_ATTENTION] == 1
    assert [example.teacher_LSK is None for example in examples] == [False, True, False, False]


def test_a_batch_without_attention_has_no_attention_loss(tmp_path):
    examples, _ = encode(make_problems(2))
    one = replace(make_examples(tmp_path / "a")[0], problem_id="other")
    _, metrics = train(tmp_path / "s", [*examples, one], steps=3, batch_size=1, accumulation=1, log_every=1)
    losses = [entry["attention_loss"] for entry in metrics["history"] if "loss" in entry]
    assert losses.count(0.0) == 2
    assert max(losses) > 0


def test_a_teacher_row_with_nan_is_not_stored(tmp_path):
    row = pack_attention(torch.full((2, 2, 2), float("nan")), (1, 1))
    with SignalWriter(tmp_path / "a", {}, attention_schema(2)) as writer, pytest.raises(ArtefactError, match="'p0'"):
        writer.add("p0", "hash", row)


def test_a_teacher_row_with_nan_in_training_names_the_example(tmp_path, examples):
    spoilt = replace(examples[2], teacher=TeacherRow.of(torch.full_like(examples[2].teacher_LSK, float("nan"))))
    with pytest.raises(InputError, match="example 0 of the batch has a NaN"):
        train(tmp_path / "s", [spoilt], batch_size=1)


def test_attention_of_another_text(tmp_path):
    problems = make_problems(2)
    store = make_store(tmp_path / "a", problems)
    texts = make_texts(problems)
    texts["p1"] = replace(texts["p1"], rationale=texts["p1"].rationale + " Yes.")
    with pytest.raises(ArtefactError, match="'p1'"):
        encode(problems, store, texts=texts)


def test_attention_of_other_keys(tmp_path):
    problems = make_problems(2)
    store = make_store(tmp_path / "a", problems)
    texts = {name: replace(text, keys=("pens",)) for name, text in make_texts(problems).items()}
    with pytest.raises(ArtefactError, match="'p0'"):
        encode(problems, store, texts=texts)


def test_a_cut_rationale_drops_the_same_steps_and_keys_on_both_sides(tmp_path):
    problem = make_problems(4)[3]
    store = make_store(tmp_path / "a", [problem])
    (whole,), _ = encode([problem], store)
    shortest, length = (len(whole.sequences[task].input_ids) for task in ("predict", "explain"))
    shapes = []
    for max_length in range(shortest, length):
        (example,), report = encode([problem], store, max_length)
        assert report.notes[CUT] == 1
        tokens, teacher_LSK = example.tokens, example.teacher_LSK
        assert teacher_LSK.shape[1:] == (tokens.n_steps, tokens.n_keys)
        assert set(tokens.step_of_token) - {-1} == set(range(tokens.n_steps))
        assert set(tokens.key_of_token) - {-1} == set(range(tokens.n_keys))
        if teacher_LSK.shape != whole.teacher_LSK.shape:
            assert report.notes[DROPPED] == 1
        assert torch.equal(teacher_LSK, whole.teacher_LSK[:, : tokens.n_steps, : tokens.n_keys])
        shapes.append(tuple(teacher_LSK.shape[1:]))
    assert shapes == sorted(shapes)
    assert len(set(shapes)) > 3


def test_steps_and_keys_that_only_the_teacher_lacks_are_dropped(tmp_path):
    problem = make_problems(4)[3]
    text = make_texts([problem])[problem.id]
    (whole,), _ = encode([problem], make_store(tmp_path / "a", [problem]))
    counts = [step != 1 for step in range(whole.tokens.n_steps)]
    with SignalWriter(tmp_path / "b", {}, attention_schema(len(whole.teacher_LSK))) as writer:
        writer.add(text.id, text.text_hash, pack_attention(whole.teacher_LSK, counts, (1,), (0, 2)))
    (example,), report = encode([problem], SignalStore(tmp_path / "b"))
    assert report.notes[DROPPED] == 1
    steps = [s for s in range(whole.tokens.n_steps) if s != 1]
    keys = [k for k in range(whole.tokens.n_keys) if k not in (0, 2)]
    assert torch.equal(example.teacher_LSK, whole.teacher_LSK[:, steps][:, :, keys])
    for kept, old in ((example.tokens.step_of_token, whole.tokens.step_of_token),):
        assert [i for i, s in enumerate(kept) if s >= 0] == [i for i, s in enumerate(old) if s in steps]


def test_a_question_that_fills_the_context_is_counted():
    problems = make_problems(2)
    long = Problem("long", "Is 1 " + "very " * 40 + "small?", "1", "1", rationale="It is 1.")
    examples, report = encode([*problems, long])
    assert [example.problem_id for example in examples] == ["p0", "p1"]
    assert report.skipped[TOO_LONG] == 1
    assert report.examples[TOO_LONG] == ["long"]


def test_validation_problems_that_do_not_fit_are_said(caplog):
    problems = make_problems(4)
    long = Problem("long", "Is 1 " + "very " * 40 + "small?", "1", "1")
    kept = encode_labels(make_tokenizer(), [*problems, long], TEMPLATES["predict"], CONTEXT)
    assert len(kept) == 4
    assert "1 of 5 validation problems" in caplog.text
    with pytest.raises(InputError, match=f"at most {CONTEXT} tokens"):
        encode_labels(make_tokenizer(), [long], TEMPLATES["predict"], CONTEXT)


def test_a_tokenizer_without_offsets():
    tokenizer = make_tokenizer()

    class Slow:
        is_fast = False
        name_or_path = "slow"
        eos_token_id = tokenizer.eos_token_id

    with pytest.raises(TokenizerError, match="fast tokenizer"):
        encode(make_problems(1), tokenizer=Slow())
    with pytest.raises(TokenizerError, match="fast tokenizer"):
        encode_labels(Slow(), make_problems(1), TEMPLATES["predict"], CONTEXT)


def test_a_tokenizer_without_an_end():
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(TokenizerError, match="end-of-text"):
        encode(make_problems(1), tokenizer=tokenizer)


def test_a_tokenizer_without_padding_pads_with_its_end_and_hides_it(examples, tokenizer):
    assert tokenizer.pad_token is None
    (one,) = Collator(tokenizer, terms_of("label-only", {}))(examples)["batch"].passes
    lengths = [len(example.sequences["predict"].input_ids) for example in examples]
    behind = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
    assert behind.any()
    assert set(one.input_ids_RT[behind].tolist()) == {tokenizer.eos_token_id}
    assert len(one.targets_N) == sum(sum(label >= 0 for label in e.sequences["predict"].labels) for e in examples)
    assert (one.targets_N == tokenizer.eos_token_id).sum() == len(examples)  # the ends themselves are learned


def test_examples_of_another_models_tokenizer(tmp_path, examples):
    with pytest.raises(InputError, match="below 200"):
        train(tmp_path / "s", examples, student=make_gpt2(vocab_size=200))


def test_best_without_a_validation_split(tmp_path, examples):
    with pytest.raises(InputError, match="validation split"):
        train(tmp_path / "s", examples, select="best", evaluate_every=2)


def test_a_student_that_is_there_already(tmp_path, examples):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("mine")
    with pytest.raises(ArtefactError, match="nothing was trained"):
        train(tmp_path / "s", examples, steps=1)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "asked",
    [
        {"label_smoothing_factor": 0.5},
        {"neftune_noise_alpha": 5.0},
        {"compute_loss_func": print},
        {"compute_metrics": print},
        {"preprocess_logits_for_metrics": print},
        {"auto_find_batch_size": True},
        {"train_sampling_strategy": "group_by_length"},
    ],
    ids=str,
)
def test_arguments_of_another_loss_or_of_other_batches_are_refused(tmp_path, examples, tokenizer, asked):
    (name,) = asked
    student, method = MODELS["llama"](), METHODS["dss"](METHODS["dss"].Settings(), StudentShape(()))
    of_trainer = asked if print in asked.values() else {}
    args = TrainingArguments(output_dir=str(tmp_path), report_to=[], **({} if of_trainer else asked))
    with pytest.raises(InputError, match=f"Expected no {name}"):
        DistillationTrainer(student, method, args, examples, tokenizer, **of_trainer)


def test_the_callers_arguments_stay_as_they_are(tmp_path, examples, tokenizer):
    student, method = MODELS["llama"](), METHODS["dss"](METHODS["dss"].Settings(), StudentShape(()))
    args = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    before = args.to_dict()
    DistillationTrainer(student, method, args, examples, tokenizer)
    assert args.to_dict() == before


def test_a_task_without_sequences_is_named(tmp_path, examples, tokenizer):
    student, method = MODELS["llama"](), METHODS["cot"](METHODS["cot"].Settings(), StudentShape(()))
    args = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    with pytest.raises(InputError, match=r"tasks reason.*template for 'reason'"):
        DistillationTrainer(student, method, args, examples, tokenizer)


def test_old_names_of_arguments_work_and_warn(tmp_path, examples, tokenizer):
    student, method = MODELS["llama"](), METHODS["dss"](METHODS["dss"].Settings(), StudentShape(()))
    args = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    with pytest.warns(FutureWarning, match="is now") as seen:
        trainer = DistillationTrainer(
            student=student, method=method, args=args, train_dataset=examples, tokenizer=tokenizer
        )
    assert len(seen) == 2
    assert trainer.student is student
    assert trainer.processing_class is tokenizer
    with pytest.raises(InputError, match="got both"):
        DistillationTrainer(
            student=student, model=student, method=method, args=args, train_dataset=examples, processing_class=tokenizer
        )


def test_a_loss_that_is_no_number_is_seen(tmp_path, examples):
    student = make_gpt2()
    with torch.no_grad():
        student.transformer.ln_f.weight[0] = float("nan")
    with pytest.raises(MolsakiError, match=r"finite|NaN"):
        train(tmp_path / "s", examples, name="dss", student=student, steps=4)
    assert not (tmp_path / "s").exists()


def test_parameters_that_are_no_numbers_are_not_saved(tmp_path, examples):
    student = make_gpt2()
    with torch.no_grad():
        student.transformer.wpe.weight[-1] = float("inf")  # a position that no example reaches
    with pytest.raises(StageError, match="wpe"):
        train(tmp_path / "s", examples, name="dss", student=student, steps=1)
    assert not (tmp_path / "s").exists()


def test_a_student_that_cannot_be_read_is_refused_before_it_is_trained(tmp_path, examples):
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(vocab_size=257, hidden_size=32, n_layer=1, n_head=2)
    settings = METHODS["molsaki"].Settings()
    with pytest.raises(UnreadableModelError):
        make_method(METHODS["molsaki"], settings, BloomForCausalLM(config))
    train(tmp_path / "s", examples, name="dss", student=BloomForCausalLM(config), steps=1)


def test_text_hash_depends_on_all_that_decides_the_attention():
    import re

    text = Text("a", "Has 1?", "Yes 1.", "numbers")
    others = [
        replace(text, question="Has 2?"),
        replace(text, rationale="No 1."),
        replace(text, keys=("numbers",)),
        replace(text, keys=re.compile("numbers")),
        replace(text, keys=re.compile("numbers", re.IGNORECASE)),
    ]
    hashes = {row.text_hash for row in (text, *others)}
    assert len(hashes) == 6
    assert replace(text, id="b").text_hash == text.text_hash


@pytest.mark.parametrize("own_rate", [None, 0.5])
def test_an_optimizer_that_would_leave_the_router_out_is_refused(tmp_path, examples, tokenizer, own_rate):
    student = MODELS["llama"]()
    method = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(router_learning_rate=own_rate), student, 3)
    args = TrainingArguments(output_dir=str(tmp_path), report_to=[])

    def trainer(parameters):
        optimizers = (torch.optim.AdamW(parameters, lr=1e-3), None)
        return DistillationTrainer(student, method, args, examples, tokenizer, optimizers=optimizers)

    with pytest.raises(InputError, match="router"):
        trainer(student.parameters())
    both = [*student.parameters(), *method.parameters()]
    if own_rate is None:
        assert trainer(both).method is method
    else:
        with pytest.raises(InputError, match="router"):
            trainer(both)
