"""GSM8K: grade-school word problems with a written solution, an out-of-domain test set of the paper.

The solution is above its last line, `#### 72`, with calculator annotations such as `<<48/2=24>>`; without
these it is the problem's rationale. The label is the bare number. Cobbe et al., 2021, arXiv 2110.14168.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molsaki.data.json_files import read_json_lines
from molsaki.data.rows import Note, UnusableRowError, collect, number_of, text_of
from molsaki.records import LoadedProblems, Problem

_ANNOTATION = re.compile(r"<<[^<>\n]*>>")
_ANSWER_MARK = "####"


def load_gsm8k(path: Path, split: str, limit: int | None = None) -> LoadedProblems:
    """Load train.jsonl or test.jsonl: JSON lines with question and answer."""
    return collect(
        read_json_lines(path), lambda index, _: name_gsm8k_row(split, index), gsm8k_problem, str(path), limit
    )


def name_gsm8k_row(split: str, index: int) -> str:
    """The id of a row, which has none of its own: `gsm8k/test/3`, from 0."""
    return f"gsm8k/{split}/{index}"


def gsm8k_problem(row_id: str, row: Mapping[str, Any], note: Note) -> Problem:
    """The problem of one row; the file and the hub have the same fields."""
    solution, mark, final = text_of(row, "answer").rpartition(_ANSWER_MARK)
    if not mark:
        raise UnusableRowError("the answer has no line that begins with ####")
    answer = number_of(final)
    rationale = _ANNOTATION.sub("", solution).strip()
    if not rationale:
        note("no rationale: the solution is empty")
    return Problem(row_id, text_of(row, "question"), answer, answer, rationale=rationale or None)
