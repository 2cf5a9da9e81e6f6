"""Make the example signals: `python tools/make_example_signals.py FOLDER [--models FOLDER] [--data FOLDER]`.

Qwen2.5-Coder-1.5B's attention on PaLM's right rationales for SVAMP and on 1,000 of Llama 3 70B's for GSM8K. The teacher
is read in `FOLDER/runs` (about two hours on two cores). Each export has all layers in float16; those in `FOLDER/mixed`
have the mixture of the layers. Every export is verified. What is done already is not done again, and an interrupted
reading continues.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from molsaki.cli.app import app
from molsaki.errors import MolsakiError
from molsaki.store.exported_files import FILES, list_files

MAX_BYTES = 10_000_000
"""The exports with all layers are together at most this large."""


@dataclass(frozen=True, slots=True)
class Example:
    """An export of the teacher's attention in a run.

    Attributes:
        name: of the export's folder.
        recipe: of the run.
        settings: changes of the recipe.
        export: options of `molsaki signals export`.
    """

    name: str
    recipe: str
    settings: tuple[str, ...] = ()
    export: tuple[str, ...] = ("--license", "apache-2.0")


EXAMPLES = (
    Example("svamp-palm", "smollm2-svamp"),
    Example(
        "gsm8k-llama",
        "smollm2-gsm8k-llama",
        settings=("data.train.limit=1210",),
        export=("--rows", "1000", "--license", "apache-2.0"),
    ),
)


def commands(example: Example, folder: Path, models: Sequence[str], data: Sequence[str]) -> list[list[str]]:
    """The commands that make an example, without those whose work is done.

    Args:
        example: the example.
        folder: of all examples.
        models: options of every command that needs the teacher.
        data: options of every command that needs the data.
    """
    run = folder / "runs" / example.name
    changes = [part for setting in example.settings for part in ("--set", setting)]
    found = [[stage, example.recipe, "--out", str(run), *changes, *models, *data] for stage in ("generate", "attend")]
    for target, form in ((folder / example.name, ["--half"]), (folder / "mixed" / example.name, ["--half", "--mixed"])):
        if not (target / FILES).is_file():
            export = ["signals", "export", str(run), str(target), "--signal", "steps", *form, *example.export, *models]
            found.append(export)
        found.append(["signals", "verify", str(target)])
    return found


def make(
    folder: Path, examples: Sequence[Example] = EXAMPLES, models: Sequence[str] = (), data: Sequence[str] = ()
) -> int:
    """Make all examples, and return the size in bytes of the exports with all layers; the arguments of `commands`."""
    for example in examples:
        for command in commands(example, folder, models, data):
            print(f"$ molsaki {shlex.join(command)}", flush=True)
            app(command, standalone_mode=False)
    return sum(sum(list_files(folder / example.name)[0].values()) for example in examples)


def main() -> None:
    """Make the examples and check their size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the exports and the runs")
    parser.add_argument("--models", help="folder of model directories, instead of the hub")
    parser.add_argument("--data", help="folder that the recipes' data paths start from")
    options = parser.parse_args()
    models, data = (
        [] if value is None else [f"--{name}", value]
        for name, value in (("models", options.models), ("data", options.data))
    )
    try:
        size = make(options.folder, EXAMPLES, models, data)
    except MolsakiError as error:
        raise SystemExit(str(error)) from error
    print(f"the exports with all layers: {size / 1e6:.2f} MB")
    if size > MAX_BYTES:
        raise SystemExit(f"Expected at most {MAX_BYTES / 1e6:.0f} MB. Export fewer rows.")


if __name__ == "__main__":
    main()
