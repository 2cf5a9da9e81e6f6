"""The examples in the docstrings of public names run, and print what they say."""

from __future__ import annotations

import doctest

import pytest

import molsaki

WITH_EXAMPLES = {"align_spans", "encode_examples", "find_spans", "find_words"}


def examples(name: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder().find(getattr(molsaki, name), name, globs={})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", [name for name in molsaki.__all__ if not name.startswith("_")])
def test_examples_run(name: str) -> None:
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples(name):
        assert not runner.run(test).failed, name


def test_names_that_need_others_have_an_example() -> None:
    assert {name for name in molsaki.__all__ if not name.startswith("_") and examples(name)} >= WITH_EXAMPLES
