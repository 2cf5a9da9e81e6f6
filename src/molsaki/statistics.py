"""Intervals and tests for accuracies over problems and seeds.

A run has two sources of chance: which problems are in the test set and which seed trained the student. Each
function here says which of the two it covers. Degenerate input has a defined answer, written with each
function; nothing returns NaN. Accuracies are shares in [0, 1], not percentages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from molsaki.errors import EvaluationError

RESAMPLES = 10_000
"""Bootstrap resamples; the 2.5 % point then rests on 250 of them."""
_CELLS_AT_ONCE = 2_000_000
"""How many drawn cells are held at a time (16 MB), whatever the number of problems."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The JSON form."""
        return {"low": self.low, "high": self.high}


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


@dataclass(frozen=True, slots=True)
class McNemar:
    """How often only one of the two was right, and the exact two-sided p-value for "equally often"."""

    only_a: int
    only_b: int
    p_value: float


def wilson_interval(correct: int, n: int, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a share: the chance of the problems, for one trained student.

    With p = correct/n and z the normal quantile of (1 + level)/2:
    (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n). Wilson, 1927, "Probable inference, the law of
    succession, and statistical inference", JASA 22. Unlike p ± z·√(p(1 − p)/n) it stays in [0, 1] and has a
    width at 0 and 1.

    Of no problems at all nothing is known: [0, 1].

    Raises:
        EvaluationError: not 0 ≤ correct ≤ n, or a level outside (0, 1).
    """
    from scipy.special import ndtri

    _check_level(level)
    if not 0 <= correct <= n:
        raise EvaluationError(
            f"Expected 0 <= correct <= n, got {correct} correct of {n}. There is no such share; check what was counted."
        )
    if n == 0:
        return Interval(0.0, 1.0)
    z = float(ndtri((1 + level) / 2))
    share = correct / n
    centre = share + z * z / (2 * n)
    margin = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if correct == 0 else (centre - margin) / scale
    high = 1.0 if correct == n else (centre + margin) / scale
    return Interval(max(0.0, low), min(1.0, high))


def seed_interval(values: Sequence[float], level: float = 0.95, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """Return Student's t-interval of the mean over seeds: the chance of the training, for one test set.

    mean ± t_{(1 + level)/2, n − 1} · s/√n with s the sample standard deviation. Student, 1908, "The
    probable error of a mean", Biometrika 6. Cut off at `bounds`.

    One seed says nothing about other seeds: all of `bounds`. Equal values give an interval of no width, as
        the
    formula has it; with few seeds that is luck rather than certainty.

    Args:
        values: one accuracy, or one difference of accuracies, per seed.
        level: of confidence.
        bounds: what the mean can be at all; [−1, 1] for differences.

    Raises:
        EvaluationError: no values, one that is not finite or outside the bounds, or a level outside (0, 1).
    """
    from scipy.special import stdtrit

    _check_level(level)
    data = _checked(values, "one value per seed", bounds)
    if data.size == 1:
        return Interval(*bounds)
    t = float(stdtrit(data.size - 1, (1 + level) / 2))
    margin = t * float(data.std(ddof=1)) / math.sqrt(data.size)
    mean = float(data.mean())
    return Interval(max(bounds[0], mean - margin), min(bounds[1], mean + margin))


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
    _check_level(level)
    data = _checked(values, "values to resample", bounds)
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
    _check_level(level)
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
    _check_level(level)
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
    _checked(left.ravel(), "correct answers of the first method", (0.0, 1.0))
    _checked(right.ravel(), "correct answers of the second method", (0.0, 1.0))
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
    _check_level(level)
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise EvaluationError(
            f"Expected a table [runs, problems], got {table.ndim} dimensions. Nothing was computed; give one row for "
            f"each run, of the same problems."
        )
    _checked(table.ravel(), "values to resample", bounds)
    if table.size == 1:
        return Interval(*bounds)
    return _percentiles(_resampled_means([table], resamples, seed), level)


def mcnemar(a_correct: Sequence[bool], b_correct: Sequence[bool]) -> McNemar:
    """Test exactly whether two students are right equally often on the same problems.

    Under that hypothesis the problems that only one of them solves are fair coins: with k the smaller count
        and n both
    together, p = min(1, 2·P(X ≤ k)), X ~ Binomial(n, ½). McNemar, 1947, "Note on the sampling error of the
    difference between correlated proportions or percentages", Psychometrika 12. It covers the problems, not
    the seeds.

    Where no problem is solved by only one of them, p is 1.

    Raises:
        EvaluationError: the two have different lengths or a value that is neither right nor wrong.
    """
    from scipy.special import bdtr

    if len(a_correct) != len(b_correct):
        raise EvaluationError(
            f"Expected an answer of both for every problem, got {len(a_correct)} and {len(b_correct)}. "
            f"They cannot be paired; compare the same problems in the same order."
        )
    left, right = np.asarray(a_correct, dtype=np.float64), np.asarray(b_correct, dtype=np.float64)
    if not (np.isin(left, (0, 1)).all() and np.isin(right, (0, 1)).all()):
        raise EvaluationError(
            "Expected only True and False (or 1 and 0), got another value. The test counts right answers; "
            "for shares use paired_bootstrap."
        )
    only_a, only_b = int((left > right).sum()), int((right > left).sum())
    n = only_a + only_b
    p_value = 1.0 if n == 0 else min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))
    return McNemar(only_a, only_b, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for having made several comparisons; their order is kept.

    With p₍₁₎ ≤ … ≤ p₍ₘ₎ the adjusted value of rank i is max over j ≤ i of min(1, (m − j + 1)·p₍ⱼ₎). Holm,
    1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    No p-values give an empty list.

    Raises:
        EvaluationError: a value is not in [0, 1].
    """
    if not len(p_values):
        return []
    data = _checked(p_values, "p-values", (0.0, 1.0))
    order = np.argsort(data, kind="stable")
    factors = np.arange(data.size, 0, -1)
    adjusted = np.empty_like(data)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * data[order]))
    return [float(value) for value in adjusted]


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise EvaluationError(f"Expected a level between 0 and 1, such as 0.95, got {level}. No interval was made.")


def _checked(values: Sequence[float] | Floats, what: str, bounds: tuple[float, float]) -> Floats:
    """The values as an array that is neither empty nor holds anything outside the bounds."""
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise EvaluationError(f"Expected {what}, got none. There is nothing to average; check what was evaluated.")
    if not ((data >= bounds[0]) & (data <= bounds[1])).all():
        raise EvaluationError(
            f"Expected {what} in [{bounds[0]:g}, {bounds[1]:g}], got {data.min():g} to {data.max():g}. "
            f"Nothing was computed; give shares, not percentages, and leave nothing undefined in."
        )
    return data


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
            means[start : start + n] += sums / (table.size * len(tables))
    return means


def _percentiles(means: Floats, level: float) -> Interval:
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(low), float(high))
