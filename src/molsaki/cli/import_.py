"""`molsaki import`: rationales that exist already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molsaki.cli.options import Data, Out, Overwrite, RecipeName, Settings, Tiny, open_run

if TYPE_CHECKING:
    from molsaki.cli.console import Console
    from molsaki.data.mapping import ColumnMap, Columns


def import_rationales(
    recipe: RecipeName,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="JSON lines, CSV or Parquet of any tool (default: PaLM's completions)."),
    ] = None,
    out: Out = None,
    tiny: Tiny = False,
    settings: Settings = None,
    data: Data = None,
    overwrite: Overwrite = False,
    completion: Annotated[
        str | None, typer.Option("--completion", help="The column with the completion (default: completion).")
    ] = None,
    identifier: Annotated[
        str | None, typer.Option("--id", help="The column with the id of the problem (default: id).")
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", help="The column with the question, to match by it instead of the id.")
    ] = None,
    count: Annotated[
        bool, typer.Option("--count", help="Only count PaLM's completions that would be kept, for every split.")
    ] = False,
) -> None:
    """Import rationales from a file and keep those that reach the right answer.

    Columns that no option names are those of the recipe (rationales.columns), or `completion` and `id`.
    """
    from molsaki.cli.console import Console
    from molsaki.distributed import on_main_process
    from molsaki.stages import pipeline

    console = Console()
    options = {"completion": completion, "id": identifier, "question": question}
    given = {name: column for name, column in options.items() if column is not None}
    if {"id", "question"} <= given.keys():
        raise typer.BadParameter("expected one of --id and --question, by which rows are matched; got both")
    if given and (count or file is None):
        raise typer.BadParameter(
            f"expected no column without a FILE, for PaLM's completions; got --{next(iter(given))}"
        )
    columns = _columns({}, given)
    if count:
        from molsaki.stages.check import prepare_recipe
        from molsaki.stages.import_rationales import count_palm

        if file is not None:
            raise typer.BadParameter("expected no FILE with --count, which counts PaLM's completions")
        prepared = prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data)
        _show(console, {split: report.to_dict() for split, report in count_palm(prepared).items()})
        return
    with open_run(recipe, out, tiny, settings, data, overwrite) as workspace:
        console.begin(workspace)
        console.data(on_main_process(lambda: pipeline.load_data(workspace)))
        columns = _columns(workspace.recipe.rationales.columns or {}, given)
        manifest = on_main_process(lambda: pipeline.import_completions(workspace, file, columns))
        _show(console, {"train": manifest})


def _columns(of_recipe: Columns, given: Mapping[str, str]) -> ColumnMap:
    """The columns that options name; the others of the recipe, or `completion` and `id`."""
    from molsaki.data.mapping import completion_columns

    columns = dict(of_recipe or {"completion": "completion", "id": "id"})
    if {"id", "question"} & given.keys():  # rows are matched by this column instead
        columns = {part: column for part, column in columns.items() if part not in ("id", "question", "choices")}
    return completion_columns({**columns, **given})


def _show(console: Console, manifests: Mapping[str, Mapping[str, Any]]) -> None:
    """Print how many rationales of each set were kept, and why others were not: reasons down, sets across."""
    from molsaki.report.tables import Table

    several = len(manifests) > 1
    problems = [manifest["problems"] for manifest in manifests.values()]
    reasons = Counter[str]()
    for manifest in manifests.values():
        reasons.update(manifest["reasons"])
    rows = []
    for reason, total in [*reasons.most_common(), ("all", sum(problems))]:
        counts = [manifest["reasons"].get(reason, 0) for manifest in manifests.values()]
        if reason == "all":
            counts = problems
        ids = [example["id"] for m in manifests.values() for example in m["examples"].get(reason, ())]
        share = f"{100 * total / max(1, sum(problems)):.1f} %"
        rows.append([reason, *map(str, [*counts, *([total] if several else [])]), share, ids[0] if ids else ""])
    head = ["reason", *manifests, *(["all"] if several else []), "share", "example"]
    console.table(Table("imported rationales by reason; right ones are kept", head, rows), numbers=True)
    for name, manifest in manifests.items():
        for note, n in manifest["notes"].items():
            console.detail(f"{name}: {note}: {n}")
