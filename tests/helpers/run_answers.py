"""Answers of students as strings of 0 and 1, so that every figure of a table can be computed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from molsaki.study.correctness import RunAnswers
from molsaki.study.files import Study


def make_study(**changes: Any) -> Study:
    return Study.model_validate(
        {
            "name": "made-up",
            "recipes": ["main"],
            "seeds": [1, 2],
            "methods": ["dss", "molsaki"],
            "baseline": "dss",
            **changes,
        }
    )


def row(answers: str) -> np.ndarray:
    """`110` is two right answers and a wrong one."""
    return np.array([float(answer) for answer in answers])


def make_answers(
    correct: Mapping[tuple[str, int], Sequence[str]], tests: Sequence[str], name: str = "main", **metrics: Any
) -> RunAnswers:
    """The answers of every label and seed, set by set; the same metrics for all."""
    rows = {key: {test: row(one) for test, one in zip(tests, sets, strict=True)} for key, sets in correct.items()}
    planned = sorted({seed for _, seed in correct})
    return RunAnswers(name, tests, rows, {key: dict(metrics) for key in correct} if metrics else {}, planned)
