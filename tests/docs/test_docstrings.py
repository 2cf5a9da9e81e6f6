"""The examples in the docstrings of public names run, and print what they say."""

from __future__ import annotations

import doctest

import pytest

import molsaki

NAMES = [name for name in molsaki.__all__ if not name.startswith("_")]


def examples(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(getattr(molsaki, name), name, globs={})
    return [test for test in found if test.examples]


@pytest.mark.usefixtures("beside_a_run")
@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name: str) -> None:
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples(name):
        assert not runner.run(test).failed, name


def test_every_name_has_an_example() -> None:
    assert [name for name in NAMES if not examples(name)] == []
