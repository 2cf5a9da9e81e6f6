"""Intervals and tests of accuracies, over problems or over seeds. `crossed` has those over both together.

A result is random in two ways: the problems of the test set are a sample, and so is the seed of the training. Each
function says which of the two it covers, and what it returns for degenerate input; none returns NaN. Accuracies are
shares in [0, 1], not percentages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from molsaki.errors import EvaluationError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, including both ends."""

    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The JSON form."""
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class MeanAccuracy:
    """The mean accuracy of a method over seeds, and its interval.

    Attributes:
        mean: over seeds.
        interval: over seeds; over problems if there is one seed or the seeds do not differ.
        seeds: number of seeds.
    """

    mean: float
    interval: Interval
    seeds: int


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test: how often only one of the two is right, and the exact two-sided p-value."""

    only_a: int
    only_b: int
    p_value: float


def wilson_interval(correct: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of the accuracy of one student, over problems.

    With p = correct/n and z the normal quantile of (1 + level)/2:

        (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n)

    Wilson, 1927, "Probable inference, the law of succession, and statistical inference", JASA 22. Unlike
    p ± z·√(p(1 − p)/n), it stays in [0, 1] and has a width at p = 0 and p = 1. For n = 0 it is [0, 1].

    Raises:
        EvaluationError: not 0 ≤ correct ≤ n, or the level is outside (0, 1).
    """
    from scipy.special import ndtri

    check_level(level)
    if not 0 <= correct <= n:
        raise EvaluationError(
            f"Expected 0 <= correct <= n; got {correct} correct of {n}. There is no such share. Check the counts."
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
    """Student's t interval of a mean over seeds.

        mean ± t_{(1 + level)/2, n − 1} · s/√n

    with s the sample standard deviation, within `bounds`. Student, 1908, "The probable error of a mean", Biometrika 6.
    For one seed it is `bounds`. Equal values give an interval without width; `mean_accuracy` then covers the problems.

    Args:
        values: one accuracy, or one difference of accuracies, per seed.
        level: confidence level.
        bounds: the smallest and the largest possible mean; [−1, 1] for differences.

    Raises:
        EvaluationError: there are no values, one is not finite or outside the bounds, or the level is outside (0, 1).
    """
    from scipy.special import stdtrit

    check_level(level)
    data = checked_values(values, "one value per seed", bounds)
    if data.size == 1:
        return Interval(*bounds)
    t = float(stdtrit(data.size - 1, (1 + level) / 2))
    margin = t * float(data.std(ddof=1)) / math.sqrt(data.size)
    mean = float(data.mean())
    return Interval(max(bounds[0], mean - margin), min(bounds[1], mean + margin))


def mean_accuracy(correct: Sequence[int], n: int) -> MeanAccuracy:
    """The mean accuracy on one test set.

    The 95 % interval is Student's t over seeds. One seed, or seeds that are all right equally often, say nothing about
    the variation between seeds; the interval is then Wilson's over problems.

    Args:
        correct: number of right answers for each seed.
        n: number of problems.

    Raises:
        EvaluationError: there are no seeds, or not 0 ≤ correct ≤ n.
    """
    accuracies = checked_values([count / n for count in correct] if n else [], "right answers", (0.0, 1.0)).tolist()
    interval = wilson_interval(correct[0], n) if len(set(correct)) == 1 else seed_interval(accuracies)
    return MeanAccuracy(sum(accuracies) / len(accuracies), interval, len(accuracies))


def expanded_level(n: int, level: float = 0.95) -> float:
    """The level at which a percentile bootstrap of n values is as wide as Student's t interval.

    Between the quantiles α/2 and 1 − α/2 a bootstrap is too narrow: by √((n − 1)/n), and by the use of z instead of t.
    The expanded percentile interval replaces α/2 by

        α'/2 = Φ(−√(n/(n − 1)) · t_{1 − α/2, n − 1})

    Hesterberg, 2015, "What Teachers Should Know About the Bootstrap", The American Statistician 69.

    Raises:
        EvaluationError: n < 2, or the level is outside (0, 1).
    """
    from scipy.special import ndtr, stdtrit

    check_level(level)
    if n < 2:
        raise EvaluationError(f"Expected at least 2 values to resample; got {n}. There is no variation between them.")
    t = float(stdtrit(n - 1, (1 + level) / 2))
    return 1 - 2 * float(ndtr(-math.sqrt(n / (n - 1)) * t))


def mcnemar(a_correct: Sequence[bool], b_correct: Sequence[bool]) -> McNemar:
    """Test exactly whether two students are right equally often on the same problems.

    Under that hypothesis each problem that only one student solves is a fair coin. With n such problems, k of them
    solved by the student with fewer:

        p = min(1, 2·P(X ≤ k)),  X ~ Binomial(n, ½)

    McNemar, 1947, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12. The test covers the problems, not the seeds. For n = 0, p is 1.

    Raises:
        EvaluationError: the lengths differ, or a value is neither right nor wrong.
    """
    from scipy.special import bdtr

    if len(a_correct) != len(b_correct):
        raise EvaluationError(
            f"Expected answers of both students to the same problems; got {len(a_correct)} and {len(b_correct)}. They "
            "cannot be paired. Pass the same problems in the same order."
        )
    left, right = np.asarray(a_correct, dtype=np.float64), np.asarray(b_correct, dtype=np.float64)
    if not (np.isin(left, (0, 1)).all() and np.isin(right, (0, 1)).all()):
        raise EvaluationError(
            "Expected only True and False, or 1 and 0; got another value. The test counts right answers. Use "
            "paired_difference for shares."
        )
    only_a, only_b = int((left > right).sum()), int((right > left).sum())
    n = only_a + only_b
    p_value = 1.0 if n == 0 else min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))
    return McNemar(only_a, only_b, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple comparisons by Holm's procedure; the order is kept.

    With p₍₁₎ ≤ … ≤ p₍ₘ₎, the corrected value of rank i is

        max_{j ≤ i} min(1, (m − j + 1)·p₍ⱼ₎)

    Holm, 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.

    Raises:
        EvaluationError: a value is not in [0, 1].
    """
    if not len(p_values):
        return []
    data = checked_values(p_values, "p-values", (0.0, 1.0))
    order = np.argsort(data, kind="stable")
    factors = np.arange(data.size, 0, -1)
    corrected = np.empty_like(data)
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, factors * data[order]))
    return [float(value) for value in corrected]


