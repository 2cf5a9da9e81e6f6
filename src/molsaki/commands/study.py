"""`molsaki study`: methods, settings, data sizes and seeds, and the tables that they come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molsaki.commands.options import INTERRUPTED, Data, Settings, Tiny, Workers

if TYPE_CHECKING:
    from molsaki.console import Console
    from molsaki.study.files import Study


def study(
    name: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="A shipped study's name or a YAML file.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Its directory (default: runs/NAME, or runs/NAME-tiny).")
    ] = None,
    tiny: Tiny = False,
    settings: Settings = None,
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
    from molsaki.console import Console
    from molsaki.study.files import read_study, study_names

    if listed:
        for each in study_names():
            typer.echo(f"{each:24} {read_study(each)[0].description}")
        return
    if name is None:
        raise typer.BadParameter(f"expected a study: one of {', '.join(study_names())}, or a YAML file")
    if sum((part is not None, prepare, tables)) > 1:
        raise typer.BadParameter("expected one of --part, --prepare and --tables")
    found, file = read_study(name, tuple(settings or ()))
    folder = out or Path("runs") / (f"{found.name}-tiny" if tiny else found.name)
    console = Console()
    console.say(f"study {found.name}: {len(found.recipes)} × {len(found.cells)} × {len(found.seeds)} students")
    try:
        _do(console, found, file, folder, tiny, data, workers, part, prepare, tables)
    except KeyboardInterrupt as error:
        typer.secho("molsaki: interrupted; the same command goes on from here", fg="yellow", err=True)
        raise typer.Exit(INTERRUPTED) from error


def _do(
    console: Console,
    found: Study,
    file: Path,
    folder: Path,
    tiny: bool,
    data: str | None,
    workers: int | None,
    part: str | None,
    prepare: bool,
    tables: bool,
) -> None:
    from molsaki.pipeline import results, run_students
    from molsaki.study.running import all_jobs, opened_runs, part_of, prepare_runs

    with opened_runs(found, file, folder, tiny=tiny, data=data) as runs:
        if not tables:
            prepare_runs(runs, console.say)
            if prepare:
                return
            jobs = part_of(all_jobs(found, runs), part)
            with console.jobs(len(jobs), many_runs=len(runs) > 1) as each:
                run_students(jobs, workers=workers, each=each)
            if part is not None:
                console.say("this part is done; bring all parts together and run the study for its tables")
                return
        for workspace in runs.values():
            results(workspace)
        from molsaki.study.writing import write_study

        console.study(write_study(found, runs, folder, console.say))
