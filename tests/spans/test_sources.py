"""Where the numbers of a rationale come from: the right one of two equal numbers, whatever else the text has."""

from __future__ import annotations

import random
import re

import pytest

from molsaki.data.pocket.word_problems import SETTINGS, draw_story, pocket_math
from molsaki.spans.sources import source_columns
from molsaki.spans.views import STEPS, VIEWS, WORDS

QUESTION = "Ada has 12 pens. She also has 7 cups. Then Ada buys 7 more pens. Then Ada loses 7 pens. How many?"
NUMBERS = [match.span() for match in re.finditer(r"\d+", QUESTION)]
SOURCES = (NUMBERS[0], NUMBERS[2], NUMBERS[3])  # the second is of a sentence that does not matter
STEPS_OF_SOLUTION = tuple((source,) for source in SOURCES)
RATIONALE = "At first there are 12 pens. Then 7 more pens come, so add 7. Then 7 pens go, so take away 7."


def named_sources(view, rationale=RATIONALE, question=QUESTION, sources=STEPS_OF_SOLUTION):
    """The rows that have sources, and the characters of these sources in the question."""
    spans = view.spans(question, rationale, "numbers")
    columns = source_columns(spans, question, rationale, sources)
    assert len(columns) == spans.n_steps
    return [
        (row.of(question, rationale), [(spans.keys[i].start, spans.keys[i].end) for i in found])
        for row, found in zip(spans.steps, columns, strict=True)
        if found
    ]


def test_of_equal_numbers_each_sentence_has_its_own_and_no_distractor() -> None:
    assert named_sources(STEPS) == [
        ("At first there are 12 pens.", [SOURCES[0]]),
        ("Then 7 more pens come, so add 7.", [SOURCES[1]]),
        ("Then 7 pens go, so take away 7.", [SOURCES[2]]),
    ]


def test_words_that_are_numbers_have_sources_and_others_have_none() -> None:
    assert named_sources(WORDS) == [("12", [SOURCES[0]]), *[("7", [SOURCES[1]])] * 2, *[("7", [SOURCES[2]])] * 2]
    assert named_sources(VIEWS["words-on-keys"]) == named_sources(WORDS)
    assert named_sources(VIEWS["steps-on-words"]) == named_sources(STEPS)


@pytest.mark.parametrize(
    ("rationale", "expected"),
    [
        ("There are 99 pens.", []),  # of no source
        ("No number here.", []),
        ("Then 7 more come. Then 7 go. Then 7 go.", [SOURCES[1], SOURCES[2], SOURCES[2]]),  # one too many
        ("Then 7 come and 12 are there.", [SOURCES[0]]),  # two steps in one sentence: the first of them
        ("", []),
    ],
)
def test_rationales_that_a_teacher_got_wrong(rationale: str, expected: list[tuple[int, int]]) -> None:
    assert [source for _, sources in named_sources(STEPS, rationale) for source in sources] == expected


def test_without_sources_no_row_has_any() -> None:
    assert named_sources(STEPS, sources=()) == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_storys_sources_are_the_numbers_of_its_equation(setting: str) -> None:
    rng = random.Random(3)
    for _ in range(200):
        story = draw_story(rng, SETTINGS[setting])
        used = [story.text[start:end] for step in story.sources for start, end in step]
        assert used == re.findall(r"\d+", story.equation)


def test_every_sentence_of_a_pocket_rationale_has_its_sources_in_order() -> None:
    rng = random.Random(4)
    for _ in range(100):
        story = draw_story(rng, SETTINGS["chains"])
        spans = STEPS.spans(story.text, story.rationale, "numbers")
        columns = source_columns(spans, story.text, story.rationale, story.sources)
        used = [column for found in columns for column in found]
        assert columns[0] == (), "the question comes from nowhere"
        expected = [source for step in story.sources for source in step]
        assert [(spans.keys[i].start, spans.keys[i].end) for i in used] == expected


def test_problems_know_their_sources() -> None:
    (problem,) = pocket_math("in-domain", "train", 1)
    assert problem.sources is not None
    used = [problem.question[start:end] for step in problem.sources for start, end in step]
    assert used == re.findall(r"\d+", problem.label)
