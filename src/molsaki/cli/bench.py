"""`molsaki bench`: the cost of reading attention on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def bench(
    lengths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TxB:KEYS]...", help="Tokens x sequences : key tokens, e.g. 2048x1:40."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of each way, alternating; the median is shown.")] = 5,
    ways: Annotated[
        list[str] | None,
        typer.Option("--way", help="Compare only this way with plain: stepwise, second-pass or output_attentions."),
    ] = None,
    reading: Annotated[
        bool,
        typer.Option("--reading", help="Measure the attend stage instead of a training step."),
    ] = False,
    precision: Annotated[
        Literal["float32", "bf16"], typer.Option(help="Of the arithmetic; a training step in bf16 is mixed precision.")
    ] = "float32",
    layers: Annotated[int, typer.Option(min=1, help="Layers of the model.")] = 8,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the figures as JSON.")] = None,
) -> None:
    """Measure the cost of reading attention on this machine, as ratios to a step without it."""
    from molsaki.store.whole_files import write_json
    from molsaki_benchmarks.models import Conditions, ModelSize, Shape
    from molsaki_benchmarks.reading import READING
    from molsaki_benchmarks.runner import run_bench
    from molsaki_benchmarks.training import TRAINING

    kind = READING if reading else TRAINING
    shapes = [Shape.parse(text) for text in lengths or kind.shapes]
    conditions = Conditions(precision=precision)
    model = ModelSize(layers=layers)
    result = run_bench(kind, shapes, repeats, ways, model, conditions, lambda text: typer.echo(text, err=True))
    typer.echo(result.to_markdown(), nl=False)
    if out is not None:
        write_json(out, result.to_dict())
