"""Controls: what a student's attention is pulled towards, made once, whatever the method."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from small_world import CONTEXT, TEMPLATES, make_problems, make_store, make_texts, make_tokenizer, train

from molsaki import encode_examples
from molsaki.errors import InputError
from molsaki.methods import METHODS, AttentionChoice, terms_of
from molsaki.spans.find import find_spans
from molsaki.spans.views import STEPS, VIEWS, WORDS, View
from molsaki.training.example import TeacherRow
from molsaki.training.shared_attention import NO_SOURCE, NOTHING_CHOSEN
from molsaki.training.targets import shuffle_targets, visible_to

STEPS_ON_WORDS = VIEWS["steps-on-words"]


def sources_of(problem):
    """Both numbers of the question, for one step."""
    found = find_spans(problem.question, "", "numbers").keys
    return replace(problem, sources=(tuple((span.start, span.end) for span in found),))


@pytest.fixture
def problems():
    return [sources_of(problem) for problem in make_problems(8)]


def encode(tmp_path, problems, choice=None, seed=0, without=()):
    choice = choice or AttentionChoice()
    store = make_store(
        tmp_path / f"{choice.view.name}-{len(problems)}-{len(without)}", problems, without, view=choice.view
    )
    return encode_examples(make_tokenizer(), problems, make_texts(problems), TEMPLATES, CONTEXT, store, choice, seed)


@pytest.mark.parametrize(
    "view", [STEPS, WORDS, STEPS_ON_WORDS, View("steps", "keys", heads=True), View("before-keys", "keys")], ids=str
)
@pytest.mark.parametrize("target", ["uniform", "shuffled"])
def test_a_control_keeps_the_teachers_row_sums_and_what_is_visible(tmp_path, problems, view, target):
    """A row with another sum would be sharper or flatter after the softmax, whatever it looks at."""
    teacher, _ = encode(tmp_path / "a", problems, AttentionChoice(view))
    control, _ = encode(tmp_path / "b", problems, AttentionChoice(view, target=target))
    changed = 0
    for one, other in zip(teacher, control, strict=True):
        assert other.tokens == one.tokens
        visible = visible_to(one.tokens)
        torch.testing.assert_close(other.teacher_LSK.sum(2), torch.where(visible.any(1), one.teacher_LSK.sum(2), 0.0))
        assert not other.teacher_LSK[:, ~visible].any()
        if target == "uniform":
            for step, keys in enumerate(visible):
                row_LK = other.teacher_LSK[:, step, keys]
                torch.testing.assert_close(row_LK, row_LK[:, :1].expand_as(row_LK))
        changed += not torch.allclose(one.teacher_LSK, other.teacher_LSK)
    assert changed == len(problems)


def test_shuffled_rows_are_anothers_and_depend_on_the_seed_alone(tmp_path, problems):
    """Two examples: each must get the other's rows; a random draw would now and then give it its own."""
    for seed in range(5):
        pair = problems[2:4]
        plain, _ = encode(tmp_path / f"a{seed}", pair)
        shuffled, _ = encode(tmp_path / f"b{seed}", pair, AttentionChoice(target="shuffled"), seed)
        for i in (0, 1):
            mine, other = shuffled[i], plain[1 - i]
            steps = min(mine.tokens.n_steps, other.tokens.n_steps)
            keys = visible_to(mine.tokens)[:steps].sum(1).tolist()
            theirs = visible_to(other.tokens)[:steps].sum(1).tolist()
            for step in range(steps):
                expected = other.teacher_LSK[:, step, [k % theirs[step] for k in range(keys[step])]]
                got = mine.teacher_LSK[:, step, : keys[step]]
                torch.testing.assert_close(
                    got / got.sum(1, keepdim=True), expected / expected.sum(1, keepdim=True), atol=1e-6, rtol=1e-5
                )
    same = [encode(tmp_path / f"c{i}", problems, AttentionChoice(target="shuffled"), 3)[0] for i in range(2)]
    other, _ = encode(tmp_path / "d", problems, AttentionChoice(target="shuffled"), 4)
    assert all(torch.equal(one.teacher_LSK, two.teacher_LSK) for one, two in zip(*same, strict=True))
    assert any(not torch.equal(one.teacher_LSK, two.teacher_LSK) for one, two in zip(same[0], other, strict=True))


