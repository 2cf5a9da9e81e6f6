"""`molsaki bench`: the time and memory of reading attention, measured by `molsaki_benchmarks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bench(
    lengths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TxB:KEYS]...", help="Tokens x sequences : key tokens, e.g. 2048x1:40."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of each way, in turn; the median is shown.")] = 5,
    ways: Annotated[
        list[str] | None,
        typer.Option("--way", help="Compare only this with plain: stepwise, second-pass or output_attentions."),
    ] = None,
    reading: Annotated[
        bool, typer.Option("--reading", help="Measure the forward pass of `attend`, not a training step.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the numbers to this JSON file.")] = None,
) -> None:
    """Measure the time and memory of reading attention on this machine, as ratios to a step without it."""
    from molsaki.store.whole_files import write_json
    from molsaki_benchmarks.models import Shape
    from molsaki_benchmarks.reading import READING
    from molsaki_benchmarks.runner import run_bench
    from molsaki_benchmarks.training import TRAINING

    benchmark = READING if reading else TRAINING
    shapes = [Shape.parse(text) for text in lengths or benchmark.shapes]
    result = run_bench(benchmark, shapes, repeats, ways, progress=lambda what: typer.echo(what, err=True))
    typer.echo(result.to_markdown(), nl=False)
    if out is not None:
        write_json(out, result.to_dict())
