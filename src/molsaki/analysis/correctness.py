"""Does a measure of attention differ between wrong and right answers?

Legend: S students (seeds), P problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from molsaki.analysis.shift import Estimate
from molsaki.analysis.text_attention import Floats
from molsaki.errors import EvaluationError
from molsaki.evaluation.intervals import Interval

RESAMPLES = 2000
LEAST_DEFINED = 0.75
"""Share of the resamples in which `ErrorGap.within` must be defined; with two students half of them have one alone."""


@dataclass(frozen=True, slots=True)
class ErrorGap:
    """How a measure of students' attention differs between wrong and right answers.

    Attributes:
        gap: its mean over wrong answers less its mean over right ones.
        within: the same between students of one problem, so that the difficulty of problems does not count; None where
            too few problems have students that were right and others that were wrong, as with two students.
        wrong: the share of answers that are wrong.
    """

    gap: Estimate
    within: Estimate | None
    wrong: float


def error_gap(measure_SP: Floats, right_SP: Floats, seed: int = 0) -> ErrorGap:
    """Compare a measure between wrong and right answers.

    With m the measure and w = 1 where wrong: gap = Σ m·w / Σ w − Σ m·(1 − w) / Σ (1 − w), and with the means m̄_p and
    w̄_p over students of problem p: within = Σ (m − m̄_p)(w − w̄_p) / Σ (w − w̄_p)². Intervals are percentiles of a
    bootstrap over students and problems; resamples in which a quotient is not defined are left out, and `within` is
    None if these are more than a quarter.

    A gap does not show a cause: one reason may make a problem hard and its rationale's attention hard to learn.
    `within` holds the problem fixed, but still compares students that differ in more than attention.

    Args:
        measure_SP: the measure, one row a student; the divergence from the teacher, for example.
        right_SP: 1 where right, 0 where wrong.
        seed: of the resampling.

    Raises:
        EvaluationError: the tables differ in shape or are empty, a value is not finite, an answer is neither 0 nor 1,
            or all answers are right or all wrong.
    """
    wrong_SP = 1 - np.asarray(right_SP, dtype=np.float64)
    whole = np.isfinite(measure_SP).all() and np.isin(wrong_SP, (0, 1)).all()
    if measure_SP.shape != wrong_SP.shape or measure_SP.ndim != 2 or not measure_SP.size or not whole:
        raise EvaluationError(
            "Expected a finite measure, and 1 for right and 0 for wrong, as tables [students, problems] of one shape; "
            f"got {measure_SP.shape} and {wrong_SP.shape}. Nothing was compared; pass both for the same problems."
        )
    if wrong_SP.min() == wrong_SP.max():
        raise EvaluationError(
            "Expected right and wrong answers; all are the same. There is nothing to compare; use other problems."
        )
    students, problems = measure_SP.shape
    rng = np.random.default_rng(seed)
    gaps, within = [], []
    for _ in range(RESAMPLES):
        rows, columns = rng.integers(students, size=students), rng.integers(problems, size=problems)
        drawn = np.ix_(rows, columns)
        gaps.append(_gap(measure_SP[drawn], wrong_SP[drawn]))
        within.append(_within(measure_SP[drawn], wrong_SP[drawn]))
    inside = _within(measure_SP, wrong_SP)
    return ErrorGap(
        Estimate(_gap(measure_SP, wrong_SP), _percentiles(gaps), problems, students),
        None
        if np.isnan(within).mean() > 1 - LEAST_DEFINED
        else Estimate(inside, _percentiles(within), problems, students),
        float(wrong_SP.mean()),
    )


def _gap(measure_SP: Floats, wrong_SP: Floats) -> float:
    n, all_ = float(wrong_SP.sum()), wrong_SP.size
    if n in (0, all_):
        return float("nan")
    return float((measure_SP * wrong_SP).sum() / n - (measure_SP * (1 - wrong_SP)).sum() / (all_ - n))


def _within(measure_SP: Floats, wrong_SP: Floats) -> float:
    wrong = wrong_SP - wrong_SP.mean(0)
    spread = float((wrong**2).sum())
    return float(((measure_SP - measure_SP.mean(0)) * wrong).sum() / spread) if spread > 0 else float("nan")


def _percentiles(values: list[float]) -> Interval:
    defined = [value for value in values if not np.isnan(value)]
    low, high = np.quantile(defined, (0.025, 0.975))
    return Interval(float(low), float(high))
