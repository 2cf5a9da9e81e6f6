"""A recipe's whole way, stage by stage; the table of contents of a run.

    data      problems from their sources into the run directory, with counts
    generate  rationales that reach the right answer, and key words
    attend    the teacher's attention, layer by layer, in each view that a method compares
    students  train and evaluate every method with every seed, several at a time
    results   results.json: one row for each task, set, method and seed

Every stage reads files, writes files, can be run again, and goes on where it stopped. Where several processes do one
job (`accelerate launch`), all take part in attend and students, and process 0 does the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.config.recipe import DataSpec, Recipe
from molsaki.data import load_problems
from molsaki.distributed import on_main_process, process_count
from molsaki.errors import ArtefactError, DataError, InputError
from molsaki.records import Problem, RowReport, hash_text, require_unique_ids
from molsaki.spans.views import STEPS
from molsaki.stages.workers import run_in_workers
from molsaki.stages.workspace import DATA as DATA
from molsaki.stages.workspace import GENERATE as GENERATE
from molsaki.stages.workspace import TRAIN, VALIDATION, Workspace
from molsaki.store.whole_files import write_json
from molsaki.teacher.opening import cost, open_writer, recipe_questions, show_prompts
from molsaki.teacher.rationales import GenerationReport

if TYPE_CHECKING:
    from molsaki.data.mapping import ColumnMap
    from molsaki.spans.views import View
    from molsaki.stages.students import Done, Job

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
ALSO_TESTED = "its text is in a test set too"


def load_data(workspace: Workspace) -> Mapping[str, Any]:
    """Load every set of the recipe into the run directory; a training problem that a test set has is left out.

    Returns:
        The stage's manifest: for every set how many rows came, were kept and were left out, and why.

    Raises:
        ArtefactError: some of the problems that the stage left are not there any more.
    """
    done = workspace.run.stage_done(DATA)
    if done is not None:
        workspace.require_problems()
        return done
    recipe, data = workspace.recipe, workspace.recipe.data
    reports: dict[str, RowReport] = {}
    tested: set[str] = set()
    for name, spec in data.tests.items():
        problems, reports[name] = _load(recipe, spec)
        workspace.write_problems(name, problems)
        tested |= {_same_text(problem) for problem in problems}
    sets = {TRAIN: data.train} | ({VALIDATION: data.validation} if data.validation else {})
    for name, spec in sets.items():
        problems, report = _load(recipe, spec)
        kept = [problem for problem in problems if _same_text(problem) not in tested]
        for problem in problems:
            if _same_text(problem) in tested:
                report.kept -= 1
                report.read -= 1
                report.skip(problem.id, ALSO_TESTED)
        if name == TRAIN and data.validation_rows:
            aside = sorted(kept, key=lambda problem: hash_text("validation", problem.text))[: data.validation_rows]
            if kept and len(aside) == len(kept):
                raise DataError(
                    f"Expected more training problems than the {data.validation_rows} to set aside for validation "
                    f"(data.validation_rows); got {len(kept)}. Nothing would be left to learn from; set aside fewer, "
                    "or take more problems (data.train.limit)."
                )
            workspace.write_problems(VALIDATION, aside)
            report.note(f"set aside for validation: {len(aside)}")
            left_out = {problem.id for problem in aside}
            kept = [problem for problem in kept if problem.id not in left_out]
        workspace.write_problems(name, kept)
        reports[name] = report
    manifest = {name: report.to_dict() for name, report in reports.items()}
    workspace.run.finish_stage(DATA, manifest)
    return manifest


def _load(recipe: Recipe, spec: DataSpec) -> tuple[list[Problem], RowReport]:
    loaded = load_problems(
        spec.source,
        path=recipe.data_path(spec.path),
        split=spec.split,
        columns=spec.columns,
        limit=spec.limit,
    )
    require_unique_ids(loaded)
    return list(loaded.problems), loaded.report


def _same_text(problem: Problem) -> str:
    return hash_text(" ".join(problem.text.casefold().split()))


def generate(workspace: Workspace, progress: Progress | None = None, *, partial: bool = False) -> Mapping[str, Any]:
    """Have rationales written, or take them over, for the training problems; keep what reaches the right answer.

    Args:
        workspace: the run.
        progress: see `generate_rationales`.
        partial: the stage has finished even if a server gave no answer to some questions (`unanswered`); else it has
            not, and the next call asks for them again.

    Returns:
        The stage's manifest: how many were kept, and why the others were not; how many tokens that took, and what
        they cost where the recipe has prices.
    """
    load_data(workspace)
    done = workspace.run.stage_done(GENERATE)
    if done is not None and not workspace.lost_rationales():
        return done
    report = _write_rationales(workspace, workspace.read_problems(TRAIN), progress)
    manifest: dict[str, Any] = report.to_dict()
    manifest |= cost(workspace.recipe, manifest["tokens"])
    if partial or not report.unanswered:
        workspace.run.finish_stage(GENERATE, manifest)
    return manifest


def prompts(recipe: Recipe, rows: int) -> Iterator[tuple[str, str, str]]:
    """What the teacher of a recipe would get about its first training problems; nothing is written.

    Yields:
        The problem's id, the pass, and the text or, for a server that is sent chats, the turns.
    """
    writer, questions = open_writer(recipe, to_show=True), recipe_questions(recipe)
    problems, _ = _load(recipe, recipe.data.train)
    for problem in problems[:rows]:
        for which, shown in show_prompts(writer, questions, problem):
            yield problem.id, which, shown


def _write_rationales(workspace: Workspace, problems: list[Problem], progress: Progress | None) -> GenerationReport:
    from molsaki.stages.generate import generate_rationales, own_rationales
    from molsaki.stages.import_rationales import IMPORTED, import_file, import_palm

    recipe = workspace.recipe
    settings = recipe.rationales
    log = workspace.rationale_log
    named = "question-words" if settings.keywords == "question-words" else "data"
    if settings.source == "file":
        return import_file(workspace, problems)
    if workspace.run.path(IMPORTED).exists():
        raise ArtefactError(
            f"Expected the import into {workspace.run.folder} to have finished, as {IMPORTED} says that its rationales "
            "are imported; some are missing. Two sources would be mixed, and nothing was written; run the same "
            "`molsaki import` command again, which goes on where it stopped, or start over with --overwrite."
        )
    if settings.source == "dataset":
        return own_rationales(problems, log, keywords_from=named)  # type: ignore[arg-type]
    if settings.source == "palm":
        return import_palm(recipe, problems, log)
    if settings.source == "imported":
        raise ArtefactError(
            "Expected the rationales that this recipe imports (rationales.source: imported); they are not there yet. "
            "Nothing was generated; run `molsaki import` with this recipe, directory and the file that has them."
        )

    return generate_rationales(
        open_writer(recipe),
        problems,
        recipe_questions(recipe),
        log=log,
        completions=workspace.completion_log,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        progress=progress,
    )


def take_over(workspace: Workspace, file: Path | None, columns: ColumnMap) -> Mapping[str, Any]:
    """Take over rationales that exist already, in the place of what a teacher would write.

    Args:
        workspace: the run.
        file: rows of any tool; None takes PaLM's completions for the training data.
        columns: the file's columns.

    Returns:
        The generate stage's manifest, with the name and the hash of what was imported.

    Raises:
        ArtefactError: the run has its rationales from elsewhere.
        DataError: the file cannot be read, or there are no completions for these problems.
    """
    from molsaki.stages.import_rationales import import_into

    load_data(workspace)
    done = None if workspace.lost_rationales() else workspace.run.stage_done(GENERATE)
    report, source = import_into(workspace, workspace.read_problems(TRAIN), file, columns)
    if done is not None:
        return done
    manifest = {**report.to_dict(), "imported from": source}
    workspace.run.finish_stage(GENERATE, manifest)
    return manifest


def views(workspace: Workspace) -> list[View]:
    """The views of the teacher's attention that the recipe's methods compare, each once; none if none reads it.

    The teacher's next tokens are read with its stepwise attention, so a method that compares them brings that view.
    """
    from molsaki.methods import METHODS
    from molsaki.spans.views import VIEWS

    methods = [(METHODS[spec.name], spec.settings) for spec in workspace.recipe.methods]
    needed = {
        method.attention_choice(method.Settings(**settings)).view
        for method, settings in methods
        if method.reads_attention
    }
    if any(method.reads_logits for method, _ in methods):
        needed.add(STEPS.name)
    return [view for name, view in VIEWS.items() if name in needed]


def attend(workspace: Workspace, progress: Progress | None = None, view: View = STEPS) -> Mapping[str, Any]:
    """Read a view of the teacher's attention on the rationales that were kept; all processes of the job take part.

    Returns:
        The stage's manifest: how many rationales were read, and why the others were not.
    """
    from molsaki.stages.next_tokens import TOLD, unread_rows, wants_next_tokens

    done, generated = on_main_process(lambda: [workspace.run.stage_done(stage) for stage in (view.stage, GENERATE)])
    # A run that got a method which compares next tokens reads those too; its attention is there and is left alone.
    if done is not None and (TOLD in done or view is not STEPS or not wants_next_tokens(workspace)):
        unread = on_main_process(lambda: unread_rows(workspace, view))
        if not unread:
            return done
        logger.warning("%d rows of the %s are missing though it was read; they are read now", unread, view.title)
    if generated is None:
        raise ArtefactError(
            f"Expected the rationales of {workspace.run.folder}; the generate stage has not finished there. Run "
            "`molsaki generate` with this recipe and directory first."
        )
    from molsaki.stages.attend import read_teacher

    return read_teacher(workspace, progress, view)


def students(
    workspace: Workspace,
    *,
    train: bool = True,
    test: bool = True,
    workers: int | None = None,
    each: Callable[[Done], None] | None = None,
) -> list[Done]:
    """Train and test every method with every seed; what is there already is left as it is.

    Args:
        workspace: the run.
        train: train students that are not there.
        test: test them on sets that they were not tested on.
        workers: how many at a time; by default one a GPU, or one a core. Several processes of one job
            (`accelerate launch`) train one student at a time instead, all of them each.
        each: called as each student is done.

    Raises:
        ArtefactError: an earlier stage, or a student to test, is missing.
    """
    return run_students(student_jobs(workspace, train=train, test=test), workers=workers, each=each)


def student_jobs(workspace: Workspace, *, train: bool = True, test: bool = True) -> list[Job]:
    """One job for each method and seed, seed by seed, so that a run that is stopped early has whole comparisons.

    Raises:
        ArtefactError: an earlier stage, some of what it left, or a student to test, is missing.
    """
    from molsaki.stages.next_tokens import has_next_tokens, wants_next_tokens
    from molsaki.stages.students import Job, require_all_rows

    recipe = workspace.recipe
    workspace.require_problems()
    for stage in (GENERATE, *(view.stage for view in views(workspace))):
        if train and workspace.run.stage_done(stage) is None:
            raise ArtefactError(
                f"Expected the {stage} stage of {workspace.run.folder} to have finished; it has not. Run "
                f"`molsaki {stage.partition('-')[0]}` with this recipe and directory first."
            )
    if train and wants_next_tokens(workspace) and not has_next_tokens(workspace):
        raise ArtefactError(
            f"Expected the teacher's next tokens of {workspace.run.folder} to have been read; they have not, since the "
            "run got a method that compares them after its attention was read. Run `molsaki attend` with this recipe "
            "and directory first."
        )
    pairs = [(method.label, seed) for seed in recipe.seeds for method in recipe.methods]
    missing = [pair for pair in pairs if not workspace.student(*pair).is_dir()]
    if train and missing:
        require_all_rows(workspace, views(workspace))
    if missing and not train:
        raise ArtefactError(
            f"Expected {len(pairs)} trained students in {workspace.run.folder}; {len(missing)} are missing, "
            f"{missing[0][0]} with seed {missing[0][1]} among them. Run `molsaki train` with this recipe first."
        )
    return [Job(workspace.run.folder, label, seed, train, test) for label, seed in pairs]


def run_students(
    jobs: Sequence[Job], *, workers: int | None = None, each: Callable[[Done], None] | None = None
) -> list[Done]:
    """Do the jobs of one run or of several; see `students`."""
    from molsaki.stages.students import run_job, run_jobs_together

    if process_count() > 1:
        if workers not in (None, 1):
            raise InputError(
                f"Expected no workers where {process_count()} processes train every student together; got {workers}. "
                "Nothing was trained; leave --workers out, or start one process."
            )
        return list(_each(run_jobs_together(jobs), each))
    return list(_each(run_in_workers(run_job, jobs, workers), each))


def _each(items: Iterable[Done], call: Callable[[Done], None] | None) -> Iterable[Done]:
    for item in items:
        if call is not None:
            call(item)
        yield item


def results(workspace: Workspace) -> list[dict[str, Any]]:
    """Write results.json, and scores.json with intervals and what went wrong, from the predictions on disk.

    Returns:
        The rows of results.json.
    """
    from molsaki.evaluation.score import result_row, score

    task = workspace.recipe.data.task
    rows, scores = [], []
    for test in workspace.test_names:
        for method in workspace.recipe.methods:
            for seed in workspace.recipe.seeds:
                if not workspace.predictions(method.label, seed, test).is_file():
                    continue
                scored = score(workspace.read_predictions(method.label, seed, test))
                rows.append(result_row(task, test, method.label, seed, scored))
                scores.append({**rows[-1], **scored.to_dict()})
    write_json(workspace.run.path("results.json"), rows)
    write_json(workspace.run.path("scores.json"), scores)
    return rows
