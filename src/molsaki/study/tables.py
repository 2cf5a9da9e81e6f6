"""The tables of a study: mean accuracies, paired differences with corrected p-values, McNemar's test, and cost.

A difference on one set is `paired_difference`, over seeds and problems. A difference of means over sets is
`paired_difference_over_sets`, with equal weights of the sets. The p-values of a table are corrected together by Holm's
procedure. The formulas and their sources are in `molsaki.evaluation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from molsaki.counts import plural
from molsaki.evaluation.crossed import PairedDifference, mean_accuracy_over_sets, paired_difference_over_sets
from molsaki.evaluation.intervals import Floats, MeanAccuracy, holm, mcnemar
from molsaki.report.tables import NONE, Table, describe_interval, show_accuracy, show_difference
from molsaki.study.correctness import RunAnswers
from molsaki.study.files import MEAN, Cell, Group, Study

SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two methods on one set.

    Attributes:
        paired: over seeds and problems.
        p_corrected: its p-value with Holm's correction for all differences of the table.
        only_a, only_b: the number of seeds in which the first, or the second, method is right more often by McNemar's
            exact test over problems (p < 0.05); None for the mean of several sets.
    """

    paired: PairedDifference
    p_corrected: float
    only_a: int | None
    only_b: int | None


@dataclass
class Comparison:
    """The figures of one run and one group of students.

    Attributes:
        run: the name of the recipe in the study.
        group: the data size and the setting.
        columns: the test sets, and their mean if there are several.
        learned_from: the numbers of examples that the students were trained on. They are smaller than the size of the
            group if fewer problems have a rationale.
        seeds: by method, those that its means are over.
        accuracies: by method and column.
        differences: by pair of methods and column.
        tokens, seconds: of the training, by method.
        published: published accuracies in percent, by method and column.
    """

    run: str
    group: Group
    columns: Sequence[str]
    learned_from: tuple[int, ...] = ()
    seeds: dict[str, list[int]] = field(default_factory=dict)
    accuracies: dict[str, dict[str, MeanAccuracy]] = field(default_factory=dict)
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
            "seeds": self.seeds,
            "accuracy": {m: {c: asdict(a) for c, a in cells.items()} for m, cells in self.accuracies.items()},
            "differences": [
                {"method": a, "to": b, "on": column, **asdict(difference)}
                for (a, b), cells in self.differences.items()
                for column, difference in cells.items()
            ],
            "tokens": self.tokens,
            "seconds": self.seconds,
            "published": self.published,
        }

    @property
    def title(self) -> str:
        """The run and the group, for captions."""
        if not str(self.group):
            return self.run
        fewer = [n for n in self.learned_from if n < (self.group.size or 0)]
        trained_on = f" (trained on {' or '.join(map(str, fewer))})" if fewer else ""
        return f"{self.run}, {self.group}{trained_on}"


def find_pairs(study: Study) -> list[tuple[str, str]]:
    """Every method with its baseline, and the other pairs that the study names; each pair once, in either order."""
    labels = [method.label for method in study.methods]
    pairs = [(label, study.baselines.get(label, study.baseline)) for label in labels]
    found: dict[frozenset[str], tuple[str, str]] = {}
    for pair in (*pairs, *study.compare):
        if len(set(pair)) == 2:
            found.setdefault(frozenset(pair), pair)
    return list(found.values())


def compare_run(study: Study, answers: RunAnswers, group: Group) -> Comparison:
    """Compare the students of one run and one group. Methods without students are left out."""
    trained_on = answers.examples([Cell(method.label, group) for method in study.methods])
    published = study.published.get(answers.name, {})
    comparison = Comparison(answers.name, group, answers.columns, trained_on, published=published)
    for method in study.methods:
        cell = Cell(method.label, group)
        seeds = answers.seeds(cell)
        if seeds:
            comparison.seeds[method.label] = list(seeds)
            comparison.accuracies[method.label] = {
                column: mean_accuracy_over_sets(answers.tables(cell, column, seeds)) for column in answers.columns
            }
            comparison.tokens[method.label] = answers.mean_metric(cell, "tokens")
            comparison.seconds[method.label] = answers.mean_metric(cell, "seconds")
    paired: dict[tuple[str, str, str], PairedDifference] = {}
    for a, b in find_pairs(study):
        cells = Cell(a, group), Cell(b, group)
        seeds = answers.seeds(*cells)
        for column in answers.columns if seeds else ():
            left, right = (answers.tables(cell, column, seeds) for cell in cells)
            paired[a, b, column] = paired_difference_over_sets(left, right)
    # One family of comparisons: all pairs of methods on all columns of this table.
    corrected = holm([difference.p_value for difference in paired.values()])
    for ((a, b, column), difference), p_corrected in zip(paired.items(), corrected, strict=True):
        counts = _mcnemar_counts(answers, Cell(a, group), Cell(b, group), column)
        comparison.differences.setdefault((a, b), {})[column] = Difference(difference, p_corrected, *counts)
    return comparison


