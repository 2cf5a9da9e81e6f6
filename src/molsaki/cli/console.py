"""What a run shows in the terminal: where it is, what was left out and why, and the table at the end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import rich.console
import rich.markup
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from molsaki.counts import format_counts
from molsaki.distributed import is_main

if TYPE_CHECKING:
    from molsaki.report.build import Report
    from molsaki.report.facts import Table as Facts
    from molsaki.report.look import LookResult
    from molsaki.spans.views import View
    from molsaki.stages.attend import AttentionCheck
    from molsaki.stages.doctor import Finding
    from molsaki.stages.students import Done
    from molsaki.stages.workspace import Workspace
    from molsaki.study.writing import StudyFiles


FILE_WIDTH = 1000
"""Columns of a file: more than any table has."""
_CONTROLS: dict[int, int | None] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    ord("\r"): None,
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}
"""What stands for each control character: its picture, such as ␛, as far as there is one."""


def visible(text: str) -> str:
    """Text in which control characters can be seen and steer no terminal; lines and tabs stay as they are."""
    return text.translate(_CONTROLS)


def escape(text: str) -> str:
    """Text from data and models, so that neither markup nor control characters in it mean anything."""
    return rich.markup.escape(visible(text))


class Console:
    """Prints what stages tell. Text from data and models is escaped, never read as markup, emoji or control characters.

    Of several processes that do one job only the first shows anything. A table is folded to fit a terminal; where
    nobody looks on (a file, a pipe) it is as wide as it is, unless `COLUMNS` says how wide that may be.
    """

    def __init__(self, target: rich.console.Console | None = None) -> None:
        self.rich = target or rich.console.Console(highlight=False, emoji=False, quiet=not is_main())
        if target is None and not self.rich.is_terminal and not os.environ.get("COLUMNS", "").isdecimal():
            self.rich.width = FILE_WIDTH
        self.resumed = False

    def begin(self, workspace: Workspace) -> None:
        """Say what is run and where."""
        recipe = workspace.recipe
        methods = ", ".join(method.label for method in recipe.methods)
        self.rich.print(f"[bold]{escape(recipe.name)}[/]: {escape(methods)} × {len(recipe.seeds)} seeds")
        self.rich.print(f"run directory: {escape(str(workspace.run.folder))}", soft_wrap=True)
        if recipe.tiny:
            self.rich.print(
                "[yellow]--tiny: small random models. This shows that everything works, not that anything learns.[/]"
            )

    def data(self, manifest: Mapping[str, Any]) -> None:
        """Say how many problems of each set are used and why the others are not."""
        table = Table("set", "rows", "used", "left out, and what to know", title="problems", title_justify="left")
        for name, report in manifest.items():
            table.add_row(escape(name), str(report["read"]), str(report["kept"]), escape(format_counts(report)))
        self.rich.print(table)

    def rationales(self, manifest: Mapping[str, Any]) -> None:
        """Say how many rationales are used and why the others are not."""
        before = f" ({manifest['done_before']} were there)" if manifest["done_before"] else ""
        self.rich.print(
            f"rationales: {manifest['kept']} of {manifest['problems']} kept{before}; "
            + escape(", ".join(f"{reason}: {n}" for reason, n in manifest["reasons"].items()))
        )
        for note, n in manifest["notes"].items():
            if n:
                self.rich.print(f"  {escape(note)}: {n}")
        if manifest["tokens"]:
            money = f", {manifest['cost']:.4f} in all" if "cost" in manifest else ""
            self.rich.print(
                f"  tokens: {manifest['tokens']['sent']} sent, {manifest['tokens']['written']} written{money}"
            )

    def imported(self, manifests: Mapping[str, Mapping[str, Any]]) -> None:
        """The table of what was kept of what exists already, and why the rest was not: verdict × set."""
        total = sum(manifest["problems"] for manifest in manifests.values())
        verdicts = Counter[str]()
        for manifest in manifests.values():
            verdicts.update(manifest["reasons"])
        table = Table(title="rationales that exist already; what is right is kept", title_justify="left")
        table.add_column("verdict")
        for name in (*manifests, *(["all"] if len(manifests) > 1 else []), "share"):
            table.add_column(escape(name), justify="right")
        table.add_column("for example")
        for verdict, n in verdicts.most_common():
            each = [manifest["reasons"].get(verdict, 0) for manifest in manifests.values()]
            shown = [example["id"] for m in manifests.values() for example in m["examples"].get(verdict, ())]
            numbers = [*each, *([n] if len(each) > 1 else [])]
            share = f"{100 * n / max(1, total):.1f} %"
            table.add_row(escape(verdict), *map(str, numbers), share, escape(shown[0] if shown else ""))
        each = [manifest["problems"] for manifest in manifests.values()]
        table.add_section()
        table.add_row("all", *map(str, [*each, *([total] if len(each) > 1 else [])]), "100.0 %", "")
        self.rich.print(table)
        for name, manifest in manifests.items():
            for note, n in manifest["notes"].items():
                self.rich.print(f"  {escape(name)}: {escape(note)}: {n}")

    def attention(self, manifest: Mapping[str, Any], view: View) -> None:
        """Say how many rationales' attention was read in a view and why the others' was not."""
        left_out = format_counts(manifest)
        mixed = ", stored mixed" if manifest.get("stored") == "mixed" else ""
        of = f", {manifest['heads']} heads" if view.heads else ""
        self.rich.print(
            f"{view.title}: {manifest['kept']} of {manifest['read']} rationales read, {manifest['layers']} layers"
            + of
            + mixed
            + (f"; {escape(left_out)}" if left_out else "")
        )
        if "next tokens" in manifest:
            expected = manifest["next tokens"]
            left_out = format_counts(expected)
            self.rich.print(
                f"next tokens: {expected['kept']} of {expected['read']} rationales read, the "
                f"{expected['fingerprint']['kept']} likeliest at each token"
                + (f"; {escape(left_out)}" if left_out else "")
            )

    def diagnosis(self, findings: Sequence[Finding]) -> bool:
        """Show a look at a recipe; gives whether No errors: this recipe can run.."""
        colours = {"plain": "", "warning": "[yellow]", "error": "[red]"}
        table = Table("", "found", title="before the leap", title_justify="left")
        last = ""
        for finding in findings:
            if last and finding.about != last:
                table.add_section()
            mark = "" if finding.level == "plain" else f"{finding.level}: "
            text = f"{colours[finding.level]}{mark}{escape(finding.text)}"
            table.add_row(escape(finding.about) if finding.about != last else "", text)
            last = finding.about
        self.rich.print(table)
        errors = sum(finding.level == "error" for finding in findings)
        self.rich.print(f"{errors} errors: this recipe would not run" if errors else "No errors: this recipe can run.")
        return not errors

    def attention_check(self, check: AttentionCheck, what: str) -> bool:
        """Say what a look at every row of one of the teacher's stores found; gives whether all is well."""
        store = check.store
        problems = [*check.problems, *store.problems]
        self.rich.print(
            f"{what} store: {store.rows} rows in {store.shards} shards, {store.values} values; "
            + (f"[red]{len(problems)} problems[/]" if problems else "every row is as it was written and fits its text")
        )
        for problem in problems:
            self.rich.print(f"  - {escape(problem)}", soft_wrap=True)
        for path in store.unfinished:
            self.rich.print(f"  {escape(path)} has no index, as a kill leaves it; its rows are read again")
        if check.waiting:
            self.rich.print(f"  {check.waiting} rationales are still to be read; `molsaki attend` goes on")
        return check.ok

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar that goes away when its stage is done."""
        with self._bar() as bar:
            task = bar.add_task(what, total=None)

            def update(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            yield update

    @contextmanager
    def students(self, workspace: Workspace) -> Iterator[Callable[[Done], None]]:
        """A bar over all students, and a line for each as it is done."""
        recipe = workspace.recipe
        with self.jobs(len(recipe.methods) * len(recipe.seeds)) as one:
            yield one

    @contextmanager
    def jobs(self, total: int, *, many_runs: bool = False) -> Iterator[Callable[[Done], None]]:
        """As `students`, for the students of one run or of several."""
        untouched = 0
        with self._bar() as bar:
            task = bar.add_task("students", total=total)

            def one(done: Done) -> None:
                nonlocal untouched
                bar.advance(task)
                if not done.trained and not done.tested:
                    untouched += 1
                    return
                run = f"{done.job.run.name}: " if many_runs else ""
                shown = "  ".join(f"{escape(name)} {value:.2f}" for name, value in done.accuracy.items())
                took = f"trained in {done.seconds:.0f} s" if done.trained else "was trained"
                who = escape(f"{run}{done.job.label}, seed {done.job.seed}")
                bar.console.print(f"  {who}: {took}  {shown}", soft_wrap=True)
                for note, n in done.notes.items():
                    bar.console.print(f"    {n} examples: {escape(note)}")

            yield one
        if untouched:
            self.rich.print(f"students: {untouched} were there, trained and tested; nothing was done twice")

    def results(self, workspace: Workspace, rows: Sequence[Mapping[str, Any]]) -> None:
        """The table: method × test set, mean over seeds with its interval, and differences to the baseline."""
        from molsaki.stages.results import differences, failures, means

        averages = means(workspace, rows)
        self.rich.print(_means_table(workspace, averages))
        for label, counts in failures(workspace).items():
            if counts:
                self.rich.print(f"{escape(label)}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
        compared = differences(workspace)
        if compared:
            self.rich.print(_differences_table(workspace, compared))
        self.rich.print(f"results: {escape(str(workspace.run.path('results.json')))}", soft_wrap=True)

    def study(self, written: StudyFiles) -> None:
        """A study's tables, and where its files are."""
        for found in written.tables:
            self.table(found)
        if written.missing:
            self.rich.print(f"[yellow]{written.missing} students are not there yet; the tables are of the others[/]")
        for path in written.files:
            self.rich.print(f"written: {escape(str(path))}", soft_wrap=True)

    def table(self, found: Facts) -> None:
        """A table as the report and studies have them."""
        table = Table(title=escape(found.caption), title_justify="left")
        for name in found.head:
            table.add_column(escape(name), overflow="fold")
        for row in found.rows:
            table.add_row(*map(escape, row))
        self.rich.print(table)

    def say(self, what: str) -> None:
        """Say what is being done."""
        self.rich.print(f"  {escape(what)}", soft_wrap=True)

    def report_written(self, report: Report) -> None:
        """The reading of a run's results, and where its page is."""
        for sentence in report.sentences:
            self.rich.print(escape(sentence), soft_wrap=True)
        self._pages(report)

    def report(self, report: Report) -> None:
        """The reading of a report, its tables of where models look, and where the page is."""
        for sentence in (*report.sentences, *report.shift_sentences):
            self.rich.print(escape(sentence), soft_wrap=True)
        for found in report.shift:
            self.table(found)
        for note in report.notes:
            self.rich.print(f"  {escape(note)}", soft_wrap=True)
        self._pages(report)

    def _pages(self, report: Report) -> None:
        self.rich.print(f"figures: {escape(str(report.figures))}", soft_wrap=True)
        self.rich.print(f"report: {escape(str(report.page))} ({report.size / 1e6:.1f} MB)", soft_wrap=True)

    def look(self, result: LookResult) -> None:
        """What a model wrote, and a table of where it looks: steps down, keys across."""
        self.rich.print(f"[bold]{escape(result.model)}[/] in the prompt {escape(repr(result.prompt))}", soft_wrap=True)
        self.rich.print(f"rationale: {escape(result.look.text.rationale)}", soft_wrap=True)
        if result.answer:
            self.rich.print(f"answer: {escape(result.answer)}", soft_wrap=True)
        # A wide table is cut into several, so that every number can be read.
        across = max(1, (self.rich.width - 48) // 8)
        for first in range(0, result.look.spans.n_keys, across):
            self.rich.print(_look_table(result, range(first, min(first + across, result.look.spans.n_keys))))
        if result.page is not None:
            self.rich.print(f"page: {escape(str(result.page))}", soft_wrap=True)

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.rich,
            transient=True,
        )


