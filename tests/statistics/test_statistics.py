"""Intervals and tests against scipy's own, hand-computed values, and slow references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from molsaki.bootstrap import bootstrap_interval, paired_bootstrap
from molsaki.errors import EvaluationError
from molsaki.statistics import Interval, holm, mcnemar, seed_interval, wilson_interval

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


def test_wilson_by_hand_and_at_the_ends():
    found = wilson_interval(5, 10)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2366, 0.7634)
    assert wilson_interval(0, 0) == Interval(0.0, 1.0)
    assert wilson_interval(0, 10).low == 0.0
    assert wilson_interval(0, 10).high == pytest.approx(3.841459 / 13.841459, abs=1e-6)
    assert wilson_interval(10, 10).high == 1.0
    assert Interval(0.25, 0.5).to_dict() == {"low": 0.25, "high": 0.5}


@pytest.mark.parametrize(("correct", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_wilson_refuses_impossible_counts(correct, n):
    with pytest.raises(EvaluationError, match="0 <= correct <= n"):
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
    with pytest.raises(EvaluationError, match="got none"):
        seed_interval([])
    for bad in ([0.5, math.nan], [0.5, math.inf], [0.5, 48.0]):
        with pytest.raises(EvaluationError, match="shares, not percentages"):
            seed_interval(bad)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -1.0])
def test_a_level_is_a_share(level):
    for call in (
        lambda: wilson_interval(1, 2, level),
        lambda: seed_interval([0.1, 0.2], level),
        lambda: bootstrap_interval([0.1, 0.2], level),
        lambda: paired_bootstrap([[1, 0]], [[0, 0]], level),
    ):
        with pytest.raises(EvaluationError, match=r"such as 0\.95"):
            call()


def test_bootstrap_is_close_to_scipys():
    values = (np.random.default_rng(3).random(200) < 0.3).astype(float)
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
    found = bootstrap_interval(values)
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.011)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.011)
    assert found == bootstrap_interval(values), "the seed is fixed"


def test_bootstrap_degenerate():
    assert bootstrap_interval([0.3]) == Interval(0.0, 1.0)
    assert bootstrap_interval([0.25] * 5) == Interval(0.25, 0.25)
    with pytest.raises(EvaluationError, match="got none"):
        bootstrap_interval([])


def test_paired_bootstrap_is_close_to_a_loop():
    rng = np.random.default_rng(5)
    easy = rng.random(60)
    a = (rng.random((4, 60)) < easy + 0.1).astype(int)
    b = (rng.random((4, 60)) < easy - 0.1).astype(int)
    means = []
    for _ in range(3000):
        seeds, problems = rng.integers(4, size=4), rng.integers(60, size=60)
        means.append((a - b)[np.ix_(seeds, problems)].mean())
    found = paired_bootstrap(a, b)
    assert found.difference == pytest.approx((a - b).mean())
    assert [found.interval.low, found.interval.high] == pytest.approx(np.quantile(means, (0.025, 0.975)), abs=0.02)
    assert (found.seeds, found.problems) == (4, 60)
    assert found == paired_bootstrap(a, b), "the seed is fixed"


def test_paired_bootstrap_sees_both_sources_of_chance():
    """A difference that a single lucky seed makes is not certain, however many problems there are."""
    a, b = np.zeros((3, 500)), np.zeros((3, 500))
    a[0] = 1
    found = paired_bootstrap(a, b)
    assert found.interval.low == 0.0
    assert found.p_value > 0.5
    pooled = bootstrap_interval((a - b).ravel(), bounds=(-1.0, 1.0))
    assert pooled.low > 0.25, "one level alone would have called it certain"


def test_paired_bootstrap_is_antisymmetric_in_its_difference():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 40)) < 0.6, rng.random((3, 40)) < 0.4
    one, other = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert other.difference == -one.difference
    assert [other.interval.low, other.interval.high] == pytest.approx([-one.interval.high, -one.interval.low])
    assert other.p_value == one.p_value


def test_paired_bootstrap_degenerate():
    same = np.ones((3, 20))
    equal = paired_bootstrap(same, same)
    assert (equal.difference, equal.interval, equal.p_value) == (0.0, Interval(0.0, 0.0), 1.0)
    always = paired_bootstrap(same, same * 0)
    assert (always.interval, always.p_value) == (Interval(1.0, 1.0), pytest.approx(2 / 10_001))
    single = paired_bootstrap([[1]], [[0]])
    assert (single.difference, single.interval, single.p_value) == (1.0, Interval(-1.0, 1.0), 1.0)
    assert paired_bootstrap([[1, 0, 1]], [[0, 0, 1]]).seeds == 1


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([[1, 0]], [[1, 0, 1]], "one shape"),
        ([1, 0], [1, 0], "one shape"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "got none"),
        (np.zeros((3, 0)), np.zeros((3, 0)), "got none"),
        ([[1, math.nan]], [[1, 0]], "leave nothing undefined"),
    ],
)
def test_paired_bootstrap_refuses(a, b, message):
    with pytest.raises(EvaluationError, match=message):
        paired_bootstrap(a, b)


@relaxed
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_is_scipys_binomial_test(pairs):
    found = mcnemar([a for a, _ in pairs], [b for _, b in pairs])
    only_a = sum(a and not b for a, b in pairs)
    only_b = sum(b and not a for a, b in pairs)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    n = only_a + only_b
    assert found.p_value == pytest.approx(stats.binomtest(only_a, n, 0.5).pvalue if n else 1.0)


def test_mcnemar_by_hand_and_refusals():
    found = mcnemar([True] * 8 + [False, True], [False] * 8 + [True, True])
    assert (found.only_a, found.only_b) == (8, 1)
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar([], []).p_value == 1.0
    with pytest.raises(EvaluationError, match="for every problem"):
        mcnemar([True], [])
    with pytest.raises(EvaluationError, match="paired_bootstrap"):
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
def test_holm_rejects_what_its_steps_reject(p_values):
    level = 0.05
    rejected, order = set(), sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, index in enumerate(order):
        if p_values[index] * (len(p_values) - rank) > level:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected
