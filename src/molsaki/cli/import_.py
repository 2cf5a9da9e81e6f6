"""`molsaki import`: rationales that exist already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molsaki.cli.options import Data, Out, Overwrite, RecipeName, Settings, Tiny, opened


def import_rationales(
    recipe: RecipeName,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="JSON lines, CSV or Parquet of any tool (default: PaLM's)."),
    ] = None,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    overwrite: Overwrite = False,
    completion: Annotated[str, typer.Option("--completion", help="The file's column with what was written.")] = (
        "completion"
    ),
    identifier: Annotated[str, typer.Option("--id", help="Its column with the problem's id.")] = "id",
    question: Annotated[
        str | None, typer.Option("--question", help="Its column with the question, to go by instead of the id.")
    ] = None,
    count: Annotated[
        bool, typer.Option("--count", help="Only count, over every split that PaLM's completions are there for.")
    ] = False,
) -> None:
    """Rationales that exist already, checked like those of a teacher: which are kept, and why others are not."""
    from molsaki.cli.console import Console
    from molsaki.distributed import on_main_process
    from molsaki.stages import pipeline
    from molsaki.stages.import_rationales import completion_columns

    console = Console()
    matched = {"id": identifier} if question is None else {"question": question}
    columns = completion_columns({"completion": completion, **matched})
    if count:
        from molsaki.stages.check import prepare_recipe
        from molsaki.stages.import_rationales import count_palm

        if file is not None:
            raise typer.BadParameter("expected no FILE with --count, which counts PaLM's completions")
        prepared = prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data)
        console.imported({split: report.to_dict() for split, report in count_palm(prepared).items()})
        return
    with opened(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        console.data(on_main_process(lambda: pipeline.load_data(workspace)))
        console.imported({"train": on_main_process(lambda: pipeline.take_over(workspace, file, columns))})
