"""`molsaki doctor`: what a recipe will do, before any hour is spent."""

from __future__ import annotations

import typer

from molsaki.commands.options import Data, RecipeName, Settings, Tiny


def doctor(recipe: RecipeName, tiny: Tiny = False, settings: Settings = None, data: Data = None) -> None:
    """Say before any hour is spent what a recipe will read, skip, store and need; nothing is kept."""
    from molsaki.console import Console
    from molsaki.diagnosis import diagnose
    from molsaki.preparation import prepare_recipe

    prepared = prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data)
    console = Console()
    diagnosis = diagnose(prepared, lambda what: typer.echo(what, err=True))
    if not console.diagnosis(diagnosis):
        raise typer.Exit(1)
