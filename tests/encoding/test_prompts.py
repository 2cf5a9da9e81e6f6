"""Templates: one question, one slot at the end, everything else plain text."""

from __future__ import annotations

import pytest

from molsaki.encoding.prompts import EXPLAIN, KEYWORDS, PREDICT, REASON, TEACHER, PromptTemplate
from molsaki.errors import RecipeError


@pytest.mark.parametrize(
    "text", [PREDICT, EXPLAIN, REASON, TEACHER, KEYWORDS, "{question}{label}", "a {b} {question}\t{label}"]
)
def test_a_template_reads_back_as_it_was_written(text):
    template = PromptTemplate.parse(text)
    assert str(template) == text
    full = template.full("How many?", "Five.")
    assert full == text.replace("{question}", "How many?").replace(f"{{{template.slot}}}", "Five.")
    assert full[template.question_start :].startswith("How many?")
    assert full[template.completion_start("How many?") :] == "Five."
    assert full.startswith(template.prompt("How many?"))


def test_blanks_before_the_slot_are_written_by_the_model_and_line_breaks_are_not():
    assert PromptTemplate.parse(TEACHER).prompt("Why?") == "Q: Why?\nA:"
    assert PromptTemplate.parse(TEACHER).gap == " "
    assert PromptTemplate.parse(PREDICT).prompt("Why?") == "predict: Why?\n"
    assert PromptTemplate.parse(PREDICT).gap == ""


def test_a_question_that_looks_like_a_slot_is_plain_text():
    template = PromptTemplate.parse(PREDICT)
    assert template.prompt("What is {label} {question}?") == "predict: What is {label} {question}?\n"


def test_line_breaks_at_the_end_of_a_template_file_are_not_part_of_it():
    assert PromptTemplate.parse(PREDICT + "\n") == PromptTemplate.parse(PREDICT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "predict:",
        "{question}",
        "{label}",
        "{question} {question} {label}",
        "{question} {label} {label}",
        "{question} {label} {rationale}",
        "{question} {label}.",
        "{label} {question}",
        "{label} {question} {label}",
    ],
)
def test_a_template_that_cannot_be_filled_in_is_refused(text):
    with pytest.raises(RecipeError) as error:
        PromptTemplate.parse(text)
    assert repr(text) in str(error.value)
