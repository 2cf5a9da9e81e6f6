"""Means and paired differences of tables [seeds, problems], of which both rows and columns were drawn by chance.

A lucky seed moves a whole row, an easy problem a whole column, and each cell has chance of its own. The variance of the
mean is estimated from the table's mean squares and its interval is Student's. A bootstrap that draws rows and columns
(the pigeonhole bootstrap) does not see all of the seeds' variance and knows no t: where seeds differ, it finds with
three of them twice as many differences as there should be (`python benchmarks/coverage.py`).

Degenerate input has a defined answer, written with each function; nothing returns NaN. Accuracies are shares in [0, 1],
not percentages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molsaki.errors import EvaluationError
from molsaki.evaluation.intervals import Floats, Interval, check_level, checked_values

Tables = Sequence[Sequence[Sequence[float]] | npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much more often `a` is right than `b`.

    Attributes:
        difference: mean over seeds and problems of a − b.
        interval: its interval.
        p_value: two-sided, for a difference of 0.
        seeds: how many seeds it rests on; with 1 the interval covers the problems only.
        problems: how many problems it rests on.
    """

    difference: float
    interval: Interval
    p_value: float
    seeds: int
    problems: int


@dataclass(frozen=True, slots=True)
class _Spread:
    """The variance of a mean, and the degrees of freedom of its estimate; None where nothing is known of it."""

    variance: float
    freedom: float


def paired_difference(
    a: Sequence[Sequence[float]] | npt.NDArray[Any],
    b: Sequence[Sequence[float]] | npt.NDArray[Any],
    level: float = 0.95,
) -> PairedDifference:
    """Compare two methods on the same problems with the same seeds.

    With D = a − b over S seeds and P problems, and MSR, MSC and MSE the mean squares of its rows, its columns and
    what is left of a two-way table without repetition,

        SE² = (max(MSR, MSE) + max(0, MSC − MSE)) / (S·P),

    the estimate of σ²_seed/S + σ²_problem/P + σ²_rest/(S·P) with no negative part (Brennan, 2001, "Generalizability
    Theory", ch. 6). Its degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2), those of the first part
    always S − 1. Interval and p-value are those of Student's t.

    With one seed only the problems vary and `seeds` = 1 says so. With one problem only the seeds vary. One seed and
    one problem say nothing: the interval is [−1, 1], the p-value 1. Where every difference is the same the interval
    has no width and the p-value is 1 for a difference of 0, else that of a sign test over seeds (over problems, where
    there is one seed), 2^(1 − n).

    Args:
        a: [seeds, problems], 1 where right and 0 where not; row i of both was trained with the same seed, column j
            is the same problem.
        b: as `a`.
        level: of confidence.

    Raises:
        EvaluationError: the shapes differ or are not two-dimensional, there is nothing in them, a value is outside
            [0, 1], or a level outside (0, 1).
    """
    return paired_difference_over_sets([a], [b], level)


def paired_difference_over_sets(a: Tables, b: Tables, level: float = 0.95) -> PairedDifference:
    """Compare two methods by the mean of several test sets, each set with the same weight.

    As `paired_difference`; one student answers all sets, so the seeds' part of SE² is that of the seeds' means over
    all K sets, var(m)/S (Σ_k MSE_k / (S·P_k·K²) at least), and each set k adds its problems' part,
    max(0, MSC_k − MSE_k) / (S·P_k·K²).

    Args:
        a: for each set a table [seeds, problems]; the rows of all sets are the same seeds.
        b: as `a`.
        level: of confidence.

    Raises:
        EvaluationError: as `paired_difference`, or there are no sets, or not as many seeds in each.
    """
    check_level(level)
    tables = [_difference_table(left, right) for left, right in zip(a, b, strict=False)]
    if not tables or len(a) != len(b) or len({table.shape[0] for table in tables}) > 1:
        raise EvaluationError(
            f"Expected the same test sets of both methods with the same seeds; got {len(a)} and {len(b)} sets with "
            f"{sorted({table.shape[0] for table in tables})} seeds. They cannot be paired; compare what both have."
        )
    mean = float(np.mean([table.mean() for table in tables]))
    spread, seeds = _spread(tables), tables[0].shape[0]
    problems = sum(table.shape[1] for table in tables)
    interval = _student(mean, spread, level, (-1.0, 1.0))
    return PairedDifference(mean, interval, _p_value(mean, spread, seeds if seeds > 1 else problems), seeds, problems)


def crossed_interval(
    values: Sequence[Sequence[float]] | npt.NDArray[Any],
    level: float = 0.95,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> Interval:
    """Return the interval of the mean of a table, as `paired_difference` does, for what is no difference of accuracies.

    Args:
        values: [runs, problems], such as one row for each seed. With one row only the columns vary, with one column
            only the rows; of one cell nothing is known: all of `bounds`.
        level: of confidence.
        bounds: what the values can be at all.

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
    checked_values(table.ravel(), "values to average", bounds)
    return _student(float(table.mean()), _spread([table]), level, bounds)


def _spread(tables: Sequence[Floats]) -> _Spread | None:
    """Of the mean of several tables' means."""
    seeds, sets = tables[0].shape[0], len(tables)
    parts: list[tuple[float, float]] = []  # estimates, of which some are taken off, with their degrees of freedom
    rest = 0.0
    for table in tables:
        problems = table.shape[1]
        if problems == 1:
            continue
        scale = 1 / (seeds * problems * sets**2)
        columns_P, mean = table.mean(0), table.mean()
        of_columns = scale * seeds * float(columns_P.var(ddof=1))
        if seeds == 1:
            parts.append((of_columns, problems - 1))
            continue
        left = table - table.mean(1, keepdims=True) - columns_P + mean
        freedom = (seeds - 1) * (problems - 1)
        of_rest = scale * float((left**2).sum()) / freedom
        rest += of_rest
        if of_columns > of_rest:
            parts += [(of_columns, problems - 1), (-of_rest, freedom)]
    if seeds > 1:
        means_S = np.mean([table.mean(1) for table in tables], axis=0)
        # Seeds that are alike by luck vary as much as their single answers do, at least.
        parts.append((max(float(means_S.var(ddof=1)) / seeds, rest), seeds - 1))
    if not parts:
        return None
    variance = sum(part for part, _ in parts)
    squares = sum(part**2 / freedom for part, freedom in parts)
    least = min(freedom for _, freedom in parts)
    return _Spread(variance, max(variance**2 / squares, least) if squares > 0 else least)


def _student(mean: float, spread: _Spread | None, level: float, bounds: tuple[float, float]) -> Interval:
    from scipy.special import stdtrit

    if spread is None:
        return Interval(*bounds)
    margin = float(stdtrit(spread.freedom, (1 + level) / 2)) * math.sqrt(spread.variance)
    return Interval(max(bounds[0], mean - margin), min(bounds[1], mean + margin))


def _p_value(mean: float, spread: _Spread | None, independent: int) -> float:
    from scipy.special import stdtr

    if spread is None or mean == 0:
        return 1.0
    if spread.variance <= _ROUNDING:
        return float(2.0 ** (1 - independent))
    return float(2 * stdtr(spread.freedom, -abs(mean) / math.sqrt(spread.variance)))


_ROUNDING = 1e-28
"""A variance that is nothing but rounding, of values in [0, 1]."""


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
