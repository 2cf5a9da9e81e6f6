"""The tables of a study: means with intervals, paired differences with their correction, McNemar's test, cost.

A difference is over seeds and problems (`paired_difference`), that of the mean of all sets over each set's problems
(`paired_difference_over_sets`). The p-values of one table are corrected together by Holm's procedure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from molsaki.evaluation.crossed import PairedDifference, paired_difference, paired_difference_over_sets
from molsaki.evaluation.intervals import Interval, holm, mcnemar, seed_interval, show_p, wilson_interval
from molsaki.report.facts import Table
from molsaki.study.correctness import Marks, RunMarks
from molsaki.study.files import MEAN, Cell, Group, Study

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Mean accuracy of one method on one set, over seeds.

    With one seed the interval is over problems: Wilson's of one set, Student's of the mean of several.
    """

    mean: float
    interval: Interval
    seeds: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How two methods differ on one set.

    Attributes:
        paired: over seeds and problems.
        p_corrected: its p-value after Holm's correction for all differences of the table.
        only_a, only_b: in how many seeds the exact McNemar test over problems has p < 0.05, for either side; None
            for the mean of several sets.
    """

    paired: PairedDifference
    p_corrected: float
    only_a: int | None
    only_b: int | None


@dataclass
class Comparison:
    """All of one run's figures of one group.

    Attributes:
        run: the recipe's name in the study.
        group: size and setting.
        columns: the test sets, and the mean of them where there are several.
        learned_from: the numbers of examples that the group's students had; fewer than its size where not so many
            problems have a rationale.
        accuracies: by method and column.
        differences: by pair of methods and column.
        tokens, seconds: of training, by method.
        published: in percent, by method and column.
    """

    run: str
    group: Group
    columns: Sequence[str]
    learned_from: tuple[int, ...] = ()
    accuracies: dict[str, dict[str, Accuracy]] = field(default_factory=dict)
    differences: dict[tuple[str, str], dict[str, Difference]] = field(default_factory=dict)
    tokens: dict[str, float | None] = field(default_factory=dict)
    seconds: dict[str, float | None] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "recipe": self.run,
            "examples": self.group.size,
            "setting": self.group.setting,
            "learned_from": list(self.learned_from),
            "accuracy": {m: {c: asdict(a) for c, a in cells.items()} for m, cells in self.accuracies.items()},
            "differences": [
                {"method": a, "to": b, "on": column, **asdict(found)}
                for (a, b), cells in self.differences.items()
                for column, found in cells.items()
            ],
            "tokens": self.tokens,
            "seconds": self.seconds,
            "published": self.published,
        }


def find_pairs(study: Study) -> list[tuple[str, str]]:
    """Every method with the baseline, and the study's other pairs."""
    pairs = [(method.label, study.baseline) for method in study.methods if method.label != study.baseline]
    return pairs + [pair for pair in study.compare if pair not in pairs]


def compare_run(study: Study, marks: RunMarks, group: Group) -> Comparison:
    """All figures of one run's students of one group; a method without students has none."""
    columns = [*marks.tests, MEAN] if len(marks.tests) > 1 else list(marks.tests)
    learned_from = marks.examples([Cell(method.label, group) for method in study.methods])
    found = Comparison(marks.name, group, columns, learned_from, published=study.published.get(marks.name, {}))
    for method in study.methods:
        cell = Cell(method.label, group)
        seeds = marks.seeds(cell)
        if not seeds:
            continue
        found.accuracies[method.label] = {column: _accuracy(marks, cell, column, seeds) for column in columns}
        found.tokens[method.label] = marks.mean_metric(cell, "tokens")
        found.seconds[method.label] = marks.mean_metric(cell, "seconds")
    paired: dict[tuple[str, str, str], PairedDifference] = {}
    for a, b in find_pairs(study):
        seeds = marks.seeds(Cell(a, group), Cell(b, group))
        for column in columns if seeds else ():
            paired[a, b, column] = _paired(marks, Cell(a, group), Cell(b, group), column, seeds)
    corrected = holm([difference.p_value for difference in paired.values()])
    for (a, b, column), p_corrected in zip(paired, corrected, strict=True):
        counts = _mcnemar(marks, Cell(a, group), Cell(b, group), column)
        found.differences.setdefault((a, b), {})[column] = Difference(paired[a, b, column], p_corrected, *counts)
    return found


def compare_all(study: Study, runs: Sequence[RunMarks], group: Group) -> Comparison:
    """The mean of all test sets of all runs, each set with the same weight, on the seeds that all runs have."""
    sets = [(marks, test) for marks in runs for test in marks.tests]
    column = f"mean of {len(sets)} sets"
    every = [Cell(method.label, group) for method in study.methods]
    learned_from = {number for marks in runs for number in marks.examples(every)}
    found = Comparison("all", group, [column], tuple(sorted(learned_from)))
    paired: dict[tuple[str, str], PairedDifference] = {}
    for method in study.methods:
        seeds = _shared_seeds(runs, Cell(method.label, group))
        if seeds:
            each = [marks.accuracies(Cell(method.label, group), test, seeds) for marks, test in sets]
            values = [sum(one) / len(sets) for one in zip(*each, strict=True)]
            tables = [marks.table(Cell(method.label, group), test, seeds) for marks, test in sets]
            found.accuracies[method.label] = {column: _over_seeds(values, tables)}
    for a, b in find_pairs(study):
        cells = Cell(a, group), Cell(b, group)
        seeds = _shared_seeds(runs, *cells)
        if seeds:
            left, right = ([marks.table(cell, test, seeds) for marks, test in sets] for cell in cells)
            paired[a, b] = paired_difference_over_sets(left, right)
    for pair, p_corrected in zip(paired, holm([one.p_value for one in paired.values()]), strict=True):
        found.differences[pair] = {column: Difference(paired[pair], p_corrected, None, None)}
    return found


