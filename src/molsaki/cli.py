"""The command line: one command a stage, `run` for all of them.

Nothing heavy is imported before a command needs it, so `molsaki --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from types import TracebackType

    from molsaki.workspace import Workspace

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""

app = typer.Typer(
    name="molsaki",
    help="Distil a large language model's reasoning into a small one: what it writes, and where it looks while it "
    "writes it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
recipes_app = typer.Typer(help="List, show and check recipes.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(recipes_app, name="recipes")

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a YAML file.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The run's directory (default: runs/NAME, or runs/NAME-tiny).")
]
Tiny = Annotated[bool, typer.Option("--tiny", help="Small random models of the same architectures; few steps.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. training.steps=200.")
]
Data = Annotated[str | None, typer.Option("--data", help="Folder that relative data paths start from.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete the run that is in the directory, start over.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Students at a time (default: one a GPU, or one a core).")
]


@app.command()
def run(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    overwrite: Overwrite = False,
    workers: Workers = None,
) -> None:
    """Do all of a recipe: data, rationales, attention, students, results. Goes on where it stopped."""
    from molsaki import pipeline
    from molsaki.console import Console

    console = Console()
    with _opened(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        console.data(pipeline.load_data(workspace))
        with console.progress("rationales") as progress:
            manifest = pipeline.generate(workspace, progress)
        console.rationales(manifest)
        if pipeline.needs_attention(workspace):
            with console.progress("attention") as progress:
                manifest = pipeline.attend(workspace, progress)
            console.attention(manifest)
        with console.students(workspace) as each:
            pipeline.students(workspace, workers=workers, each=each)
        console.results(workspace, pipeline.results(workspace))


@app.command()
def generate(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    overwrite: Overwrite = False,
) -> None:
    """Questions to rationales that reach the right answer, and key words."""
    from molsaki import pipeline
    from molsaki.console import Console

    console = Console()
    with _opened(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        console.data(pipeline.load_data(workspace))
        with console.progress("rationales") as progress:
            manifest = pipeline.generate(workspace, progress)
        console.rationales(manifest)


@app.command()
def attend(
    recipe: RecipeName, out: Out = None, tiny: Tiny = False, settings: Settings = None, data: Data = None
) -> None:
    """Rationales and a teacher to stepwise attention, layer by layer."""
    from molsaki import pipeline
    from molsaki.console import Console

    console = Console()
    with _opened(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        with console.progress("attention") as progress:
            manifest = pipeline.attend(workspace, progress)
        console.attention(manifest)


@app.command()
def train(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    workers: Workers = None,
) -> None:
    """Rationales and attention to students, one for each method and seed."""
    from molsaki import pipeline
    from molsaki.console import Console

    console = Console()
    with _opened(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        with console.students(workspace) as each:
            pipeline.students(workspace, test=False, workers=workers, each=each)


@app.command()
def evaluate(
    recipe: RecipeName,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    workers: Workers = None,
) -> None:
    """Students and test sets to predictions, and accuracy with its interval."""
    from molsaki import pipeline
    from molsaki.console import Console

    console = Console()
    with _opened(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        with console.students(workspace) as each:
            pipeline.students(workspace, train=False, workers=workers, each=each)
        console.results(workspace, pipeline.results(workspace))


@app.command()
def bench(
    lengths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TxB:KEYS]...", help="Tokens x sequences : key tokens, e.g. 2048x1:40."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Alternating repeats of each way; the median is shown.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the figures here, as JSON.")] = None,
) -> None:
    """Measure what reading attention costs on this machine, as ratios to a step without it."""
    from molsaki.artefacts import write_json
    from molsaki.bench import Shape, run_bench

    shapes = [Shape.parse(text) for text in lengths or ("256x8:24", "2048x1:40", "4096x1:60")]
    result = run_bench(shapes, repeats=repeats, progress=lambda what: typer.echo(what, err=True))
    typer.echo(result.to_markdown(), nl=False)
    if out is not None:
        write_json(out, result.to_dict())


@recipes_app.command("list")
def list_recipes() -> None:
    """The recipes that ship with molsaki."""
    from molsaki.recipe_files import read_recipe, recipe_names

    for name in recipe_names():
        typer.echo(f"{name:26} {' '.join(str(read_recipe(name).get('description', '')).split())}")


@recipes_app.command("show")
def show_recipe(recipe: RecipeName) -> None:
    """Print a recipe as it stands."""
    from molsaki.recipe_files import find_recipe, read_recipe

    read_recipe(recipe)
    typer.echo(find_recipe(recipe).read_text(encoding="utf-8"), nl=False)


@recipes_app.command("check")
def check_recipe(recipe: RecipeName, tiny: Tiny = False, settings: Settings = None, data: Data = None) -> None:
    """Check a recipe's keys, values and files, and print it resolved."""
    import yaml

    from molsaki.preparation import prepare_recipe

    prepared = prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data)
    typer.echo(yaml.safe_dump(prepared.model_dump(mode="json"), sort_keys=False, allow_unicode=True), nl=False)


def _opened(
    recipe: str,
    out: Path | None,
    tiny: bool,
    settings: list[str] | None,
    data: str | None,
    overwrite: bool = False,
) -> _Opened:
    return _Opened(recipe, out, tiny, settings or [], data, overwrite)


class _Opened:
    """A run's directory, opened, checked against its recipe and locked for as long as the command runs."""

    def __init__(
        self, recipe: str, out: Path | None, tiny: bool, settings: list[str], data: str | None, overwrite: bool
    ) -> None:
        from molsaki.preparation import open_workspace, prepare_recipe

        prepared = prepare_recipe(recipe, tiny=tiny, settings=settings, data=data)
        folder = out or Path("runs") / (f"{prepared.name}-tiny" if tiny else prepared.name)
        self.workspace = open_workspace(prepared, folder, overwrite=overwrite)
        self.lock = self.workspace.run.lock()

    def __enter__(self) -> Workspace:
        self.lock.__enter__()
        return self.workspace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock.__exit__(kind, error, trace)
        if isinstance(error, KeyboardInterrupt):
            typer.secho("molsaki: interrupted; the same command goes on from here", fg="yellow", err=True)
            raise typer.Exit(INTERRUPTED) from error


def main() -> None:
    """Run the command line; a user's mistake is a message, not a traceback."""
    import sys

    from molsaki.errors import MolsakiError

    try:
        app()
    except MolsakiError as error:
        typer.secho(f"molsaki: {error}", fg="red", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
