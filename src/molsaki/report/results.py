"""The result of a run in tables and sentences: accuracies, differences to the baseline, and what is unfinished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from molsaki.config.recipe import Recipe
from molsaki.counts import plural
from molsaki.evaluation.crossed import PairedDifference
from molsaki.evaluation.intervals import MeanAccuracy
from molsaki.evaluation.score import Score, result_row, score
from molsaki.report.tables import Table, describe_interval, show_accuracy, show_difference, show_interval
from molsaki.stages.references import TEACHER, UNTRAINED, read_references, reference_means
from molsaki.stages.results import differences, means
from molsaki.stages.workspace import Workspace

Cell = TypeVar("Cell")
FAILURES = ("unparsable", "cut", "too_long")


@dataclass
class Result:
    """The result of a run.

    Attributes:
        means: mean accuracies by method label and test set.
        sentences: one sentence for each comparison with the baseline, on the first test set.
        tables: accuracies, differences, and answers that could not be parsed.
        unfinished: one line for each student that is not trained, or not tested on every set.
    """

    means: dict[str, dict[str, MeanAccuracy]]
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)


def find_result(workspace: Workspace) -> Result:
    """Score the predictions of a run, which may be unfinished."""
    recipe = workspace.recipe
    scores = {
        (method.label, seed, test): score(workspace.read_predictions(method.label, seed, test))
        for method in recipe.methods
        for seed in recipe.seeds
        for test in workspace.test_names
        if workspace.is_tested(method.label, seed, test)
    }
    rows = [result_row(recipe.data.task, test, label, seed, one) for (label, seed, test), one in scores.items()]
    result = Result(means(workspace, rows), unfinished=_unfinished(workspace))
    compared = differences(workspace)
    result.tables.append(accuracy_table(workspace, result.means, reference_means(workspace)))
    if compared:
        result.tables.append(difference_table(workspace, compared))
    result.tables.append(_failure_table(workspace, scores))
    first = workspace.test_names[0]
    result.sentences = [
        describe_difference(label, baseline, first, cells[first])
        for (label, baseline), cells in sorted(compared.items(), key=lambda item: _comes_before(recipe, *item[0]))
        if first in cells
    ]
    return result


def _comes_before(recipe: Recipe, label: str, baseline: str) -> bool:
    """Whether the recipe lists a method before the baseline. The gain of a method after it is stated first."""
    labels = [method.label for method in recipe.methods]
    return labels.index(label) < labels.index(baseline)


def _unfinished(workspace: Workspace) -> list[str]:
    lines = []
    for method in workspace.recipe.methods:
        for seed in workspace.recipe.seeds:
            tests = workspace.test_names
            untested = [test for test in tests if not workspace.is_tested(method.label, seed, test)]
            if untested:
                trained = workspace.student(method.label, seed).is_dir()
                state = "trained, not tested" if trained else "not trained yet"
                sets = "" if untested == tests else f" on {', '.join(untested)}"
                lines.append(f"{method.label}, seed {seed}: {state}{sets}")
    return lines


def accuracy_table(
    workspace: Workspace,
    table: Mapping[str, Mapping[str, MeanAccuracy]],
    references: Mapping[str, Mapping[str, MeanAccuracy]],
) -> Table:
    """Models down, test sets across: the untrained student, the methods, the teacher."""
    seeds = len(workspace.recipe.seeds)

    def show(label: str, cell: MeanAccuracy | None) -> str:
        partial = cell is not None and cell.seeds != seeds and label in table
        return show_accuracy(cell) + (f" ({plural(cell.seeds, 'seed')})" if cell is not None and partial else "")

    over = "over seeds, over problems if they agree" if seeds > 1 else "over problems"
    return Table(
        f"Accuracy in %, mean of {plural(seeds, 'seed')} [95 % interval {over}]{_sampled(workspace)}",
        ["method", *workspace.test_names],
        [
            [label, *(show(label, cells.get(test)) for test in workspace.test_names)]
            for label, cells in _in_order({**table, **references}).items()
        ],
    )


def _sampled(workspace: Workspace) -> str:
    """Says on how many problems of each set the teacher was tested, where it was not tested on all."""
    sizes = {one.test: one.score.n for one in read_references(workspace) if one.model == TEACHER}
    if all(n == len(workspace.read_tests(test)) for test, n in sizes.items()):
        return ""
    return f"; the {TEACHER} on a sample of {plural(max(sizes.values()), 'problem')} of each set"


def difference_table(workspace: Workspace, table: Mapping[tuple[str, str], Mapping[str, PairedDifference]]) -> Table:
    """Pairs of methods down, test sets across."""
    seeds = [cell.seeds for cells in table.values() for cell in cells.values()]
    return Table(
        f"Paired differences in percentage points [95 % interval {describe_interval(seeds)}], p-value",
        ["methods", *workspace.test_names],
        [
            [f"{label} − {baseline}", *(show_difference(cells.get(test)) for test in workspace.test_names)]
            for (label, baseline), cells in table.items()
        ],
    )


def _failure_table(workspace: Workspace, scores: Mapping[tuple[str, int, str], Score]) -> Table:
    found = {
        method.label: [one for (label, _, _), one in scores.items() if label == method.label]
        for method in workspace.recipe.methods
    }
    for reference in read_references(workspace):
        found.setdefault(reference.model, []).append(reference.score)
    rows = []
    for model, own in _in_order(found).items():
        counts = [sum(getattr(one, name) for one in own) for name in FAILURES]
        rows.append([model, *map(str, [sum(one.n for one in own), *counts])])
    caption = "Answers that could not be parsed, over all sets and seeds"
    return Table(caption, ["method", "answers", "unparsable", "cut off", "question too long"], rows)


def _in_order(table: Mapping[str, Cell]) -> dict[str, Cell]:
    """The untrained student first and the teacher last."""
    places = {UNTRAINED: -1, TEACHER: 1}
    return {label: table[label] for label in sorted(table, key=lambda label: places.get(label, 0))}


def describe_difference(label: str, baseline: str, test: str, cell: PairedDifference) -> str:
    """A paired difference in words, with its interval and what it shows."""
    points = 100 * cell.difference
    relation = f"{abs(points):.1f} points {'above' if points > 0 else 'below'}" if points else "right as often as"
    sample = f"{plural(cell.seeds, 'seed')} and {plural(cell.problems, 'problem')}"
    interval = f"95 % interval {show_interval(cell.interval, 1, 100, '+')}"
    if cell.interval.low <= 0 <= cell.interval.high:
        shown = f"The interval contains zero: {sample} neither show a difference nor rule one out."
    else:
        shown = f"The interval excludes zero: this is more than the variation of {sample} explains. "
        shown += "Among several comparisons, one may still be due to chance."
    return f"On {test}, {label} is {relation} {baseline}, {interval}. {shown}"
