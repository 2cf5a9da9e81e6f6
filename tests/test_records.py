"""The JSON form of a problem: a lossless round trip, and errors that name the field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.errors import DataError
from molsaki.records import Problem

GOOD = Problem("p", "Where?", "cave", "cave", ("lake", "cave"), "It sleeps.", ("velp",), (((0, 2),),)).to_dict()
ANY = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers() | st.text(max_size=2))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 7),
        ("question", None),
        ("answer", 42),
        ("label", ["x"]),
        ("choices", "abc"),
        ("choices", None),
        ("choices", ["a", 1]),
        ("rationale", 3.5),
        ("keywords", "velp"),
        ("keywords", {"velp": 1}),
        ("sources", "0-1"),
        ("sources", [[0, 1]]),
        ("sources", [[[0, 1, 2]]]),
        ("sources", [[["0", 1]]]),
        ("sources", [[[True, 2]]]),
        ("sources", [[[2, 2]]]),
        ("sources", [[[-1, 2]]]),
    ],
)
def test_a_field_of_another_type_is_named(field: str, value: Any) -> None:
    with pytest.raises(DataError, match=f"{field} is "):
        Problem.from_dict({**GOOD, field: value})


def test_more_choices_than_letters_are_refused_with_the_problem() -> None:
    choices = [f"choice {i}" for i in range(27)]
    with pytest.raises(DataError, match=r"'many'.* 27"):
        Problem.from_dict({**GOOD, "id": "many", "choices": choices})
    with pytest.raises(DataError, match=r"'many'.* 27"):
        _ = Problem("many", "Which?", "choice 1", "choice 1", tuple(choices)).text
    assert "(z) choice 25" in Problem.from_dict({**GOOD, "choices": choices[:26]}).text


@pytest.mark.parametrize("changes", [{"more": 1}, {7: "x"}])
def test_an_unknown_field_is_refused(changes: dict[Any, Any]) -> None:
    with pytest.raises(DataError):
        Problem.from_dict({**GOOD, **changes})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(DataError, match="label"):
        Problem.from_dict({name: value for name, value in GOOD.items() if name != "label"})


@given(st.dictionaries(st.sampled_from([*GOOD, "more"]), ANY))
def test_whatever_is_read_is_a_problem_or_an_error(row: dict[str, Any]) -> None:
    try:
        problem = Problem.from_dict({**GOOD, **row})
    except DataError:
        return
    assert Problem.from_dict(problem.to_dict()) == problem
    assert all(isinstance(part, str) for part in (problem.id, *problem.choices, *(problem.keywords or ())))
