"""Made-up marks, so that every figure of a table can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from molsaki.study.correctness import RunMarks
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


def row(marks: str) -> np.ndarray:
    """`110` is two right answers and a wrong one."""
    return np.array([float(mark) for mark in marks])


def make_marks(
    right: Mapping[tuple[str, int], Sequence[str]], tests: Sequence[str], name: str = "main", **metrics: Any
) -> RunMarks:
    """The marks of every label and seed, set by set; the same metrics for all."""
    rows = {key: {test: row(marks) for test, marks in zip(tests, sets, strict=True)} for key, sets in right.items()}
    return RunMarks(name, tests, rows, {key: dict(metrics) for key in right} if metrics else {})
