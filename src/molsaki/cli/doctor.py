"""`molsaki doctor`: what a run of a recipe will do, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from molsaki.cli.options import Data, RecipeName, Settings, Tiny

if TYPE_CHECKING:
    from molsaki.cli.console import Console
    from molsaki.stages.findings import Finding

COLOURS = {"plain": "", "warning": "[yellow]", "error": "[red]"}


def doctor(recipe: RecipeName, tiny: Tiny = False, settings: Settings = None, data: Data = None) -> None:
    """Check a recipe, and print what a run will read, skip, store and cost. Keeps no files."""
    from molsaki.cli.console import Console
    from molsaki.counts import plural
    from molsaki.stages.check import prepare_recipe
    from molsaki.stages.doctor import diagnose

    prepared = prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data)
    findings = diagnose(prepared, lambda name: typer.echo(name, err=True))
    console = Console()
    _show(console, findings)
    errors = sum(finding.level == "error" for finding in findings)
    if errors:
        console.line(f"{plural(errors, 'error')}: this recipe cannot run.")
        raise typer.Exit(1)
    console.line("No errors: this recipe can run.")


def _show(console: Console, findings: Sequence[Finding]) -> None:
    from rich.table import Table

    from molsaki.cli.terminal import escape

    table = Table("", "finding", title="checks", title_justify="left")
    last = ""
    for finding in findings:
        if last and finding.about != last:
            table.add_section()
        level = "" if finding.level == "plain" else f"{finding.level}: "
        text = f"{COLOURS[finding.level]}{level}{escape(finding.text)}"
        table.add_row(escape(finding.about) if finding.about != last else "", text)
        last = finding.about
    console.rich.print(table)
