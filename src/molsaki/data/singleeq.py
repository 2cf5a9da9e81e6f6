"""SingleEq: word problems with one equation each, an out-of-domain test set of the paper.

The annotated solution is the answer. The label is the equation solved for its unknown, `( 70 - 27 )` for
`70-x=27`; a handful of equations do not give their solution (`40/7=x` with the solution 5), and there the
label is the bare number. Koncel-Kedziorski et al., 2015 (TACL), "Parsing Algebraic Word Problems into
Equations".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molsaki.data.equations import solved_for_x
from molsaki.data.json_files import read_json_list
from molsaki.data.rows import (
    Note,
    UnusableRowError,
    checked_text,
    collect,
    identifier_of,
    number_of,
    same_value,
    text_of,
)
from molsaki.records import LoadedProblems, Problem


def load_singleeq(path: Path, limit: int | None = None) -> LoadedProblems:
    """Load questions.json: a list of rows with iIndex, sQuestion, lEquations and lSolutions."""
    return collect(read_json_list(path), name_singleeq_row, singleeq_problem, str(path), limit)


def name_singleeq_row(_: int, row: Mapping[str, Any]) -> str:
    """The id of a row: `singleeq/17`."""
    return f"singleeq/{identifier_of(row, 'iIndex')}"


def singleeq_problem(row_id: str, row: Mapping[str, Any], note: Note) -> Problem:
    """The problem of one row."""
    answer = number_of(_only_one(row, "lSolutions"), "the solution")
    equation = checked_text(_only_one(row, "lEquations"), "the equation")
    return Problem(row_id, text_of(row, "sQuestion"), answer, _label(equation, answer, note))


def _only_one(row: Mapping[str, Any], name: str) -> object:
    values = row.get(name)
    if not isinstance(values, list) or len(values) != 1:
        raise UnusableRowError(f"the field {name!r} is not a list of one")
    return values[0]


def _label(equation: str, answer: str, note: Note) -> str:
    label = solved_for_x(equation)
    if label is None:
        note("label is the bare number: the equation is not plain arithmetic with one x")
        return answer
    if not same_value(label, answer):
        note("label is the bare number: the equation does not give the annotated solution")
        return answer
    return label
