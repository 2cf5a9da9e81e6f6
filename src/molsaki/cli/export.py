"""`molsaki export`: a student as a model directory of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molsaki.cli.options import RemoteCode


def export(
    student: Annotated[
        Path, typer.Argument(metavar="STUDENT", help="A student's directory, such as runs/NAME/students/molsaki-1.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The directory to write; must not exist.")],
    license_name: Annotated[
        str | None, typer.Option("--license", help="The license for the model card, e.g. apache-2.0.")
    ] = None,
    remote_code: RemoteCode = False,
) -> None:
    """Write a student as a whole model with a model card; an adapter is merged into its base."""
    from molsaki.cli.console import Console
    from molsaki.cli.options import exit_on_interrupt
    from molsaki.stages.export import export_student

    console = Console()
    with exit_on_interrupt():
        console.line(f"exported: {export_student(student, out, license_name=license_name, remote_code=remote_code)}")
    if license_name is None:
        console.detail("its card states no license; name one with --license before you give the model away")
