"""The data stage: load every set of a recipe, and keep test and validation problems out of training.

With independent draws, a generated set is made once for each seed of the recipe. The problems of all
seeds are one set in the run's files, so that they get rationales and are read together; `data/draws.json` says which
of them each seed drew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from molsaki.config.data_settings import TRAIN, VALIDATION, DataSpec
from molsaki.config.recipe import Recipe
from molsaki.counts import format_counts
from molsaki.data import EXPORTED, is_generated, load_problems
from molsaki.errors import DataError
from molsaki.records import Problem, RowReport, hash_text, require_unique_ids
from molsaki.stages.signals_hub import signals_folder
from molsaki.stages.workspace import Workspace

IN_TEST_SET = "its text is in a test set too"
IN_VALIDATION = "its text is in the validation set too"


def load_sets(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Load all sets of a recipe into the run directory.

    Returns:
        The counts of the rows of each set, and the seeds that drew it, if each draws its own. The counts of the
        training set include problems that are held out for validation.

    Raises:
        DataError: a source cannot be read, ids repeat, or no training problem is left.
    """
    recipe, data = workspace.recipe, workspace.recipe.data
    reports: dict[str, RowReport] = {}
    draws: dict[str, dict[str, list[str]]] = {}
    taken: dict[str, str] = {}  # from the hash of a text to the reason that no set below may have it
    for name, spec in data.tests.items():
        problems, reports[name] = _load_draws(recipe, name, spec, draws)
        workspace.write_problems(name, problems)
        taken |= _hashes(problems, IN_TEST_SET)
    if data.validation:
        problems, reports[VALIDATION] = _load_draws(recipe, VALIDATION, data.validation, draws)
        problems = _remove_texts(problems, taken, reports[VALIDATION])
        workspace.write_problems(VALIDATION, problems)
        taken |= _hashes(problems, IN_VALIDATION)
    problems, report = _load_draws(recipe, TRAIN, data.train, draws)
    reports[TRAIN] = report
    problems = _remove_texts(problems, taken, report)
    if data.validation_rows:
        problems, held_out = _split_validation(problems, data.validation_rows)
        workspace.write_problems(VALIDATION, held_out)
        report.notes["set aside for validation"] = len(held_out)
        problems = _remove_texts(problems, _hashes(held_out, IN_VALIDATION), report)
    if not problems:
        raise DataError(
            f"Expected training problems that are in no test or validation set; none of {report.read} is left: "
            f"{format_counts(report.to_dict())}. Nothing can be trained; choose other problems or another split."
        )
    workspace.write_problems(TRAIN, problems)
    if draws:
        workspace.write_draws(draws)
    seeds = {name: {"seeds": list(recipe.seeds)} for name in draws}
    return {name: {**report.to_dict(), **seeds.get(name, {})} for name, report in reports.items()}


def _load_draws(
    recipe: Recipe, name: str, spec: DataSpec, draws: dict[str, dict[str, list[str]]]
) -> tuple[list[Problem], RowReport]:
    """Load a set, or those of all seeds if each draws its own, whose ids are added to `draws`."""
    if not (recipe.data.draws == "independent" and is_generated(spec.source)):
        return load_set(recipe, spec)
    problems: list[Problem] = []
    report = RowReport()
    draws[name] = {}
    for seed in recipe.seeds:
        drawn, _ = load_set(recipe, spec.model_copy(update={"split": f"{spec.split}:{seed}"}))
        draws[name][str(seed)] = [problem.id for problem in drawn]
        problems += drawn
    report.read = report.kept = len(problems)
    report.notes["seeds that drew problems of their own"] = len(recipe.seeds)
    return problems, report


def load_set(recipe: Recipe, spec: DataSpec) -> tuple[list[Problem], RowReport]:
    """Load one set of a recipe.

    Raises:
        DataError: the source cannot be read, or ids repeat.
    """
    path = recipe.data_path(spec.path)
    if spec.source == EXPORTED and path is None:
        path = signals_folder(recipe)
    loaded = load_problems(spec.source, path=path, split=spec.split, columns=spec.columns, limit=spec.limit)
    require_unique_ids(loaded)
    return list(loaded.problems), loaded.report


def scored_problems(recipe: Recipe) -> list[Problem]:
    """All problems that a recipe's students are scored on, from their sources.

    Raises:
        DataError: a source cannot be read.
    """
    data = recipe.data
    tests = [problem for name, spec in data.tests.items() for problem in _load_draws(recipe, name, spec, {})[0]]
    if recipe.evaluation.on != "validation":
        return tests
    name, spec = (TRAIN, data.train) if data.validation is None else (VALIDATION, data.validation)
    problems, report = _load_draws(recipe, name, spec, {})
    problems = _remove_texts(problems, _hashes(tests, IN_TEST_SET), report)
    return _split_validation(problems, data.validation_rows)[1] if data.validation is None else problems


def _hashes(problems: Sequence[Problem], reason: str) -> dict[str, str]:
    """From the hash of each problem's text to the reason that another set leaves it out."""
    return {hash_question(problem): reason for problem in problems}


def _remove_texts(problems: Sequence[Problem], taken: Mapping[str, str], report: RowReport) -> list[Problem]:
    """The problems whose text is not taken. The report counts the others as skipped, with the reason."""
    kept = []
    for problem in problems:
        reason = taken.get(hash_question(problem))
        if reason is None:
            kept.append(problem)
            continue
        report.kept -= 1
        report.read -= 1
        report.skip(problem.id, reason)
    return kept


def _split_validation(problems: list[Problem], rows: int) -> tuple[list[Problem], list[Problem]]:
    """Split training problems into those to train on and `rows` problems to validate on, by a hash of their text."""
    held_out = sorted(problems, key=lambda problem: hash_text("validation", problem.text))[:rows]
    if problems and len(held_out) == len(problems):
        raise DataError(
            f"Expected more training problems than the {rows} to hold out for validation (data.validation_rows); got "
            f"{len(problems)}. None would be left to train on. Hold out fewer, or load more (data.train.limit)."
        )
    ids = {problem.id for problem in held_out}
    return [problem for problem in problems if problem.id not in ids], held_out


def hash_question(problem: Problem) -> str:
    """A hash of a problem's text that ignores case and white space."""
    return hash_text(" ".join(problem.text.casefold().split()))
