"""What commands share: their options, and the run that they open, check and lock."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from types import TracebackType

    from molsaki.stages.workspace import Workspace

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a YAML file.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="The run's directory (default: runs/NAME, or runs/NAME-tiny).")
]
Tiny = Annotated[bool, typer.Option("--tiny", help="Small random models of the same architectures; few steps.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value, e.g. training.steps=200.")
]
Data = Annotated[str | None, typer.Option("--data", help="Folder that relative data paths start from.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete the run that is in the directory, start over.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Students at a time (default: one a GPU, or one a core).")
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


def opened(
    recipe: str,
    out: Path | None,
    tiny: bool,
    settings: list[str] | None,
    data: str | None,
    overwrite: bool = False,
) -> OpenedRun:
    """Open a recipe's run for as long as a command works on it."""
    return OpenedRun(recipe, out, tiny, settings or [], data, overwrite)


class OpenedRun:
    """A run's directory, opened, checked against its recipe and locked for as long as the command runs.

    Where several processes do one job, process 0 does all of that, and the others open what it has opened.
    """

    def __init__(
        self, recipe: str, out: Path | None, tiny: bool, settings: list[str], data: str | None, overwrite: bool
    ) -> None:
        self.recipe, self.out, self.tiny = recipe, out, tiny
        self.settings, self.data, self.overwrite = settings, data, overwrite
        self.held = ExitStack()

    def __enter__(self) -> Workspace:
        from molsaki.distributed import init_group, is_main, on_main_process
        from molsaki.stages.workspace import Workspace

        init_group()
        opened: list[Workspace] = []
        folder = on_main_process(lambda: self._open(opened))
        return opened[0] if is_main() else Workspace.open(Path(folder))

    def _open(self, opened: list[Workspace]) -> str:
        from molsaki.stages.check import open_workspace, prepare_recipe

        prepared = prepare_recipe(self.recipe, tiny=self.tiny, settings=self.settings, data=self.data)
        folder = self.out or Path("runs") / (f"{prepared.name}-tiny" if self.tiny else prepared.name)
        workspace = open_workspace(prepared, folder, overwrite=self.overwrite)
        self.held.enter_context(workspace.run.lock())
        opened.append(workspace)
        return str(folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from molsaki.distributed import close_group

        self.held.__exit__(kind, error, trace)
        if isinstance(error, KeyboardInterrupt):
            typer.secho("molsaki: interrupted; the same command goes on from here", fg="yellow", err=True)
            raise typer.Exit(INTERRUPTED) from error
        if error is None:
            close_group()
