"""Means over seeds and problems: against scipy where only one varies, against loops, and by their error rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from molsaki.errors import EvaluationError
from molsaki.evaluation.crossed import (
    crossed_interval,
    mean_accuracy_over_sets,
    paired_difference,
    paired_difference_over_sets,
)
from molsaki.evaluation.intervals import Interval, wilson_interval

SIZES = (40, 7, 90)


def made_up(seeds: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two methods on sets of different sizes. The second depends on the seed and on how easy a problem is."""
    rng = np.random.default_rng(11)
    lucky = rng.random((seeds, 1)) * 0.3
    a = [(rng.random((seeds, n)) < 0.7 - 0.1 * i).astype(float) for i, n in enumerate(SIZES)]
    b = [(rng.random((seeds, n)) < 0.3 + lucky + 0.3 * rng.random(n)).astype(float) for n in SIZES]
    return a, b


def slow(tables: list[np.ndarray]) -> tuple[float, float]:
    """The variance of the mean of the sets, and its degrees of freedom, cell by cell."""
    seeds, sets = len(tables[0]), len(tables)
    means = [sum(sum(table[s]) / len(table[s]) for table in tables) / sets for s in range(seeds)]
    mean = sum(means) / seeds
    parts, rest = [], 0.0
    for table in tables:
        problems = table.shape[1]
        columns = [sum(table[s][p] for s in range(seeds)) / seeds for p in range(problems)]
        rows = [sum(table[s]) / problems for s in range(seeds)]
        grand = sum(rows) / seeds
        of_columns = seeds * sum((one - grand) ** 2 for one in columns) / (problems - 1)
        freedom = (seeds - 1) * (problems - 1)
        of_rest = (
            sum((table[s][p] - rows[s] - columns[p] + grand) ** 2 for s in range(seeds) for p in range(problems))
            / freedom
        )
        scale = seeds * problems * sets**2
        rest += of_rest / scale
        if of_columns > of_rest:
            parts += [(of_columns / scale, problems - 1), (-of_rest / scale, freedom)]
    parts.append((max(sum((one - mean) ** 2 for one in means) / (seeds - 1) / seeds, rest), seeds - 1))
    variance = sum(part for part, _ in parts)
    return variance, max(seeds - 1, variance**2 / sum(part**2 / freedom for part, freedom in parts))


def test_it_equals_the_slow_reference() -> None:
    a, b = made_up()
    for count in (1, 3):
        found = paired_difference_over_sets(a[:count], b[:count])
        tables = [left - right for left, right in zip(a[:count], b[:count], strict=True)]
        variance, freedom = slow(tables)
        mean = sum(table.mean() for table in tables) / count
        assert found.difference == pytest.approx(mean), "a set of 7 weighs as much as one of 90"
        margin = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
        assert [found.interval.low, found.interval.high] == pytest.approx([mean - margin, mean + margin])
        assert found.p_value == pytest.approx(2 * stats.t.sf(abs(mean) / math.sqrt(variance), freedom))
        assert (found.seeds, found.problems) == (4, sum(SIZES[:count]))


def test_with_one_set_it_is_the_paired_difference() -> None:
    for left, right in zip(*made_up(), strict=True):
        assert paired_difference_over_sets([left], [right]) == paired_difference(left, right)


def test_with_one_seed_it_is_the_t_test_over_problems() -> None:
    a, b = made_up(1)
    expected = stats.ttest_rel(a[0][0], b[0][0])
    found = paired_difference(a[0], b[0])
    assert found.p_value == pytest.approx(expected.pvalue)
    between = expected.confidence_interval()
    assert [found.interval.low, found.interval.high] == pytest.approx([between.low, between.high])
    assert found.seeds == 1


def test_with_one_problem_it_is_the_t_test_over_seeds() -> None:
    a, b = [[0.9], [0.7], [0.8]], [[0.2], [0.6], [0.3]]
    assert paired_difference(a, b).p_value == pytest.approx(stats.ttest_rel(a, b).pvalue[0])


def test_a_single_lucky_seed_is_not_significant_with_many_problems() -> None:
    a, b = np.zeros((3, 500)), np.zeros((3, 500))
    a[0] = 1
    found = paired_difference(a, b)
    assert found.p_value == pytest.approx(stats.ttest_1samp([1, 0, 0], 0).pvalue)
    assert found.interval.low < 0
    sets = paired_difference_over_sets([a] * 20, [b] * 20)
    assert sets.p_value == pytest.approx(found.p_value), "the seed is lucky in all sets"


def test_few_seeds_are_not_more_significant_than_in_their_t_test() -> None:
    """A bootstrap over these three seeds gives p = 0.0012, since it can draw only them."""
    a, b = np.zeros((3, 200)), np.zeros((3, 200))
    b[0, :8] = b[1, :5] = b[2, :18] = 1
    found = paired_difference(a, b)
    assert found.difference == pytest.approx(-(4 + 2.5 + 9) / 300)
    assert 0.03 < found.p_value <= 0.13


