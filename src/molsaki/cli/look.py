"""`molsaki look`: one question, any model: what it writes, and where it looks while it writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def look(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model directory, a hub name, pocket:teacher or pocket:student.")
    ],
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    rationale: Annotated[
        str | None, typer.Option(help="Read this rationale instead of letting the model write one.")
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="A key word; may be repeated (default: all numbers are keys).")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="A template with {question} and {rationale} (default: the run's, or that of a teacher)."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The bound on the rationale.")] = 256,
    page: Annotated[Path | None, typer.Option("--page", "-o", help="Also write a page to look at here.")] = None,
) -> None:
    """Ask a model one question and show where it looks, as a table and, with --page, as a page."""
    from molsaki.cli.console import Console
    from molsaki.report.look import look_at

    Console().look(look_at(model, question, rationale, key, prompt, max_new_tokens, page))
