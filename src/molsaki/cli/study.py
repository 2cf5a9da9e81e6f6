"""`molsaki study`: compare methods, settings, data sizes and seeds in tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molsaki.cli.options import Data, Tiny, Workers, exit_on_interrupt

if TYPE_CHECKING:
    from molsaki.cli.console import Console
    from molsaki.stages.workspace import Workspace
    from molsaki.study.files import Study
    from molsaki.study.tuning import Choice

RECIPE_PREFIX = "recipe."
"""The prefix of settings of the recipes, which are not settings of the study."""


def study(
    name: Annotated[
        str | None, typer.Argument(metavar="STUDY", help="A shipped study's name or a YAML file.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The study's directory (default: runs/NAME, or runs/NAME-tiny).")
    ] = None,
    tiny: Tiny = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a value, e.g. seeds=[1]; in all recipes with recipe.KEY=VALUE."
        ),
    ] = None,
    data: Data = None,
    workers: Workers = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="I/N", help="Train only this share of the students, such as 2/4; no tables."),
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only load problems and get rationales and attention; no students.")
    ] = False,
    tables: Annotated[bool, typer.Option("--tables", help="Train nothing; only write the tables.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the studies that ship with molsaki.")] = False,
) -> None:
    """Train and test the missing students of a study, and print its tables. Continues where it stopped."""
    from molsaki.cli.console import Console
    from molsaki.study.files import read_study, study_names
    from molsaki.study.fresh import require_fresh_seeds
    from molsaki.study.running import part_of
    from molsaki.study.tuning import check_trials, confirming_study

    if listed:
        for shipped in study_names():
            typer.echo(f"{shipped:24} {read_study(shipped)[0].description}")
        return
    if name is None:
        raise typer.BadParameter(f"expected a study: one of {', '.join(study_names())}, or a YAML file")
    if sum((part is not None, prepare, tables)) > 1:
        raise typer.BadParameter("expected one of --part, --prepare and --tables")
    part_of((), part)  # refuses an invalid part before anything is written
    given = settings or []
    recipe_settings = [item.removeprefix(RECIPE_PREFIX) for item in given if item.startswith(RECIPE_PREFIX)]
    loaded, file = read_study(name, [item for item in given if not item.startswith(RECIPE_PREFIX)])
    require_fresh_seeds(loaded, file)
    folder = out or Path("runs") / (f"{loaded.name}-tiny" if tiny else loaded.name)
    call = Call(Console(), file, folder, {"tiny": tiny, "settings": recipe_settings, "data": data}, workers, part)
    with exit_on_interrupt():
        if loaded.tune is None:
            call.run(loaded, loaded, (), train=not tables, prepare=prepare)
            return
        check_trials(loaded, file, **call.options)
        choices = call.tune(loaded, train=not tables, prepare=prepare)
        if choices is not None:
            call.run(confirming_study(loaded), loaded, choices, train=not tables, prepare=prepare)
        elif prepare or tables:  # of what the choice does not change
            call.run(loaded, loaded, (), train=not tables, prepare=prepare)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the command.

    Attributes:
        console: what it prints to.
        file: the study's file.
        folder: the study's directory.
        options: arguments of `study_recipe`.
        workers: number of students at a time.
        part: the share of the students to train.
    """

    console: Console
    file: Path
    folder: Path
    options: dict[str, Any]
    workers: int | None
    part: str | None

    def tune(self, study: Study, *, train: bool, prepare: bool) -> list[Choice] | None:
        """Train what is missing of the students to choose settings by, and choose; None while some are missing."""
        from molsaki.study.correctness import read_answers
        from molsaki.study.files import TRIALS
        from molsaki.study.running import open_runs
        from molsaki.study.tuning import choose, require_equal_steps, tuning_study

        trials = tuning_study(study)
        with open_runs(trials, self.file, self.folder / TRIALS, **self.options) as runs:
            for name, workspace in runs.items():
                require_equal_steps(study, name, workspace.recipe)
            self._announce("tuning of ", trials, runs)
            if train:
                self._train(trials, runs, prepare)
            choices = choose(study, [read_answers(name, one, trials.cells) for name, one in runs.items()])
        if choices is None and not prepare:
            self.console.line("settings are not chosen yet, since students to choose by are missing")
        return choices

    def run(self, study: Study, written: Study, choices: Sequence[Choice], *, train: bool, prepare: bool) -> None:
        """Train the missing students of a study, and print its tables.

        Args:
            study: with the entries of the methods that were tuned.
            written: the study as its file has it.
            choices: the settings that were chosen, for each recipe.
            train: train what is missing.
            prepare: load problems and get rationales and attention; no students and no tables.
        """
        from molsaki.study.files import TRIALS
        from molsaki.study.fresh import require_fresh_problems
        from molsaki.study.running import open_runs
        from molsaki.study.tuning import chosen_settings

        tuned = {choice.recipe: chosen_settings(written, choice.chosen) for choice in choices}
        with open_runs(study, self.file, self.folder, tuned=tuned, **self.options) as runs:
            self._announce("", study, runs)
            if train:
                check = partial(require_fresh_problems, written, self.file, runs, **self.options)
                trials = None if written.tune is None else self.folder / TRIALS
                self._train(study, runs, prepare, check, trials)
            if self.part is None and not prepare:
                self._write_tables(study, runs, choices)

    def _announce(self, what: str, study: Study, runs: dict[str, Workspace]) -> None:
        from molsaki.counts import plural
        from molsaki.stages.check import precision_choice

        students = len(study.cells) * sum(len(workspace.recipe.seeds) for workspace in runs.values())
        self.console.detail(f"{what}study {study.name}: {plural(students, 'student')} in {plural(len(runs), 'run')}")
        choices = [choice for workspace in runs.values() if (choice := precision_choice(workspace))]
        for sentence in dict.fromkeys(choice.describe() for choice in choices):
            self.console.detail(sentence)

    def _train(
        self,
        study: Study,
        runs: dict[str, Workspace],
        prepare: bool,
        check: Callable[[], None] = lambda: None,
        trials: Path | None = None,
    ) -> None:
        """Train and test the students; `check` is called when the problems are loaded."""
        from molsaki.stages.students import run_jobs
        from molsaki.study.running import all_jobs, part_of, prepare_runs

        prepare_runs(runs, self.console.detail, self.console.progress, trials)
        check()
        if prepare:
            return
        jobs = part_of(all_jobs(study, runs), self.part, per_seed=len(runs) * len(study.cells))
        with self.console.students(len(jobs), many_runs=len(runs) > 1) as (on_done, print_line):
            run_jobs(jobs, workers=self.workers, on_done=on_done, print_line=print_line)
        if self.part is not None:
            self.console.detail("this part is done; merge the directories of all parts and run the study for tables")

    def _write_tables(self, study: Study, runs: dict[str, Workspace], choices: Sequence[Choice]) -> None:
        from molsaki.counts import plural
        from molsaki.stages.pipeline import results
        from molsaki.stages.workspace import Workspace
        from molsaki.study.writing import write_study

        for workspace in runs.values():
            # The results of a run contain all its students, also those that this study does not name.
            results(Workspace.open(workspace.run.folder))
        written = write_study(study, runs, self.folder, self.console.detail, choices)
        for table in written.tables:
            self.console.table(table)
        if written.missing:
            self.console.line(f"{plural(written.missing, 'student')} missing; the tables show the others")
        for path in written.files:
            self.console.line(f"written: {path}")
