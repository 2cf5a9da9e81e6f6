"""`molsaki signals`: a teacher's signals as a folder or a data set of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molsaki.cli.options import Models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molsaki.cli.console import Console

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the exported signals.")]
HubName = Annotated[
    str, typer.Argument(metavar="OWNER/NAME", help="The data set on the hub; pull also takes owner/name@revision.")
]


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory whose teacher was read.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A missing or empty folder.")],
    signal: Annotated[
        list[str] | None, typer.Option("--signal", help="A signal, e.g. steps; may be repeated (default: all).")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="At most this many rows, the first ones.")] = None,
    hashes: Annotated[bool, typer.Option("--hashes", help="Leave the texts out, and keep their hashes.")] = False,
    mixed: Annotated[bool, typer.Option("--mixed", help="Store the mixture of the teacher's layers (Eq. 4).")] = False,
    half: Annotated[bool, typer.Option("--half", help="Store attention in float16.")] = False,
    card_license: Annotated[
        str, typer.Option("--license", help="The license on the card, as the hub names it.")
    ] = "unknown",
    models: Models = None,
) -> None:
    """Export a run's signals to a self-contained folder. The run is not changed."""
    from molsaki.cli.console import Console
    from molsaki.counts import plural
    from molsaki.models.folder import models_in
    from molsaki.stages.export_signals import ExportForm, export_signals

    form = ExportForm(tuple(signal or ()), rows, hashes, mixed, half, card_license)
    with models_in(models):
        report = export_signals(run, folder, form)
    console, kept = Console(), report.rows.kept
    size = f"{report.bytes / 1e6:.2f} MB, {report.bytes / kept:.0f} bytes a row"
    console.line(f"{', '.join(report.signals)}: {plural(kept, 'row')}, {size}, {report.seconds:.1f} s: {folder}")
    for name, (largest, mean) in report.errors.items():
        against = "the mixture of the run's rows" if mixed else "the teacher's attention in float32"
        console.detail(f"{name}: error at most {largest:.2g}, {mean:.2g} on average, against {against}")
    _show_skipped(console, report.rows.skipped)
    if form.license == ExportForm().license:
        console.detail("its card states no license; name one with --license before you share it")


def verify(
    folder: Folder,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="The teacher's directory or name: also check every row's tokens.")
    ] = None,
) -> None:
    """Open every file of exported signals, and check every row and number."""
    from molsaki.cli.console import Console
    from molsaki.counts import plural
    from molsaki.models.folder import model_location
    from molsaki.models.load import tokenizer_at
    from molsaki.stages.verify_signals import verify_signals

    loaded = None if tokenizer is None else tokenizer_at(model_location(tokenizer))
    found, console = verify_signals(folder, loaded), Console()
    console.line(f"{folder}: {plural(found.files, 'file')}, {plural(found.bytes, 'byte')}")
    for name, report in found.rows.items():
        console.line(f"{name}: {report.kept} of {plural(report.read, 'row')} can be used")
        _show_skipped(console, report.skipped)
    problems = [*found.problems, *(problem for store in found.stores.values() for problem in store.problems)]
    for problem in problems:
        console.detail(f"- {problem}")
    console.line("everything is as it was exported" if found.ok else "not everything can be used")
    if not found.ok:
        raise typer.Exit(1)


def push(
    folder: Folder,
    name: HubName,
    private: Annotated[bool, typer.Option("--private", help="Create a private data set.")] = False,
) -> None:
    """Upload exported signals to the Hugging Face hub, after every file was checked."""
    from molsaki.cli.console import Console
    from molsaki.stages import signals_hub

    Console().line(signals_hub.push(folder, name, private=private))


def pull(name: HubName, folder: Folder) -> None:
    """Download exported signals from the Hugging Face hub, and check every file."""
    from molsaki.cli.console import Console
    from molsaki.stages import signals_hub

    Console().line(f"{name} at {signals_hub.pull(name, folder)}: {folder}")


def _show_skipped(console: Console, skipped: Mapping[str, int]) -> None:
    for reason, count in skipped.items():
        console.detail(f"left out: {reason}: {count}")
