"""`molsaki look`: the attention of any model on one question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from molsaki.cli.console import Console
    from molsaki.report.look import LookResult

STEP_WIDTH = 32
MAX_KEY_CHARACTERS = 12
BORDER = 3
"""Columns of a terminal for the text of a step, for a key, and around each cell."""


def look(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model directory, a hub name, pocket:teacher or pocket:student.")
    ],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question, in quotes.")],
    rationale: Annotated[
        str | None, typer.Option(help="Read this rationale instead of letting the model write one.")
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="A key word; may be repeated (default: all numbers are keys).")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="A template with {question} and {rationale} (default: the run's, a chat turn, or a teacher's)."
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum number of tokens of the rationale.")] = 256,
    page: Annotated[Path | None, typer.Option("--page", "-o", help="Also write an HTML page to this file.")] = None,
) -> None:
    """Ask a model one question, and show its attention as a table and, with --page, as an HTML page."""
    from molsaki.cli.console import Console
    from molsaki.report.look import look_at

    _show(Console(), look_at(model, question, rationale, key, prompt, max_new_tokens, page))


def _show(console: Console, result: LookResult) -> None:
    console.line(f"{result.model} with the prompt {result.prompt!r}")
    console.line(f"rationale: {result.look.text.rationale}")
    if result.answer:
        console.line(f"answer: {result.answer}")
    for keys in _split_keys(result, console.rich.width):
        console.rich.print(_table(result, keys))
    if result.page is not None:
        console.line(f"page: {result.page}")


def _key_name(result: LookResult, key: int) -> str:
    from molsaki.cli.terminal import visible

    text = result.look.text
    name = visible(result.look.spans.keys[key].of(text.question, text.rationale))
    return name if len(name) <= MAX_KEY_CHARACTERS else name[: MAX_KEY_CHARACTERS - 1] + "…"


def _split_keys(result: LookResult, width: int) -> list[list[int]]:
    """The keys of each table: as many as fit into the terminal, so that no number is cut off."""
    free = width - 1 - STEP_WIDTH - len("all keys") - 2 * BORDER
    tables: list[list[int]] = [[]]
    left = free
    for key in range(result.look.spans.n_keys):
        needed = max(len(_key_name(result, key)), len("100.0")) + BORDER
        if needed > left and tables[-1]:
            tables.append([])
            left = free
        tables[-1].append(key)
        left -= needed
    return tables


def _table(result: LookResult, keys: Sequence[int]) -> Table:
    """Steps down, keys across."""
    from rich.table import Table
    from rich.text import Text

    from molsaki.cli.terminal import visible

    spans, text = result.look.spans, result.look.text
    title = "% of a token's attention on each key, mean of layers; the most-attended key of a step is underlined"
    table = Table(title=title, title_justify="left")
    table.add_column("step", max_width=STEP_WIDTH, overflow="fold")
    for key in keys:
        table.add_column(Text(_key_name(result, key)), justify="right")
    table.add_column("all keys", justify="right")
    for span, shares, facts in zip(spans.steps, result.shares, result.facts, strict=True):
        largest = max((share for share in shares if share is not None), default=0.0) or 1.0
        top = None if facts is None else facts.top
        cells = [_cell(shares[key], largest, underline=key == top) for key in keys]
        total = sum(share for share in shares if share is not None)
        table.add_row(Text(visible(span.of(text.question, text.rationale))), *cells, Text(f"{100 * total:.1f}"))
    return table


def _cell(share: float | None, largest: float, *, underline: bool) -> Text:
    """A share in percent, the darker the larger it is compared with the largest of its step."""
    from rich.text import Text

    if share is None:
        return Text("·")
    strength = share / largest
    red, green, blue = (round(255 + (darkest - 255) * strength) for darkest in (10, 88, 168))
    style = f"{'white' if strength > 0.5 else 'black'} on #{red:02x}{green:02x}{blue:02x}"
    return Text(f"{100 * share:.1f}", style=f"underline {style}" if underline else style)