def compare_all(study: Study, runs: Sequence[RunAnswers], group: Group) -> Comparison:
    """Compare the mean of all test sets of all runs, with equal weights, on the seeds that all runs have."""
    column = f"mean of {sum(len(answers.tests) for answers in runs)} sets"
    cells = {method.label: Cell(method.label, group) for method in study.methods}
    trained_on = {number for answers in runs for number in answers.examples(list(cells.values()))}
    comparison = Comparison("all", group, [column], tuple(sorted(trained_on)))
    for label, cell in cells.items():
        seeds = _shared_seeds(runs, cell)
        if seeds:
            comparison.seeds[label] = list(seeds)
            comparison.accuracies[label] = {column: mean_accuracy_over_sets(_all_tables(runs, cell, seeds))}
    paired: dict[tuple[str, str], PairedDifference] = {}
    for a, b in find_pairs(study):
        seeds = _shared_seeds(runs, cells[a], cells[b])
        if seeds:
            left, right = (_all_tables(runs, cells[label], seeds) for label in (a, b))
            paired[a, b] = paired_difference_over_sets(left, right)
    corrected = holm([difference.p_value for difference in paired.values()])
    for (pair, difference), p_corrected in zip(paired.items(), corrected, strict=True):
        comparison.differences[pair] = {column: Difference(difference, p_corrected, None, None)}
    return comparison


def _shared_seeds(runs: Sequence[RunAnswers], *cells: Cell) -> list[int]:
    return sorted(set.intersection(*(set(answers.seeds(*cells)) for answers in runs)))


def _all_tables(runs: Sequence[RunAnswers], cell: Cell, seeds: Sequence[int]) -> list[Floats]:
    """The tables of right answers of all test sets of all runs."""
    return [table for answers in runs for test in answers.tests for table in answers.tables(cell, test, seeds)]


def _mcnemar_counts(answers: RunAnswers, a: Cell, b: Cell, column: str) -> tuple[int | None, int | None]:
    """In how many seeds McNemar's test is significant for the first method, and for the second."""
    if column == MEAN:
        return None, None
    only_a = only_b = 0
    for seed in answers.seeds(a, b):
        # Each seed is a test of its own: the students of a seed answered the same problems.
        test = mcnemar(*(answers.correct[cell.label, seed][column].astype(bool).tolist() for cell in (a, b)))
        if test.p_value < SIGNIFICANT:
            only_a += test.only_a > test.only_b
            only_b += test.only_b > test.only_a
    return only_a, only_b


# ---- as text ----


def accuracy_table(comparison: Comparison) -> Table:
    """Methods down, test sets across, with the cost of training if it is known. Published numbers have own rows.

    Methods of different seeds, as in a study that is not finished, have their number in a column, or which they are if
    the numbers are equal.
    """
    costs = any(value is not None for value in (*comparison.tokens.values(), *comparison.seconds.values()))
    counts = _seed_counts(comparison)
    unequal = len({tuple(seeds) for seeds in comparison.seeds.values()}) > 1
    rows = []
    for method, cells in comparison.accuracies.items():
        row = [method, *(show_accuracy(cells[column]) for column in comparison.columns)]
        if unequal:
            seeds = comparison.seeds[method]
            row.append(str(len(seeds)) if len(counts) > 1 else ", ".join(map(str, seeds)))
        if costs:
            tokens, seconds = comparison.tokens[method], comparison.seconds[method]
            row += [NONE if tokens is None else f"{tokens:,.0f}", NONE if seconds is None else f"{seconds:.0f}"]
        rows.append(row)
        if method in comparison.published:
            published = comparison.published[method]
            shown = [f"{published[column]:.1f}" if column in published else NONE for column in comparison.columns]
            rows.append([f"{method}, published", *shown, *[NONE] * (unequal + 2 * costs)])
    more = [*(["seeds"] if unequal else []), *(["tokens trained on", "seconds"] if costs else [])]
    head = ["accuracy, %", *comparison.columns, *more]
    return Table(f"{comparison.title}: {_describe_means(comparison)}", head, rows)


def _seed_counts(comparison: Comparison) -> list[int]:
    """The numbers of seeds that means are over, each once."""
    return sorted({cell.seeds for cells in comparison.accuracies.values() for cell in cells.values()})


def _describe_means(comparison: Comparison) -> str:
    seeds = _seed_counts(comparison)
    if not seeds:
        return "no students"
    over = "over problems" if seeds == [1] else "over seeds, over problems if they agree"
    number = plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    return f"mean of {number} [95 % interval {over}]"


def difference_table(comparison: Comparison) -> Table:
    """Pairs of methods down, test sets across, with the number of seeds that both have where pairs differ in it."""
    seeds = {pair: next(iter(cells.values())).paired.seeds for pair, cells in comparison.differences.items()}
    unequal = len(set(seeds.values())) > 1
    rows = []
    for (a, b), cells in comparison.differences.items():
        shown = (show_difference(cells[c].paired, cells[c].p_corrected, digits=1) for c in comparison.columns)
        rows.append([f"{a} − {b}", *shown, *([str(seeds[a, b])] if unequal else [])])
    count = sum(len(cells) for cells in comparison.differences.values())
    interval = describe_interval(seeds.values())
    caption = (
        f"{comparison.title}: paired differences in percentage points [95 % interval {interval}], "
        f"p-value corrected for {plural(count, 'comparison')} (Holm)"
    )
    return Table(caption, ["difference", *comparison.columns, *(["seeds of both"] if unequal else [])], rows)


def mcnemar_table(comparison: Comparison) -> Table:
    """Pairs of methods down, test sets across: in how many seeds one of the two is right significantly more often."""
    columns = [column for column in comparison.columns if column != MEAN]
    rows = []
    for (a, b), cells in comparison.differences.items():
        seeds = cells[columns[0]].paired.seeds
        rows.append([f"{a} : {b}", *(f"{cells[c].only_a} : {cells[c].only_b} of {seeds}" for c in columns)])
    caption = f"{comparison.title}: seeds in which the first, and the second, is right more often (McNemar, p < 0.05)"
    return Table(caption, ["pair", *columns], rows)
