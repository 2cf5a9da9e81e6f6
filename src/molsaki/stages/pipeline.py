"""A run, stage by stage. This file is the table of contents of a run.

The functions of the stages are here, and their work is in the modules of the same names (`stages/generate.py`, …). The
commands have the same names too, but for `students`, which `molsaki train` and `molsaki evaluate` run.

    load_data   data sets → problems                                              data/*.jsonl
    generate    problems + teacher → rationales that reach the right answer       rationales.jsonl
    attend      rationales + teacher → its signals: attention and next tokens     attention/
    students    rationales + attention → one student per method and seed,         students/*
                students + test sets → predictions                                predictions/*
    references  untrained student and teacher → accuracies to compare with        references.json
    results     predictions → accuracies                                          results.json, scores.json

`report/build.py` makes the HTML page of a finished run, report.html; its first table is in `report/results.py`. Signals
are what a teacher's forward pass gives the methods to compare. A method is a file of `methods/`, listed in
`methods/__init__.py`; a data set is a file of `data/`, listed in `data/__init__.py`.

Every stage reads and writes files of the run directory. It can be interrupted at any moment; the next call continues
where it stopped. If several processes work on one job (`accelerate launch`), all of them take part in `attend` and
`students`, and process 0 runs the other stages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.config.data_settings import TRAIN
from molsaki.config.recipe import Recipe
from molsaki.counts import Progress
from molsaki.data import EXPORTED
from molsaki.distributed import on_main_process
from molsaki.errors import ArtefactError
from molsaki.stages.costs import costs_of
from molsaki.stages.data import load_set, load_sets
from molsaki.stages.workspace import ATTEND, Workspace
from molsaki.stages.workspace import DATA as DATA
from molsaki.stages.workspace import GENERATE as GENERATE
from molsaki.store.whole_files import write_json
from molsaki.teacher.opening import cost, open_writer, recipe_questions, show_prompts
from molsaki.teacher.rationales import GenerationReport

if TYPE_CHECKING:
    from molsaki.data.mapping import ColumnMap
    from molsaki.stages.students import Job, JobResult

logger = logging.getLogger(__name__)


# ---- data ----


def load_data(workspace: Workspace) -> Mapping[str, Any]:
    """Load every set of the recipe into the run directory. Training problems that are in a test set are left out.

    Returns:
        The manifest of the stage: for every set, how many rows were read and kept, and why others were not.

    Raises:
        ArtefactError: the stage has finished, but problems that it wrote are missing.
        DataError: a source cannot be read.
    """
    manifest = workspace.run.stage_done(DATA)
    if manifest is not None:
        workspace.require_problems()
        if not workspace.undrawn_seeds():
            return manifest
    with costs_of(workspace, DATA):
        manifest = load_sets(workspace)
        workspace.run.finish_stage(DATA, manifest)
    return manifest


# ---- rationales ----


def generate(workspace: Workspace, progress: Progress | None = None, *, partial: bool = False) -> Mapping[str, Any]:
    """Get a rationale for every training problem, from the source that the recipe names, and keep the right ones.

    Args:
        workspace: the run.
        progress: called as completions arrive.
        partial: finish the stage even if a server did not answer some questions. Otherwise it stays unfinished, and
            the next call asks them again.

    Returns:
        The manifest of the stage: how many rationales were kept and why others were not, the number of tokens, and
        their cost if the recipe has prices.
    """
    load_data(workspace)
    done = workspace.run.stage_done(GENERATE)
    # Seeds that draw their own problems may have been added to the run.
    is_whole = done is not None and done.get("problems", 0) >= len(workspace.read_problems(TRAIN))
    if done is not None and is_whole and not workspace.lost_rationales():
        return done
    with costs_of(workspace, GENERATE) as session:
        report = _get_rationales(workspace, progress)
        manifest: dict[str, Any] = report.to_dict()
        manifest |= cost(workspace.recipe, manifest["tokens"])
        session.counts = manifest != done
        if partial or not report.unanswered:
            workspace.run.finish_stage(GENERATE, manifest)
    return manifest


def _get_rationales(workspace: Workspace, progress: Progress | None) -> GenerationReport:
    from molsaki.stages.generate import generate_rationales, own_rationales
    from molsaki.stages.import_rationales import IMPORTED, import_file, import_palm, keyword_source

    recipe, settings, log = workspace.recipe, workspace.recipe.rationales, workspace.rationale_log
    problems = workspace.read_problems(TRAIN)
    if settings.source == "file":
        return import_file(workspace, problems)
    if workspace.run.path(IMPORTED).exists():
        raise ArtefactError(
            f"Expected a finished import in {workspace.run.folder}, as {IMPORTED} exists; some rationales are missing. "
            "Two sources would be mixed. Run the same `molsaki import` command again, or start over with --overwrite."
        )
    if settings.source == "imported":
        raise ArtefactError(
            f"Expected imported rationales in {workspace.run.folder} (rationales.source: imported); there are none. "
            "Run `molsaki import` with this recipe and directory and the file of rationales."
        )
    if settings.source == "dataset":
        # Exported signals belong to their rationales as they are.
        learn = None if recipe.data.train.source == EXPORTED else settings.learn
        return own_rationales(problems, log, keywords_from=keyword_source(recipe), learn=learn)
    if settings.source == "palm":
        return import_palm(recipe, problems, log)
    return generate_rationales(
        open_writer(recipe),
        problems,
        recipe_questions(recipe, workspace.run.date),
        log=log,
        completions=workspace.completion_log,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        progress=progress,
    )


def import_completions(workspace: Workspace, file: Path | None, columns: ColumnMap) -> Mapping[str, Any]:
    """Use rationales from a file instead of generating them.

    Args:
        workspace: the run.
        file: completions written by any tool; None for PaLM's completions of the training data.
        columns: the columns of the file.

    Returns:
        The manifest of the generate stage, with the name and the hash of what was imported.

    Raises:
        ArtefactError: the run has rationales from another source.
        DataError: the file cannot be read, or has no completions for the training problems.
    """
    from molsaki.stages.import_rationales import import_into

    load_data(workspace)
    done = None if workspace.lost_rationales() else workspace.run.stage_done(GENERATE)
    with costs_of(workspace, GENERATE) as session:
        session.counts = done is None
        report, source = import_into(workspace, workspace.read_problems(TRAIN), file, columns)
        if done is not None:
            return done
        manifest = {**report.to_dict(), "imported from": source}
        workspace.run.finish_stage(GENERATE, manifest)
    return manifest


def preview_prompts(recipe: Recipe, rows: int) -> Iterator[tuple[str, str, str]]:
    """The teacher's prompts for the first training problems of a recipe. Writes nothing and loads no model.

    Yields:
        The id of the problem, the name of the pass, and the prompt.
    """
    writer, questions = open_writer(recipe, to_show=True), recipe_questions(recipe)
    problems, _ = load_set(recipe, recipe.data.train)
    for problem in problems[:rows]:
        for name, prompt in show_prompts(writer, questions, problem):
            yield problem.id, name, prompt


# ---- the signals of the teacher ----


def attend(
    workspace: Workspace, progress: Progress | None = None, *, names: Sequence[str] | None = None
) -> Mapping[str, Mapping[str, Any]]:
    """Read the teacher's signals that the methods compare, on the rationales that were kept.

    Signals that were read before are left alone. The others are read together, in one forward pass per batch. All
    processes of the job take part.

    Args:
        workspace: the run.
        progress: called with the number of texts read and the number of all texts.
        names: the signals; by default those that the recipe's methods compare.

    Returns:
        For each signal, the number of rationales that were read, and why others were not.

    Raises:
        ArtefactError: the generate stage has not finished.
    """
    from molsaki.stages.attend import measure_original, read_teacher
    from molsaki.stages.signals import needed_signals, read_so_far, unread_rows

    names = needed_signals(workspace.recipe) if names is None else names
    done, unread = on_main_process(
        lambda: (read_so_far(workspace), {name: unread_rows(workspace, name) for name in names})
    )
    for name in names:
        if unread[name]:
            title = done[name]["title"]
            logger.warning("%d rows of the %s are missing although it was read; reading them", unread[name], title)
    missing = [name for name in names if name not in done or unread[name]]
    if missing:
        if on_main_process(lambda: workspace.run.stage_done(GENERATE)) is None:
            raise ArtefactError(
                f"Expected the rationales of {workspace.run.folder}; the generate stage has not finished. Run "
                "`molsaki generate` with this recipe and directory first."
            )
        with costs_of(workspace, ATTEND):
            done = read_teacher(workspace, missing, progress)
    done = measure_original(workspace, done)
    return {name: done[name] for name in names}


# ---- students ----


def students(
    workspace: Workspace,
    *,
    train: bool = True,
    test: bool = True,
    workers: int | None = None,
    on_done: Callable[[JobResult], None] | None = None,
    print_line: Callable[[str], None] = lambda _: None,
) -> list[JobResult]:
    """Train a student for every method and seed, and test it on every test set.

    Students and predictions that exist already are skipped.

    Args:
        workspace: the run.
        train: train students that do not exist yet.
        test: test students on sets without predictions.
        workers: number of students at a time; by default one per GPU, or without GPUs one per core, if memory allows.
            With several processes of one job (`accelerate launch`), all of them train one student together instead.
        on_done: called with the result of each student.
        print_line: called at intervals with a line about the students' progress, perhaps in another thread.

    Returns:
        The result of each job that ran.

    Raises:
        ArtefactError: an earlier stage has not finished, or a student to test does not exist.
    """
    from molsaki.stages.students import run_jobs

    return run_jobs(
        student_jobs(workspace, train=train, test=test), workers=workers, on_done=on_done, print_line=print_line
    )


def student_jobs(workspace: Workspace, *, train: bool = True, test: bool = True) -> list[Job]:
    """One job for each seed and method. All methods of a seed come together, so a partial run can compare them.

    Raises:
        ArtefactError: an earlier stage has not finished, rows that it wrote are missing, or a student to test does not
            exist.
    """
    from molsaki.stages.students import Job
    from molsaki.stages.train_student import require_all_rows, require_stages

    recipe = workspace.recipe
    workspace.require_problems()
    if train:
        require_stages(workspace)
    pairs = [(method.label, seed) for seed in recipe.seeds for method in recipe.methods]
    missing = [pair for pair in pairs if not workspace.student(*pair).is_dir()]
    if train and missing:
        require_all_rows(workspace)
    if missing and not train:
        raise ArtefactError(
            f"Expected {len(pairs)} trained students in {workspace.run.folder}; {len(missing)} are missing, for "
            f"example {missing[0][0]} with seed {missing[0][1]}. Run `molsaki train` with this recipe first."
        )
    return [Job(workspace.run.folder, label, seed, train, test) for label, seed in pairs]


# ---- results ----


def references(workspace: Workspace, progress: Progress | None = None) -> list[str]:
    """Score the student before its training, and the teacher, as `evaluation` of the recipe asks.

    Returns:
        For each of the two that could not be scored, a sentence that says why.
    """
    from molsaki.stages.references import score_references

    return score_references(workspace, progress)


def results(workspace: Workspace) -> list[dict[str, Any]]:
    """Score the predictions and write results.json, and scores.json with intervals and counts of failures.

    Returns:
        The rows of results.json.
    """
    from molsaki.evaluation.score import result_row, score
    from molsaki.stages.results import training_facts

    rows, scores = [], []
    for test in workspace.test_names:
        for method in workspace.recipe.methods:
            for seed in workspace.recipe.seeds:
                if not workspace.is_tested(method.label, seed, test):
                    continue
                scored = score(workspace.read_predictions(method.label, seed, test))
                row = result_row(workspace.recipe.data.task, test, method.label, seed, scored)
                rows.append({**row, **training_facts(workspace.read_metrics(method.label, seed))})
                scores.append({**row, **scored.to_dict()})
    write_json(workspace.run.path("results.json"), rows)
    write_json(workspace.run.path("scores.json"), scores)
    return rows
