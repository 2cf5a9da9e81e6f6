"""Accuracy against training examples, and how many examples one method needs to reach another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molsaki.errors import EvaluationError
from molsaki.evaluation.intervals import Interval, expanded_level, seed_interval
from molsaki.report.charts import Chart, Series
from molsaki.report.facts import Table
from molsaki.study.correctness import RunMarks
from molsaki.study.files import MEAN, Cell, Group, Study

RESAMPLES = 2000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reach:
    """How many examples the baseline needs to reach what a method reaches with `size`.

    Attributes:
        size: the method's examples.
        examples: the baseline's; 0 and infinity stand for fewer and more than any size that was tried.
        factor: examples / size.
        interval: of the factor, over seeds; its ends may be 0 and infinity likewise.
    """

    size: int
    examples: float
    factor: float
    interval: Interval


def examples_to_reach(sizes: Sequence[int], accuracies: Sequence[float] | Floats, target: float) -> float:
    """Where a curve of accuracies first reaches a target, interpolated in the logarithm of the number of examples.

    A curve that falls somewhere counts as staying at its best so far, since more examples could be left out.

    Args:
        sizes: numbers of examples, ascending.
        accuracies: one for each.
        target: the accuracy to reach.

    Returns:
        The number; 0 where the smallest size is above the target already, infinity where the largest is below it.
    """
    best = np.maximum.accumulate(np.asarray(accuracies, dtype=np.float64))
    if target < best[0]:
        return 0.0
    if target > best[-1]:
        return math.inf
    place = int(np.searchsorted(best, target))
    if best[place] == target:
        return float(sizes[place])
    share = (target - best[place - 1]) / (best[place] - best[place - 1])
    logs = np.log(np.asarray(sizes, dtype=np.float64))
    return float(np.exp(logs[place - 1] + share * (logs[place] - logs[place - 1])))


def reach(sizes: Sequence[int], baseline: Floats, method: Floats, level: float = 0.95, seed: int = 0) -> list[Reach]:
    """How many examples the baseline needs to reach what a method reaches with each size.

    The interval is a bootstrap over seeds: a resample draws seeds, the same ones for both methods and all sizes, and
    reads the factor off the resampled curves; the interval lies between percentiles that make up for few seeds
    (`expanded_level`). It covers the chance of the training and not that of the problems. One seed says nothing about
    others: from 0 to infinity.

    Args:
        sizes: numbers of examples, ascending.
        baseline: [seeds, sizes], accuracies.
        method: [seeds, sizes], of the same seeds.
        level: of confidence.
        seed: of the resampling.

    Raises:
        EvaluationError: the tables have other shapes, or nothing in them.
    """
    if baseline.shape != method.shape or baseline.ndim != 2 or baseline.shape[1] != len(sizes) or not baseline.size:
        raise EvaluationError(
            f"Expected two tables [seeds, {len(sizes)} sizes] of one shape; got {baseline.shape} and {method.shape}. "
            "No factor was found; compare the same seeds and sizes."
        )
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(baseline), size=(RESAMPLES, len(baseline)))
    found = []
    for place, size in enumerate(sizes):
        examples = examples_to_reach(sizes, baseline.mean(0), float(method.mean(0)[place]))
        interval = Interval(0.0, math.inf)
        if len(baseline) > 1:
            curves = ((baseline[rows].mean(0), float(method[rows].mean(0)[place])) for rows in drawn)
            interval = _ends(
                [examples_to_reach(sizes, curve, target) / size for curve, target in curves],
                expanded_level(len(baseline), level),
            )
        found.append(Reach(size, examples, examples / size, interval))
    return found


def _ends(factors: Sequence[float], level: float) -> Interval:
    """Percentiles of values of which some are 0 or infinite, between which nothing can be interpolated."""
    ordered = sorted(factors)
    low, high = (1 - level) / 2 * (len(ordered) - 1), (1 + level) / 2 * (len(ordered) - 1)
    return Interval(ordered[math.floor(low)], ordered[math.ceil(high)])


def reach_table(study: Study, marks: RunMarks, setting: str | None) -> tuple[Table, dict[str, dict[str, list[Reach]]]]:
    """For every method but the baseline and every test set, how many examples the baseline needs to reach it."""
    sizes = sorted(study.sizes)
    columns = [*marks.tests, MEAN] if len(marks.tests) > 1 else list(marks.tests)
    rows, figures = [], {}
    fewer: set[int] = set()  # what students had to learn from where not so many problems have a rationale
    for method in study.methods:
        if method.label == study.baseline:
            continue
        cells = [cell for n in sizes for cell in _cells(study, method.label, n, setting)]
        seeds = marks.seeds(*cells)
        if not seeds:
            continue
        figures[method.label] = {
            column: reach(
                sizes,
                _curve(marks, study.baseline, setting, column, sizes, seeds),
                _curve(marks, method.label, setting, column, sizes, seeds),
            )
            for column in columns
        }
        fewer |= {n for size in sizes for n in marks.examples(_cells(study, method.label, size, setting)) if n < size}
        for place, size in enumerate(sizes):
            cells_ = [_shown(figures[method.label][column][place], sizes) for column in columns]
            rows.append([f"{method.label}, {size}", *cells_])
    caption = (
        f"{marks.name}{'' if setting is None else ', ' + setting}: how many training problems {study.baseline} needs "
        "to reach what a method reaches with so many, and how many times that is [95 % interval over seeds]"
        + (f"; some had {' or '.join(map(str, sorted(fewer)))} to learn from" if fewer else "")
    )
    return Table(caption, ["method, its examples", *columns], rows), figures


def _cells(study: Study, label: str, size: int, setting: str | None) -> list[Cell]:
    return [Cell(one, Group(size, setting)) for one in (label, study.baseline)]


def curve_chart(study: Study, marks: RunMarks, setting: str | None) -> Chart:
    """Accuracy against the number of training examples, mean of all test sets."""
    sizes = sorted(study.sizes)
    labels = study.curve or [method.label for method in study.methods]
    series = []
    for label in labels:
        there = [n for n in sizes if marks.seeds(Cell(label, Group(n, setting)))]
        means, intervals = [], []
        for n in there:
            cell = Cell(label, Group(n, setting))
            values = marks.accuracies(cell, None, marks.seeds(cell))
            means.append(100 * sum(values) / len(values))
            intervals.append(seed_interval(values))
        bands = len(labels) <= 4 and there
        low = [100 * interval.low for interval in intervals] if bands else []
        high = [100 * interval.high for interval in intervals] if bands else []
        if there:
            series.append(Series(label, [float(n) for n in there], means, low, high))
    sets = f"mean of {len(marks.tests)} test sets" if len(marks.tests) > 1 else marks.tests[0]
    return Chart(
        f"curve-{marks.name}" + ("" if setting is None else f"-{setting}"),
        f"{marks.name}: accuracy against training problems",
        f"Means over seeds, {sets}; bands are 95 % intervals over seeds.",
        "training problems",
        "% right",
        series,
    )


def _curve(
    marks: RunMarks, label: str, setting: str | None, column: str, sizes: Sequence[int], seeds: Sequence[int]
) -> Floats:
    test = None if column == MEAN else column
    return np.array([marks.accuracies(Cell(label, Group(n, setting)), test, seeds) for n in sizes]).T


def _shown(found: Reach, sizes: Sequence[int]) -> str:
    def number(value: float, form: str) -> str:
        return "<" if value == 0 else ">" if math.isinf(value) else format(value, form)

    if found.examples == 0 or math.isinf(found.examples):
        end = f"under {sizes[0]}" if found.examples == 0 else f"over {sizes[-1]}"
        factor = f"under {sizes[0] / found.size:.2f}" if found.examples == 0 else f"over {sizes[-1] / found.size:.2f}"
        return f"{end}, × {factor} [{number(found.interval.low, '.2f')}, {number(found.interval.high, '.2f')}]"
    ends = f"[{number(found.interval.low, '.2f')}, {number(found.interval.high, '.2f')}]"
    return f"{found.examples:.0f}, × {found.factor:.2f} {ends}"
