"""Templates: one question, one slot at the end, everything else plain text."""

from __future__ import annotations

import dataclasses

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


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        (TEACHER, ("\nQ:",)),
        (KEYWORDS, ("\nQ:", "\nKey words:")),
        ("### Instruction:\n{question}\n\n### Response:\n{rationale}", ("\n### Instruction:", "\n### Response:")),
        ("Question 1: a?\nAnswer: b\n###\nQuestion 2: {question}\nAnswer: {rationale}", ("\nQuestion", "\n###\n")),
        ("<question> {question}\n<reasons> {rationale}", ("\n<question>", "\n<reasons>")),
        ("{question}\n{rationale}", ()),
        ("Think. {question} {rationale}", ()),
        ("- {question}\n- {rationale}", ()),
        ("[user]\nQ: {question}\n[assistant]\n{rationale}", ()),
    ],
)
def test_stop_strings_are_the_prompts_labels_and_separators_and_no_answer(text, stops):
    """`A:` may be a choice, and `Answer:` may state the answer: a text must not end before either."""
    template = PromptTemplate.parse(text)
    assert template.stop_strings == template.ask("Why?").stop_strings == stops
    assert template.ask("Why?").hash == dataclasses.replace(template.ask("Why?"), stop_strings=()).hash


@pytest.mark.parametrize("end", ["", "\r\n"])
def test_line_ends_of_windows_make_no_other_prompt(end):
    text = "[system]\nSums.\n[user]\n{question}\n[assistant]\n{rationale}"
    found = PromptTemplate.parse(text.replace("\n", "\r\n") + end)
    assert found == PromptTemplate.parse(text)
    assert found.is_chat
