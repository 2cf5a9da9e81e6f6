"""Intervals and paired differences by drawing problems and seeds again and again.

Each function says which of the two sources of chance, problems and seeds, it covers. Degenerate input has a defined
answer, written with each function; nothing returns NaN. Accuracies are shares in [0, 1], not percentages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molsaki.errors import EvaluationError
from molsaki.statistics import Floats, Interval, check_level, checked_values

RESAMPLES = 10_000
"""Bootstrap resamples; the 2.5 % point then rests on 250 of them."""
_CELLS_AT_ONCE = 2_000_000
"""How many drawn cells are held at a time (16 MB), whatever the number of problems."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much more often `a` is right than `b`.

    Attributes:
        difference: mean over seeds and problems of a − b.
        interval: its bootstrap interval.
        p_value: two-sided, for a difference of 0.
        seeds: how many seeds it rests on; with 1 the interval covers the problems only.
        problems: how many problems it rests on.
    """

    difference: float
    interval: Interval
    p_value: float
    seeds: int
    problems: int


def bootstrap_interval(
    values: Sequence[float] | Floats,
    level: float = 0.95,
    bounds: tuple[float, float] = (0.0, 1.0),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of the mean of independent values.

    Values are drawn with replacement `resamples` times; the interval lies between the (1 ± level)/2
    quantiles of the means. Efron, 1979, "Bootstrap methods: another look at the jackknife", Annals of
    Statistics 7. Over a handful of seeds it is too narrow: use `seed_interval` there.

    One value cannot be resampled: all of `bounds`. Equal values give an interval of no width.

    Raises:
        EvaluationError: no values, one that is not finite or outside the bounds, or a level outside (0, 1).
    """
    check_level(level)
    data = checked_values(values, "values to resample", bounds)
    if data.size == 1:
        return Interval(*bounds)
    means = _resampled_means([data[None, :]], resamples, seed)
    return _percentiles(means, level)


