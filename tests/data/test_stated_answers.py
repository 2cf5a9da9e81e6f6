"""What a student is taught to write as its answer is what the one parser reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.answers.parse import parse_answer
from molsaki.answers.right import is_right
from molsaki.answers.sentences import state_answer
from molsaki.data import load_problems
from molsaki.records import Problem


@pytest.mark.parametrize(("source", "split"), [("pocket-math", "chains"), ("pocket-commonsense", "test")])
def test_every_pocket_problem_with_its_rationale_reads_back(source, split):
    for problem in load_problems(source, split=split, limit=150).problems:
        parsed = parse_answer(state_answer("There are 3 of them. So 5 is left.", problem.label), problem.choices)
        assert (parsed.status, parsed.revised) == ("ok", False), problem.label
        assert is_right(parsed, problem)
        assert parsed.rationale == "There are 3 of them. So 5 is left."


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("source", "folder", "split"),
    [("svamp-dss", "svamp/dss", "train"), ("commonsenseqa-dss", "cqa/dss", "train")],
)
def test_labels_of_the_real_training_sets_read_back(shared_data, source, folder, split):
    problems = load_problems(source, path=shared_data / folder, split=split).problems
    wrong = [
        problem.label
        for problem in problems
        if not is_right(parse_answer(state_answer("He has 3.", problem.label), problem.choices), problem)
    ]
    assert len(problems) > 500
    assert wrong == []


@pytest.mark.parametrize("choice", ["not awake", "Not very much", "none", "is it"])
def test_a_choice_that_begins_like_a_denial_is_an_answer(choice):
    problem = Problem("x", "What is he?", choice, choice, ("asleep", choice, "tired"))
    assert is_right(parse_answer(state_answer("He lies down.", choice), problem.choices), problem)


@given(
    st.integers(-(10**6), 10**6),
    st.sampled_from(["{}", "{}.0", "( {}.5 + 3.0 )"]),
    st.text(alphabet="ab .,", max_size=9),
)
def test_numbers_and_equations_read_back(number, form, rationale):
    label = form.format(number)
    parsed = parse_answer(state_answer(rationale, label))
    assert is_right(parsed, Problem("x", "How many?", label, label))
