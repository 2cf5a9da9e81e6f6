"""SVAMP: short word problems, in its original file and as Distilling step-by-step splits it.

Its label is an equation such as `( 76.0 - 25.0 )`, scored by its value. Patel et al., 2021 (NAACL), "Are NLP
Models really able to Solve Simple Math Word Problems?"; the split of Hsieh et al., 2023 (ACL Findings).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molsaki.data.json_files import read_json_lines, read_json_list
from molsaki.data.rows import (
    Note,
    UnusableRowError,
    collect,
    identifier_of,
    joined_question,
    number_of,
    same_value,
    text_of,
    value_of,
)
from molsaki.records import LoadedProblems, Problem

WRONG_LABEL = "the equation does not solve to the answer"


def load_svamp(path: Path, limit: int | None = None) -> LoadedProblems:
    """Load SVAMP.json: a list of rows with ID, Body, Question, Equation and Answer."""
    return collect(read_json_list(path), name_svamp_row, svamp_problem, str(path), limit)


def load_svamp_dss(path: Path, split: str, limit: int | None = None) -> LoadedProblems:
    """Load a split of Distilling step-by-step: JSON lines with input and label, no answer of its own."""
    return collect(
        read_json_lines(path),
        lambda index, _: name_dss_row(split, index),
        svamp_dss_problem,
        str(path),
        limit,
    )


def name_svamp_row(_: int, row: Mapping[str, Any]) -> str:
    """The id of a row of the original file: `svamp/chal-1`."""
    return f"svamp/{identifier_of(row, 'ID')}"


def svamp_problem(row_id: str, row: Mapping[str, Any], _: Note) -> Problem:
    """The problem of one row; the file and the hub have the same fields."""
    answer = number_of(row.get("Answer"))
    label = text_of(row, "Equation")
    if not same_value(label, answer):
        raise UnusableRowError(WRONG_LABEL)
    return Problem(row_id, joined_question(row, "Body", "Question"), answer, label)


def name_dss_row(split: str, index: int) -> str:
    """The id of a row of the split files, which have no ids of their own: `svamp-dss/train/17`, from 0."""
    return f"svamp-dss/{split}/{index}"


def svamp_dss_problem(row_id: str, row: Mapping[str, Any], _: Note) -> Problem:
    """The problem of one row; its answer is its label's value."""
    label = text_of(row, "label")
    value = value_of(label)
    if value is None:
        raise UnusableRowError("the label is not an arithmetic expression with a value")
    return Problem(row_id, text_of(row, "input"), number_of(value), label)