def _means_table(workspace: Workspace, means: Mapping[str, Mapping[str, Any]]) -> Table:
    seeds = len(workspace.recipe.seeds)
    what = f"mean of {seeds} seeds [95 % interval over seeds]" if seeds > 1 else "one seed [95 % interval]"
    table = Table(title=f"accuracy, %: {what}", title_justify="left")
    table.add_column("method")
    for name in workspace.test_names:
        table.add_column(escape(name), justify="right")
    for label, cells in means.items():
        table.add_row(
            escape(label),
            *(
                f"{100 * c.mean:.1f} [{100 * c.interval.low:.0f}, {100 * c.interval.high:.0f}]".replace("[", r"\[")
                for c in (cells[name] for name in workspace.test_names)
            ),
        )
    return table


def _differences_table(workspace: Workspace, compared: Mapping[tuple[str, str], Mapping[str, Any]]) -> Table:
    from molsaki.evaluation.intervals import show_p

    table = Table(title="paired differences, points: [95 % interval over seeds and problems] p", title_justify="left")
    table.add_column("methods")
    for name in workspace.test_names:
        table.add_column(escape(name), justify="right")
    for (label, baseline), cells in compared.items():
        shown = []
        for name in workspace.test_names:
            found = cells[name]
            low, high = 100 * found.interval.low, 100 * found.interval.high
            shown.append(f"{100 * found.difference:+.1f} \\[{low:+.0f}, {high:+.0f}] {show_p(found.p_value)}")
        table.add_row(escape(f"{label} − {baseline}"), *shown)
    return table


