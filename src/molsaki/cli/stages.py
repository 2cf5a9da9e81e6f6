"""`molsaki run`, and its stages as commands: `generate`, `attend`, `train`; `evaluate.py` has the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from molsaki.cli.options import Data, Out, Overwrite, RecipeName, Settings, Tiny, Workers, open_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molsaki.cli.console import Console
    from molsaki.stages.signal_checks import SignalCheck
    from molsaki.stages.workspace import Workspace

Partial = Annotated[bool, typer.Option("--partial", help="Continue even if a server did not answer some questions.")]


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
    """Run all stages of a recipe, from data to results and a report. Continues where it stopped."""
    from molsaki.cli.console import Console
    from molsaki.distributed import on_main_process

    console = Console()
    with open_run(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        _require_models(console, workspace)
        _generate(console, workspace, partial)
        _attend(console, workspace)
        train_and_test(console, workspace, workers)
        show_results(console, workspace)
        if report:
            from molsaki.report.build import write_report

            console.detail("reading the models' attention for the report")
            on_main_process(lambda: console.report(write_report(workspace)))
        on_main_process(lambda: console.costs(workspace))


def generate(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    overwrite: Overwrite = False,
    partial: Partial = False,
    show: Annotated[bool, typer.Option("--show", help="Only print the teacher's prompts; write nothing.")] = False,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Number of questions for --show.")] = 1,
) -> None:
    """Generate rationales that reach the right answer, and key words."""
    from molsaki.cli.console import Console

    if show:
        _show_prompts(recipe, tiny, settings, data, rows)
        return
    console = Console()
    with open_run(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        _generate(console, workspace, partial)


def attend(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    check: Annotated[bool, typer.Option("--check", help="Read nothing; verify every row that is stored.")] = False,
) -> None:
    """Read what methods compare of the teacher on the rationales: stepwise attention, next tokens."""
    from molsaki.cli.console import Console
    from molsaki.stages.signal_checks import check_signal
    from molsaki.stages.signals import signals_to_read

    console = Console()
    with open_run(recipe, out, tiny, settings, data, to_read=check) as workspace:
        console.begin(workspace)
        names = signals_to_read(workspace.recipe)
        if not check:
            _attend(console, workspace, names)
            return
        checks = [check_signal(workspace, name) for name in names]
        for result in checks:
            _show_check(console, result)
        if not all(result.ok for result in checks):
            raise typer.Exit(1)


def train(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    workers: Workers = None,
) -> None:
    """Train one student for each method and seed."""
    from molsaki.cli.console import Console

    console = Console()
    with open_run(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        train_and_test(console, workspace, workers, test=False)


def _require_models(console: Console, workspace: Workspace) -> None:
    from molsaki.distributed import on_main_process
    from molsaki.stages.models_first import require_models, roles_left

    for note in on_main_process(lambda: require_models(workspace.recipe, roles_left(workspace))):
        console.detail(f"warning: {note}")


def _generate(console: Console, workspace: Workspace, partial: bool) -> None:
    from molsaki.distributed import on_main_process
    from molsaki.errors import StageError
    from molsaki.stages import pipeline
    from molsaki.stages.kept import require_kept

    console.data(on_main_process(lambda: pipeline.load_data(workspace)))
    with console.progress("rationales") as progress:
        manifest = on_main_process(lambda: pipeline.generate(workspace, progress, partial=partial))
    console.rationales(manifest)
    if manifest["unanswered"] and not partial:
        raise StageError(
            f"Expected answers to all {manifest['problems']} questions; {manifest['unanswered']} have none, for the "
            "reasons above. Answers that arrived are kept. Run the same command again, or add --partial to continue "
            "without the others."
        )
    on_main_process(lambda: require_kept(workspace, manifest))


def _show_prompts(recipe: str, tiny: bool, settings: list[str] | None, data: str | None, rows: int) -> None:
    from molsaki.cli.terminal import visible
    from molsaki.stages import pipeline
    from molsaki.stages.check import prepare_recipe

    prepared = prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data)
    for row_id, name, prompt in pipeline.preview_prompts(prepared, rows):
        typer.secho(f"--- {visible(row_id)}, {name} ---", dim=True)
        typer.echo(visible(prompt))


def _attend(console: Console, workspace: Workspace, names: Sequence[str] | None = None) -> None:
    from molsaki.stages import pipeline

    with console.progress("teacher") as progress:
        read = pipeline.attend(workspace, progress, names=names)
    console.signals(read)


def _show_check(console: Console, check: SignalCheck) -> None:
    from molsaki.counts import plural

    store, problems = check.store, [*check.problems, *check.store.problems]
    result = plural(len(problems), "problem") if problems else "all rows are intact and match their texts"
    size = f"{plural(store.rows, 'row')} in {plural(store.shards, 'shard')}, {plural(store.bytes, 'byte')}"
    console.line(f"{check.title} store: {size}; {result}")
    for problem in problems:
        console.detail(f"- {problem}")
    for path in store.unfinished:
        console.detail(f"{path} has no index, because writing was interrupted; its rows will be read again")
    if check.waiting:
        console.detail(f"{plural(check.waiting, 'rationale')} not read yet; run `molsaki attend` to continue")


def train_and_test(
    console: Console, workspace: Workspace, workers: int | None, *, train: bool = True, test: bool = True
) -> None:
    """Run the stage of the students, and show each result."""
    from molsaki.stages import pipeline

    with console.students(len(workspace.recipe.methods) * len(workspace.recipe.seeds)) as (on_done, print_line):
        pipeline.students(workspace, train=train, test=test, workers=workers, on_done=on_done, print_line=print_line)


def show_results(console: Console, workspace: Workspace) -> None:
    """Score the students, the untrained student and the teacher, and print the tables."""
    from molsaki.distributed import on_main_process
    from molsaki.stages import pipeline

    with console.progress("untrained student and teacher") as progress:
        notes = on_main_process(lambda: pipeline.references(workspace, progress))
    for note in notes:
        console.detail(f"warning: {note}")
    on_main_process(lambda: console.results(workspace, pipeline.results(workspace)))
