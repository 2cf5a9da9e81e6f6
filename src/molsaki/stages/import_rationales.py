"""Import completions: PaLM's, or rows that any tool wrote. They are checked like those of a teacher.

A completion is matched to its problem by id or by the text of the question and its choices, never by a guess. Only
PaLM's published files, which have neither, are matched by the order of rows. Rows that cannot be used are counted with
a reason.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from molsaki.config.recipe import Recipe
from molsaki.data import load_palm_completions, load_problems
from molsaki.data.files import check_file, open_file
from molsaki.data.mapping import ColumnMap, completion_columns
from molsaki.data.palm import ROW_FILES
from molsaki.data.row_files import read_rows
from molsaki.data.rows import UnusableRowError, identifier_of
from molsaki.errors import ArtefactError, DataError
from molsaki.records import Problem, RowReport, hash_text
from molsaki.stages.generate import GenerationReport, KeywordSource, import_rationales
from molsaki.stages.workspace import Workspace
from molsaki.store.row_log import RowLog
from molsaki.store.whole_files import read_json, write_json

IMPORTED = "imported.json"
"""The file of a run that names the source of its imported rationales."""
SECOND = "a second completion of a problem; the first is used"
UNKNOWN = "of no training problem of this run"
OTHER_CHOICES = "its choices are not those of the problem with this question"


def import_into(
    workspace: Workspace, problems: Sequence[Problem], file: Path | None, columns: ColumnMap
) -> tuple[GenerationReport, str]:
    """Import the completions of a file, or PaLM's, into a run. Rationales that the run already has stay unchanged.

    Returns:
        The counts of the problems, and the source: `PaLM`, or the hash of the file.

    Raises:
        ArtefactError: the run has rationales from another source, or of other texts.
        DataError: the file cannot be read; see also `palm_completions` and `match_completions`.
    """
    if file is not None:
        check_file(file)
    source = {"from": "PaLM" if file is None else _file_hash(file)}
    source_file, log = workspace.run.path(IMPORTED), workspace.rationale_log
    earlier = read_json(source_file, "the source of a run's rationales") if source_file.exists() else None
    if earlier != source and log.count():
        raise ArtefactError(
            f"Expected no rationales in {workspace.run.folder}, or those of {file or 'PaLM'}; it has others. Two "
            "sources would be mixed. Choose another directory, or start over with --overwrite."
        )
    rows = RowReport()
    if file is None:
        raw = palm_completions(workspace.recipe, problems)
    else:
        raw, rows = match_completions(read_rows(file, columns.wanted, columns.form), columns, problems, str(file))
    write_json(source_file, source)  # after the file was read: the user may have to correct it, which changes its hash
    report = _imported(raw, problems, log, workspace.recipe)
    return _add_row_notes(report, rows), source["from"]


def import_file(workspace: Workspace, problems: Sequence[Problem]) -> GenerationReport:
    """Import the completions of the file that a recipe names.

    Raises:
        ArtefactError, DataError: see `import_into`.
    """
    settings = workspace.recipe.rationales
    assert settings.path is not None, "checked with the recipe"
    assert settings.columns is not None, "checked with the recipe"
    file = workspace.recipe.data_path(settings.path)
    return import_into(workspace, problems, file, completion_columns(settings.columns))[0]


def import_palm(recipe: Recipe, problems: Sequence[Problem], log: RowLog) -> GenerationReport:
    """Import PaLM's completions for the training problems of a recipe.

    Raises:
        DataError: see `palm_completions`.
        ArtefactError: the log has rows of other texts for these ids.
    """
    return _imported(palm_completions(recipe, problems), problems, log, recipe)


def palm_completions(recipe: Recipe, problems: Sequence[Problem]) -> dict[str, str]:
    """PaLM's completions for the training problems of a recipe, by id.

    Raises:
        DataError: PaLM has none for this data, or their files do not match its rows.
    """
    spec = recipe.data.train
    raw = load_palm_completions(spec.source, recipe.data_path(spec.path) or ".", spec.split or "train")
    wanted = {problem.id for problem in problems}
    return {row_id: text for row_id, text in raw.items() if row_id in wanted}


def keyword_source(recipe: Recipe) -> KeywordSource:
    """Where the key words of imported rationales come from."""
    return "question-words" if recipe.rationales.keywords == "question-words" else "data"


def match_completions(
    rows: Iterable[Any], columns: ColumnMap, problems: Sequence[Problem], source: str
) -> tuple[dict[str, str], RowReport]:
    """Match completions to problems.

    An id in the file is the id of the problem, or the part of it after the first slash (`17` for `train/17`) if only
    one problem has it. White space does not matter in questions. Choices in the file must be the problem's, in its
    order, since an answer may be a letter.

    Args:
        rows: the rows of the file.
        columns: its columns, as `completion_columns` has checked them.
        problems: the problems to find completions for.
        source: the name of the file, for messages.

    Returns:
        The completions by problem id, and the counts of the rows.

    Raises:
        DataError: no row has a completion for one of the problems, or a column is in no row.
    """
    if not problems:
        raise DataError(f"Expected training problems to import {source} for; there are none. Nothing was imported.")
    problem_ids = _ids_by_question(problems) if "question" in columns.columns else _ids_by_id(problems)
    report, completions = RowReport(), dict[str, str]()
    for index, row in enumerate(rows):
        try:
            problem_id, text = _match(row, columns, problem_ids)
            if problem_id in completions:
                raise UnusableRowError(SECOND)
        except UnusableRowError as reason:
            report.skip(f"row {index}", str(reason))
            continue
        completions[problem_id] = text
        report.keep()
    columns.require_columns(source)
    if not completions:
        reasons = "; ".join(f"{reason} ({count} rows)" for reason, count in report.skipped.most_common(5))
        raise DataError(
            f"Expected completions of the {len(problems)} training problems in {source}; none of its {report.read} "
            f"rows is one: {reasons or 'there are no rows'}. Nothing was imported; ids look like {problems[0].id!r}. "
            "Name the columns in the recipe (rationales.columns), or with --completion and --id or --question."
        )
    return completions, report


def _match(row: Any, columns: ColumnMap, problem_ids: Mapping[str, str]) -> tuple[str, str]:
    """The problem's id and the completion of a row."""
    if not isinstance(row, Mapping):
        raise UnusableRowError("the row is not an object with named fields")
    text = columns.text(row, "completion")
    if "question" in columns.columns:
        question, choices = columns.question(row)
        key = _hash_words(Problem("", question, "", "", choices).text)
        if key not in problem_ids and _hash_words(question) in problem_ids:
            raise UnusableRowError(OTHER_CHOICES)
    else:
        (column,) = columns.columns["id"]
        key = identifier_of({column.path: column.of(row)}, column.path)
    if key not in problem_ids:
        raise UnusableRowError(UNKNOWN)
    return problem_ids[key], text


