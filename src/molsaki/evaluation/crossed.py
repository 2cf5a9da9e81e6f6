"""Means and paired differences over tables [seeds, problems], where both seeds and problems are random samples.

A lucky seed moves a whole row, an easy problem moves a whole column, and each cell has noise of its own. The variance
of the mean is estimated from the mean squares of the table, and its interval is Student's t. A bootstrap of rows and
columns (the pigeonhole bootstrap) misses part of the variance between seeds and has no t correction: with three seeds
that differ, it reports twice as many significant differences as it should (`python benchmarks/coverage.py`).

Every function documents its result for degenerate input; none returns NaN. Accuracies are shares in [0, 1], not
percentages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molsaki.errors import EvaluationError
from molsaki.evaluation.intervals import (
    Floats,
    Interval,
    MeanAccuracy,
    check_level,
    checked_values,
    mean_accuracy,
    seed_interval,
)

Table = Sequence[Sequence[float]] | npt.NDArray[Any]
"""[S, P]: one row per seed, one column per problem."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference of the accuracies of two methods.

    Attributes:
        difference: mean of a − b over seeds and problems.
        interval: the confidence interval of the difference.
        p_value: two-sided, for the hypothesis that the difference is 0.
        seeds: number of seeds. With 1, the interval covers only the variation of problems.
        problems: number of problems.
    """

    difference: float
    interval: Interval
    p_value: float
    seeds: int
    problems: int


@dataclass(frozen=True, slots=True)
class _Variance:
    """The estimated variance of a mean, and the degrees of freedom of the estimate."""

    value: float
    freedom: float


def paired_difference(a: Table, b: Table, level: float = 0.95) -> PairedDifference:
    """Compare two methods on the same problems with the same seeds.

    Let D = a − b, with S seeds and P problems. MSR, MSC and MSE are the mean squares of its rows, its columns and its
    residuals in a two-way analysis of variance without replication:

        SE² = (max(MSR, MSE) + max(0, MSC − MSE)) / (S·P)

    This estimates σ²_seed/S + σ²_problem/P + σ²_residual/(S·P), without negative components (Brennan, 2001,
    "Generalizability Theory", ch. 6). The degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2), with
    S − 1 for the first term. The interval and the p-value are Student's t.

    Degenerate tables: With one seed, only the problems vary; with one problem, only the seeds. With one seed and one
    problem, the interval is [−1, 1] and the p-value is 1. If all differences are equal to d, their variance is 0.
    The share of problems with another difference is then at most z²/(n + z²), the upper end of Wilson's interval for 0
    of n problems, with z the normal quantile of (1 + level)/2. Such a problem's difference is at most 1 + d below d and
    1 − d above it, so the interval is

        [d − (1 + d)·z²/(n + z²),  d + (1 − d)·z²/(n + z²)]

    For d = 0 this is Tango's score interval (1998, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", Statistics in Medicine 17). The p-value is then 1 for a difference of 0,
    and otherwise 2^(1 − n), that of a sign test over n seeds (over n problems if there is one seed).

    Args:
        a: [S, P], 1 for a right answer and 0 for a wrong one.
        b: [S, P], of the other method. Row i has the same seed in both tables, column j the same problem.
        level: confidence level of the interval.

    Raises:
        EvaluationError: the shapes differ or are not two-dimensional, a table is empty, a value is outside [0, 1], or
            the level is outside (0, 1).
    """
    return paired_difference_over_sets([a], [b], level)


def paired_difference_over_sets(a: Sequence[Table], b: Sequence[Table], level: float = 0.95) -> PairedDifference:
    """Compare two methods by their mean accuracy over several test sets, with equal weights.

    See `paired_difference`, which is the case of one set. The students answer all K sets, so the seeds vary by the
    variance of their means over all sets, m_s:

        SE² = max(var(m)/S, Σ_k MSE_k/(S·P_k·K²)) + Σ_k max(0, MSC_k − MSE_k)/(S·P_k·K²)

    If the differences within every set are equal, each set has the interval of such a table. The distance of an end of
    the mean's interval from the mean is then √(Σ_k h_k²)/K, with h_k those of the sets' intervals (Zou and Donner,
    2008, "Construction of confidence limits about effect measures", Statistics in Medicine 27).

    Args:
        a: one table [S, P_k] per set. Row i has the same seed in all tables.
        b: the tables of the other method.
        level: confidence level of the interval.

    Raises:
        EvaluationError: see `paired_difference`; also if there are no sets, or the sets have different seeds.
    """
    check_level(level)
    tables = [_difference_table(left, right) for left, right in zip(a, b, strict=False)]
    if not tables or len(a) != len(b) or len({table.shape[0] for table in tables}) > 1:
        raise EvaluationError(
            f"Expected the same test sets and seeds for both methods; got {len(a)} and {len(b)} sets with "
            f"{sorted({table.shape[0] for table in tables})} seeds. They cannot be paired. Use the sets and seeds that "
            "both methods have."
        )
    mean = float(np.mean([table.mean() for table in tables]))
    variance, seeds = _variance_of_mean(tables), tables[0].shape[0]
    problems = sum(table.shape[1] for table in tables)
    interval = _student_interval(mean, variance, level, (-1.0, 1.0))
    if variance is not None and variance.value <= _ROUNDING:
        interval = _interval_of_equal(tables, level, (-1.0, 1.0))
    return PairedDifference(mean, interval, _p_value(mean, variance, seeds if seeds > 1 else problems), seeds, problems)


def mean_accuracy_over_sets(tables: Sequence[Table]) -> MeanAccuracy:
    """The mean accuracy of a method over several test sets, with equal weights.

    See `mean_accuracy`, which is the case of one set. The 95 % interval is Student's t over the seeds' means. One seed,
    or seeds with equal means, say nothing about the variation between seeds; the interval is then over the problems of
    all sets, as in `paired_difference_over_sets`. If each set's answers are all right or all wrong, it is made of the
    sets' Wilson intervals, as there.

    Args:
        tables: one table [S, P_k] per set, 1 for a right answer and 0 for a wrong one.

    Raises:
        EvaluationError: there are no seeds or no problems.
    """
    arrays = [np.asarray(table, dtype=np.float64) for table in tables]
    if len(arrays) == 1:
        return mean_accuracy([int(correct) for correct in arrays[0].sum(1)], arrays[0].shape[1])
    means_S = checked_values(np.mean([table.mean(1) for table in arrays], axis=0), "accuracies", (0.0, 1.0))
    mean, bounds = float(means_S.mean()), (0.0, 1.0)
    if np.ptp(means_S) > math.sqrt(_ROUNDING):
        return MeanAccuracy(mean, seed_interval(means_S.tolist()), len(means_S))
    per_problem = [table.mean(0, keepdims=True) for table in arrays]
    variance = _variance_of_mean(per_problem)
    if variance is not None and variance.value > _ROUNDING:
        return MeanAccuracy(mean, _student_interval(mean, variance, 0.95, bounds), len(means_S))
    return MeanAccuracy(mean, _interval_of_equal(per_problem, 0.95, bounds), len(means_S))


def crossed_interval(values: Table, level: float = 0.95, bounds: tuple[float, float] = (-1.0, 1.0)) -> Interval:
    """The interval of the mean of a table of any values, computed as in `paired_difference`.

    Args:
        values: [S, P], such as one row per seed. A table of one cell has the interval `bounds`, and one of equal
            values that of `paired_difference` between `bounds`.
        level: confidence level.
        bounds: the smallest and the largest possible value.

    Raises:
        EvaluationError: the table is not two-dimensional or empty, a value is not finite or outside the bounds, or the
            level is outside (0, 1).
    """
    check_level(level)
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise EvaluationError(
            f"Expected a table [seeds, problems]; got {table.ndim} dimensions. There is no mean over both. Pass one "
            "row per seed."
        )
    checked_values(table.ravel(), "values to average", bounds)
    variance = _variance_of_mean([table])
    if variance is not None and variance.value <= _ROUNDING:
        return _interval_of_equal([table], level, bounds)
    return _student_interval(float(table.mean()), variance, level, bounds)


def _variance_of_mean(tables: Sequence[Floats]) -> _Variance | None:
    """The variance of the mean over sets of the tables' means; None if there is a single cell per table.

    Args:
        tables: K tables [S, P_k].
    """
    seeds, sets = tables[0].shape[0], len(tables)
    # The terms of SE² in `paired_difference_over_sets`, each with its degrees of freedom. −MSE is a term of its own,
    # because Satterthwaite's formula needs the squares of all mean squares.
    terms: list[tuple[float, float]] = []
    residual = 0.0  # Σ_k MSE_k / (S·P_k·K²)
    for table in tables:
        problems = table.shape[1]
        if problems == 1:
            continue
        scale = 1 / (seeds * problems * sets**2)
        columns_P = table.mean(0)
        of_columns = scale * seeds * float(columns_P.var(ddof=1))  # MSC = S · var of the means of columns
        if seeds == 1:
            terms.append((of_columns, problems - 1))
            continue
        residuals_SP = table - table.mean(1, keepdims=True) - columns_P + table.mean()
        freedom = (seeds - 1) * (problems - 1)
        of_residuals = scale * float((residuals_SP**2).sum()) / freedom  # MSE
        residual += of_residuals
        if of_columns > of_residuals:
            terms += [(of_columns, problems - 1), (-of_residuals, freedom)]
    if seeds > 1:
        means_S = np.mean([table.mean(1) for table in tables], axis=0)
        # Seeds may be alike by luck; their means vary at least as much as the single answers make them vary.
        terms.append((max(float(means_S.var(ddof=1)) / seeds, residual), seeds - 1))
    if not terms:
        return None
    # Satterthwaite: (Σ terms)² / Σ (term² / its degrees of freedom), at least the smallest of them.
    variance = sum(term for term, _ in terms)
    squares = sum(term**2 / freedom for term, freedom in terms)
    least = min(freedom for _, freedom in terms)
    return _Variance(variance, max(variance**2 / squares, least) if squares > 0 else least)


def _student_interval(mean: float, variance: _Variance | None, level: float, bounds: tuple[float, float]) -> Interval:
    """The interval mean ± t · SE within `bounds`; all of `bounds` if the variance is unknown."""
    from scipy.special import stdtrit

    if variance is None:
        return Interval(*bounds)
    margin = float(stdtrit(variance.freedom, (1 + level) / 2)) * math.sqrt(variance.value)
    return Interval(max(bounds[0], mean - margin), min(bounds[1], mean + margin))


def _interval_of_equal(tables: Sequence[Floats], level: float, bounds: tuple[float, float]) -> Interval:
    """The interval of the mean of sets, in each of which all problems have one value; see `paired_difference`."""
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    means = [float(table.mean()) for table in tables]
    shares = [z * z / (table.shape[1] + z * z) for table in tables]  # of problems that may have another value
    mean, count = sum(means) / len(means), len(means)
    below = math.hypot(*((one - bounds[0]) * share for one, share in zip(means, shares, strict=True))) / count
    above = math.hypot(*((bounds[1] - one) * share for one, share in zip(means, shares, strict=True))) / count
    return Interval(max(bounds[0], mean - below), min(bounds[1], mean + above))


_ROUNDING = 1e-28
"""A variance of values in [0, 1] that is below this comes from rounding."""


def _p_value(mean: float, variance: _Variance | None, n: int) -> float:
    """The two-sided p-value of mean / SE; without variance, that of a sign test over n seeds or problems."""
    from scipy.special import stdtr

    if variance is None or mean == 0:
        return 1.0
    if variance.value <= _ROUNDING:
        return float(2.0 ** (1 - n))
    return float(2 * stdtr(variance.freedom, -abs(mean) / math.sqrt(variance.value)))


def _difference_table(a: Table, b: Table) -> Floats:
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.ndim != 2 or left.shape != right.shape:
        raise EvaluationError(
            f"Expected two tables [seeds, problems] of the same shape; got {left.shape} and {right.shape}. They cannot "
            "be paired. Use the same seeds and problems for both methods."
        )
    checked_values(left.ravel(), "right answers of the first method", (0.0, 1.0))
    checked_values(right.ravel(), "right answers of the second method", (0.0, 1.0))
    return left - right
