"""Intervals and tests for accuracies over problems and seeds, by formulas; `crossed` has those over both at once.

A run has two sources of chance: which problems are in the test set and which seed trained the student. Each
function here and there says which of the two it covers. Degenerate input has a defined answer, written with each
function; nothing returns NaN. Accuracies are shares in [0, 1], not percentages.
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
    """A confidence interval, both ends included."""

    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The JSON form."""
        return {"low": self.low, "high": self.high}


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

    check_level(level)
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

    One seed says nothing about other seeds: all of `bounds`. Equal values give an interval of no width, as the formula
    has it; with few seeds that is luck rather than certainty.

    Args:
        values: one accuracy, or one difference of accuracies, per seed.
        level: of confidence.
        bounds: what the mean can be at all; [−1, 1] for differences.

    Raises:
        EvaluationError: no values, one that is not finite or outside the bounds, or a level outside (0, 1).
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


def expanded_level(n: int, level: float = 0.95) -> float:
    """The level at which a percentile bootstrap of n values is as wide as Student's t.

    Between its quantiles 1 − α/2 and α/2 such a bootstrap is too narrow by √((n − 1)/n) and by z in the place of t; at
    α'/2 = Φ(−√(n/(n − 1))·t_{1 − α/2, n − 1}) it is not. Hesterberg, 2015, "What Teachers Should Know About the
    Bootstrap", The American Statistician 69, "expanded percentile".

    Raises:
        EvaluationError: fewer than two values, or a level outside (0, 1).
    """
    from scipy.special import ndtr, stdtrit

    check_level(level)
    if n < 2:
        raise EvaluationError(f"Expected two values or more to resample, got {n}. One says nothing about others.")
    t = float(stdtrit(n - 1, (1 + level) / 2))
    return 1 - 2 * float(ndtr(-math.sqrt(n / (n - 1)) * t))


def mcnemar(a_correct: Sequence[bool], b_correct: Sequence[bool]) -> McNemar:
    """Test exactly whether two students are right equally often on the same problems.

    Under that hypothesis the problems that only one of them solves are fair coins: with k the smaller count and n both
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
            "for shares use paired_difference."
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
    data = checked_values(p_values, "p-values", (0.0, 1.0))
    order = np.argsort(data, kind="stable")
    factors = np.arange(data.size, 0, -1)
    adjusted = np.empty_like(data)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * data[order]))
    return [float(value) for value in adjusted]


def show_p(p_value: float) -> str:
    """A p-value for people, `p=0.031`: two digits, and below 0.0001 no more than that, where no model of chance holds.

    Raises:
        EvaluationError: it is not in [0, 1].
    """
    (p_value,) = checked_values([p_value], "a p-value", (0.0, 1.0))
    return "p<0.0001" if p_value < 1e-4 else f"p={p_value:.2g}"


def check_level(level: float) -> None:
    """Refuse a level that is no share."""
    if not 0 < level < 1:
        raise EvaluationError(f"Expected a level between 0 and 1, such as 0.95, got {level}. No interval was made.")


def checked_values(values: Sequence[float] | Floats, what: str, bounds: tuple[float, float]) -> Floats:
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
