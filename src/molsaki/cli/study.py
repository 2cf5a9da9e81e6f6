"""`molsaki study`: compare methods, settings, data sizes and seeds in tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molsaki.cli.options import Data, Tiny, Workers, exit_on_interrupt

if TYPE_CHECKING:
    from molsaki.cli.console import Console
    from molsaki.stages.workspace import Workspace
    from molsaki.study.files import Study

RECIPE_PREFIX = "recipe."
"""The prefix of settings of the recipes, which are not settings of the study."""


def study(
    name: Annotated[
        str | None, typer.Argument(metavar="STUDY", help="A shipped study's name or a YAML file.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The study's directory (default: runs/NAME, or runs/NAME-tiny).")
    ] = None,
    tiny: Tiny = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a value, e.g. seeds=[1]; in all recipes with recipe.KEY=VALUE."
        ),
    ] = None,
    data: Data = None,
    workers: Workers = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="I/N", help="Train only this share of the students, such as 2/4; no tables."),
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only load problems and get rationales and attention; no students.")
    ] = False,
    tables: Annotated[bool, typer.Option("--tables", help="Train nothing; only write the tables.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the studies that ship with molsaki.")] = False,
) -> None:
    """Train and test the missing students of a study, and print its tables. Continues where it stopped."""
    from molsaki.cli.console import Console
    from molsaki.counts import plural
    from molsaki.study.files import read_study, study_names
    from molsaki.study.running import open_runs, part_of

    if listed:
        for shipped in study_names():
            typer.echo(f"{shipped:24} {read_study(shipped)[0].description}")
        return
    if name is None:
        raise typer.BadParameter(f"expected a study: one of {', '.join(study_names())}, or a YAML file")
    if sum((part is not None, prepare, tables)) > 1:
        raise typer.BadParameter("expected one of --part, --prepare and --tables")
    part_of((), part)  # refuses an invalid part before anything is written
    given = settings or []
    recipe_settings = [item.removeprefix(RECIPE_PREFIX) for item in given if item.startswith(RECIPE_PREFIX)]
    loaded, file = read_study(name, [item for item in given if not item.startswith(RECIPE_PREFIX)])
    folder = out or Path("runs") / (f"{loaded.name}-tiny" if tiny else loaded.name)
    console = Console()
    with (
        exit_on_interrupt(),
        open_runs(loaded, file, folder, tiny=tiny, settings=recipe_settings, data=data) as runs,
    ):
        students = len(loaded.cells) * sum(len(workspace.recipe.seeds) for workspace in runs.values())
        console.say(f"study {loaded.name}: {plural(students, 'student')} in {plural(len(runs), 'run')}")
        if not tables:
            _train(console, loaded, runs, workers, part, prepare)
        if part is None and not prepare:
            _write_tables(console, loaded, runs, folder)


def _train(
    console: Console, study: Study, runs: dict[str, Workspace], workers: int | None, part: str | None, prepare: bool
) -> None:
    from molsaki.stages.students import run_jobs
    from molsaki.study.running import all_jobs, part_of, prepare_runs

    prepare_runs(runs, console.say)
    if prepare:
        return
    jobs = part_of(all_jobs(study, runs), part, per_seed=len(runs) * len(study.cells))
    with console.students(len(jobs), many_runs=len(runs) > 1) as on_done:
        run_jobs(jobs, workers=workers, on_done=on_done)
    if part is not None:
        console.say("this part is done; merge the directories of all parts and run the study for its tables")


def _write_tables(console: Console, study: Study, runs: dict[str, Workspace], folder: Path) -> None:
    from molsaki.counts import plural
    from molsaki.stages.pipeline import results
    from molsaki.stages.workspace import Workspace
    from molsaki.study.writing import write_study

    for workspace in runs.values():
        # The results of a run contain all its students, also those that this study does not name.
        results(Workspace.open(workspace.run.folder))
    written = write_study(study, runs, folder, console.say)
    for table in written.tables:
        console.table(table)
    if written.missing:
        console.line(f"{plural(written.missing, 'student')} missing; the tables show the others")
    for path in written.files:
        console.line(f"written: {path}")
