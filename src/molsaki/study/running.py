"""Run the students of a study that are missing: in parallel, and in parts on several machines."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.config.precision import in_precision
from molsaki.counts import format_counts, format_reading
from molsaki.errors import InputError, StageError
from molsaki.stages.check import open_workspace, precision_choice
from molsaki.stages.workspace import Workspace
from molsaki.store.shards import files_in_order, shard_numbers
from molsaki.store.whole_files import copy_whole
from molsaki.study.files import Study, study_recipe

if TYPE_CHECKING:
    from molsaki.stages.students import Job


@contextmanager
def open_runs(
    study: Study,
    file: Path,
    folder: Path,
    *,
    tiny: bool = False,
    settings: Sequence[str] = (),
    data: str | None = None,
    tuned: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
) -> Iterator[dict[str, Workspace]]:
    """Open, check and lock the run directory of each recipe of a study.

    Methods, seeds and sizes may be added to a study, but its largest size must stay the same. Students that the study
    no longer names stay in the runs, but not in the tables.

    Args:
        study: the study.
        file: its file.
        folder: its folder, which holds the run directories.
        tiny: apply `--tiny`.
        settings: overrides of the recipes, of the form `key=value`.
        data: the folder that relative data paths start from.
        tuned: by recipe and label, settings that take precedence over the study's.

    Raises:
        RecipeError: a recipe is invalid.
        ArtefactError: a directory belongs to another recipe.
        StageError: another process has locked a directory.
    """
    recipes = {
        name: study_recipe(study, file, name, tiny=tiny, settings=settings, data=data, tuned=(tuned or {}).get(name))
        for name in study.recipes
    }
    with ExitStack() as locks:
        runs = {}
        for name, recipe in recipes.items():
            opened = open_workspace(recipe, folder / name)
            if choice := precision_choice(opened):
                recipe = in_precision(recipe, bfloat16=choice.is_bfloat16)
            runs[name] = Workspace(opened.run, recipe)
            locks.enter_context(runs[name].run.lock())
        yield runs


def all_jobs(study: Study, runs: dict[str, Workspace]) -> list[Job]:
    """One job for each student. All methods of a seed come together, so a partial study can compare them.

    Raises:
        ArtefactError: an earlier stage of a run has not finished.
    """
    from molsaki.stages.pipeline import student_jobs

    jobs = {(name, job.seed, job.label): job for name, workspace in runs.items() for job in student_jobs(workspace)}
    seeds = list(dict.fromkeys(seed for workspace in runs.values() for seed in workspace.recipe.seeds))
    order = [(name, seed, cell.label) for seed in seeds for name in runs for cell in study.cells]
    return [jobs[key] for key in order if key in jobs]


def part_of(jobs: Sequence[Job], part: str | None, per_seed: int = 1) -> list[Job]:
    """The share of one machine: with `2/4`, every fourth job from the second on; with None, all jobs.

    Args:
        jobs: the jobs of all machines, in the same order everywhere.
        part: the share.
        per_seed: number of jobs with the same seed. The shares rotate by one from seed to seed. Otherwise one machine
            might get the same methods of every seed, and some methods take far longer than others.

    Raises:
        InputError: the share has another form.
    """
    if part is None:
        return list(jobs)
    number, _, count = part.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(f"Expected a part such as 2/4, the second of four; got {part!r}. Nothing was run.")
    return [job for i, job in enumerate(jobs) if (i + i // per_seed) % int(count) == int(number) - 1]


def prepare_runs(
    runs: dict[str, Workspace],
    print_line: Callable[[str], None],
    progress: Callable[[str], AbstractContextManager[Callable[[int, int], None]]],
    trials: Path | None = None,
) -> None:
    """Load the problems, get the rationales and read the teacher's attention of every run.

    What the teacher wrote and showed in a run's trials is copied from there, if both have the same training problems.

    Args:
        runs: the runs by name.
        print_line: gets a line about what was done.
        progress: opens a stage by its name; what it gives is called with what is done and how much there is.
        trials: the folder of the runs that settings were chosen by, under the same names.

    Raises:
        RecipeError: a model, tokenizer or prompt cannot be used; nothing was run.
        StageError: a server did not answer some questions, or no rationale was kept.
    """
    from molsaki.stages import pipeline
    from molsaki.stages.kept import require_kept
    from molsaki.stages.models_first import require_models, roles_left

    for name, workspace in runs.items():
        for note in require_models(workspace.recipe, roles_left(workspace)):
            print_line(f"{name}: warning: {note}")
    for name, workspace in runs.items():
        for test, report in pipeline.load_data(workspace).items():
            if left_out := format_counts(report):
                print_line(f"{name}: {test}: {report['kept']} of {report['read']} problems used; {left_out}")
        if trials is not None:
            _copy_teachers_work(trials / name, workspace)
        with progress(f"{name}: rationales") as update:
            manifest = pipeline.generate(workspace, update)
        if manifest["unanswered"]:
            raise StageError(
                f"Expected answers to all {manifest['problems']} questions of {name}; {manifest['unanswered']} have "
                "none. Answers that arrived are kept. Run the same command again."
            )
        print_line(f"{name}: {manifest['kept']} of {manifest['problems']} rationales kept; {format_counts(manifest)}")
        require_kept(workspace, manifest)
        with progress(f"{name}: teacher") as update:
            read = pipeline.attend(workspace, update)
        for entry in read.values():
            print_line(f"{name}: {entry['title']}: {format_reading(entry)}")


def _copy_teachers_work(trials: Path, workspace: Workspace) -> None:
    """Copy rationales and signals from the run of the trials where this run has none.

    Logs and stores continue from the rows they have, and check their texts and fingerprints. The files of a store are
    copied in the order in which they were written, so after a kill only rows are missing, and are read again.
    """
    problems = Path("data", "train.jsonl")
    theirs, own = trials / problems, workspace.run.folder / problems
    if not (theirs.is_file() and filecmp.cmp(theirs, own, shallow=False)):
        return
    for name in ("completions.jsonl", "rationales.jsonl"):
        if (trials / name).is_file() and not workspace.run.path(name).exists():
            copy_whole(trials / name, workspace.run.path(name))
    for store in sorted((trials / "attention").glob("*/")):
        target = workspace.run.path("attention", store.name)
        if shard_numbers(store) and not target.exists():
            for file in files_in_order(store):
                copy_whole(file, target / file.name)