def count_palm(recipe: Recipe) -> dict[str, GenerationReport]:
    """Count which of PaLM's completions would be kept, for every split of a recipe's training data.

    Raises:
        DataError: see `palm_completions`.
    """
    spec = recipe.data.train
    counted = {}
    folder = recipe.data_path(spec.path) or Path()
    if folder.is_file():  # the file of one split; the others are in the same folder
        folder = folder.parent
    for split in ROW_FILES.get(spec.source, {spec.split or "train": ""}):
        raw = load_palm_completions(spec.source, folder, split)
        problems = load_problems(spec.source, path=folder, split=split).problems
        counted[split] = _count_kept(raw, problems, recipe)
    return counted


def _count_kept(raw: Mapping[str, str], problems: Sequence[Problem], recipe: Recipe) -> GenerationReport:
    """Import completions into a temporary log and count them."""
    with TemporaryDirectory() as folder:
        log = RowLog(Path(folder) / "rationales.jsonl")
        return _imported(raw, problems, log, recipe)


def _add_row_notes(report: GenerationReport, rows: RowReport) -> GenerationReport:
    """Add the counts of skipped rows of the file to the notes of a report."""
    notes = {f"rows of the file: {reason}": n for reason, n in rows.skipped.items()}
    return dataclasses.replace(report, notes={**report.notes, **notes})


def _imported(raw: Mapping[str, str], problems: Sequence[Problem], log: RowLog, recipe: Recipe) -> GenerationReport:
    settings, words = recipe.rationales, keyword_source(recipe)
    return import_rationales(raw, problems, log, keywords_from=words, keep=settings.keep, learn=settings.learn)


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with open_file(path) as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return f"sha256:{digest.hexdigest()[:16]}"


def _ids_by_id(problems: Sequence[Problem]) -> dict[str, str]:
    """The ids of problems by their ids and by their unique parts after the first slash."""
    short_ids = _unique({problem.id: problem.id.partition("/")[2] for problem in problems})
    return {**short_ids, **{problem.id: problem.id for problem in problems}}


def _ids_by_question(problems: Sequence[Problem]) -> dict[str, str]:
    """The ids of problems by the hashes of their texts and of their unique questions."""
    questions = _unique({problem.id: _hash_words(problem.question) for problem in problems})
    return {**questions, **{_hash_words(problem.text): problem.id for problem in problems}}


def _unique(keys: Mapping[str, str]) -> dict[str, str]:
    """Invert a mapping of ids to keys, without empty keys and keys that occur more than once."""
    counts = Counter(keys.values())
    return {key: problem_id for problem_id, key in keys.items() if key and counts[key] == 1}


def _hash_words(text: str) -> str:
    """A hash of a text that ignores white space."""
    return hash_text(" ".join(text.split()))
