"""`molsaki bench`: what reading attention costs here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from molsaki.bench import BenchResult
    from molsaki.bench_reading import ReadingResult


def bench(
    lengths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TxB:KEYS]...", help="Tokens x sequences : key tokens, e.g. 2048x1:40."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Alternating repeats of each way; the median is shown.")] = 5,
    ways: Annotated[
        list[str] | None,
        typer.Option("--way", help="Only this beside plain: stepwise, second-pass or output_attentions."),
    ] = None,
    reading: Annotated[
        bool, typer.Option("--reading", help="Measure what `attend` does, beside a forward pass, and no training step.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the figures here, as JSON.")] = None,
) -> None:
    """Measure what reading attention costs on this machine, as ratios to a step without it."""
    from molsaki import bench, bench_reading
    from molsaki.artefacts import write_json

    default = bench_reading.DEFAULT_SHAPES if reading else ("256x8:24", "2048x1:40", "4096x1:60")
    shapes = [bench.Shape.parse(text) for text in lengths or default]

    def say(what: str) -> None:
        typer.echo(what, err=True)

    result: BenchResult | ReadingResult
    if reading:
        chosen = ways or tuple(bench_reading.WAYS)
        result = bench_reading.run_reading_bench(shapes, repeats=repeats, ways=chosen, progress=say)
    else:
        result = bench.run_bench(shapes, repeats=repeats, ways=ways or tuple(bench.WAYS), progress=say)
    typer.echo(result.to_markdown(), nl=False)
    if out is not None:
        write_json(out, result.to_dict())
