"""ASDiv: word problems of many kinds, in their XML file or as rows of the hub.

An answer is a number with its unit, `9 (apples)`, or a bare number. Other answers (a time, a ratio, several
values, words) cannot be scored by value and are left out, each kind with its own reason. The label is the formula
if it is plain arithmetic of the problem's numbers and has the answer's value, otherwise the bare number.

Miao et al., 2020 (ACL), "A Diverse Corpus for Evaluating and Developing English Math Word Problem Solvers".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError  # the exception only; parsing is defusedxml's
from xml.parsers.expat import ErrorString  # the names of its errors, which have nothing of the file in them

from molsaki.data.equations import written_out
from molsaki.data.files import read_bytes
from molsaki.data.rows import (
    Note,
    UnusableRowError,
    collect,
    identifier_of,
    joined_question,
    number_of,
    optional_text_of,
    same_value,
    text_of,
)
from molsaki.data.stated import states_all_numbers
from molsaki.errors import DataError
from molsaki.records import LoadedProblems, Problem

MAX_XML_BYTES = 1 << 22
"""ASDiv.xml has one megabyte; a parsed tree takes up to a hundred times its bytes."""

_UNIT = re.compile(r"\s*\([^()]*[A-Za-z][^()]*\)$")
_UNIT_IN_FORMULA = re.compile(r"\(\s*[A-Za-z][A-Za-z /.-]*\)")
_REMAINDER = re.compile(r"\br\s?\d")
_COLON = re.compile(r"\d+:\d+(:\d+)?")
_FIELDS = {
    "Body": "body",
    "Question": "question",
    "Answer": "answer",
    "Formula": "formula",
    "Solution-Type": "solution_type",
}


def load_asdiv(path: Path, limit: int | None = None) -> LoadedProblems:
    """Load ASDiv.xml."""
    return collect(_read_xml(path), name_asdiv_row, asdiv_problem, str(path), limit)


def name_asdiv_row(_: int, row: Mapping[str, Any]) -> str:
    """The id of a row of the XML file: `asdiv/nluds-0001`."""
    return f"asdiv/{identifier_of(row, 'ID')}"


def asdiv_problem(row_id: str, row: Mapping[str, Any], note: Note) -> Problem:
    """The problem of one row, its fields named as on the hub (body, question, answer, formula, …)."""
    answer = _number_answer(text_of(row, "answer"), row.get("solution_type") == "Ratio")
    question = joined_question(row, "body", "question")
    formula = optional_text_of(row, "formula") if row.get("formula") else None
    label = _label(formula, question, answer, note)
    return Problem(row_id, question, answer, label)


def _number_answer(text: str, is_ratio: bool) -> str:
    if ";" in text:
        raise UnusableRowError("the answer is several values")
    if _COLON.search(text):
        raise UnusableRowError("the answer is a ratio" if is_ratio else "the answer is a time")
    bare = _UNIT.sub("", text)
    if bare[:1].isalpha():
        raise UnusableRowError("the answer is a word or a name")
    if bare[-1:].isalpha():
        raise UnusableRowError("the answer is an ordinal")
    return number_of(bare)


def _label(formula: str | None, question: str, answer: str, note: Note) -> str:
    if formula is None:
        note("label is the bare number: there is no formula")
        return answer
    several_steps = ";" in formula or _REMAINDER.search(formula)
    label = None if several_steps else written_out(_UNIT_IN_FORMULA.sub("", formula).split("=")[0])
    if label is None:
        note("label is the bare number: the formula is not plain arithmetic in one step")
    elif not same_value(label, answer):
        note("label is the bare number: the formula does not solve to the answer")
    elif not states_all_numbers(question, label):
        note("label is the bare number: the formula has numbers that the problem does not state")
    else:
        return label
    return answer


def _read_xml(path: Path) -> Iterator[dict[str, Any]]:
    import defusedxml.ElementTree
    from defusedxml import DefusedXmlException

    try:
        root = defusedxml.ElementTree.fromstring(read_bytes(path, MAX_XML_BYTES), forbid_dtd=True)
    except ParseError as error:
        line, column = error.position
        raise DataError(
            f"Expected {path} to be one whole XML document; line {line}, column {column}: "
            f"{ErrorString(error.code)}. Nothing "
            f"was loaded from it; the file is cut or damaged there, so copy or download it again."
        ) from error
    except DefusedXmlException as error:
        raise DataError(
            f"Expected {path} to be plain XML; it declares a document type or entities "
            f"({type(error).__name__}). It was not read, since these can fill the memory or read other "
            f"files; remove the declarations."
        ) from error
    for element in root.iter("Problem"):
        row: dict[str, Any] = {"ID": element.get("ID")}
        row.update({field: element.findtext(tag) for tag, field in _FIELDS.items()})
        yield row
