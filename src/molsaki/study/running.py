"""Doing a study: what is missing of it, in parallel, in parts on several machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.counts import format_counts
from molsaki.errors import InputError
from molsaki.stages.check import open_workspace
from molsaki.stages.workspace import Workspace
from molsaki.study.files import Study, study_recipe

if TYPE_CHECKING:
    from molsaki.stages.students import Job


@contextmanager
def opened_runs(
    study: Study,
    file: Path,
    folder: Path,
    *,
    tiny: bool = False,
    settings: Sequence[str] = (),
    data: str | None = None,
) -> Iterator[dict[str, Workspace]]:
    """The run directory of each of a study's recipes, checked, opened and locked; what is there stays.

    A study may have got more methods and seeds since; sizes too, as long as the largest stays the same. Students that
    a run has of an earlier form of the study, and that this one does not name, are left alone and out of its tables.

    Raises:
        RecipeError: a recipe cannot be run.
        ArtefactError: a directory belongs to something else.
        StageError: another process holds one.
    """
    recipes = {name: study_recipe(study, file, name, tiny=tiny, settings=settings, data=data) for name in study.recipes}
    with ExitStack() as held:
        runs = {}
        for name, recipe in recipes.items():
            runs[name] = Workspace(open_workspace(recipe, folder / name).run, recipe)
            held.enter_context(runs[name].run.lock())
        yield runs


def all_jobs(study: Study, runs: dict[str, Workspace]) -> list[Job]:
    """One job for each student of a study, seed by seed, so that one that is stopped early has whole comparisons.

    Raises:
        ArtefactError: an earlier stage of a run is missing.
    """
    from molsaki.stages.pipeline import student_jobs

    jobs = {(name, job.seed, job.label): job for name, workspace in runs.items() for job in student_jobs(workspace)}
    seeds = list(dict.fromkeys(seed for workspace in runs.values() for seed in workspace.recipe.seeds))
    order = [(name, seed, cell.label) for seed in seeds for name in runs for cell in study.cells]
    return [jobs[key] for key in order if key in jobs]


def part_of(jobs: Sequence[Job], part: str | None, together: int = 1) -> list[Job]:
    """The share of one machine: `2/4` is every fourth job, from the second on; None is all of them.

    Args:
        jobs: of all machines, in one order everywhere.
        part: which share.
        together: how many jobs are of one seed. Each seed begins one machine later than the last, so that no machine
            gets the same methods of every seed, some of which take far longer than others.

    Raises:
        InputError: it is not of this form.
    """
    if part is None:
        return list(jobs)
    number, _, of = part.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise InputError(f"Expected a part such as 2/4, the second of four; got {part!r}. Nothing was run.")
    return [job for i, job in enumerate(jobs) if (i + i // together) % int(of) == int(number) - 1]


def prepare_runs(runs: dict[str, Workspace], say: Callable[[str], None]) -> None:
    """Problems, rationales and the teacher's attention of every run, where they are not there yet.

    Raises:
        StageError: a server gave no answer to some questions.
    """
    from molsaki.errors import StageError
    from molsaki.stages import pipeline

    for name, workspace in runs.items():
        for test, report in pipeline.load_data(workspace).items():
            if left_out := format_counts(report):
                say(f"{name}: {test}: {report['kept']} of {report['read']} problems used; {left_out}")
        manifest = pipeline.generate(workspace)
        if manifest["unanswered"]:
            raise StageError(
                f"Expected the teacher to answer all {manifest['problems']} questions of {name}; "
                f"{manifest['unanswered']} have no answer yet. What was answered is kept; run the same command again."
            )
        say(f"{name}: {manifest['kept']} of {manifest['problems']} rationales kept; {format_counts(manifest)}")
        for view in pipeline.views(workspace):
            read = pipeline.attend(workspace, view=view)
            say(_told(f"{name}: {view.title} on", read))
            if "next tokens" in read:
                say(_told(f"{name}: next tokens of", read["next tokens"]))


def _told(what: str, read: Mapping[str, Any]) -> str:
    """How many rationales were read, and why the others were not."""
    left_out = format_counts(read)
    return f"{what} {read['kept']} of {read['read']} rationales read" + (f"; {left_out}" if left_out else "")
