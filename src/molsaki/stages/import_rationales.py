"""Rationales that exist already: PaLM's completions, and rows of any tool, checked like those of a teacher here.

A completion belongs to a problem by its id, or by the question's text; only PaLM's published files, which have neither,
go by their rows' order. What is wrong with a row is counted, and nothing is matched by a guess.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from molsaki.config.recipe import Recipe
from molsaki.data import load_palm_completions, load_problems
from molsaki.data.files import check_file
from molsaki.data.palm import ROW_FILES
from molsaki.data.row_files import read_rows
from molsaki.data.rows import UnusableRowError, checked_text, identifier_of
from molsaki.errors import ArtefactError, DataError
from molsaki.records import Problem, RowReport, hash_text
from molsaki.stages.generate import GenerationReport, KeywordSource, import_rationales
from molsaki.stages.workspace import Workspace
from molsaki.store.row_log import RowLog
from molsaki.store.whole_files import read_json, write_json

IMPORTED = "imported.json"
"""The file of a run that says what its rationales were imported from."""
SECOND = "a second completion of one problem; the first is used"
UNKNOWN = "of no training problem of this run"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a file hold what.

    Attributes:
        completion: what was written: a rationale and an answer sentence, perhaps more behind it.
        id: the problem's id; not looked at where `question` is given.
        question: the problem's question as a text, with or without its choices; None goes by the id.
    """

    completion: str = "completion"
    id: str = "id"
    question: str | None = None


def import_into(
    workspace: Workspace, problems: Sequence[Problem], file: Path | None, columns: Columns
) -> tuple[GenerationReport, str]:
    """Take over a file's completions, or PaLM's, into the rationales of a run; rows that are there stay as they are.

    Returns:
        What became of the problems, and what was imported: `PaLM`, or a file's hash.

    Raises:
        ArtefactError: the run has rationales from elsewhere, or of other text.
        DataError: as `palm_completions` and `match_completions`, or the file cannot be read.
    """
    if file is not None:
        check_file(file)
    source = {"from": "PaLM" if file is None else _file_hash(file)}
    mark, log = workspace.run.path(IMPORTED), workspace.rationale_log
    found = read_json(mark, "what a run's rationales were imported from") if mark.exists() else None
    if found != source and log.count():
        raise ArtefactError(
            f"Expected a run without rationales, or with those of {file or 'PaLM'}; {workspace.run.folder} has others. "
            "Two sources would be mixed, and nothing was imported; choose another directory, or start over with "
            "--overwrite."
        )
    rows = RowReport()
    if file is None:
        raw = palm_completions(workspace.recipe, problems)
    else:
        raw, rows = match_completions(read_rows(file), columns, problems, str(file))
    write_json(mark, source)  # not before: a file that cannot be used is to be corrected, which makes it another one
    report = _imported(raw, problems, log, workspace.recipe)
    return with_rows(report, rows), source["from"]


def import_palm(recipe: Recipe, problems: Sequence[Problem], log: RowLog) -> GenerationReport:
    """Take over PaLM's completions for the training problems of a recipe.

    Raises:
        DataError: there are none for the recipe's training data, or their files do not fit its rows.
        ArtefactError: the log has rows of other text under these ids.
    """
    return _imported(palm_completions(recipe, problems), problems, log, recipe)


def palm_completions(recipe: Recipe, problems: Sequence[Problem]) -> dict[str, str]:
    """PaLM's completions for the training problems of a recipe, by id.

    Raises:
        DataError: there are none for the recipe's training data, or their files do not fit its rows.
    """
    spec = recipe.data.train
    raw = load_palm_completions(spec.source, recipe.data_path(spec.path) or ".", spec.split or "train")
    wanted = {problem.id for problem in problems}
    return {row_id: text for row_id, text in raw.items() if row_id in wanted}


def keyword_source(recipe: Recipe) -> KeywordSource:
    """Where the key words of imported rationales come from."""
    return "question-words" if recipe.rationales.keywords == "question-words" else "data"