def test_a_donors_row_without_weight_becomes_a_uniform_one(tmp_path, problems):
    """A sliding window may have passed all keys, and a first step may see none."""
    pair, _ = encode(tmp_path, problems[2:4])
    without = pair[1].teacher_LSK
    without[:, 1] = 0
    pair[1] = replace(pair[1], teacher=TeacherRow.of(without))
    for example in (shuffle_targets(pair, seed=1)[0], shuffle_targets([pair[0], blind(pair[1])], seed=1)[0]):
        keys = visible_to(example.tokens)[1]
        row_LK = example.teacher_LSK[:, 1, keys]
        assert keys.sum() > 1
        torch.testing.assert_close(row_LK, row_LK.mean(1, keepdim=True).expand_as(row_LK))
        torch.testing.assert_close(row_LK.sum(1), pair[0].teacher_LSK[:, 1].sum(1))


def blind(example):
    """The example with all its keys after its steps, which see none."""
    steps, keys = range(example.tokens.n_steps), range(example.tokens.n_keys)
    step_of_token = (*steps, *(-1 for _ in keys))
    key_of_token = (*(-1 for _ in steps), *keys)
    return replace(example, tokens=replace(example.tokens, step_of_token=step_of_token, key_of_token=key_of_token))


def test_examples_without_attention_are_no_donors_and_get_none(tmp_path, problems):
    shuffled, _ = encode(tmp_path, problems, AttentionChoice(target="shuffled"), without=("p1", "p6"))
    assert [e.problem_id for e in shuffled if e.teacher_LSK is None] == ["p1", "p6"]
    with pytest.raises(InputError, match=r"shuffled.* 1\."):
        encode(tmp_path / "one", problems[:2], AttentionChoice(target="shuffled"), without=("p1",))


@pytest.mark.parametrize("view", [STEPS, WORDS, STEPS_ON_WORDS, View("before-keys", "keys")], ids=str)
def test_an_oracle_has_all_weight_on_the_sources_of_each_row(tmp_path, problems, view):
    teacher, _ = encode(tmp_path / "a", problems, AttentionChoice(view))
    oracle, report = encode(tmp_path / "b", problems, AttentionChoice(view, target="oracle"))
    assert not report.notes
    for problem, one, other in zip(problems, teacher, oracle, strict=True):
        spans = view.spans(problem.question, problem.rationale, "numbers")
        numbers = {problem.question[start:end] for start, end in problem.sources[0]}
        weighted = other.teacher_LSK > 0
        assert weighted.any(2).all()
        for key in weighted.any(0).any(0).nonzero().flatten().tolist():
            assert spans.keys[key].text == "question"
            assert spans.keys[key].of(problem.question, problem.rationale) in numbers
        sums, plain = (example.teacher_LSK.sum(2) for example in (other, one))
        assert (sums[:, :, None] - plain[:, None, :]).abs().min(2).values.max() < 1e-6, "sums of some row each"


def test_rows_without_a_source_are_no_rows_of_an_oracle(tmp_path, problems):
    """The question's, and "That is all of them.": a target for them would be made up."""
    problem = problems[3]
    (example,), _ = encode(tmp_path / "a", [problem], AttentionChoice(target="oracle"))
    (plain,), _ = encode(tmp_path / "b", [problem])
    assert (plain.tokens.n_steps, example.tokens.n_steps) == (5, 3)
    torch.testing.assert_close(example.teacher_LSK.sum(2), plain.teacher_LSK[:, 1:4].sum(2))
    without = replace(problem, rationale="It is so.")
    (example,), report = encode(tmp_path / "c", [without], AttentionChoice(target="oracle"))
    assert example.teacher_LSK is None
    assert report.notes == {NO_SOURCE: 1}


def test_data_that_do_not_know_their_sources_have_no_oracle(tmp_path):
    with pytest.raises(InputError, match=r"'p0' has no `sources`"):
        encode(tmp_path, make_problems(2), AttentionChoice(target="oracle"))


def test_steps_of_the_rationale_leave_the_question_out(tmp_path, problems):
    teacher, _ = encode(tmp_path / "a", problems)
    chosen, _ = encode(tmp_path / "b", problems, AttentionChoice(rationale_steps=True))
    for one, other in zip(teacher, chosen, strict=True):
        assert torch.equal(other.teacher_LSK, one.teacher_LSK[:, 1:])
        assert other.tokens.n_steps == one.tokens.n_steps - 1


