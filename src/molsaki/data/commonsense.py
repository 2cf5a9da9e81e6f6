"""CommonsenseQA: questions with five choices, as published and as Distilling step-by-step stores them.

Answer and label are the right choice's text. Both forms, and the hub's, hold the same questions under the
same ids, so what was generated for one serves the others. Distilling step-by-step's form adds explanations
that people wrote (CoS-E), which are the rationale. Talmor et al., 2019 (NAACL), "CommonsenseQA: A Question
Answering Challenge Targeting Commonsense Knowledge".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molsaki.data.json_files import read_json_lines
from molsaki.data.rows import (
    Note,
    UnusableRowError,
    checked_choices,
    checked_text,
    collect,
    identifier_of,
    note_repeated,
    optional_text_of,
    text_of,
)
from molsaki.records import LoadedProblems, Problem


def load_commonsenseqa(path: Path, limit: int | None = None) -> LoadedProblems:
    """Load an original file: JSON lines with id, question (stem, choices) and answerKey."""
    return collect(read_json_lines(path), name_commonsense_row, commonsenseqa_problem, str(path), limit)


def load_commonsenseqa_dss(path: Path, limit: int | None = None) -> LoadedProblems:
    """Load Distilling step-by-step's file: id, question, choices, answer and abstractive_explanation."""
    return collect(read_json_lines(path), name_commonsense_row, commonsenseqa_dss_problem, str(path), limit)


def name_commonsense_row(_: int, row: Mapping[str, Any]) -> str:
    """The id of a row: `commonsenseqa/075e483d21c29a511267ef62bedc0461`."""
    return f"commonsenseqa/{identifier_of(row, 'id')}"


def commonsenseqa_problem(row_id: str, row: Mapping[str, Any], note: Note) -> Problem:
    """The problem of a row of the original files (question is an object) or of the hub (question is text)."""
    question = row.get("question")
    inner = question if isinstance(question, Mapping) else {"stem": question, "choices": row.get("choices")}
    letters, texts = _letters_and_texts(inner.get("choices"))
    choices = checked_choices(texts)
    key = row.get("answerKey")
    if not key:
        raise UnusableRowError("the answer is not given (test questions come without)")
    if letters.count(key) != 1:
        raise UnusableRowError("the answer's letter is not one of the choices' letters")
    answer = choices[letters.index(key)]
    note_repeated(choices, answer, note)
    return Problem(row_id, text_of(inner, "stem"), answer, answer, choices)


def commonsenseqa_dss_problem(row_id: str, row: Mapping[str, Any], note: Note) -> Problem:
    """The problem of one row of Distilling step-by-step's files."""
    choices = checked_choices(row.get("choices"))
    answer = text_of(row, "answer")
    if answer not in choices:
        raise UnusableRowError("the answer is none of the choices")
    note_repeated(choices, answer, note)
    return Problem(
        row_id,
        text_of(row, "question"),
        answer,
        answer,
        choices,
        rationale=optional_text_of(row, "abstractive_explanation"),
    )


def _letters_and_texts(choices: object) -> tuple[list[Any], list[Any]]:
    """Letters and texts from a list of {label, text}, or from the hub's {label: [...], text: [...]}."""
    if isinstance(choices, Mapping):
        letters, texts = choices.get("label"), choices.get("text")
        if not isinstance(letters, list) or not isinstance(texts, list) or len(letters) != len(texts):
            raise UnusableRowError("the choices have no lists of labels and texts of one length")
        return letters, texts
    if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
        raise UnusableRowError("the choices are not a list of objects with label and text")
    letters = [checked_text(choice.get("label"), "a choice's letter") for choice in choices]
    return letters, [choice.get("text") for choice in choices]
