"""The pocket data sets: reproducible, with disjoint pools, and with right labels and rationales."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pocket_language import commonsense_lesson, math_lesson, vocabulary_text, world_text

from molsaki import solve
from molsaki.answers.parse import parse_answer
from molsaki.answers.right import is_right
from molsaki.data import load_problems
from molsaki.data.pocket import words
from molsaki.data.pocket.commonsense import (
    ANIMALS,
    CHOICES_PER_QUESTION,
    RELATIONS,
    draw_question,
    facts,
    pocket_commonsense,
)
from molsaki.data.pocket.word_problems import SETTINGS, Story, draw_story, pocket_math, pool_of
from molsaki.errors import DataError
from molsaki.records import Problem

POOLS = ("train", "validation", "test")
WORDINGS = [value for value in vars(words).values() if isinstance(value, words.Wordings)]


def numbers_of(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", text)]


def pattern(wording: str) -> re.Pattern[str]:
    """A pattern that matches a wording with any names, things and numbers."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", lambda m: r"\d+" if m[1] in "nm" else r"\w+", re.escape(wording)))


def stories(setting: str, n: int = 200) -> list[Story]:
    rng = random.Random(f"test/{setting}")
    return [draw_story(rng, SETTINGS[setting]) for _ in range(n)]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_arguments_give_the_same_problems(setting: str) -> None:
    first = list(pocket_math(setting, "test", 20, seed=3))
    assert first == list(pocket_math(setting, "test", 20, seed=3))
    assert first == list(islice(pocket_math(setting, "test", 40, seed=3), 20)), "a smaller set is the start of a larger"
    assert {p.question for p in first}.isdisjoint(p.question for p in pocket_math(setting, "test", 20, seed=4))
    assert len({p.id for p in first}) == len({p.question for p in first}) == 20


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(SETTINGS)), st.integers(0, 10**9), st.integers(0, 10**9))
def test_pools_never_share_a_problem_whatever_the_seeds(setting: str, one: int, other: int) -> None:
    pools = {pool: {p.question for p in pocket_math(setting, pool, 25, one)} for pool in POOLS}  # type: ignore[arg-type]
    for a in POOLS:
        assert all(pool_of(text) == a for text in pools[a])
        for b in set(POOLS) - {a}:
            assert pools[a].isdisjoint(p.question for p in pocket_math(setting, b, 25, other))  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(SETTINGS)), st.integers(0, 10**9))
def test_every_label_solves_to_its_answer(setting: str, seed: int) -> None:
    for problem in pocket_math(setting, "train", 10, seed):
        assert solve(problem.label) == float(problem.answer)
        assert float(problem.answer).is_integer()
        assert float(problem.answer) > 0


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_rationale_leads_to_the_answer_step_by_step(setting: str) -> None:
    for story in stories(setting):
        value = 0
        for sentence in story.rationale.split(". "):
            found = numbers_of(sentence)
            if sentence.startswith("At first"):
                value = found[0]
            elif "so multiply" in sentence and " by " in sentence and len(found) == 4:
                assert found[:2] == found[2:]
                value = found[0] * found[1]
            else:
                assert found[0] == found[1], sentence
                change = re.search(r"so (add|take away|divide by|multiply by) ", sentence)
                assert change, sentence
                quotient, rest = divmod(value, found[0])
                assert rest == 0 or change[1] != "divide by"
                value = {
                    "add": value + found[0],
                    "take away": value - found[0],
                    "divide by": quotient,
                    "multiply by": value * found[0],
                }[change[1]]
                assert value > 0, "a quantity never becomes negative on the way"
        assert value == story.value == solve(story.equation)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_number_of_the_equation_stands_in_the_question(setting: str) -> None:
    extra = Counter[int]()
    for story in stories(setting):
        missing = Counter(numbers_of(story.equation)) - Counter(numbers_of(story.text))
        assert not missing
        extra[len(numbers_of(story.text)) - len(numbers_of(story.equation))] += 1
    assert set(extra) == set(SETTINGS[setting].distractors), "the other numbers are the distractors'"


@pytest.mark.parametrize("setting", SETTINGS)
def test_numbers_and_operations_are_those_of_the_setting(setting: str) -> None:
    made = stories(setting)
    low, high = SETTINGS[setting].smallest, SETTINGS[setting].largest
    for story in made:
        found = numbers_of(story.text)
        assert all(2 <= n <= 12 or low <= n <= high for n in found)
        assert any(low <= n <= high for n in found)
    assert {len(re.findall("[-+*/]", story.equation)) for story in made} == set(SETTINGS[setting].operations)