def test_words_but_keys_leave_every_number_out(tmp_path, problems):
    every, _ = encode(tmp_path / "a", problems, AttentionChoice(STEPS_ON_WORDS))
    others, _ = encode(tmp_path / "b", problems, AttentionChoice(STEPS_ON_WORDS, other_words=True))
    for problem, one, other in zip(problems, every, others, strict=True):
        spans = STEPS_ON_WORDS.spans(problem.question, problem.rationale, "numbers")
        words = [span.of(problem.question, problem.rationale) for span in spans.keys]
        keep = [i for i, word in enumerate(words) if not word.isdigit()]
        assert 0 < len(keep) < len(words)
        assert torch.equal(other.teacher_LSK, one.teacher_LSK[:, :, keep])


def test_an_example_with_nothing_that_is_compared_is_counted(tmp_path, problems):
    problem = replace(problems[0], question="Tom has pens. How many?", sources=())
    (example,), report = encode(tmp_path, [problem], AttentionChoice(question_keys=True))
    assert example.teacher_LSK is None
    assert report.notes == {NOTHING_CHOSEN: 1}


# ---- settings ----


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("molsaki", {}, AttentionChoice(values=True)),
        ("molsaki", {"target": "uniform"}, AttentionChoice(target="uniform", values=True)),
        ("molsaki", {"columns": "all"}, AttentionChoice(STEPS_ON_WORDS, values=True)),
        ("molsaki", {"columns": "all-but-keys"}, AttentionChoice(STEPS_ON_WORDS, other_words=True, values=True)),
        ("molsaki", {"steps": "rationale"}, AttentionChoice(rationale_steps=True, values=True)),
        ("molsaki", {"rows": "words"}, AttentionChoice(WORDS, values=True)),
        ("molsaki", {"rows": "before-keys"}, AttentionChoice(VIEWS["before-keys-on-keys"], values=True)),
        ("molsaki", {"rows": "words", "columns": "keys"}, AttentionChoice(VIEWS["words-on-keys"], values=True)),
        ("molsaki", {"columns": "all", "heads": "each"}, AttentionChoice(VIEWS["steps-on-words-heads"], values=True)),
        (
            "single-layer",
            {"target": "oracle", "keys": "question"},
            AttentionChoice(target="oracle", question_keys=True),
        ),
        ("attention-map", {}, AttentionChoice(WORDS)),
        ("attention-map", {"columns": "keys"}, AttentionChoice(VIEWS["words-on-keys"])),
        ("attention-map", {"columns": "all-but-keys"}, AttentionChoice(WORDS, other_words=True)),
        ("attention-map", {"target": "shuffled"}, AttentionChoice(WORDS, target="shuffled")),
    ],
    ids=str,
)
def test_settings_say_what_is_compared(name, settings, expected):
    assert terms_of(name, settings).attention == expected


@pytest.mark.parametrize("name", ["molsaki", "single-layer", "attention-map"])
@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"target": "student"}, "target"),
        ({"columns": "words"}, "columns"),
        ({"target": "oracle", "columns": "all-but-keys"}, "oracle"),
    ],
    ids=str,
)
def test_impossible_controls_are_refused(name, settings, field):
    with pytest.raises(ValidationError, match=field):
        METHODS[name].Settings(**settings)


@pytest.mark.parametrize(
    ("name", "settings", "field"),
    [
        ("molsaki", {"rows": "words", "steps": "rationale"}, "steps"),
        ("attention-map", {"steps": "rationale"}, "steps"),
        ("single-layer", {"rows": "words"}, "rows"),
        ("molsaki", {"rows": "lines"}, "rows"),
        ("molsaki", {"steps": "question"}, "steps"),
    ],
)
def test_rows_and_steps_that_do_not_go_together_are_refused(name, settings, field):
    with pytest.raises(ValidationError, match=field):
        METHODS[name].Settings(**settings)


@pytest.mark.parametrize(
    "settings",
    [{"target": "uniform"}, {"target": "shuffled"}, {"target": "oracle"}, {"steps": "rationale"}, {"columns": "all"}],
    ids=str,
)
def test_a_student_trains_with_every_control(tmp_path, problems, settings):
    choice = terms_of("molsaki", settings).attention
    examples, _ = encode(tmp_path, problems, choice)
    _, metrics = train(tmp_path / "s", examples, settings=settings, steps=2, log_every=1)
    assert metrics["history"][0]["attention_loss"] > 0
