"""`molsaki recipes`: list, show and check recipes."""

from __future__ import annotations

import typer

from molsaki.cli.options import Data, RecipeName, Settings, Tiny


def list_recipes() -> None:
    """List the recipes that ship with molsaki."""
    from molsaki.config.load import read_recipe, recipe_names

    for name in recipe_names():
        typer.echo(f"{name:26} {' '.join(str(read_recipe(name).get('description', '')).split())}")


def show_recipe(recipe: RecipeName) -> None:
    """Print the file of a recipe."""
    from molsaki.cli.terminal import visible
    from molsaki.config.load import find_recipe, read_recipe

    read_recipe(recipe)
    typer.echo(visible(find_recipe(recipe).read_text(encoding="utf-8")), nl=False)


def check_recipe(recipe: RecipeName, tiny: Tiny = False, settings: Settings = None, data: Data = None) -> None:
    """Check the keys, values, files and models of a recipe, and print it with all defaults."""
    from molsaki.cli.terminal import visible
    from molsaki.stages.check import prepare_recipe
    from molsaki.stages.models_first import require_models
    from molsaki.store.strict_yaml import dump_yaml

    prepared = prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data)
    for note in require_models(prepared):
        typer.echo(f"warning: {visible(note)}", err=True)
    text = dump_yaml(prepared.model_dump(mode="json"), width=80)
    typer.echo(visible(text), nl=False)
