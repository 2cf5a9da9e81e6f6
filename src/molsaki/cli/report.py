"""`molsaki report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molsaki.cli.options import RemoteCode


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a run, which may be unfinished.")],
    rows: Annotated[
        int, typer.Option(min=0, help="Problems of each test set to read attention on; 0 loads no model.")
    ] = 60,
    problems: Annotated[int, typer.Option(min=1, help="Maximum number of problems on the page.")] = 10_000,
    remote_code: RemoteCode = False,
) -> None:
    """Write a run as report.html, one page that needs no network, and its figures as PNG and SVG."""
    from molsaki.cli.console import Console
    from molsaki.report.build import write_report
    from molsaki.stages.workspace import Workspace

    console = Console()
    workspace = Workspace.open(run)
    if rows and not remote_code:
        workspace.require_no_remote_code()
    written = write_report(workspace, rows=rows, problems=problems, print_line=console.detail)
    for sentence in written.shift_sentences:
        console.line(sentence)
    for table in written.shift:
        console.table(table)
    for note in written.notes:
        console.detail(note)
    console.report(written)
