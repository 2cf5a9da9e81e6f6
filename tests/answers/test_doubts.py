"""Answers that are easily read as another one: factorials, turns, letters that may be articles, emphasis."""

from __future__ import annotations

import pytest

from molsaki.answers.parse import parse_answer
from molsaki.answers.right import is_right
from molsaki.models.decode import Completion
from molsaki.records import Problem
from molsaki.teacher.filter import MOSTLY_CUT, check_completion

WET, ANSWERS = ("water", "sand"), ("yes", "no")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        *((said, None) for said in ("5!", "5!.", "5 !", "5! Great job!", "It is 5!", "(5)!", "1,000!", "4!/2!", "6!!")),
        *((said, 42.0) for said in ("**42**!", "\\boxed{42}!", "$42!", "42 pens!", "42.00!", "42. Great!")),
        ("42%!", 0.42),
    ],
)
def test_an_exclamation_mark_may_be_a_factorial(said: str, value: float | None) -> None:
    parsed = parse_answer(f"Count. The answer is {said}")
    assert (parsed.status == "ok", parsed.value) == (value is not None, value)


@pytest.mark.parametrize("said", ["$5!$", "\\boxed{5!}"])
def test_a_factorial_in_latex_is_its_value(said: str) -> None:
    parsed = parse_answer(f"The answer is {said}.")
    assert is_right(parsed, Problem("p", "q", "120", "120", ()))
    assert not is_right(parsed, Problem("p", "q", "5", "5", ()))


def test_a_factorial_among_choices_is_its_own() -> None:
    choices = ("12", "12!")
    assert [parse_answer(f"The answer is {said}", choices).choice for said in ("12!", "12.")] == [1, 0]


@pytest.mark.parametrize(
    ("said", "choices", "choice"),
    [
        *((said, ANSWERS, None) for said in ("yes, but no", "no, but yes", "yes but actually no", "yes; well, no")),
        *((said, ANSWERS, None) for said in ("no - yes", "yes... no", "yes, but it is no", "yes and no")),
        *((said, ANSWERS, 0) for said in ("yes, no doubt", "yes, but not always", "yes, because it is not raining")),
        ("yes, but there is no rain", ANSWERS, 0),
        ("water, but not sand", WET, 0),
        ("A sand", WET, None),
        ("A. sand", WET, None),
        ("a sand", WET, 1),
        ("A water", WET, 0),
        ("A dog", ("A cat", "A dog"), 1),
    ],
)
def test_a_turn_or_a_letter_beside_another_choice_is_ambiguous(
    said: str, choices: tuple[str, ...], choice: int | None
) -> None:
    parsed = parse_answer(f"The answer is {said}.", choices)
    assert (parsed.choice, parsed.status) == (choice, "ambiguous" if choice is None else "ok")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("0.\\overline{3}", 1 / 3),
        ("$0.\\bar{3}$", 1 / 3),
        ("\\boxed{0.1\\overline{6}}", 1 / 6),
        ("1.2\\overline{34}", 1222 / 990),
        ("-0.\\overline{9}", -1),
        ("0.3\u0305", 1 / 3),
        ("\\overline{3}", None),
    ],
)
def test_a_repeating_decimal_is_its_fraction(said: str, value: float | None) -> None:
    parsed = parse_answer(f"The answer is {said}.")
    assert parsed.value == (value if value is None else pytest.approx(value, abs=1e-12))


@pytest.mark.parametrize(
    ("text", "rationale"),
    [
        ("We add. *The answer is 42* and we are done.", "We add."),
        ("We add. *The answer is 42*", "We add."),
        ("We add, so __the answer is 42__ here.", "We add"),
        ("We add.\n\n***Answer: 42***", "We add."),
        ("We add.\n\n### ✅ Final Answer:\n\n$$\n\\boxed{42}\n$$", "We add."),
        ("We add.\n\n**Final Answer** ✅\n\n42", "We add."),
        ("*The answer is 6 * 7* of course.", ""),
        ("**Answer:** **42**", ""),
        ("$$\n6 \\cdot 7\n$$\n\n$$\n\\boxed{42}\n$$", "$$\n6 \\cdot 7\n$$"),
        ("```\n6 * 7\n```\n**Answer:** 42", "```\n6 * 7\n```"),
        ("**Answer: 42**\n\nWe count six sevens.\n\n**Answer: 42**", "We count six sevens."),
        (
            "**Answer: 42** as counted.\nSix sevens are 42.\nAnswer: 42",
            "**Answer: 42** as counted.\nSix sevens are 42.",
        ),
    ],
)
def test_an_emphasised_answer_ends_where_its_emphasis_does(text: str, rationale: str) -> None:
    parsed = parse_answer(text)
    assert (parsed.value, parsed.rationale) == (42, rationale)


@pytest.mark.parametrize(("words", "notes"), [(40, (MOSTLY_CUT,)), (0, ())])
def test_a_rationale_that_keeps_less_than_a_quarter_is_noted(words: int, notes: tuple[str, ...]) -> None:
    text = f"Six sevens are 42. The answer is 42.{' That is the whole of it, truly.' * words}"
    result = check_completion(Problem("p", "q", "42", "42", ()), Completion(0, text, 1, cut=False))
    assert (result.kept, result.rationale, result.notes) == (True, "Six sevens are 42.", notes)