def show_p(p_value: float) -> str:
    """Format a p-value with two digits, such as `p=0.031`. Below 0.0001 no test is exact: `p<0.0001`.

    Raises:
        EvaluationError: the value is not in [0, 1].
    """
    (p_value,) = checked_values([p_value], "a p-value", (0.0, 1.0))
    return "p<0.0001" if p_value < 1e-4 else f"p={p_value:.2g}"


def check_level(level: float) -> None:
    """Raise `EvaluationError` unless a confidence level is between 0 and 1."""
    if not 0 < level < 1:
        raise EvaluationError(f"Expected a level between 0 and 1, such as 0.95; got {level}. There is no interval.")


def checked_values(values: Sequence[float] | Floats, what: str, bounds: tuple[float, float]) -> Floats:
    """The values as an array. Raises `EvaluationError` if it is empty, or a value is NaN or outside the bounds."""
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise EvaluationError(f"Expected {what}; got none. There is nothing to average. Check what was evaluated.")
    if not ((data >= bounds[0]) & (data <= bounds[1])).all():
        raise EvaluationError(
            f"Expected {what} in [{bounds[0]:g}, {bounds[1]:g}]; got {data.min():g} to {data.max():g}. Nothing was "
            "computed. Pass shares, not percentages, and no NaN."
        )
    return data
