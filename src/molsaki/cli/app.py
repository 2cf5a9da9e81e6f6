"""The command line: a command for each stage, and `run` for all of them.

Slow imports, such as torch, happen in the commands that need them, so `molsaki --help` answers at once.
"""

from __future__ import annotations

import codecs
import io
import sys
from typing import Annotated

import typer

from molsaki._version import __version__
from molsaki.cli import bench, doctor, evaluate, export, import_, look, recipes, report, signals, stages, study
from molsaki.cli.options import with_models

app = typer.Typer(
    name="molsaki",
    help="Distil a large language model's reasoning into a small one: the rationales that it writes, and the "
    "attention with which it reads and writes them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
recipes_app = typer.Typer(help="List, show and check recipes.", no_args_is_help=True, rich_markup_mode=None)
signals_app = typer.Typer(
    help="Export a teacher's signals, share them and check them.", no_args_is_help=True, rich_markup_mode=None
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"molsaki {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Global options."""


for stage in (stages.run, stages.generate, stages.attend, stages.train, evaluate.evaluate):
    app.command()(with_models(stage))
for tool in (study.study, report.report, look.look, doctor.doctor, export.export):
    app.command()(with_models(tool))
app.command()(bench.bench)
app.command("import")(import_.import_rationales)
app.add_typer(recipes_app, name="recipes")
recipes_app.command("list")(recipes.list_recipes)
recipes_app.command("show")(recipes.show_recipe)
recipes_app.command("check")(with_models(recipes.check_recipe))
app.add_typer(signals_app, name="signals")
for command in (signals.export, signals.verify, signals.push, signals.pull):
    signals_app.command()(command)


def main() -> None:
    """Run the command line. Errors of the user are messages, not tracebacks."""
    from molsaki.errors import MolsakiError, OtherProcessError
    from molsaki.models.memory import bound_kernel_caches
    from molsaki.models.quantization import quiet_bitsandbytes

    _replace_unencodable()
    bound_kernel_caches()
    quiet_bitsandbytes()
    try:
        app()
    except OtherProcessError:
        sys.exit(2)  # the other process printed the error
    except MolsakiError as error:
        from molsaki.cli.terminal import visible

        typer.secho(f"molsaki: {visible(str(error))}", fg="red", err=True)
        sys.exit(2)


def _replace_unencodable() -> None:
    """Print "?" for characters that the output's encoding lacks, such as − in a table, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()
