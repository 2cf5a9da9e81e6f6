"""Intervals and tests against scipy's own, hand-computed values, and slow references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from molsaki.errors import EvaluationError
from molsaki.evaluation.crossed import crossed_interval, paired_difference
from molsaki.evaluation.intervals import (
    Interval,
    MeanAccuracy,
    expanded_level,
    holm,
    mcnemar,
    mean_accuracy,
    seed_interval,
    show_p,
    wilson_interval,
)

relaxed = settings(deadline=None, max_examples=50)
SHARES = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@relaxed
@given(SHARES, st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(share, level):
    correct, n = share
    expected = stats.binomtest(correct, n).proportion_ci(level, method="wilson")
    found = wilson_interval(correct, n, level)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= found.low <= correct / n <= found.high <= 1


def test_wilson_by_hand_and_at_0_and_1():
    found = wilson_interval(5, 10)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2366, 0.7634)
    assert wilson_interval(0, 0) == Interval(0.0, 1.0)
    assert wilson_interval(0, 10).low == 0.0
    assert wilson_interval(0, 10).high == pytest.approx(3.841459 / 13.841459, abs=1e-6)
    assert wilson_interval(10, 10).high == 1.0
    assert Interval(0.25, 0.5).to_dict() == {"low": 0.25, "high": 0.5}


@pytest.mark.parametrize(("correct", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_wilson_refuses_impossible_counts(correct, n):
    with pytest.raises(EvaluationError, match=f"{correct} correct of {n}"):
        wilson_interval(correct, n)


@relaxed
@given(st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=8))
def test_seed_interval_is_scipys_t_interval(values):
    found = seed_interval(values, bounds=(-100.0, 100.0))
    scale = stats.sem(values)
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), scale) if scale else [np.mean(values)] * 2
    assert [found.low, found.high] == pytest.approx(list(expected), abs=1e-9)


def test_seed_interval_by_hand_and_degenerate():
    found = seed_interval([0.4, 0.5, 0.6])
    margin = 4.302653 * 0.1 / math.sqrt(3)
    assert [found.low, found.high] == pytest.approx([0.5 - margin, 0.5 + margin], abs=1e-6)
    assert seed_interval([0.7]) == Interval(0.0, 1.0)
    assert seed_interval([0.7], bounds=(-1.0, 1.0)) == Interval(-1.0, 1.0)
    assert seed_interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5)
    assert seed_interval([0.1, 0.9]) == Interval(0.0, 1.0), "the formula's ends lie outside the bounds"
    for values in ([], [0.5, math.nan], [0.5, math.inf], [0.5, 48.0]):
        with pytest.raises(EvaluationError):
            seed_interval(values)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("correct", [0, 3, 8])
def test_equal_seeds_leave_the_interval_over_problems(correct, seeds):
    found = mean_accuracy([correct] * seeds, 8)
    assert found == MeanAccuracy(correct / 8, wilson_interval(correct, 8), seeds)
    assert found.interval.high - found.interval.low > 0.3, "0 of 8 is not certainly 0 %"


def test_a_mean_accuracy_is_over_seeds_where_they_differ():
    assert mean_accuracy([4, 5, 6], 10) == MeanAccuracy(0.5, seed_interval([0.4, 0.5, 0.6]), 3)
    for correct, n in (([], 3), ([0], 0), ([4], 3)):
        with pytest.raises(EvaluationError):
            mean_accuracy(correct, n)


def test_a_p_value_has_two_digits_and_no_more_than_four_places():
    shown = [show_p(p) for p in (1.0, 0.0312, 0.00012, 1e-4, 9.9e-5, 0.0)]
    assert shown == ["p=1", "p=0.031", "p=0.00012", "p=0.0001", "p<0.0001", "p<0.0001"]
    with pytest.raises(EvaluationError, match="p-value"):
        show_p(math.nan)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -1.0])
def test_a_level_outside_0_and_1_is_refused(level):
    for call in (
        lambda: wilson_interval(1, 2, level),
        lambda: seed_interval([0.1, 0.2], level),
        lambda: expanded_level(3, level),
        lambda: paired_difference([[1, 0]], [[0, 0]], level),
        lambda: crossed_interval([[0.1, 0.2]], level),
    ):
        with pytest.raises(EvaluationError, match=str(level)):
            call()


@pytest.mark.parametrize("n", [3, 8, 200])
def test_a_bootstrap_at_the_expanded_level_is_as_wide_as_students_t(n):
    """The bootstrap means of normal values are about normal, with √((n − 1)/n) times the standard error."""
    z = stats.norm.ppf((1 + expanded_level(n)) / 2)
    assert z * math.sqrt((n - 1) / n) == pytest.approx(stats.t.ppf(0.975, n - 1), rel=1e-4)
    assert expanded_level(2) == 1, "two values: as far as any resample goes"
    with pytest.raises(EvaluationError, match="got 1"):
        expanded_level(1)


@relaxed
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_is_scipys_binomial_test(pairs):
    found = mcnemar([a for a, _ in pairs], [b for _, b in pairs])
    only_a = sum(a and not b for a, b in pairs)
    only_b = sum(b and not a for a, b in pairs)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    n = only_a + only_b
    assert found.p_value == pytest.approx(stats.binomtest(only_a, n, 0.5).pvalue if n else 1.0)


def test_mcnemar_by_hand():
    found = mcnemar([True] * 8 + [False, True], [False] * 8 + [True, True])
    assert (found.only_a, found.only_b) == (8, 1)
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar([], []).p_value == 1.0
    with pytest.raises(EvaluationError, match="1 and 0"):
        mcnemar([True], [])
    with pytest.raises(EvaluationError):
        mcnemar([0.5], [1])  # type: ignore[list-item]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    with pytest.raises(EvaluationError, match="p-values"):
        holm([0.1, math.nan])


@relaxed
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_its_step_down_procedure_rejects(p_values):
    level = 0.05
    rejected, order = set(), sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, index in enumerate(order):
        if p_values[index] * (len(p_values) - rank) > level:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected
