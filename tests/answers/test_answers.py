"""One parser for teachers and students: what counts as the answer, and where the rationale ends."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.answers.parse import ParsedAnswer, parse_answer, parse_label, same_number
from molsaki.answers.right import is_right
from molsaki.errors import EvaluationError
from molsaki.records import Problem

PLACES = ("bus depot", "beach", "train station", "bridge", "bridge")
NEXT = "\n\nQ: There are 120 students in the school. 1/3 of them are boys. How many students are boys?\nA: There are"


@pytest.mark.parametrize(
    ("text", "value", "answer"),
    [
        ("The answer is ( 84.0 / 2.0 ).", 42, "( 84.0 / 2.0 )"),
        ("84 / 2 = 42. The answer is (84 / 2)." + NEXT + " 120. The answer is (120 /", 42, "(84 / 2)"),
        ("The answer is (16 * 17) * 4.", 1088, "(16 * 17) * 4"),
        ("The answer is (95 * 118) + (11,210 / 84).", 95 * 118 + 11210 / 84, "(95 * 118) + (11,210 / 84)"),
        ("The answer is ((8 action figures + 10 cabinets) * 4 shelves).", 72, None),
        ("The answer is 1.5.", 1.5, "1.5"),
        ("The answer is 1.5", 1.5, "1.5"),
        ("The answer is $1,234.50.", 1234.5, "$1,234.50"),
        ("The answer is 5 apples.", 5, "5 apples"),
        ("The answer is 5kg.", 5, "5kg"),
        ("The answer is $5 per hour. He is rich.", 5, "$5 per hour"),
        ("The answer is about 3.50 dollars.", 3.5, None),
        ("The answer is that Luke scored 42 points.", 42, None),
        ("The answer is −8 degrees.", -8, None),
        ("The answer is 20 percent.", 0.2, None),
        ("The answer is 84 / 2 = 42.", 42, None),
        ("The answer is 8 / 3 = 2.67.", 8 / 3, None),
        ("The answer is (x = 5).", 5, None),
        ("The answer is 100 dollars - 20 dollars.", 80, None),
        ("Natalia sold 48+24 = 72 clips.\n#### 72", 72, "72"),
        ("#### 1,200\n", 1200, "1,200"),
        (r"So it is \boxed{72}", 72, "72"),
        (r"The answer is $\boxed{72}$.", 72, "72"),
        (r"The final answer is: $\boxed{\frac{1}{2}}$.", 0.5, None),
        (r"The answer is \(12 \text{ apples}\).", 12, None),
        ("**Final Answer:** 72", 72, "72"),
        ("**Answer**: **72**", 72, "72"),
        ("### Answer\n72", 72, "72"),
        ("THE ANSWER IS 12", 12, "12"),
        ("The answer is:\n\n 5", 5, "5"),
        ("The answer is (5).Q: How many?", 5, "(5)"),
        ("The answer is not 5. The answer is 6.", 6, "6"),
        ("I think the answer is 5", 5, "5"),
        ("42 is the answer.", 42, "42"),
    ],
)
def test_numbers(text: str, value: float, answer: str | None) -> None:
    parsed = parse_answer(text)
    assert (parsed.status, parsed.choice) == ("ok", None)
    assert parsed.value == pytest.approx(value)
    if answer is not None:
        assert parsed.answer_text == answer


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "none"),
        ("So 63 more students suggested mashed potatoes than bacon.", "none"),
        ("Q: What is the answer?", "none"),
        ("The answer", "none"),
        ("The answer is", "cut"),
        ("The answer is (120 /", "cut"),
        ("So he has 275 left. The answer is ((491 - 21", "cut"),
        ("The answer is 9 +", "cut"),
        ("The answer is (9 + 6" + NEXT, "unparsable"),
        ("The answer is (7x = 14).", "unparsable"),
        ("The answer is (some - 8).", "unparsable"),
        ("The answer is (25 + x).", "unparsable"),
        ("The answer is twice 5.", "unparsable"),
        ("The answer is 3:4.", "unparsable"),
        ("The answer is 5 more than 7.", "unparsable"),
        ("The answer is (d) math problem.", "unparsable"),
        ("The answer is (14, 21).", "ambiguous"),
        ("The answer is (8 / 4) and (6 / 4).", "ambiguous"),
        ("The answer is ((28 - 13) and (28 - 15)).", "ambiguous"),
        ("The answer is 5 or 6.", "ambiguous"),
        ("The answer is 84 / 2 = 41.", "ambiguous"),
    ],
)
def test_no_number(text: str, status: str) -> None:
    parsed = parse_answer(text)
    assert (parsed.status, parsed.value) == (status, None)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("So the answer is (c) train station.", 2),
        ("So the answer is (c) train station." + "\n\nQ: What is odd?\nAnswer Choices:\n(a) x", 2),
        ("The answer is C.", 2),
        ("The answer is c) train station", 2),
        ("The answer is option B.", 1),
        ("Answer: B", 1),
        (r"The answer is \boxed{\text{(B)}}", 1),
        ("The correct answer is: **(b) beach**", 1),
        ("The answer is train station.", 2),
        ("The answer is a train station near the sea.", 2),
        ("THE ANSWER IS TRAIN  STATION.", 2),
        ("The answer is beach (b).", 1),
        ("(b) is the correct answer.", 1),
        ("The answer is (e) bridge.", 4),
        ("The answer is bridge.", 3),
        ("The answer is (c) trian station.", 2),
        ("The answer is (c), because trains stop there.", 2),
        ("The answer is (c) tra", 2),
        ("The answer is (c) train station. Buses stop at (a).", 2),
        ("The answer is (c). Trains stop there, and buses at the bus depot.", 2),
        ("The answer is beach, because the bridge is dry.", 1),
    ],
)
def test_choices(text: str, choice: int) -> None:
    parsed = parse_answer(text, PLACES)
    assert parsed == ParsedAnswer("", PLACES[choice], None, choice, "ok")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("The answer is either (a) bus depot or (c) train station.", "ambiguous"),
        ("The answer is (a) beach.", "ambiguous"),
        ("The answer is (e) ice.", "ambiguous"),
        ("The answer is (z) beach.", "ambiguous"),
        ("The answer is (b) or (z).", "ambiguous"),
        ("The answer is beach or bridge.", "ambiguous"),
        ("The answer is the beach, the bridge or the station.", "ambiguous"),
        ("The answer is (z) airport.", "unparsable"),
        ("The answer is one of these four.", "unparsable"),
        ("The answer is 5.", "unparsable"),
        ("The answer is (c", "cut"),
        ("The answer is tra", "cut"),
        ("The answer is", "cut"),
        ("Buses stop there.", "none"),
    ],
)
def test_no_choice(text: str, status: str) -> None:
    parsed = parse_answer(text, PLACES)
    assert (parsed.status, parsed.choice) == (status, None)


@pytest.mark.parametrize(
    ("said", "choices", "choice"),
    [
        ("(c) skyscraper", ("tall building", "book of stories", "skyscaper"), 2),
        ("(b) living room", ("apartment", "livingroom", "bus stop"), 1),
        ("(d) u.s.", ("canada", "spain", "france", "u.s"), 3),
        ("(a) Baltimore, Maryland", ("baltimore maryland", "ghetto", "city center"), 0),
        ("(c) tromsø", ("oslo", "bergen", "tromsø"), 2),
        ("(b) good luck!", ("hello", "good luck", "bye"), 1),
        ("river bed", ("bed", "river bed"), 1),
        ("a", ("B", "A"), 1),
        ("Mr. Smith", ("Mr. Jones", "Mr. Smith"), 1),
        ("(b) U.S. Army", ("u.s. navy", "u.s. army"), 1),
        ("(a)", ("B", "A"), 0),
        ("(e) someone's face", ("x", "y", "z", "w", "someones face"), 4),
    ],
)
def test_real_choices(said: str, choices: tuple[str, ...], choice: int) -> None:
    assert parse_answer(f"So the answer is {said}.", choices).choice == choice
    assert parse_label(said, choices).choice == choice


@pytest.mark.parametrize(
    ("text", "rationale"),
    [
        ("He had 30 - 23 = 7 left. The answer is (30 - 23)." + NEXT, "He had 30 - 23 = 7 left."),
        ("Only math has. So the answer is (d) math problem.", "Only math has."),
        ("48/2 = 24\n48+24 = 72\n#### 72", "48/2 = 24\n48+24 = 72"),
        ("Thus he has 5, so the answer is 5.", "Thus he has 5"),
        ("It is 5.\n\n**Final Answer:** 5", "It is 5."),
        ("Two. Therefore, I think that the final answer is 2.", "Two."),
        ("He has 5." + NEXT, "He has 5."),
        ("No answer sentence here.", "No answer sentence here."),
        (
            "Of the above choices, the closest answer is (c) learn. So the answer is (c) learn.",
            "Of the above choices, the closest answer is (c) learn.",
        ),
        (
            "Of the above choices, only an answer is in a letter. So the answer is (e) answer.",
            "Of the above choices, only an answer is in a letter.",
        ),
        ("One. Two. The closest answer is 2.", "One. Two."),
        ("First, 2. Adding 3 makes \\boxed{5} apples.", "First, 2."),
    ],
)
def test_rationale_ends_before_the_answer(text: str, rationale: str) -> None:
    assert parse_answer(text).rationale == rationale


def test_the_last_of_several_answers_counts_and_is_marked() -> None:
    parsed = parse_answer("2 + 3 = 5. The answer is 5. Wait, one more came. So the answer is 6.")
    rationale = "2 + 3 = 5. The answer is 5. Wait, one more came."
    assert (parsed.value, parsed.revised, parsed.rationale) == (6, True, rationale)
    assert not parse_answer("The answer is (2 + 3). The answer is 5.").revised


def test_an_answer_that_is_cut_does_not_replace_one_that_is_not() -> None:
    assert parse_answer("The answer is 5. So the answer is (").value == 5


def test_an_invented_problem_without_a_marker_does_not_count() -> None:
    parsed = parse_answer("The answer is 5.\n\nTom has 3 pens. How many has he? The answer is 9.")
    assert (parsed.value, parsed.revised) == (5, False)


@pytest.mark.parametrize(
    ("text", "value", "status"),
    [
        ("( 7.0 * 30.0 )", 210, "ok"),
        (" 42\n", 42, "ok"),
        ("42\nThe", 42, "ok"),
        ("The answer is 42.", 42, "ok"),
        ("He has two.\nThe answer is 42.", 42, "ok"),
        ("( 7.0 * 30.0", None, "cut"),
        ("7.0 *", None, "cut"),
        (") 7", None, "unparsable"),
        ("", None, "none"),
        ("apples", None, "unparsable"),
    ],
)
def test_labels(text: str, value: float | None, status: str) -> None:
    parsed = parse_label(text)
    assert (parsed.value, parsed.status) == (value, status)


def _number_problem(answer: str, label: str = "") -> Problem:
    return Problem("n", "How many?", answer, label or answer)


@pytest.mark.parametrize(
    ("said", "answer", "right"),
    [
        ("42", "42", True),
        ("42.0", "42", True),
        ("( 84.0 / 2.0 )", "42.0", True),
        ("0.3333", "( 1.0 / 3.0 )", True),
        ("0.33", "( 1.0 / 3.0 )", False),
        ("12001", "12000", False),
        ("20%", "20", True),
        ("20%", "0.2", True),
        ("20 percent", "20", True),
        ("1 - 1", "0", True),
        ("0.1 + 0.2 - 0.3", "0", True),
        ("apples", "42", False),
        ("-42", "42", False),
    ],
)
def test_right_numbers(said: str, answer: str, right: bool) -> None:
    assert is_right(parse_label(said), _number_problem(answer)) is right


def test_right_choices_are_compared_by_their_text() -> None:
    problem = Problem("c", "Where?", "Bridge ", "bridge", PLACES)
    assert is_right(parse_answer("The answer is (d).", PLACES), problem)
    assert is_right(parse_answer("The answer is (e).", PLACES), problem)
    assert not is_right(parse_answer("The answer is (b).", PLACES), problem)
    assert not is_right(parse_answer("The answer is", PLACES), problem)


def test_a_label_stands_in_for_an_answer_with_a_unit() -> None:
    assert is_right(parse_label("9"), _number_problem("nine apples", "( 4 + 5 )"))


@pytest.mark.parametrize(
    "problem", [_number_problem("red and blue"), Problem("c", "Where?", "airport", "airport", PLACES)]
)
def test_a_problem_that_nothing_could_answer_is_an_error(problem: Problem) -> None:
    with pytest.raises(EvaluationError, match=problem.id):
        is_right(parse_label("5", problem.choices), problem)


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_sameness_is_symmetric(a: float, b: float) -> None:
    assert same_number(a, a)
    assert same_number(a, b) == same_number(b, a)


PARTS = [
    "ı", "option ſ", "İ) ", "K.",
    "The answer is ", "So the answer is ", "answer", " is the answer", "#### ", "\\boxed{", "}", "(", ")", "(c)", "5",
    "1,234.5", "beach", "Q: ", "\n", "\n\n", ". ", "?", " apples", "**", "=", "/ ", "A: ", "\\frac{1}{2}", "é", "%",
    "$",
]  # fmt: skip


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(PARTS), max_size=20).map("".join) | st.text(max_size=100), st.sampled_from([(), PLACES])
)
def test_any_text_is_read_without_an_error(text: str, choices: tuple[str, ...]) -> None:
    for parsed in (parse_answer(text, choices), parse_label(text, choices)):
        if choices:
            assert parsed.value is None
            assert (parsed.status == "ok") == (parsed.choice is not None)
        else:
            assert parsed.choice is None
            assert parsed.status == "ok" or parsed.value is None
        if not set(text) & set("<[◁"):  # no tags or tokens to take out
            assert parsed.rationale in text
    assert text.lstrip().startswith(parse_answer(text, choices).rationale) or set(text) & set("<[◁")


@pytest.mark.parametrize(
    "text",
    [
        "The answer is (5). " * 20_000, "answer is " * 50_000, "answer " * 50_000, "is the answer " * 30_000,
        "\n" * 500_000, "the answer is " + "(" * 500_000, "so, " * 100_000, "1" * 500_000, "\\boxed{" * 50_000,
        "The answer is " + "1," * 200_000,
        ". " * 200_000, "the answer is\n\n?" * 20_000, "*" * 500_000, " " * 500_000, "the answer is " + "a'" * 200_000,
        *(mark * 100_000 + "x The answer is 5." for mark in (" ", "\n", ",", "{", "\n### ")),
        " " * 500_000 + "The answer is 5.", "User: a\n" * 50_000, "Input: 5\n" * 50_000 + "The answer is 5.",
        "a" + "</s>" * 100_000,
        "Q" * 500_000, "The answer is " + "a-" * 300 + "1", "\\frac{" * 50_000,
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
@pytest.mark.parametrize("choices", [(), PLACES])
def test_hostile_text_takes_little_time(text: str, choices: tuple[str, ...]) -> None:
    began = time.process_time()
    parse_answer(text, choices)
    parse_label(text, choices)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("rule", ["---", "-" * 500, "*" * 200])
def test_a_rule_before_the_answer_is_no_part_of_the_rationale(rule: str) -> None:
    assert parse_answer(f"Add 2 and 3.\n{rule}\nThe answer is 5.").rationale == "Add 2 and 3."