def test_held_out_wordings_are_never_trained_on() -> None:
    held_out = [pattern(wording) for kind in WORDINGS for wording in kind.held_out]
    trained = [p.question for p in pocket_math("in-domain", "train", 400)]
    for setting in ("in-domain", "numbers", "chains"):
        trained += [story.text for story in stories(setting)]
    assert not [text for text in trained if any(p.search(text) for p in held_out)]
    tested = [story.text for story in stories("templates")]
    for wording in held_out:
        assert any(wording.search(text) for text in tested), f"{wording.pattern} is never used"
    assert sum(any(p.search(text) for p in held_out) for text in tested) > 0.75 * len(tested)


def test_distractors_never_speak_of_the_things_that_count() -> None:
    for wording in (*words.DISTRACTOR.known, *words.DISTRACTOR.held_out):
        assert "{xs}" not in wording
    assert len(set(words.THINGS)) == len(words.THINGS)
    assert len(set(words.NAMES)) == len(words.NAMES)


def test_commonsense_questions_have_one_right_choice_that_the_world_knows() -> None:
    world = facts()
    assert world == facts()
    assert set(world) == set(ANIMALS)
    rng = random.Random("test commonsense")
    for _ in range(300):
        quiz = draw_question(rng)
        assert len(set(quiz.choices)) == CHOICES_PER_QUESTION
        animal = next(a for a in sorted(ANIMALS, key=len, reverse=True) if re.search(rf"\b{a}\b", quiz.question))
        relations = [name for name, relation in RELATIONS.items() if quiz.answer in relation.values]
        assert any(world[animal][name] == quiz.answer for name in relations)
        assert quiz.answer in quiz.rationale
        for keyword in quiz.keywords:
            assert re.search(rf"\b{keyword}\b", quiz.question), "the key words stand in the question"


def test_commonsense_pools_never_share_a_question_with_its_choices() -> None:
    pools = {
        pool: {p.text for seed in (0, 1) for p in pocket_commonsense(pool, 100, seed)}  # type: ignore[arg-type]
        for pool in POOLS
    }
    assert sum(map(len, pools.values())) == len(set.union(*pools.values()))
    assert all(p.keywords is None and p.rationale is None for p in pocket_commonsense("train", 20)), (
        "the teacher has to name the key words and write the rationale"
    )


def test_the_teachers_lessons_end_in_answers_that_the_one_parser_reads() -> None:
    rng = random.Random("test lessons")
    for _ in range(100):
        question, answer = math_lesson(rng).removeprefix("Q: ").split("\nA: ")
        assert pool_of(question) == "train", "no test problem is in the lessons of the teacher"
        parsed = parse_answer(answer, ())
        assert parsed.status == "ok"
        rationale, equation = answer.removesuffix(".").split(" The answer is ")
        assert parsed.rationale == rationale
        assert is_right(parsed, Problem("x", question, f"{solve(equation):g}", equation))
    for _ in range(100):
        lesson = commonsense_lesson(rng)
        if "\nKey words: " in lesson:
            continue
        question, answer = lesson.removeprefix("Q: ").split("\nA: ")
        choices = tuple(line[4:] for line in question.splitlines() if re.match(r"\([a-e]\) ", line))
        assert parse_answer(answer, choices).status == "ok"


def test_the_base_student_reads_no_solution() -> None:
    rng = random.Random("test world")
    for _ in range(500):
        text = world_text(rng)
        assert "answer" not in text.lower()
        assert "A:" not in text
        assert "so add" not in text
        assert "Of the above choices" not in text
    write = vocabulary_text(world_text)
    assert any("predict: explain:" in write(rng) for _ in range(500)), "tokenizers know the prompts' words"


def test_the_data_sets_are_these_pools() -> None:
    for split in ("train", "validation", "test"):
        loaded = load_problems("pocket-math", split=split, limit=30)
        assert all(pool_of(p.question) == split for p in loaded)
        assert len(load_problems("pocket-commonsense", split=split, limit=30)) == 30
    for split in ("templates", "numbers", "chains"):
        assert all(pool_of(p.question) == "test" for p in load_problems("pocket-math", split=split, limit=30))
    seeded = {p.question for p in load_problems("pocket-math", split="train:7", limit=30)}
    assert seeded.isdisjoint(p.question for p in load_problems("pocket-math", split="train", limit=30))
    with pytest.raises(DataError, match="'dev'"):
        load_problems("pocket-math", split="dev")
    with pytest.raises(DataError, match="'huge'"):
        list(pocket_math("huge", "train", 1))
