"""The solved examples of the prompts that ship with molsaki are right, and say what the parsers read."""

from __future__ import annotations

import re

import pytest

from molsaki.answers.parse import parse_answer, parse_label
from molsaki.config.load import RECIPES, SHIPPED_PROMPTS
from molsaki.encoding.prompts import PromptTemplate
from molsaki.models.decode import Completion
from molsaki.records import Problem
from molsaki.teacher.filter import check_completion
from molsaki.teacher.keywords import choose_keywords, parse_keywords


def examples(name: str) -> list[tuple[str, str]]:
    """Questions and completions of the examples, which stand before the question."""
    before = PromptTemplate.parse((RECIPES / name).read_text(encoding="utf-8")).before
    if "chat" in name:
        turns = re.split(r"^\[(?:user|assistant)\]\n", before, flags=re.MULTILINE)[1:-1]
        return [(q.strip(), a.strip()) for q, a in zip(turns[::2], turns[1::2], strict=True)]
    blocks = re.findall(r"^Q: (.*?)\n(?:A|Key words): (.*?)\n\n", before, re.MULTILINE | re.DOTALL)
    return [(question.strip(), completion.strip()) for question, completion in blocks]


def problem_of(question: str, completion: str) -> Problem:
    text, _, given = question.partition("\nAnswer to reach: ")
    asked, _, listed = text.partition("\nAnswer Choices:\n")
    choices = tuple(line[4:] for line in listed.splitlines())
    said = parse_label(given, choices) if given else parse_answer(completion, choices)
    assert said.status == "ok", given or completion
    answer = choices[said.choice] if said.choice is not None else f"{said.value}"
    return Problem("example", asked, answer, answer, choices)


@pytest.mark.parametrize("name", sorted(name for name in SHIPPED_PROMPTS if "keywords" not in name))
def test_examples_reach_their_answers(name: str) -> None:
    found = examples(name)
    assert len(found) >= 2
    for question, completion in found:
        output = Completion(0, completion, 0, cut=False)
        result = check_completion(problem_of(question, completion), output, second_pass="second-pass" in name)
        assert result.kept, (result.reason, completion)
        numbers = re.findall(r"\d+(?:\.\d+)?", completion.partition(" The answer is")[0])
        assert {
            float(number) for number in numbers if f"= {number}" not in completion and f"is {number}" not in completion
        } <= {float(number) for number in re.findall(r"\d+(?:\.\d+)?", question)}, (
            "the reasons use the question's numbers"
        )


@pytest.mark.parametrize("name", sorted(name for name in SHIPPED_PROMPTS if "keywords" in name))
def test_examples_name_words_of_their_questions(name: str) -> None:
    found = examples(name)
    assert len(found) >= 2
    for question, completion in found:
        named = parse_keywords(completion)
        assert 2 <= len(named) <= 5
        assert choose_keywords(named, question.partition("\nAnswer Choices")[0], "").dropped == ()