def test_seeds_that_are_alike_by_luck_are_not_significant() -> None:
    """Each seed is 3 points worse, on other problems. Their means do not vary, but single answers do."""
    a, b = np.zeros((3, 200)), np.zeros((3, 200))
    for seed in range(3):
        b[seed, 40 * seed : 40 * seed + 12] = a[seed, 150 + 6 * seed : 156 + 6 * seed] = 1
    found = paired_difference(a, b)
    assert found.difference == pytest.approx(-0.03)
    assert found.p_value > 0.01


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.1), (8, 0.05)])
def test_the_error_rate_without_a_difference_is_the_p_value(seeds: int, spread: float) -> None:
    """About 20 % of 400 comparisons have p < 0.2. The effects of seeds are normal, those of problems uniform."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(400):
        easy = 0.5 + 0.3 * (rng.random(80) - 0.5)
        a, b = (
            (rng.random((seeds, 80)) < easy + spread * rng.standard_normal((seeds, 1))).astype(float) for _ in range(2)
        )
        found.append(paired_difference(a, b).p_value)
    share = np.mean(np.array(found) < 0.2)
    assert share < 0.27
    assert spread == 0 or share > 0.13, "it may be rarer only if the seeds do not vary"


def test_exchanging_the_methods_changes_the_sign() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 40)) < 0.6, rng.random((3, 40)) < 0.4
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert other.difference == -one.difference
    assert [other.interval.low, other.interval.high] == pytest.approx([-one.interval.high, -one.interval.low])
    assert other.p_value == one.p_value


def test_degenerate_tables_have_a_defined_result() -> None:
    same = np.ones((3, 20))
    equal = paired_difference(same, same)
    z2 = 1.959964**2
    assert (equal.difference, equal.p_value) == (0.0, 1.0)
    assert [equal.interval.low, equal.interval.high] == pytest.approx([-z2 / (20 + z2), z2 / (20 + z2)])
    always = paired_difference(same, same * 0)
    assert (always.interval.high, always.p_value) == (1.0, 2.0**-2)
    share = wilson_interval(20, 20)
    assert always.interval.low == pytest.approx(2 * share.low - 1), "n of n problems are found by one alone"
    assert paired_difference([[1, 1, 1]], [[0, 0, 0]]).p_value == 2.0**-2, "one seed: a sign test over problems"
    single = paired_difference([[1]], [[0]])
    assert (single.difference, single.interval, single.p_value) == (1.0, Interval(-1.0, 1.0), 1.0)
    several = paired_difference_over_sets([[[1]], [[1]]], [[[0]], [[1]]])
    assert (several.difference, several.interval, several.p_value) == (0.5, Interval(-1.0, 1.0), 1.0)
    assert (several.seeds, several.problems) == (1, 2)
    assert paired_difference_over_sets([[[1]], [[1, 0] * 20]], [[[0]], [[0] * 40]]).interval.low > 0


def test_sets_count_equally_where_all_answers_of_a_set_are_equal() -> None:
    """Of problems pooled, a large set would speak for a small one, and the mean could be outside of its interval."""
    right, wrong = np.ones((3, 30)), np.zeros((3, 170))
    found = mean_accuracy_over_sets([right, wrong])
    below, above = 1 - wilson_interval(30, 30).low, wilson_interval(0, 170).high
    assert [found.mean, found.interval.low, found.interval.high] == pytest.approx(
        [0.5, 0.5 - below / 2, 0.5 + above / 2]
    )
    large, small = np.zeros((3, 1319)), np.zeros((3, 200))
    none = mean_accuracy_over_sets([large, small])
    parts = wilson_interval(0, 1319).high, wilson_interval(0, 200).high
    assert [none.interval.low, none.interval.high] == pytest.approx([0.0, math.hypot(*parts) / 2])
    both = paired_difference_over_sets([large, small], [large, small]).interval
    of_small = paired_difference(small, small).interval
    assert of_small.high / 2 < both.high < of_small.high
    assert both.low == -both.high


def test_an_interval_of_any_values_stays_within_bounds() -> None:
    values = [[0.2, 0.4, 0.3], [0.1, 0.5, 0.2]]
    found = crossed_interval(values, bounds=(0.0, 1.0))
    variance, freedom = slow([np.array(values)])
    margin = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    middle = np.mean(values)
    assert [found.low, found.high] == pytest.approx([max(0.0, middle - margin), min(1.0, middle + margin)])
    assert crossed_interval([[0.3]], bounds=(0.0, 1.0)) == Interval(0.0, 1.0)
    equal, z2 = crossed_interval([[0.3, 0.3]] * 2, bounds=(0.0, 1.0)), 1.959964**2
    assert [equal.low, equal.high] == pytest.approx([0.3 - 0.3 * z2 / (2 + z2), 0.3 + 0.7 * z2 / (2 + z2)])
    right = crossed_interval(np.ones((2, 30)), bounds=(0.0, 1.0))
    assert [right.low, right.high] == pytest.approx([wilson_interval(30, 30).low, 1.0])
    for invalid in ([0.1, 0.2], [[0.1, math.nan]]):
        with pytest.raises(EvaluationError):
            crossed_interval(invalid)


@pytest.mark.parametrize(
    ("a", "b", "named"),
    [
        ([], [], "0 and 0 sets"),
        ([[[1, 0]], [[1]]], [[[1, 0]]], "2 and 1 sets"),
        ([[[1, 0]], [[1], [0]]], [[[1, 0]], [[1], [0]]], r"\[1, 2\] seeds"),
        ([[[1, 0]]], [[[1, 0, 1]]], r"\(1, 2\) and \(1, 3\)"),
        ([[1, 0]], [[1, 0]], r"\(2,\)"),
        ([[[1, 0]]], [[[1, 2]]], "1 to 2"),
        ([np.zeros((2, 0))], [np.zeros((2, 0))], "none"),
    ],
)
def test_tables_that_cannot_be_paired_are_refused(a: list, b: list, named: str) -> None:
    with pytest.raises(EvaluationError, match=named):
        paired_difference_over_sets(a, b)
