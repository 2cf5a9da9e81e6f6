"""`molsaki doctor`: what a recipe will do, before any hour is spent."""

from __future__ import annotations

import typer

from molsaki.cli.options import Data, RecipeName, Settings, Tiny


def doctor(recipe: RecipeName, tiny: Tiny = False, settings: Settings = None, data: Data = None) -> None:
    """Say before any hour is spent what a recipe will read, skip, store and need; nothing is kept."""
    from molsaki.cli.console import Console
    from molsaki.stages.check import prepare_recipe
    from molsaki.stages.doctor import diagnose

    prepared = prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data)
    console = Console()
    diagnosis = diagnose(prepared, lambda what: typer.echo(what, err=True))
    if not console.diagnosis(diagnosis):
        raise typer.Exit(1)
