"""The command line: one command a stage, `run` for all of them.

Nothing heavy is imported before a command needs it, so `molsaki --help` answers at once.
"""

from __future__ import annotations

import codecs
import io
import sys

import typer

from molsaki.cli import bench, doctor, import_, look, recipes, report, stages, study
from molsaki.cli.options import with_models

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

for stage in (stages.run, stages.generate, stages.attend, stages.train, stages.evaluate):
    app.command()(with_models(stage))
for tool in (study.study, report.report, look.look, doctor.doctor):
    app.command()(with_models(tool))
app.command()(bench.bench)
app.command("import")(import_.import_rationales)
app.add_typer(recipes_app, name="recipes")
recipes_app.command("list")(recipes.list_recipes)
recipes_app.command("show")(recipes.show_recipe)
recipes_app.command("check")(recipes.check_recipe)


def main() -> None:
    """Run the command line; a user's mistake is a message, not a traceback."""
    from molsaki.errors import MolsakiError, OtherProcessError

    _show_what_can_be_shown()
    try:
        app()
    except OtherProcessError:
        sys.exit(2)  # that process has said why
    except MolsakiError as error:
        from molsaki.cli.console import visible

        typer.secho(f"molsaki: {visible(str(error))}", fg="red", err=True)
        sys.exit(2)


def _show_what_can_be_shown() -> None:
    """Print "?" for a character that the output's encoding lacks (− in a table), rather than fail when all is done."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()
