"""The terminal output of a run: the counts of each stage, progress, and the tables of results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from molsaki.cli.terminal import escape
from molsaki.counts import format_attention_error, format_counts, format_reading, plural
from molsaki.distributed import is_main
from molsaki.models.progress import ProgressLines

if TYPE_CHECKING:
    from molsaki.report.build import Report
    from molsaki.report.tables import Table as TextTable
    from molsaki.stages.score_model import ModelScore
    from molsaki.stages.students import JobResult
    from molsaki.stages.workspace import Workspace


FILE_WIDTH = 1000
"""Columns of a file or pipe: more than any table has."""


class Console:
    """Prints to the terminal. All text from data and models is escaped.

    Only process 0 of a job prints. Tables are folded to the width of a terminal. In a file or a pipe they have their
    full width, unless the environment variable `COLUMNS` sets one.
    """

    def __init__(self, target: rich.console.Console | None = None) -> None:
        self.rich = target or rich.console.Console(highlight=False, emoji=False, quiet=not is_main())
        if target is None and not self.rich.is_terminal and not os.environ.get("COLUMNS", "").isdecimal():
            self.rich.width = FILE_WIDTH

    def line(self, text: str) -> None:
        """Print a line of text, escaped."""
        self.rich.print(escape(text), soft_wrap=True)

    def detail(self, text: str) -> None:
        """Print what is being done, indented."""
        self.line(f"  {text}")

    def table(self, table: TextTable, *, numbers: bool = False) -> None:
        """Print a table.

        Args:
            table: the table.
            numbers: whether to align all columns but the first to the right.
        """
        shown = Table(title=escape(table.caption), title_justify="left")
        for i, name in enumerate(table.head):
            shown.add_column(escape(name), overflow="fold", justify="right" if numbers and i else "left")
        for row in table.rows:
            shown.add_row(*map(escape, row))
        self.rich.print(shown)

    # ---- stages ----

    def begin(self, workspace: Workspace) -> None:
        """Print the name of the recipe, its methods and the run directory."""
        from molsaki.stages.check import precision_choice

        recipe = workspace.recipe
        methods = ", ".join(method.label for method in recipe.methods)
        self.rich.print(f"[bold]{escape(recipe.name)}[/]: {escape(methods)} × {plural(len(recipe.seeds), 'seed')}")
        self.line(f"run directory: {workspace.run.folder}")
        choice = precision_choice(workspace)
        if choice is not None:
            self.line(choice.describe())
        if recipe.tiny:
            self.rich.print("[yellow]--tiny: small random models. This tests that the recipe runs, not a method.[/]")

    def data(self, manifest: Mapping[str, Any]) -> None:
        """Print how many problems of each set are used, and why others are not."""
        table = Table("set", "rows", "used", "left out, and notes", title="problems", title_justify="left")
        for name, report in manifest.items():
            table.add_row(escape(name), str(report["read"]), str(report["kept"]), escape(format_counts(report)))
        self.rich.print(table)

    def rationales(self, manifest: Mapping[str, Any]) -> None:
        """Print how many rationales were kept, why others were not, and how many tokens they took."""
        before = f" ({manifest['done_before']} from earlier runs)" if manifest["done_before"] else ""
        reasons = ", ".join(f"{reason}: {n}" for reason, n in manifest["reasons"].items())
        self.line(f"rationales: {manifest['kept']} of {manifest['problems']} kept{before}; {reasons}")
        for note, n in manifest["notes"].items():
            if n:
                self.detail(f"{note}: {n}")
        if manifest["tokens"]:
            cost = f", cost {manifest['cost']:.4f}" if "cost" in manifest else ""
            self.detail(f"tokens: {manifest['tokens']['sent']} sent, {manifest['tokens']['written']} written{cost}")

    def signals(self, read: Mapping[str, Mapping[str, Any]]) -> None:
        """Print for each signal on how many rationales the teacher was read, and why not on others."""
        for entry in read.values():
            row = f", {entry['row']}"
            self.line(f"{entry['title']}: {format_reading(entry, row)}")
            if entry.get("layers_left_out"):
                self.detail(f"layers without attention, not read: {', '.join(entry['layers_left_out'])}")
            if entry.get("attention_error"):
                self.detail(format_attention_error(entry["attention_error"]))

    def results(self, workspace: Workspace, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print accuracies and differences to the baseline, and how many answers could not be parsed.

        Args:
            workspace: the run.
            rows: the rows of results.json.
        """
        from molsaki.report.results import accuracy_table, difference_table
        from molsaki.stages.references import reference_means
        from molsaki.stages.results import differences, failures, means

        table = accuracy_table(workspace, means(workspace, rows), reference_means(workspace))
        self.table(table, numbers=True)
        for label, counts in failures(workspace).items():
            if counts:
                self.line(f"answers of {label}: " + ", ".join(f"{n} {failure}" for failure, n in counts.items()))
        compared = differences(workspace)
        if compared:
            self.table(difference_table(workspace, compared), numbers=True)
        self.line(f"results: {workspace.run.path('results.json')}")

    def model_scores(self, model: str, scores: Sequence[ModelScore]) -> None:
        """Print the scores of a model on test sets."""
        from molsaki.evaluation.intervals import MeanAccuracy
        from molsaki.report.tables import Table as TextTable
        from molsaki.report.tables import show_accuracy

        ks = [k for k in scores[0].pass_at if k > 1]
        samples = scores[0].samples
        what = "accuracy" if samples == 1 else f"mean of {samples}"
        rows = [
            [
                one.test,
                str(one.problems),
                show_accuracy(MeanAccuracy(one.accuracy, one.interval, 1)),
                *(f"{100 * one.pass_at[k]:.1f}" for k in ks),
                *(str(one.outcomes[name]) for name in ("unparsable", "cut", "too_long")),
                str(one.thinking_cut),
                f"{one.tokens:.0f}",
            ]
            for one in scores
        ]
        header = ["set", "problems", what, *(f"pass@{k}" for k in ks), "unparsable", "cut off", "too long"]
        caption = f"{model}: right answers in % [95 % interval]"
        self.table(TextTable(caption, [*header, "cut while thinking", "tokens"], rows), numbers=True)

    def costs(self, workspace: Workspace) -> None:
        """Print the time and memory of each stage."""
        from molsaki.report.run_tables import stage_table

        table = stage_table(workspace)
        if table is not None:
            self.table(table, numbers=True)

    def report(self, report: Report) -> None:
        """Print the sentences of a report about the results, and the paths of its files."""
        for sentence in report.sentences:
            self.line(sentence)
        self.line(f"figures: {report.figures}")
        self.line(f"report: {report.page} ({report.size / 1e6:.1f} MB)")

    # ---- progress ----

    @contextmanager
    def progress(self, description: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar that disappears at the end. Yields a function of the rows done and the number of all rows.

        Without a terminal, lines at intervals instead.
        """
        if not self.rich.is_terminal:
            yield ProgressLines(self.detail, description, "texts")
            return
        with self._bar() as bar:
            task = bar.add_task(description, total=None)

            def update(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            yield update

    @contextmanager
    def students(
        self, total: int, *, many_runs: bool = False
    ) -> Iterator[tuple[Callable[[JobResult], None], Callable[[str], None]]]:
        """A progress bar over students. Yields a function that prints the result of one, and one that prints a line.

        Args:
            total: the number of students.
            many_runs: whether to print the name of the run too.
        """
        skipped = 0
        with self._bar() as bar:
            task = bar.add_task("students", total=total)

            def on_done(result: JobResult) -> None:
                nonlocal skipped
                bar.advance(task)
                if not result.trained and not result.tested:
                    skipped += 1
                    return
                run = f"{result.job.run.name}: " if many_runs else ""
                trained = f"trained in {result.seconds:.0f} s" if result.trained else "trained earlier"
                accuracy = "  ".join(f"{name} {value:.2f}" for name, value in result.accuracy.items())
                lines = [f"  {run}{result.job.label}, seed {result.job.seed}: {trained}  {accuracy}"]
                lines += _frozen(result)
                lines += [f"    {plural(n, 'example')}: {note}" for note, n in result.notes.items()]
                for line in lines:
                    bar.console.print(escape(line), soft_wrap=True)

            yield on_done, lambda line: bar.console.print(escape(f"  {line}"), soft_wrap=True)
        if skipped:
            self.line(f"students: {skipped} already trained and tested")

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.rich,
            transient=True,
        )


def _frozen(result: JobResult) -> list[str]:
    """A line about the parameters of a student that were not trained, if there are any."""
    trained, every = result.parameters
    frozen = f"    {trained:,} of {every:,} parameters were trained, the others are frozen"
    return [frozen] if trained < every else []
