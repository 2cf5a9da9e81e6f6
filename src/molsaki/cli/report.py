"""`molsaki report`: a run as one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory; the run need not have finished.")],
    rows: Annotated[
        int, typer.Option(min=0, help="Problems of each test set to read attention on; 0 loads no model.")
    ] = 60,
    problems: Annotated[int, typer.Option(min=1, help="The most problems on the page.")] = 10_000,
) -> None:
    """A run to report.html, which opens from disk and needs no network, and its figures as PNG and SVG."""
    from molsaki.cli.console import Console
    from molsaki.report.build import write_report
    from molsaki.stages.workspace import Workspace

    console = Console()
    console.report(write_report(Workspace.open(run), rows=rows, problems=problems, say=console.say))
