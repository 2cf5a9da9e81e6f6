"""`molsaki run`, and each of its stages as a command of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from molsaki.cli.options import Data, Out, Overwrite, RecipeName, Settings, Tiny, Workers, opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molsaki.cli.console import Console
    from molsaki.stages.workspace import Workspace

Partial = Annotated[bool, typer.Option("--partial", help="Go on although a server gave no answer to some questions.")]


def run(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
    partial: Partial = False,
    report: Annotated[bool, typer.Option(help="Write report.html at the end.")] = True,
) -> None:
    """Do all of a recipe: data, rationales, attention, students, results, report. Goes on where it stopped."""
    from molsaki.cli.console import Console
    from molsaki.distributed import on_main_process
    from molsaki.stages import pipeline

    console = Console()
    with opened(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        _generate(console, workspace, partial)
        _attend(console, workspace)
        with console.students(workspace) as each:
            pipeline.students(workspace, workers=workers, each=each)
        on_main_process(lambda: console.results(workspace, pipeline.results(workspace)))
        if report:
            from molsaki.report.build import write_report

            console.say("reading where the models look, for the report")
            on_main_process(lambda: console.report_written(write_report(workspace)))


def generate(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    overwrite: Overwrite = False,
    partial: Partial = False,
    show: Annotated[bool, typer.Option("--show", help="Only print what the teacher would get; write nothing.")] = False,
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many questions --show takes.")] = 1,
) -> None:
    """Questions to rationales that reach the right answer, and key words."""
    from molsaki.cli.console import Console

    if show:
        _show(recipe, tiny, settings, data, rows)
        return

    console = Console()
    with opened(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        _generate(console, workspace, partial)


def _generate(console: Console, workspace: Workspace, partial: bool) -> None:
    from molsaki.distributed import on_main_process
    from molsaki.errors import StageError
    from molsaki.stages import pipeline

    console.data(on_main_process(lambda: pipeline.load_data(workspace)))
    with console.progress("rationales") as progress:
        manifest = on_main_process(lambda: pipeline.generate(workspace, progress, partial=partial))
    console.rationales(manifest)
    if manifest["unanswered"] and not partial:
        raise StageError(
            f"Expected the teacher to answer all {manifest['problems']} questions; {manifest['unanswered']} have no "
            "answer yet, for the reasons above. What was answered is kept; run the same command again to ask for the "
            "others, or with --partial to go on without them."
        )


def _show(recipe: str, tiny: bool, settings: list[str] | None, data: str | None, rows: int) -> None:
    from molsaki.cli.console import visible
    from molsaki.stages import pipeline
    from molsaki.stages.check import prepare_recipe

    for row_id, which, shown in pipeline.prompts(
        prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data), rows
    ):
        typer.secho(f"--- {visible(row_id)}, {which} ---", dim=True)
        typer.echo(visible(shown))


def attend(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read nothing; open every shard that is there and prove every row.")
    ] = False,
) -> None:
    """Rationales and a teacher to what methods compare of it: stepwise attention, next tokens."""
    from molsaki.cli.console import Console
    from molsaki.stages.attend import check_signal
    from molsaki.stages.signals import signals_to_read

    console = Console()
    with opened(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        names = signals_to_read(workspace.recipe)
        if check:
            sound = [console.signal_check(check_signal(workspace, name)) for name in names]
            if not all(sound):
                raise typer.Exit(1)
            return
        _attend(console, workspace, names)


def _attend(console: Console, workspace: Workspace, names: Sequence[str] | None = None) -> None:
    from molsaki.stages import pipeline

    with console.progress("teacher") as progress:
        read = pipeline.attend(workspace, progress, names=names)
    console.signals(read)


def train(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    workers: Workers = None,
) -> None:
    """Rationales and attention to students, one for each method and seed."""
    from molsaki.cli.console import Console
    from molsaki.stages import pipeline

    console = Console()
    with opened(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        with console.students(workspace) as each:
            pipeline.students(workspace, test=False, workers=workers, each=each)


def evaluate(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    workers: Workers = None,
) -> None:
    """Students and test sets to predictions, and accuracy with its interval."""
    from molsaki.cli.console import Console
    from molsaki.distributed import on_main_process
    from molsaki.stages import pipeline

    console = Console()
    with opened(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        with console.students(workspace) as each:
            pipeline.students(workspace, train=False, workers=workers, each=each)
        on_main_process(lambda: console.results(workspace, pipeline.results(workspace)))