def match_completions(
    rows: Iterable[Any], columns: Columns, problems: Sequence[Problem], source: str
) -> tuple[dict[str, str], RowReport]:
    """Find the problem of each completion.

    An id is the problem's whole id, or what stands behind the data set's name in it (`17` for `train/17`), where that
    is one problem's alone.

    Args:
        rows: as they were read.
        columns: the columns' names.
        problems: those that completions are wanted for.
        source: what is read, for messages.

    Returns:
        Completions by problem id, and a report on the rows.

    Raises:
        DataError: no row has a completion of one of the problems.
    """
    known = _by_question(problems) if columns.question is not None else _by_id(problems)
    report, found = RowReport(), dict[str, str]()
    names: Counter[str] = Counter()
    for index, row in enumerate(rows):
        try:
            if not isinstance(row, Mapping):
                raise UnusableRowError("the row is not an object with named fields")
            names.update(map(str, row))
            text = checked_text(row.get(columns.completion), f"the completion in {columns.completion!r}")
            if columns.question is None:
                key = identifier_of(row, columns.id)
            else:
                key = _plain(checked_text(row.get(columns.question), f"the question in {columns.question!r}"))
            if key not in known:
                raise UnusableRowError(UNKNOWN)
            if known[key] in found:
                raise UnusableRowError(SECOND)
        except UnusableRowError as reason:
            report.skip(f"row {index}", str(reason))
            continue
        found[known[key]] = text
        report.keep()
    if not found:
        reasons = "; ".join(f"{reason} ({count} rows)" for reason, count in report.skipped.most_common(5))
        raise DataError(
            f"Expected completions of the {len(problems)} training problems in {source}; none of its {report.read} "
            f"rows is one: {reasons or 'there are no rows'}. Its columns are {', '.join(sorted(names)[:20])}; "
            f"a problem's id is one like {problems[0].id!r}. Nothing was imported; name the columns with "
            "--completion and --id or --question."
            if problems
            else f"Expected training problems to import {source} for; there are none. Nothing was imported."
        )
    return found, report


def count_palm(recipe: Recipe) -> dict[str, GenerationReport]:
    """What becomes of PaLM's completions for every split of a recipe's training data, without keeping anything.

    Raises:
        DataError: PaLM has none for it, or their files do not fit its rows.
    """
    spec = recipe.data.train
    counted = {}
    folder = recipe.data_path(spec.path) or Path()
    if folder.is_file():  # one split's, which has the others beside it
        folder = folder.parent
    for split in ROW_FILES.get(spec.source, {spec.split or "train": ""}):
        raw = load_palm_completions(spec.source, folder, split)
        problems = load_problems(spec.source, path=folder, split=split).problems
        counted[split] = count(raw, problems, recipe)
    return counted


def count(raw: Mapping[str, str], problems: Sequence[Problem], recipe: Recipe) -> GenerationReport:
    """What would become of these completions, without keeping anything."""
    with TemporaryDirectory() as folder:
        log = RowLog(Path(folder) / "rationales.jsonl")
        return _imported(raw, problems, log, recipe)


def with_rows(report: GenerationReport, rows: RowReport) -> GenerationReport:
    """The report with what became of the file's rows among its notes."""
    notes = {f"rows of the file: {reason}": n for reason, n in rows.skipped.items()}
    return dataclasses.replace(report, notes={**report.notes, **notes})


def _imported(raw: Mapping[str, str], problems: Sequence[Problem], log: RowLog, recipe: Recipe) -> GenerationReport:
    learn = recipe.rationales.learn
    return import_rationales(raw, problems, log, keywords_from=keyword_source(recipe), learn=learn)


def _file_hash(path: Path) -> str:
    with path.open("rb") as data:
        return f"sha256:{hashlib.file_digest(data, 'sha256').hexdigest()[:16]}"


def _by_id(problems: Sequence[Problem]) -> dict[str, str]:
    short = Counter(problem.id.partition("/")[2] for problem in problems)
    known = {short_id: p.id for p in problems if short[short_id := p.id.partition("/")[2]] == 1 and short_id}
    return {**known, **{problem.id: problem.id for problem in problems}}


def _by_question(problems: Sequence[Problem]) -> dict[str, str]:
    asked = Counter(_plain(problem.question) for problem in problems)
    known = {_plain(problem.question): problem.id for problem in problems if asked[_plain(problem.question)] == 1}
    return {**known, **{_plain(problem.text): problem.id for problem in problems}}


def _plain(text: str) -> str:
    return hash_text(" ".join(text.split()))
