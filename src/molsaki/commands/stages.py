"""`molsaki run`, and each of its stages as a command of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from molsaki.commands.options import Data, Out, Overwrite, RecipeName, Settings, Tiny, Workers, opened


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
    from molsaki.processes import only_main

    console = Console()
    with opened(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        console.data(only_main(lambda: pipeline.load_data(workspace)))
        with console.progress("rationales") as progress:
            manifest = only_main(lambda: pipeline.generate(workspace, progress))
        console.rationales(manifest)
        if pipeline.needs_attention(workspace):
            with console.progress("attention") as progress:
                manifest = pipeline.attend(workspace, progress)
            console.attention(manifest)
        with console.students(workspace) as each:
            pipeline.students(workspace, workers=workers, each=each)
        only_main(lambda: console.results(workspace, pipeline.results(workspace)))


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
    from molsaki.processes import only_main

    console = Console()
    with opened(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        console.data(only_main(lambda: pipeline.load_data(workspace)))
        with console.progress("rationales") as progress:
            manifest = only_main(lambda: pipeline.generate(workspace, progress))
        console.rationales(manifest)


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
    """Rationales and a teacher to stepwise attention, layer by layer."""
    from molsaki import pipeline
    from molsaki.attending import check_attention
    from molsaki.console import Console

    console = Console()
    with opened(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        if check:
            if not console.attention_check(check_attention(workspace)):
                raise typer.Exit(1)
            return
        with console.progress("attention") as progress:
            manifest = pipeline.attend(workspace, progress)
        console.attention(manifest)


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
    from molsaki import pipeline
    from molsaki.console import Console
    from molsaki.processes import only_main

    console = Console()
    with opened(recipe, out, tiny, settings, data) as workspace:
        console.begin(workspace)
        with console.students(workspace) as each:
            pipeline.students(workspace, train=False, workers=workers, each=each)
        only_main(lambda: console.results(workspace, pipeline.results(workspace)))
