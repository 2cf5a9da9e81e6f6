"""Accuracy against training problems, and how many problems one method needs to reach another.

Legend: S seeds, N data sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from molsaki.errors import EvaluationError
from molsaki.evaluation.crossed import mean_accuracy_over_sets
from molsaki.evaluation.intervals import Floats, Interval, expanded_level
from molsaki.report.charts import Chart, Series
from molsaki.report.tables import NONE, Table
from molsaki.study.correctness import RunAnswers
from molsaki.study.files import Cell, Group, Study

RESAMPLES = 2000
MAX_BANDS = 4
"""Charts with more lines have no bands of intervals."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How many examples the baseline needs to reach the accuracy of a method with `size` examples.

    Attributes:
        size: the examples of the method.
        examples: the examples of the baseline; 0 for fewer than the smallest size, infinity for more than the largest.
        factor: examples / size.
        interval: of the factor, over seeds. Its ends may be 0 and infinity.
    """

    size: int
    examples: float
    factor: float
    interval: Interval


def examples_to_reach(sizes: Sequence[int], accuracies: Sequence[float] | Floats, target: float) -> float:
    """The number of examples at which a curve of accuracies first reaches a target.

    The curve is interpolated linearly in the logarithm of the number of examples. Where it falls, its maximum so far
    counts, since a user could leave out the additional examples.

    Args:
        sizes: [N], numbers of examples, ascending.
        accuracies: [N], in [0, 1].
        target: the accuracy to reach.

    Returns:
        0 if the smallest size exceeds the target, or the target is 0; infinity if the largest size does not reach it.
    """
    best = np.maximum.accumulate(np.asarray(accuracies, dtype=np.float64))
    if target < best[0] or target == 0:
        return 0.0
    if target > best[-1]:
        return math.inf
    after = int(np.searchsorted(best, target))  # the first size that reaches the target
    if best[after] == target:
        return float(sizes[after])
    share = (target - best[after - 1]) / (best[after] - best[after - 1])
    logs = np.log(np.asarray(sizes, dtype=np.float64))
    return float(np.exp(logs[after - 1] + share * (logs[after] - logs[after - 1])))


def reach(sizes: Sequence[int], baseline: Floats, method: Floats, seed: int = 0) -> list[Reach]:
    """How many examples the baseline needs to reach the accuracy of a method with each size.

    The 95 % interval is a bootstrap over seeds: each resample draws seeds with replacement, the same for both methods
    and all sizes, and computes the factor of the mean curves. It is between the quantiles of the expanded percentile
    interval, which corrects for few seeds (`expanded_level`). It covers the variation of seeds, not of problems. With
    one seed it is [0, ∞].

    Args:
        sizes: [N], numbers of examples, ascending.
        baseline: [S, N], accuracies.
        method: [S, N], accuracies with the same seeds.
        seed: of the resampling.

    Raises:
        EvaluationError: the shapes differ, or the tables are empty.
    """
    if baseline.shape != method.shape or baseline.ndim != 2 or baseline.shape[1] != len(sizes) or not baseline.size:
        raise EvaluationError(
            f"Expected two tables [seeds, {len(sizes)} sizes] of the same shape; got {baseline.shape} and "
            f"{method.shape}. They cannot be compared. Use the same seeds and sizes."
        )
    seeds = len(baseline)
    resamples = np.random.default_rng(seed).integers(seeds, size=(RESAMPLES, seeds))
    baseline_RN = baseline[resamples].mean(1)  # R resamples of the mean curves
    method_RN = method[resamples].mean(1)
    found = []
    for i, size in enumerate(sizes):
        examples = examples_to_reach(sizes, baseline.mean(0), float(method.mean(0)[i]))
        interval = Interval(0.0, math.inf)
        if seeds > 1:
            targets = method_RN[:, i].tolist()
            factors = [examples_to_reach(sizes, c, t) / size for c, t in zip(baseline_RN, targets, strict=True)]
            interval = _quantiles(factors, expanded_level(seeds, 0.95))
        found.append(Reach(size, examples, examples / size, interval))
    return found


def _quantiles(factors: Sequence[float], level: float) -> Interval:
    """The quantiles (1 ± level)/2, rounded outwards: some values are infinite, so they cannot be interpolated."""
    ordered = sorted(factors)
    low, high = (1 - level) / 2 * (len(ordered) - 1), (1 + level) / 2 * (len(ordered) - 1)
    return Interval(ordered[math.floor(low)], ordered[math.ceil(high)])


def reach_table(
    study: Study, answers: RunAnswers, setting: str | None
) -> tuple[Table, dict[str, dict[str, list[Reach]]]]:
    """How many examples the baseline needs to reach each other method, on every test set.

    Returns:
        The table, and its figures by method and column. A cell without right answers, which needs no examples, is
        empty in the table.
    """
    sizes = sorted(study.sizes)
    rows, figures = [], {}
    fewer: set[int] = set()
    for method in study.methods:
        cells = {n: _cells(study, method.label, n, setting) for n in sizes}
        seeds = answers.seeds(*(cell for pair in cells.values() for cell in pair))
        if method.label == study.baseline or not seeds:
            continue
        targets = {column: _curve(answers, method.label, setting, column, sizes, seeds) for column in answers.columns}
        figures[method.label] = {
            column: reach(sizes, _curve(answers, study.baseline, setting, column, sizes, seeds), targets[column])
            for column in answers.columns
        }
        fewer |= {trained_on for n in sizes for trained_on in answers.examples(cells[n]) if trained_on < n}
        for i, size in enumerate(sizes):
            shown = [
                _show(figures[method.label][column][i], sizes) if targets[column][:, i].any() else NONE
                for column in answers.columns
            ]
            rows.append([f"{method.label}, {size}", *shown])
    caption = (
        f"{answers.name}{'' if setting is None else ', ' + setting}: training problems that {study.baseline} needs to "
        "reach a method with the given number, and their ratio [95 % interval over seeds]"
        + (f"; some were trained on {' or '.join(map(str, sorted(fewer)))}" if fewer else "")
    )
    return Table(caption, ["method, its problems", *answers.columns], rows), figures


def _cells(study: Study, label: str, size: int, setting: str | None) -> list[Cell]:
    return [Cell(one, Group(size, setting)) for one in (label, study.baseline)]


def _curve(
    answers: RunAnswers, label: str, setting: str | None, column: str, sizes: Sequence[int], seeds: Sequence[int]
) -> Floats:
    """[S, N], the accuracies of a method."""
    return np.array([answers.accuracies(Cell(label, Group(n, setting)), column, seeds) for n in sizes]).T


def _show(found: Reach, sizes: Sequence[int]) -> str:
    def show(value: float) -> str:
        return "<" if value == 0 else ">" if math.isinf(value) else f"{value:.2f}"

    interval = f"[{show(found.interval.low)}, {show(found.interval.high)}]"
    if found.examples == 0:
        return f"under {sizes[0]}, × under {sizes[0] / found.size:.2f} {interval}"
    if math.isinf(found.examples):
        return f"over {sizes[-1]}, × over {sizes[-1] / found.size:.2f} {interval}"
    return f"{found.examples:.0f}, × {found.factor:.2f} {interval}"


def curve_chart(study: Study, answers: RunAnswers, setting: str | None) -> Chart:
    """Accuracy against the number of training problems, mean of all test sets."""
    labels = study.curve or [method.label for method in study.methods]
    column = answers.columns[-1]
    series = []
    for label in labels:
        means = {}
        for n in sorted(study.sizes):
            cell = Cell(label, Group(n, setting))
            seeds = answers.seeds(cell)
            if seeds:
                means[n] = mean_accuracy_over_sets(answers.tables(cell, column, seeds))
        line = Series.of_estimates(label, list(means), list(means.values()))
        if means:
            series.append(line if len(labels) <= MAX_BANDS else Series(label, line.x, line.y))
    sets = f"mean of {len(answers.tests)} test sets" if len(answers.tests) > 1 else answers.tests[0]
    bands = " Bands are 95 % intervals over seeds, over problems if they agree." if len(labels) <= MAX_BANDS else ""
    return Chart(
        f"curve-{answers.name}" + ("" if setting is None else f"-{setting}"),
        f"{answers.name}{'' if setting is None else ', ' + setting}: accuracy against training problems",
        f"Means over seeds, {sets}.{bands}",
        "training problems",
        "% right",
        series,
    )
