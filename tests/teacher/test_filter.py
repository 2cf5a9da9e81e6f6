"""What an output is worth, on text as teachers write it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.answers.sentences import before_next_question, find_answer_sentences
from molsaki.models.decode import Completion
from molsaki.records import Problem
from molsaki.teacher.filter import check_completion, select_sample

HALF = Problem("half", "What is half of 84?", "42", "( 84.0 / 2.0 )")
MONEY = Problem("money", "What do 5 of them cost?", "1234.5", "1234.5")
DECIMAL = Problem("decimal", "What is half of 3?", "1.5", "( 3.0 / 2.0 )")
LESSON = Problem(
    "lesson",
    "What takes numbers?",
    "math problem",
    "math problem",
    choices=("lake", "cave", "song", "math problem", "the song"),
)


def said(text: str, **more: bool) -> Completion:
    return Completion(0, text, len(text.split()), **{"cut": False, **more})


@pytest.mark.parametrize(
    ("problem", "text", "reason", "rationale"),
    [
        (HALF, "Half of 84 is 84 / 2. The answer is ( 84.0 / 2.0 ).", "right", "Half of 84 is 84 / 2."),
        (LESSON, "Numbers are for maths. So the answer is (d) math problem.", "right", "Numbers are for maths."),
        (HALF, "Half of 84.\n#### 42", "right", "Half of 84."),
        (HALF, "Half of 84 it is.\nThe answer is $\\boxed{42}$.", "right", "Half of 84 it is."),
        (DECIMAL, "Half of 3 it is. The answer is 1.5.", "right", "Half of 3 it is."),
        (MONEY, "Add them up. The answer is $1,234.50.", "right", "Add them up."),
        (HALF, "Two of 42 make 84. The answer is 42. The answer is 42.", "right", "Two of 42 make 84."),
        (HALF, "Take half. The answer is 42.\n\nQ: What is 1 + 1?\nA: The answer is 2.", "right", "Take half."),
        (HALF, "Take half. The answer is 42.\n\nHow many are 3 and 4? The answer is 7.", "right", "Take half."),
        (HALF, "Take half. The answer is 40. No. The answer is 42.", "ambiguous", "Take half."),
        (HALF, "Take half. The answer is 40 or 42.", "ambiguous", ""),
        (HALF, "Take half. The answer is 41.", "wrong answer", "Take half."),
        (HALF, "Take half and half again.", "no answer", ""),
        (LESSON, "It sounds. So the answer is (c) math problem.", "ambiguous", ""),
        (LESSON, "It sounds. So the answer is song.", "wrong answer", "It sounds."),
    ],
)
def test_answers_as_teachers_state_them(problem: Problem, text: str, reason: str, rationale: str) -> None:
    verdict = check_completion(problem, said(text))
    assert (verdict.reason, verdict.rationale) == (reason, rationale)
    assert verdict.kept == (reason == "right")


def test_what_is_cut_off_says_so() -> None:
    assert check_completion(HALF, said("Half of 84 is", cut=True)).reason == "cut off"
    assert check_completion(HALF, said("Half of 84. The answer is ( 84.0 /", cut=True)).reason == "cut off"
    assert check_completion(HALF, said("", too_long=True)).reason == "prompt too long"


TELLING = [
    "We are given that the answer was supplied.",
    "The given answer is 42.",
    "Since the correct answer is 42, take half.",
    "We know that the answer was given to us.",
    "The answer provided above fits.",
    "The right choice was given.",
    "We are told that the answer is 42.",
    "I was told the right answer.",
    "According to the hint, take half.",
    "As we already know the answer, take half.",
]
NOT_TELLING = [
    "We are given 84 apples and told to take half.",
    "Of the given answer choices, only one takes numbers.",
    "Of the given choices, half is what is asked.",
    "The solution known as saline has salt.",
    "Half of 84 is 84 / 2, since two halves make a whole.",
    "A hint of salt is in it.",
    "He gave 42 away, so the rest is the right amount.",
]


@pytest.mark.parametrize("sentence", TELLING)
def test_a_second_pass_that_says_it_was_told_is_dropped(sentence: str) -> None:
    text = f"Half of 84 is wanted. {sentence} The answer is 42."
    assert check_completion(HALF, said(text), second_pass=True).reason == "says that the answer was given, second pass"
    assert check_completion(HALF, said(text)).kept, "a first pass was told nothing"


@pytest.mark.parametrize("sentence", NOT_TELLING)
def test_a_second_pass_that_reasons_is_kept(sentence: str) -> None:
    verdict = check_completion(HALF, said(f"{sentence} So take half. The answer is 42."), second_pass=True)
    assert (verdict.reason, verdict.kept) == ("right, second pass", True)


def test_nothing_is_kept_where_nothing_is_right() -> None:
    texts = ["One. The answer is 1.", "Two."]
    found = select_sample([said(text) for text in texts], [check_completion(HALF, said(text)) for text in texts])
    assert (found.result.reason, found.agreement, found.completion.text) == ("wrong answer", 0, texts[0])


SENTENCES = st.sampled_from(
    [
        "Half of 84 is 42.",
        "The answer is 42.",
        "So the answer is 42",
        "#### 42",
        "\\boxed{42}",
        "Q: What?",
        "A: 7.",
        "\n",
    ]
)


@settings(max_examples=50)
@given(st.lists(SENTENCES, max_size=8).map(" ".join))
def test_a_kept_rationale_has_no_answer_sentence_and_no_other_question(text: str) -> None:
    verdict = check_completion(HALF, said(text))
    if verdict.kept:
        assert not find_answer_sentences(verdict.rationale)
        assert before_next_question(verdict.rationale) == verdict.rationale
        assert verdict.rationale == verdict.rationale.strip() != ""


@settings(max_examples=50)
@given(st.lists(st.sampled_from([f"{'x' * n} it is. The answer is {n % 3}." for n in range(1, 7)]), min_size=1))
def test_the_choice_does_not_depend_on_wrong_samples(texts: list[str]) -> None:
    problem = Problem("one", "How many?", "1", "1")
    completions = [said(text) for text in texts]
    verdicts = [check_completion(problem, completion) for completion in completions]
    found = select_sample(completions, verdicts)
    right = [i for i, verdict in enumerate(verdicts) if verdict.kept]
    assert found.agreement == len(right)
    if right:
        assert found.completion in [completions[i] for i in right]
        assert len(found.result.rationale) == min(len(verdicts[i].rationale) for i in right)
