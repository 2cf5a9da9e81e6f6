"""`molsaki study`: methods, settings, data sizes and seeds, and the tables that they come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molsaki.cli.options import INTERRUPTED, Data, Tiny, Workers

if TYPE_CHECKING:
    from molsaki.cli.console import Console
    from molsaki.stages.workspace import Workspace
    from molsaki.study.files import Study

OF_RECIPES = "recipe."
"""What a setting begins with that is one of all recipes and not of the study."""


def study(
    name: Annotated[
        str | None, typer.Argument(metavar="STUDY", help="A shipped study's name or a YAML file.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Its directory (default: runs/NAME, or runs/NAME-tiny).")
    ] = None,
    tiny: Tiny = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a value, e.g. seeds=[1]; of all recipes as recipe.KEY=VALUE."
        ),
    ] = None,
    data: Data = None,
    workers: Workers = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="I/N", help="Train this machine's share only, such as 2/4; no tables."),
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only problems, rationales and attention; no student, no tables.")
    ] = False,
    tables: Annotated[bool, typer.Option("--tables", help="Train nothing; only the tables of what is there.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the studies that ship with molsaki.")] = False,
) -> None:
    """Run what is missing of a study, and print its tables. Goes on where it stopped."""
    from molsaki.cli.console import Console
    from molsaki.study.files import read_study, study_names
    from molsaki.study.running import opened_runs, part_of

    if listed:
        for each in study_names():
            typer.echo(f"{each:24} {read_study(each)[0].description}")
        return
    if name is None:
        raise typer.BadParameter(f"expected a study: one of {', '.join(study_names())}, or a YAML file")
    if sum((part is not None, prepare, tables)) > 1:
        raise typer.BadParameter("expected one of --part, --prepare and --tables")
    part_of((), part)  # refuses a part that is none before anything is made
    given = settings or []
    of_recipes = [one.removeprefix(OF_RECIPES) for one in given if one.startswith(OF_RECIPES)]
    found, file = read_study(name, [one for one in given if not one.startswith(OF_RECIPES)])
    folder = out or Path("runs") / (f"{found.name}-tiny" if tiny else found.name)
    console = Console()
    try:
        with opened_runs(found, file, folder, tiny=tiny, settings=of_recipes, data=data) as runs:
            seeds = max(len(workspace.recipe.seeds) for workspace in runs.values())
            console.say(f"study {found.name}: {len(runs)} × {len(found.cells)} × {seeds} students")
            if not tables:
                _train(console, found, runs, workers, part, prepare)
            if part is None and not prepare:
                _show(console, found, runs, folder)
    except KeyboardInterrupt as error:
        typer.secho("molsaki: interrupted; the same command goes on from here", fg="yellow", err=True)
        raise typer.Exit(INTERRUPTED) from error


def _train(
    console: Console, found: Study, runs: dict[str, Workspace], workers: int | None, part: str | None, prepare: bool
) -> None:
    from molsaki.stages.pipeline import run_students
    from molsaki.study.running import all_jobs, part_of, prepare_runs

    prepare_runs(runs, console.say)
    if prepare:
        return
    jobs = part_of(all_jobs(found, runs), part, together=len(runs) * len(found.cells))
    with console.jobs(len(jobs), many_runs=len(runs) > 1) as each:
        run_students(jobs, workers=workers, each=each)
    if part is not None:
        console.say("this part is done; bring all parts together and run the study for its tables")


def _show(console: Console, found: Study, runs: dict[str, Workspace], folder: Path) -> None:
    from molsaki.stages.pipeline import results
    from molsaki.stages.workspace import Workspace
    from molsaki.study.writing import write_study

    for workspace in runs.values():
        # All students of the run, whether this study names them or not.
        results(Workspace.open(workspace.run.folder))
    console.study(write_study(found, runs, folder, console.say))
