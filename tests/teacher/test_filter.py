"""What an output is worth, on text as teachers write it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from molsaki.answers.problems import before_next_question
from molsaki.models.decode import Completion
from molsaki.records import Problem
from molsaki.teacher.filter import (
    ANSWER_LEFT_OUT,
    MOSTLY_CUT,
    OTHER_ANSWER,
    THINKING_KEPT,
    Learn,
    check_completion,
    check_given,
    select_sample,
)

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
        (HALF, "Take half. The answer is 40. No. The answer is 42.", "ambiguous", "Take half. The answer is 40. No."),
        (HALF, "Take half. The answer is 40 or 42.", "ambiguous", ""),
        (HALF, "Take half. The answer is 41.", "wrong answer", "Take half."),
        (HALF, "Take half and half again.", "no answer", ""),
        (LESSON, "It sounds. So the answer is (c) math problem.", "ambiguous", ""),
        (LESSON, "It sounds. So the answer is song.", "wrong answer", "It sounds."),
    ],
)
def test_answers_as_teachers_state_them(problem: Problem, text: str, reason: str, rationale: str) -> None:
    result = check_completion(problem, said(text))
    assert (result.reason, result.rationale) == (reason, rationale)
    assert result.kept == (reason == "right")


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
    result = check_completion(HALF, said(f"{sentence} So take half. The answer is 42."), second_pass=True)
    assert (result.reason, result.kept) == ("right, second pass", True)


def test_nothing_is_kept_where_nothing_is_right() -> None:
    texts = ["One. The answer is 1.", "Two."]
    found = select_sample([said(text) for text in texts], [check_completion(HALF, said(text)) for text in texts])
    assert (found.result.reason, found.agreement, found.completion.text) == ("wrong answer", 0, texts[0])


def test_a_right_output_is_chosen_before_those_that_are_kept_unchecked() -> None:
    texts = ["One. The answer is 1.", "Half of it. The answer is 42.", "Two. The answer is 2."]
    results = [check_completion(HALF, said(text), keep="all") for text in texts]
    found = select_sample([said(text) for text in texts], results)
    assert (found.result.reason, found.agreement, found.completion.text) == ("right", 1, texts[1])
    found = select_sample([said(texts[0]), said(texts[2])], [results[0], results[2]])
    assert (found.result.reason, found.agreement, found.completion.text) == ("kept unchecked", 0, texts[0])


SENTENCES = st.sampled_from(
    [
        "Half of 84 is 42.",
        "The answer is 42.",
        "So the answer is 42",
        "\n#### 42\n",
        "\\boxed{42}",
        "Q: What?",
        "A: 7.",
        "\n",
    ]
)


@settings(max_examples=50)
@given(st.lists(SENTENCES, max_size=8).map(" ".join))
def test_a_kept_rationale_does_not_end_in_its_answer_and_has_no_other_question(text: str) -> None:
    assume(not text.lstrip().startswith("Q:"))
    result = check_completion(HALF, said(text))
    if result.kept:
        assert not result.rationale.rstrip(". ").endswith(("answer is 42", "#### 42", "\\boxed{42}"))
        assert before_next_question(result.rationale) == result.rationale
        assert result.rationale == result.rationale.strip() != ""


@settings(max_examples=50)
@given(st.lists(st.sampled_from([f"{'x' * n} it is. The answer is {n % 3}." for n in range(1, 7)]), min_size=1))
def test_the_choice_does_not_depend_on_wrong_samples(texts: list[str]) -> None:
    problem = Problem("one", "How many?", "1", "1")
    completions = [said(text) for text in texts]
    results = [check_completion(problem, completion) for completion in completions]
    found = select_sample(completions, results)
    right = [i for i, result in enumerate(results) if result.kept]
    assert found.agreement == len(right)
    if right:
        assert found.completion in [completions[i] for i in right]
        assert len(found.result.rationale) == min(len(results[i].rationale) for i in right)


THOUGHT = (
    "<think>\nSix sevens; the answer is not a fraction. 6*7 = 42.\n</think>\n\n6 boxes of 7 make 42. The answer is 42."
)


@pytest.mark.parametrize(
    ("learn", "rationale"),
    [
        ("summary", "6 boxes of 7 make 42."),
        ("thinking", "Six sevens; the answer is not a fraction. 6*7 = 42."),
        ("both", "Six sevens; the answer is not a fraction. 6*7 = 42.\n\n6 boxes of 7 make 42."),
    ],
)
def test_what_a_student_learns_of_thinking_is_chosen_by_name(learn: Learn, rationale: str) -> None:
    result = check_completion(HALF, said(THOUGHT), learn=learn)
    assert (result.reason, result.rationale, result.notes) == ("right", rationale, ())


def test_a_summary_of_the_answer_alone_keeps_the_thinking_and_says_so() -> None:
    result = check_completion(HALF, said("<think>6*7 = 42.</think>\nThe answer is 42."))
    assert (result.kept, result.rationale, result.notes) == (True, "6*7 = 42.", (THINKING_KEPT,))


def test_without_thinking_there_is_none_to_learn() -> None:
    assert check_completion(HALF, said("6*7 = 42. The answer is 42."), learn="thinking").reason == "empty rationale"


def test_thinking_that_never_ends_is_cut_off() -> None:
    assert check_completion(HALF, said("<think>6*7 = 42, so the answer is 42.", cut=True)).reason == "cut off"


def test_a_second_pass_is_searched_where_the_student_reads() -> None:
    text = "<think>The given answer is 42.</think>Take half of it. The answer is 42."
    assert check_completion(HALF, said(text), second_pass=True).kept
    assert not check_completion(HALF, said(text), second_pass=True, learn="both").kept


def test_a_rationale_that_is_mostly_cut_is_noted() -> None:
    answer = "The answer is 42, since " + "six and six and " * 10 + "so on."
    assert check_completion(HALF, said(f"Take half. {answer}")).notes == (MOSTLY_CUT,)
    assert check_completion(HALF, said("Take half. The answer is 42.")).notes == ()
    # Other questions that the teacher went on to invent are no part of what was written for this one.
    assert check_completion(HALF, said("Take half. The answer is 42." + "\n\nQ: What else?" * 20)).notes == ()


def test_what_is_kept_unchecked_has_no_tags_and_tokens() -> None:
    text = "<|im_start|>assistant\n<think>Hm.</think>Take half of it.<|im_end|>"
    assert check_completion(HALF, said(text), keep="all").rationale == "Take half of it."


def test_a_latex_answer_is_compared_by_its_value() -> None:
    problem = Problem("root", "How long is it?", "2\\sqrt{5}", "2\\sqrt{5}")
    assert check_completion(problem, said("By Pythagoras. $\\boxed{\\sqrt{20}}$")).reason == "right"
    assert check_completion(problem, said("By Pythagoras. $\\boxed{20}$")).reason == "wrong answer"
    pair = Problem("pair", "Where?", "(3, 4)", "(3, 4)")
    assert check_completion(pair, said("Three, then four. The answer is (3,4).")).reason == "right"


@pytest.mark.parametrize("learn", ["summary", "thinking", "both"])
@pytest.mark.parametrize("summary", ["6 boxes of 7 make 42. The answer is 42.", "The answer is 42."])
def test_thinking_beside_the_text_is_as_thinking_in_it(learn: Learn, summary: str) -> None:
    beside = replace(said(summary), thinking="Six sevens. 6*7 = 42.\n")
    inside = said(f"<think>Six sevens. 6*7 = 42.</think>{summary}")
    found = check_completion(HALF, beside, learn=learn)
    assert found == check_completion(HALF, inside, learn=learn)
    assert found.kept


def test_thinking_that_takes_the_summarys_place_may_not_mention_the_hint() -> None:
    text = "<think>We are told that the answer is 42.</think>The answer is 42."
    assert check_completion(HALF, said(text), second_pass=True).reason == "says that the answer was given, second pass"


@pytest.mark.parametrize(
    ("text", "learn", "rationale", "reason", "notes"),
    [
        ("Take half of it.", "summary", "Take half of it.", "given", ()),
        ("Take half. The answer is 42.", "summary", "Take half.", "given", (ANSWER_LEFT_OUT,)),
        ("Take half. The answer is 41.", "summary", "Take half. The answer is 41.", "given", (OTHER_ANSWER,)),
        ("6 * 7.", "summary", "6 * 7.", "given", ()),
        ("<think>Six sevens.</think>\\boxed{42}", "summary", "Six sevens.", "given", (THINKING_KEPT, ANSWER_LEFT_OUT)),
        (" \n", "summary", "", "empty rationale", ()),
        (
            "<think>Hm, 41.</think>\n\nTake half.\n\n\\boxed{42}",
            "summary",
            "Take half.",
            "given",
            (ANSWER_LEFT_OUT,),
        ),
        ("<think>Hm.</think>Take half.", "thinking", "Hm.", "given", ()),
        ("<think>Hm.</think>Take half.", "both", "Hm.\n\nTake half.", "given", ()),
        ("<think>Hm, take half", "summary", "", "cut off", ()),
    ],
)
def test_a_given_rationale_is_learned_as_a_teachers_is(
    text: str, learn: Learn, rationale: str, reason: str, notes: tuple[str, ...]
) -> None:
    found = check_given(replace(HALF, rationale=text), learn)
    assert (found.rationale, found.reason, found.notes) == (rationale, reason, notes)