def paired_bootstrap(
    a: Sequence[Sequence[float]] | npt.NDArray[Any],
    b: Sequence[Sequence[float]] | npt.NDArray[Any],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare two methods on the same problems with the same seeds; both are resampled, each on its own.

    For every resample, seeds and problems are drawn with replacement independently and a − b is averaged
    over their crossing, so that a lucky seed and an easy problem both widen the interval. Owen, 2007, "The
    pigeonhole bootstrap", Annals of Applied Statistics 1: for crossed factors this is mildly conservative.
    A bootstrap over three seeds sees only 2/3 of their variance, which works the other way; more seeds are
    the remedy. The p-value is 2·min(#{d* ≤ 0} + 1, #{d* ≥ 0} + 1)/(resamples + 1), at most 1 (Davison and
    Hinkley, 1997, §4.4).

    With one seed only the problems vary and `seeds` = 1 says so. With one problem only the seeds vary. One
    seed and one problem say nothing: the interval is [−1, 1], the p-value 1. Where every difference is the
    same the interval has no width, and where all are 0 the p-value is 1.

    Args:
        a: [seeds, problems], 1 where right and 0 where not; row i of both was trained with the same seed,
            column j is the same problem.
        b: as `a`.
        level: of confidence.
        resamples: how many.
        seed: of the resampling; the same arguments give the same result.

    Raises:
        EvaluationError: the shapes differ or are not two-dimensional, there is nothing in them, a value is
            outside [0, 1], or a level outside (0, 1).
    """
    check_level(level)
    difference = _difference_table(a, b)
    if difference.size == 1:
        return PairedDifference(float(difference.mean()), Interval(-1.0, 1.0), 1.0, 1, 1)
    means = _resampled_means([difference], resamples, seed)
    return _paired(difference.mean(), means, level, difference.shape[0], difference.shape[1])


def paired_bootstrap_over_sets(
    a: Sequence[Sequence[Sequence[float]] | npt.NDArray[Any]],
    b: Sequence[Sequence[Sequence[float]] | npt.NDArray[Any]],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare two methods by the mean of several test sets, each set with the same weight.

    As `paired_bootstrap`; the seeds that a resample draws are the same for all sets, since one student answers all of
    them, and the problems are drawn set by set.

    Args:
        a: for each set a table [seeds, problems]; the rows of all sets are the same seeds.
        b: as `a`.
        level: of confidence.
        resamples: how many.
        seed: of the resampling.

    Raises:
        EvaluationError: as `paired_bootstrap`, or there are no sets, or not as many seeds in each.
    """
    check_level(level)
    tables = [_difference_table(left, right) for left, right in zip(a, b, strict=False)]
    if not tables or len(a) != len(b) or len({table.shape[0] for table in tables}) > 1:
        raise EvaluationError(
            f"Expected the same test sets of both methods with the same seeds; got {len(a)} and {len(b)} sets with "
            f"{sorted({table.shape[0] for table in tables})} seeds. They cannot be paired; compare what both have."
        )
    problems = sum(table.shape[1] for table in tables)
    mean = float(np.mean([table.mean() for table in tables]))
    if problems == len(tables) and tables[0].shape[0] == 1:
        return PairedDifference(mean, Interval(-1.0, 1.0), 1.0, 1, problems)
    return _paired(mean, _resampled_means(tables, resamples, seed), level, tables[0].shape[0], problems)


def _paired(mean: float, means: Floats, level: float, seeds: int, problems: int) -> PairedDifference:
    at_most, at_least = int((means <= 0).sum()), int((means >= 0).sum())
    return PairedDifference(
        difference=float(mean),
        interval=_percentiles(means, level),
        p_value=min(1.0, 2 * (min(at_most, at_least) + 1) / (len(means) + 1)),
        seeds=seeds,
        problems=problems,
    )


def _difference_table(a: Sequence[Sequence[float]] | npt.NDArray[Any], b: Any) -> Floats:
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.ndim != 2 or left.shape != right.shape:
        raise EvaluationError(
            f"Expected two tables [seeds, problems] of one shape, got {left.shape} and {right.shape}. "
            f"The runs cannot be paired; compare the same seeds on the same problems."
        )
    checked_values(left.ravel(), "correct answers of the first method", (0.0, 1.0))
    checked_values(right.ravel(), "correct answers of the second method", (0.0, 1.0))
    return left - right


def crossed_bootstrap(
    values: Sequence[Sequence[float]] | npt.NDArray[Any],
    level: float = 0.95,
    bounds: tuple[float, float] = (-1.0, 1.0),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the interval of the mean of a table, of which both rows and columns were drawn by chance.

    As `paired_bootstrap`, for what is no difference of two accuracies: rows and columns are drawn with
    replacement independently. With one row only the columns vary, with one column only the rows; of one cell
    nothing is known: all of `bounds`.

    Args:
        values: [runs, problems], such as one row for each seed.
        level: of confidence.
        bounds: what the values can be at all.
        resamples: how many.
        seed: of the resampling.

    Raises:
        EvaluationError: it is no table, there is nothing in it, a value is not finite or outside the bounds, or
            a level outside (0, 1).
    """
    check_level(level)
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise EvaluationError(
            f"Expected a table [runs, problems], got {table.ndim} dimensions. Nothing was computed; give one row for "
            f"each run, of the same problems."
        )
    checked_values(table.ravel(), "values to resample", bounds)
    if table.size == 1:
        return Interval(*bounds)
    return _percentiles(_resampled_means([table], resamples, seed), level)


def _resampled_means(tables: Sequence[Floats], resamples: int, seed: int) -> Floats:
    """Means of `resamples` two-level resamples of tables [seeds, problems], in blocks of bounded size.

    A resample draws its seeds once, and each table's problems on their own; tables weigh alike.
    """
    rng = np.random.default_rng(seed)
    rows = tables[0].shape[0]
    block = max(1, _CELLS_AT_ONCE // (rows + max(table.shape[1] for table in tables)))
    means = np.zeros(resamples)
    for start in range(0, resamples, block):
        n = min(block, resamples - start)
        times_drawn = rng.multinomial(rows, np.full(rows, 1 / rows), size=n)
        for table in tables:
            drawn = rng.integers(table.shape[1], size=(n, table.shape[1]))
            sums = np.take_along_axis(times_drawn @ table, drawn, axis=1).sum(axis=1)
            means[start : start + n] += sums / table.size
    # Divided at last: the mean of sets that are all 1 is then 1, and not a rounding above it.
    return means / len(tables)


def _percentiles(means: Floats, level: float) -> Interval:
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(low), float(high))
