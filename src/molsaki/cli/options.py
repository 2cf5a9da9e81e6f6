"""What commands share: their options, and the run that they open, check and lock."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from molsaki.stages.workspace import Workspace

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a YAML file.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The run directory (default: runs/NAME, or runs/NAME-tiny).")
]
Tiny = Annotated[bool, typer.Option("--tiny", help="Use small random models of the same architectures, and few steps.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. training.steps=200.")
]
Data = Annotated[
    str | None,
    typer.Option("--data", help="The folder of relative data paths (default: data.root, MOLSAKI_DATA or ./data)."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete the run in the directory and start over.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Students at a time (default: one per GPU, or what cores and memory allow)."),
]

RemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the run's models, if its recipe does.")
]
Models = Annotated[
    Path | None,
    typer.Option(
        "--models",
        exists=True,
        file_okay=False,
        help="Folder of model directories, where the last part of a model's name is looked for before the hub.",
    ),
]


def with_models(command: Callable[..., None]) -> Callable[..., None]:
    """A command that loads models, with the option `--models`."""

    @functools.wraps(command)
    def wrapped(*, models: Path | None, **options: Any) -> None:
        from molsaki.models.folder import models_in

        with models_in(models):
            command(**options)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("models", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Models)
    wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), option]
    )
    wrapped.__annotations__ = {**command.__annotations__, "models": Models}
    return wrapped


@contextmanager
def open_run(
    recipe: str,
    out: Path | None,
    tiny: bool,
    settings: list[str] | None,
    data: str | None,
    overwrite: bool = False,
    *,
    to_read: bool = False,
) -> Iterator[Workspace]:
    """The run of a recipe: its directory is checked against the recipe, and locked while a command works on it.

    With `to_read`, the command only reads it, and it may be on a read-only file system.

    If several processes work on one job, process 0 checks and locks the directory, and the others open it.
    """
    from molsaki.distributed import close_group, init_group, is_main, on_main_process
    from molsaki.stages.check import open_workspace, prepare_recipe
    from molsaki.stages.workspace import Workspace

    opened: list[Workspace] = []
    with exit_on_interrupt(), ExitStack() as locks:

        def open_and_lock() -> str:
            prepared = prepare_recipe(recipe, tiny=tiny, settings=settings or (), data=data)
            folder = out or Path("runs") / (f"{prepared.name}-tiny" if tiny else prepared.name)
            opened.append(open_workspace(prepared, folder, overwrite=overwrite))
            locks.enter_context(opened[0].run.lock(to_read=to_read))
            return str(folder)

        init_group()
        folder = on_main_process(open_and_lock)
        yield opened[0] if is_main() else Workspace.open(Path(folder))
    close_group()


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Exit with a message instead of a traceback on Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.secho("molsaki: interrupted. Run the same command again to continue.", fg="yellow", err=True)
        raise typer.Exit(INTERRUPTED) from error
