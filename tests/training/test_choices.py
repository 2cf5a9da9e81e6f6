"""What a method asks of its examples reaches them: a third sequence, the question's keys, means over steps."""

from __future__ import annotations

import pytest
import torch
from small_world import (
    CONTEXT,
    REASON_TEMPLATE,
    TEMPLATES,
    make_examples,
    make_problems,
    make_store,
    make_texts,
    make_tokenizer,
    train,
)

from molsaki.answers.parse import parse_answer
from molsaki.answers.right import is_right
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import InputError
from molsaki.methods import AttentionChoice
from molsaki.records import Problem
from molsaki.spans.find import find_spans
from molsaki.store.attention_rows import attention_row
from molsaki.training import encode_examples, encode_labels
from molsaki.training.examples import CUT_REASONING, TOO_LONG
from molsaki.training.shared_attention import NOTHING_CHOSEN

QUESTION, MEANS = AttentionChoice(question_keys=True), AttentionChoice(step_means=True)


def encode(problems, store=None, choice=None, templates=TEMPLATES, max_length=CONTEXT):
    return encode_examples(make_tokenizer(), problems, make_texts(problems), templates, max_length, store, choice)


def test_keys_of_the_question_are_the_first_columns(tmp_path):
    problems = make_problems(4)
    store = make_store(tmp_path, problems)
    every, some = encode(problems, store)[0], encode(problems, store, QUESTION)[0]
    for problem, whole, part in zip(problems, every, some, strict=True):
        spans = find_spans(problem.text, problem.rationale, "numbers")
        count = sum(key.text == "question" for key in spans.keys)
        assert 0 < count < spans.n_keys
        assert torch.equal(part.teacher_LSK, whole.teacher_LSK[:, :, :count])
        assert part.tokens.step_of_token == whole.tokens.step_of_token
        assert part.tokens.key_of_token == tuple(k if k < count else -1 for k in whole.tokens.key_of_token)


def test_a_question_without_a_key_is_counted(tmp_path):
    problems = [*make_problems(2), Problem("none", "How many legs has a cat?", "4", "4", rationale="It has 4.")]
    store = make_store(tmp_path, problems)
    examples, report = encode(problems, store, QUESTION)
    assert [example.teacher_LSK is None for example in examples] == [False, False, True]
    assert report.notes[NOTHING_CHOSEN] == 1
    assert not encode(problems, store)[1].notes


def test_means_are_over_the_teachers_own_tokens(tmp_path):
    problems = make_problems(4)
    store = make_store(tmp_path, problems)
    for whole, mean in zip(encode(problems, store)[0], encode(problems, store, MEANS)[0], strict=True):
        text = make_texts(problems)[whole.problem_id]
        counts = torch.tensor(attention_row(store, text.id, text.text_hash).step_tokens)
        torch.testing.assert_close(mean.teacher_LSK * counts[None, :, None], whole.teacher_LSK)


def test_the_reason_sequence_ends_in_the_answer_and_only_where_it_is_asked_for():
    problems = make_problems(4)
    assert all("reason" not in example.sequences for example in encode(problems)[0])
    tokenizer = make_tokenizer()
    for problem, example in zip(problems, encode(problems, templates=with_reason())[0], strict=True):
        sequence = example.sequences["reason"]
        written = tokenizer.decode(sequence.input_ids[sequence.completion_token : -1])
        assert written == f"{problem.rationale} The answer is: {problem.label}."
        assert is_right(parse_answer(written), problem)
        assert sequence.input_ids[-1] == tokenizer.eos_token_id


def test_an_answer_that_is_cut_off_is_counted():
    problems = make_problems(4)
    lengths = [len(example.sequences["explain"].input_ids) for example in encode(problems)[0]]
    examples, report = encode(problems, templates=with_reason(), max_length=max(lengths))
    assert len(examples) == 4
    assert report.notes[CUT_REASONING] == sum(e.sequences["reason"].cut_tokens > 0 for e in examples) > 0


def test_a_problem_whose_rationale_has_no_room_in_one_of_its_sequences_is_left_out():
    """Else a part of a batch could have no token with a loss."""
    problems = make_problems(4)
    longer = PromptTemplate.parse("Think about it for as long as you need, and then answer: {question}\n{reasoning}")
    templates = TEMPLATES | {"reason": longer}
    starts = [e.sequences["reason"].completion_token for e in encode(problems, templates=templates)[0]]
    examples, report = encode(problems, templates=templates, max_length=max(starts))
    assert 0 < len(examples) < 4
    assert report.skipped[TOO_LONG] == 4 - len(examples)
    assert all(e.sequences["reason"].completion_token < len(e.sequences["reason"].input_ids) for e in examples)


def with_reason():
    return TEMPLATES | {"reason": REASON_TEMPLATE}


def test_beta_rises_with_the_steps_of_the_training(tmp_path):
    examples = make_examples(tmp_path / "attention", without=())
    settings = {"alpha": 0.3, "beta": 0.8, "beta_schedule": "rising"}
    _, metrics = train(tmp_path / "s", examples, settings=settings, steps=4, log_every=1, accumulation=2)
    entries = [entry for entry in metrics["history"] if "loss" in entry]
    assert len(entries) == 4
    for step, entry in enumerate(entries):
        beta = 0.8 * step / 4
        label, rationale, attention = (entry[f"{part}_loss"] for part in ("label", "rationale", "attention"))
        assert entry["loss"] == pytest.approx(0.3 * label + 0.7 * rationale + beta * attention, rel=1e-5)
        assert entry["attention_share"] == pytest.approx(beta * attention / entry["loss"], rel=1e-4, abs=1e-7)


def test_cot_is_watched_by_what_it_answers_and_has_no_validation_loss(tmp_path):
    examples = make_examples(tmp_path / "attention", tasks=("reason",))
    rows = encode_labels(make_tokenizer(), make_problems(3), TEMPLATES["predict"], CONTEXT)
    options = {"name": "cot", "steps": 2, "evaluate_every": 2, "validation": rows}
    _, metrics = train(tmp_path / "s", examples, validate=lambda _: {"accuracy": 0.5}, **options)
    evaluated = [entry for entry in metrics["history"] if "eval_accuracy" in entry]
    assert [entry["eval_accuracy"] for entry in evaluated] == [0.5]
    assert not [key for key in evaluated[0] if key.endswith("_loss")]
    losses = [entry for entry in metrics["history"] if "reasoning_loss" in entry]
    assert losses[0]["loss"] == pytest.approx(losses[0]["reasoning_loss"], rel=1e-5)
    with pytest.raises(InputError, match="cot learns no label"):
        train(tmp_path / "t", examples, select="best", best_by="loss", **options)
    pairs = make_examples(tmp_path / "pairs")
    with pytest.raises(InputError, match="learns no label"):  # its loss would be 0 at every validation
        train(tmp_path / "t", pairs, settings={"alpha": 0}, select="best", best_by="loss", **options | {"name": "dss"})


def test_mmi_reports_its_own_term(tmp_path):
    examples = make_examples(tmp_path / "attention")
    _, metrics = train(tmp_path / "s", examples, name="mmi", settings={"beta": 0.5}, steps=2, log_every=1)
    for entry in (entry for entry in metrics["history"] if "loss" in entry):
        expected = 0.5 * entry["label_loss"] + 0.5 * entry["rationale_loss"] + 0.5 * entry["mutual_loss"]
        assert entry["loss"] == pytest.approx(expected, rel=1e-5)
        assert entry["mutual_share"] == pytest.approx(0.5 * entry["mutual_loss"] / entry["loss"], rel=1e-5)
        assert "attention_loss" not in entry
