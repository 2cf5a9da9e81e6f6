"""`molsaki bench`: the cost of reading attention on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def bench(
    lengths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TxB:KEYS]...", help="Tokens x sequences : key tokens, e.g. 2048x1:40."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of each way, alternating; the median is shown.")] = 5,
    ways: Annotated[
        list[str] | None,
        typer.Option(
            "--way",
            help="Compare only this way with plain: stepwise, second-pass or output_attentions; on GPUs also flex, and "
            "stepwise-flash, which runs plain and stepwise on FlashAttention.",
        ),
    ] = None,
    reading: Annotated[
        bool,
        typer.Option("--reading", help="Measure the attend stage instead of a training step."),
    ] = False,
    precision: Annotated[
        Literal["float32", "bf16", "bf16-weights"],
        typer.Option(help="Of the arithmetic; a training step in bf16 is mixed precision."),
    ] = "float32",
    model: Annotated[
        Literal["small", "llama-1b", "qwen2-1.5b"], typer.Option(help="Shape of the model; its weights are random.")
    ] = "small",
    layers: Annotated[int | None, typer.Option(min=1, help="Layers of the model, if not all of the shape.")] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Device of model and batch.")] = "cpu",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute layers again in the backward pass, in every way.")
    ] = False,
    longest: Annotated[
        int | None,
        typer.Option(min=1, help="Instead of times, find the longest text that fits on a GPU, up to this many tokens."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write the figures as JSON, after each shape.")
    ] = None,
) -> None:
    """Measure the cost of reading attention on this machine, as ratios to a step without it."""
    from molsaki.store.whole_files import write_json
    from molsaki_benchmarks.models import MODELS, Conditions, Shape
    from molsaki_benchmarks.reading import READING
    from molsaki_benchmarks.runner import run_bench, run_longest
    from molsaki_benchmarks.training import TRAINING

    kind = READING if reading else TRAINING
    shapes = [Shape.parse(text) for text in lengths or kind.shapes]
    conditions = Conditions(precision=precision, device=device, checkpointing=checkpointing)
    size = MODELS[model] if layers is None else replace(MODELS[model], layers=layers)

    def save(figures: dict[str, Any]) -> None:
        if out is not None:
            write_json(out, figures)

    def progress(text: str) -> None:
        typer.echo(text, err=True)

    if longest is not None:
        for found in run_longest(kind, shapes[0], longest, ways, size, conditions, progress, save):
            typer.echo(str(found))
        return
    run = run_bench(kind, shapes, repeats, ways, size, conditions, progress, lambda result: save(result.to_dict()))
    typer.echo(run.to_markdown(), nl=False)
