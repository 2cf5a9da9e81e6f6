"""The log of rationales, with one row for every problem: reading it and reporting on it.

A row belongs to a problem by its id and by the hash of the problem's text. A log with rows of other text raises an
error, since its rationales answer other questions.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from molsaki.errors import ArtefactError
from molsaki.records import Problem, require_unique_ids
from molsaki.store.row_log import RowLog

EXAMPLES_PER_REASON = 3
EXAMPLE_LENGTH = 300
"""The number of rows that a report shows for each reason, and the number of characters of each."""

FIELDS = (
    "id",
    "text_hash",
    "output",
    "rationale",
    "status",
    "kept",
    "reason",
    "keywords",
    "keywords_dropped",
    "keywords_from",
    "samples",
    "agreement",
    "prompt_tokens",
    "tokens",
)
"""The fields of a row. `output` is the teacher's output, `status` the parser's status, `reason` why it was kept or not.
The three fields on key words are null if numbers are the keys or the row was not kept. `samples` is the number of
outputs that were compared, `agreement` the number that reach the right answer by the same derivation as the kept one.
The tokens are those of all prompts and outputs of the problem. The last four fields are null if no teacher was asked.
A row may also have `notes` on a kept rationale."""


@dataclass(frozen=True, slots=True)
class RationaleRow:
    """A problem with a rationale that was kept.

    Attributes:
        problem: the problem.
        rationale: the text before the answer sentence.
        keywords: the key words of a multiple-choice problem, possibly empty; None if numbers are the keys.
    """

    problem: Problem
    rationale: str
    keywords: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class GenerationReport:
    """The results of generation over all problems.

    Attributes:
        problems: the number of problems.
        kept: the number of problems with a kept rationale.
        done_before: the number of problems with a row from an earlier run.
        reasons: the number of rows with each reason, most frequent first; `right` and `given` are kept.
        examples: for each reason, and each note on a kept row, a few rows with id and output.
        notes: counts of other events, such as key words that occur in neither text.
        tokens: the number of tokens `sent` and `written` for these problems, over all runs; empty if none were.
        unanswered: the number of problems without a row, since the teacher returned no answer.
    """

    problems: int
    kept: int
    done_before: int
    reasons: dict[str, int]
    examples: dict[str, list[dict[str, str]]]
    notes: dict[str, int]
    tokens: dict[str, int] = dataclasses.field(default_factory=dict)
    unanswered: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return dataclasses.asdict(self)


def read_rationales(log: RowLog, problems: Sequence[Problem]) -> list[RationaleRow]:
    """Return the kept rationales of these problems, in their order.

    Raises:
        ArtefactError: a row belongs to other text, is duplicated or lacks a field.
    """
    rows = rows_of_problems(log, problems)
    kept = [(problem, rows[problem.id]) for problem in problems if rows.get(problem.id, {}).get("kept")]
    return [
        RationaleRow(problem, row["rationale"], None if row["keywords"] is None else tuple(row["keywords"]))
        for problem, row in kept
    ]


def pending_problems(log: RowLog, problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems without a row in the log, in their order.

    Raises:
        DataError: two problems share an id.
        ArtefactError: as `rows_of_problems`.
    """
    require_unique_ids(problems)
    done = rows_of_problems(log, problems)
    return [problem for problem in problems if problem.id not in done]


def rows_of_problems(log: RowLog, problems: Sequence[Problem]) -> dict[str, dict[str, Any]]:
    """Return the log's rows of these problems by id; rows of other problems are ignored.

    Raises:
        ArtefactError: a row lacks a field, belongs to other text, or a problem has two rows.
    """
    hashes = {problem.id: problem.text_hash for problem in problems}
    rows: dict[str, dict[str, Any]] = {}
    for row in log.rows():
        missing = [name for name in FIELDS if name not in row]
        if missing:
            raise _unfit(log, f"rows with the fields {', '.join(FIELDS)}", f"one without {', '.join(missing)}")
        row_id = row["id"]
        if row_id not in hashes:
            continue
        if row["text_hash"] != hashes[row_id]:
            raise _unfit(
                log,
                f"the text of problem {row_id!r} as it is now (hash {hashes[row_id]})",
                f"a row for other text (hash {row['text_hash']})",
            )
        if row_id in rows:
            raise _unfit(log, "one row for each problem", f"two for {row_id!r}")
        rows[row_id] = row
    return rows


def report_rationales(
    log: RowLog, problems: Sequence[Problem], done_before: int, notes: Mapping[str, int] | None = None
) -> GenerationReport:
    """Report on the log's rows of these problems.

    Args:
        log: the log.
        problems: the problems to report on; one without a row is counted as `not done`.
        done_before: the number of problems with a row from an earlier run.
        notes: counts to add to those found in the log.
    """
    rows = rows_of_problems(log, problems)
    reasons: Counter[str] = Counter()
    noted: Counter[str] = Counter({what: n for what, n in (notes or {}).items() if n})
    examples: dict[str, list[dict[str, str]]] = {}
    for problem in problems:
        row = rows.get(problem.id)
        reason = "not done" if row is None else str(row["reason"])
        reasons[reason] += 1
        row_notes = [] if row is None else row.get("notes", [])
        noted.update(row_notes)
        for what in (reason, *row_notes):
            shown = examples.setdefault(what, [])
            if len(shown) < EXAMPLES_PER_REASON:
                shown.append({"id": problem.id, "output": "" if row is None else row["output"][:EXAMPLE_LENGTH]})
        if row is not None and row["keywords"] is not None:
            noted.update(_keyword_notes(row))
        if row is not None and row["kept"] and (row["samples"] or 1) > 1 and row["agreement"] == 1:
            noted["kept rows that no other sample agrees with"] += 1
    asked = [row for row in rows.values() if row["prompt_tokens"] is not None]
    tokens = {"sent": sum(r["prompt_tokens"] for r in asked), "written": sum(r["tokens"] for r in asked)}
    return GenerationReport(
        problems=len(problems),
        kept=sum(bool(row["kept"]) for row in rows.values()),
        done_before=done_before,
        reasons=dict(reasons.most_common()),
        examples=examples,
        notes=dict(noted.most_common()),
        tokens=tokens if asked else {},
        unanswered=len(problems) - len(rows),
    )


def _keyword_notes(row: Mapping[str, Any]) -> Counter[str]:
    notes: Counter[str] = Counter()
    if row["keywords_from"] is not None:
        notes[f"rows with key words from: {row['keywords_from']}"] += 1
    if not row["keywords"]:
        notes["kept rows without a key word"] += 1
    if row["keywords_dropped"]:
        notes["key words dropped"] += len(row["keywords_dropped"])
    return notes


def _unfit(log: RowLog, expected: str, got: str) -> ArtefactError:
    return ArtefactError(
        f"Expected {expected} in {log.path}; got {got}. Its rationales are not used; load the problems that it "
        f"was generated for, or generate into another file."
    )