def _shared_seeds(runs: Sequence[RunMarks], *cells: Cell) -> list[int]:
    return sorted(set.intersection(*(set(marks.seeds(*cells)) for marks in runs)))


def _accuracy(marks: RunMarks, cell: Cell, column: str, seeds: Sequence[int]) -> Accuracy:
    values = marks.accuracies(cell, None if column == MEAN else column, seeds)
    return _over_seeds(values, [marks.table(cell, t, seeds) for t in (marks.tests if column == MEAN else [column])])


def _over_seeds(values: Sequence[float], sets: Sequence[Marks]) -> Accuracy:
    """The mean of one value a seed; of one seed, the interval is over the problems of these sets."""
    if len(values) > 1:
        return Accuracy(sum(values) / len(values), seed_interval(values), len(values))
    if len(sets) == 1:
        return Accuracy(values[0], wilson_interval(int(sets[0].sum()), sets[0].size), 1)
    nothing = [np.zeros_like(table) for table in sets]
    return Accuracy(values[0], paired_difference_over_sets(sets, nothing).interval, 1)


def _paired(marks: RunMarks, a: Cell, b: Cell, column: str, seeds: Sequence[int]) -> PairedDifference:
    if column != MEAN:
        return paired_difference(marks.table(a, column, seeds), marks.table(b, column, seeds))
    left, right = ([marks.table(cell, test, seeds) for test in marks.tests] for cell in (a, b))
    return paired_difference_over_sets(left, right)


def _mcnemar(marks: RunMarks, a: Cell, b: Cell, column: str) -> tuple[int | None, int | None]:
    if column == MEAN:
        return None, None
    more = less = 0
    for seed in marks.seeds(a, b):
        right = [marks.right[cell.label, seed][column].astype(bool).tolist() for cell in (a, b)]
        test = mcnemar(*right)
        more += test.p_value < SIGNIFICANT and test.only_a > test.only_b
        less += test.p_value < SIGNIFICANT and test.only_b > test.only_a
    return more, less


# ---- as text ----


def accuracy_table(found: Comparison) -> Table:
    """Methods down, test sets across; published numbers in rows of their own."""
    costs = any(value is not None for value in (*found.tokens.values(), *found.seconds.values()))
    head = ["accuracy, %", *found.columns, *(["tokens shown", "seconds"] if costs else [])]
    rows = []
    for method, cells in found.accuracies.items():
        row = [method, *(_shown(cells[column]) for column in found.columns)]
        if costs:
            tokens, seconds = found.tokens[method], found.seconds[method]
            row += ["–" if tokens is None else f"{tokens:,.0f}", "–" if seconds is None else f"{seconds:.0f}"]
        rows.append(row)
        if method in found.published:
            beside = found.published[method]
            cells_ = [f"{beside[column]:.1f}" if column in beside else "–" for column in found.columns]
            rows.append([f"{method}, published", *cells_, *(["–", "–"] if costs else [])])
    seeds = sorted({cell.seeds for cells in found.accuracies.values() for cell in cells.values()})
    number = " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1]))) if seeds else "no"
    number += " seed" if number == "1" else " seeds"
    over = (
        "over problems"
        if seeds == [1]
        else "over seeds, over problems where there is one seed"
        if 1 in seeds
        else "over seeds"
    )
    return Table(f"{_where(found)}: mean of {number} [95 % interval {over}]", head, rows)


def difference_table(found: Comparison) -> Table:
    """Pairs of methods down, test sets across."""
    rows = []
    for (a, b), cells in found.differences.items():
        shown = []
        for column in found.columns:
            one = cells[column]
            low, high = 100 * one.paired.interval.low, 100 * one.paired.interval.high
            shown.append(f"{100 * one.paired.difference:+.1f} [{low:+.1f}, {high:+.1f}] {show_p(one.p_corrected)}")
        rows.append([f"{a} − {b}", *shown])
    many = sum(len(cells) for cells in found.differences.values())
    caption = (
        f"{_where(found)}: paired differences, points [95 % interval over seeds and problems], p corrected for "
        f"{many} {'comparison' if many == 1 else 'comparisons'} (Holm)"
    )
    return Table(caption, ["difference", *found.columns], rows)


def mcnemar_table(found: Comparison) -> Table:
    """In how many seeds one of the two is right more often by McNemar's test, pairs of methods down."""
    columns = [column for column in found.columns if column != MEAN]
    rows = []
    for (a, b), cells in found.differences.items():
        seeds = cells[columns[0]].paired.seeds
        rows.append([f"{a} : {b}", *(f"{cells[c].only_a} : {cells[c].only_b} of {seeds}" for c in columns)])
    caption = (
        f"{_where(found)}: seeds in which the first, and in which the second, is right more often (McNemar, p < 0.05)"
    )
    return Table(caption, ["pair", *columns], rows)


def _where(found: Comparison) -> str:
    fewer = [number for number in found.learned_from if number < (found.group.size or 0)]
    of_these = f" ({' or '.join(map(str, fewer))} to learn from)" if fewer else ""
    return f"{found.run}, {found.group}{of_these}" if str(found.group) else found.run


def _shown(cell: Accuracy) -> str:
    return f"{100 * cell.mean:.1f} [{100 * cell.interval.low:.0f}, {100 * cell.interval.high:.0f}]"
