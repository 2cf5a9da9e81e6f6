"""An answer that denies a choice or a number is never read as that choice or number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.answers.parse import parse_answer

WET = ("water", "sand", "air")
ANSWERS = ("yes", "no")
NUMBERS = ("8", "12", "16")

BEFORE = [
    "anything but",
    "everything except",
    "that it isn't",
    "that it isn’t",
    "that it cannot be",
    "that it can't ever be",
    "no",
    "definitely not",
    "clearly not",
    "never really",
    "the opposite of",
    "hardly",
    "unlikely to be",
    "none of these, though some say",
    "rather than",
    "instead of",
    "some choice other than",
    "far from",
    "wrong if it is",
]
BEHIND = ["is wrong", "would be wrong", "cannot be right", "isn't it", "is not it", "can be ruled out", "is unlikely"]
CERTAIN = ["", "surely ", "without a doubt ", "no doubt ", "nothing but ", "none other than ", "most likely "]
CONTRASTS = [", not {}", " rather than {}", " instead of {}", ", and not {}", ", because {} is wrong"]


def read(said: str, choices: tuple[str, ...] = WET) -> str | None:
    parsed = parse_answer(f"It is so. The answer is {said}.", choices)
    return parsed.answer_text if parsed.status == "ok" else None


@given(st.sampled_from(BEFORE), st.sampled_from(["water", "the water", "(A)", "(A) water", "[A]", "**(A)**"]))
def test_a_denied_choice_is_not_read(denial: str, choice: str) -> None:
    assert read(f"{denial} {choice}") is None


@given(st.sampled_from(BEHIND), st.sampled_from(["water", "(A)", "(A) water"]))
def test_a_choice_that_is_denied_behind_it_is_not_read(denial: str, choice: str) -> None:
    assert read(f"{choice} {denial}") is None


@given(st.sampled_from(BEFORE), st.integers(2, 99), st.sampled_from(["", " pens"]))
def test_a_denied_number_is_not_read(denial: str, number: int, unit: str) -> None:
    assert parse_answer(f"It is so. The answer is {denial} {number}{unit}.").value is None
    assert read(f"{denial} 12{unit}", NUMBERS) is None


@given(st.sampled_from(BEHIND), st.integers(2, 99))
def test_a_number_that_is_denied_behind_it_is_not_read(denial: str, number: int) -> None:
    assert parse_answer(f"It is so. The answer is {number} {denial}.").value is None


@given(st.sampled_from(CERTAIN), st.sampled_from(CONTRASTS), st.sampled_from([("{t}", "{t}"), ("({l})", "({l})")]))
def test_a_choice_that_is_set_against_another_is_read(sure: str, contrast: str, forms: tuple[str, str]) -> None:
    chosen, other = forms[0].format(t="sand", l="B"), forms[1].format(t="air", l="C")
    assert read(f"{sure}{chosen}{contrast.format(other)}") == "sand"


@pytest.mark.parametrize(
    ("said", "choices", "choice"),
    [
        ("that no one can", ANSWERS, None),
        ("that no fish can", ANSWERS, None),
        ("yes would be wrong", ANSWERS, None),
        ("no, they cannot", ANSWERS, "no"),
        ("no because fish swim", ANSWERS, "no"),
        ("no it isn't", ANSWERS, "no"),
        ("that no, they cannot", ANSWERS, "no"),
        ("(d) should not", ("shall", "may", "can", "should not"), "should not"),
        ("should not", ("shall", "should not"), "should not"),
        ("none of the above, but water is close", ("none of the above", "water"), "none of the above"),
        ("none of the above, but water is close", WET, None),
        ("A because B is wrong", WET, "water"),
        ("(A) or (B) because they differ", WET, None),
        ("(A) sand because it is dry", WET, None),
        ("water - sand is dry", WET, "water"),
        ("water/sand", WET, None),
        ("water & sand", WET, None),
        ("a water-free place", WET, None),
        ("water-free sand", WET, "sand"),
    ],
)
def test_choices_beside_denials(said: str, choices: tuple[str, ...], choice: str | None) -> None:
    assert read(said, choices) == choice


@pytest.mark.parametrize(
    "text",
    [
        "I doubt that option B is correct.",
        "The wrong answer is (B).",
        "It cannot be \\boxed{B}.",
        "The answer is not \\boxed{B}.",
        "So it isn't $\\boxed{\\text{B}}$.",
        "B is not the answer.",
        "Sand can't be the right answer.",
    ],
)
def test_a_sentence_that_denies_an_answer_states_none(text: str) -> None:
    assert parse_answer(f"It sinks. {text}", WET).status != "ok"
    assert parse_answer(f"It sinks. {text} The answer is (C).", WET).choice == 2