def _look_table(result: LookResult, keys: Sequence[int]) -> Table:
    """A cell for each step and key, the darker the more; the most-attended key of a step is underlined."""
    from rich.text import Text

    look = result.look
    title = "% of a token's attention on each key, all layers averaged; the most-attended key of a step is underlined"
    table = Table(title=title, title_justify="left")
    table.add_column("step", max_width=32)
    for span in (look.spans.keys[key] for key in keys):
        table.add_column(Text(visible(span.of(look.text.question, look.text.rationale)[:12])), justify="right")
    table.add_column("all keys", justify="right")
    for step, (row, facts) in enumerate(zip(result.shares, result.facts, strict=True)):
        cells = []
        most = max((value for value in row if value is not None), default=0.0) or 1.0
        for key in keys:
            value = row[key]
            if value is None:
                cells.append(Text("·"))
                continue
            strength = value / most
            shade = [round(255 + (end - 255) * strength) for end in (10, 88, 168)]
            style = f"{'white' if strength > 0.5 else 'black'} on #{shade[0]:02x}{shade[1]:02x}{shade[2]:02x}"
            top = facts is not None and facts.top == key
            cells.append(Text(f"{100 * value:.1f}", style=f"underline {style}" if top else style))
        total = sum(value for value in row if value is not None)
        sentence = look.spans.steps[step].of(look.text.question, look.text.rationale)
        table.add_row(Text(visible(sentence)), *cells, Text(f"{100 * total:.1f}"))
    return table
