"""Differences of the mean of several test sets: against loops, and against one set."""

from __future__ import annotations

import numpy as np
import pytest

from molsaki.bootstrap import paired_bootstrap, paired_bootstrap_over_sets
from molsaki.errors import EvaluationError
from molsaki.statistics import Interval

SIZES = (40, 7, 90)


def made_up(seeds: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two methods on sets of different sizes; the second is helped on some of its seeds only."""
    rng = np.random.default_rng(11)
    lucky = rng.random((seeds, 1)) * 0.3
    a = [(rng.random((seeds, n)) < 0.7 - 0.1 * i).astype(float) for i, n in enumerate(SIZES)]
    b = [(rng.random((seeds, n)) < 0.3 + lucky).astype(float) for n in SIZES]
    return a, b


def one_resample(a: list[np.ndarray], b: list[np.ndarray], rng: np.random.Generator) -> float:
    """The seeds are drawn once for all sets, the problems set by set; sets weigh alike."""
    seeds = rng.integers(len(a[0]), size=len(a[0]))
    total = 0.0
    for left, right in zip(a, b, strict=True):
        problems = rng.integers(left.shape[1], size=left.shape[1])
        inside = 0.0
        for seed in seeds:
            for problem in problems:
                inside += left[seed, problem] - right[seed, problem]
        total += inside / (len(seeds) * len(problems))
    return total / len(a)


def test_it_is_close_to_loops_over_sets_seeds_and_problems() -> None:
    a, b = made_up()
    rng = np.random.default_rng(5)
    means = np.array([one_resample(a, b, rng) for _ in range(1500)])
    found = paired_bootstrap_over_sets(a, b)
    each = [float((left - right).mean()) for left, right in zip(a, b, strict=True)]
    assert found.difference == pytest.approx(sum(each) / 3), "a set of 7 weighs as much as one of 90"
    assert [found.interval.low, found.interval.high] == pytest.approx(np.quantile(means, (0.025, 0.975)), abs=0.025)
    assert (found.seeds, found.problems) == (4, sum(SIZES))
    assert found == paired_bootstrap_over_sets(a, b), "the seed is fixed"
    assert found != paired_bootstrap_over_sets(a, b, seed=1)


def test_of_one_set_it_is_the_plain_difference() -> None:
    a, b = made_up()
    for left, right in zip(a, b, strict=True):
        assert paired_bootstrap_over_sets([left], [right], resamples=500, seed=3) == paired_bootstrap(
            left, right, resamples=500, seed=3
        )


def test_blocks_of_bounded_size_change_nothing_but_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = made_up()
    whole = paired_bootstrap_over_sets(a, b)
    monkeypatch.setattr("molsaki.bootstrap._CELLS_AT_ONCE", 1000)
    parts = paired_bootstrap_over_sets(a, b)
    assert parts.difference == whole.difference
    assert parts.interval.low == pytest.approx(whole.interval.low, abs=0.01)
    assert parts.interval.high == pytest.approx(whole.interval.high, abs=0.01)


def test_a_lucky_seed_is_the_same_in_all_sets() -> None:
    """Were seeds drawn set by set, their luck would average out over the sets and look certain."""
    a = [np.repeat([[1.0], [0.0], [0.0]], 50, axis=1) for _ in range(20)]
    b = [np.zeros((3, 50)) for _ in range(20)]
    found = paired_bootstrap_over_sets(a, b)
    assert found.interval.low == 0.0
    assert found.interval.high == 1.0


def test_degenerate_tables_have_a_defined_answer() -> None:
    single = paired_bootstrap_over_sets([[[1]], [[1]]], [[[0]], [[1]]])
    assert (single.difference, single.interval, single.p_value) == (0.5, Interval(-1.0, 1.0), 1.0)
    assert (single.seeds, single.problems) == (1, 2)
    same = [np.ones((2, 5)), np.ones((2, 3))]
    equal = paired_bootstrap_over_sets(same, same)
    assert (equal.difference, equal.interval, equal.p_value) == (0.0, Interval(0.0, 0.0), 1.0)
    assert paired_bootstrap_over_sets([[[1]], [[1, 0]]], [[[0]], [[0, 0]]]).interval != Interval(-1.0, 1.0)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([], [], r"got 0 and 0 sets with \[\] seeds"),
        ([[[1, 0]], [[1]]], [[[1, 0]]], r"got 2 and 1 sets with \[1\] seeds"),
        ([[[1, 0]], [[1], [0]]], [[[1, 0]], [[1], [0]]], r"with \[1, 2\] seeds. They cannot be paired"),
        ([[[1, 0]]], [[[1, 0, 1]]], "one shape"),
        ([[[1, 0]]], [[[1, 2]]], "leave nothing undefined"),
        ([np.zeros((2, 0))], [np.zeros((2, 0))], "got none"),
    ],
)
def test_what_cannot_be_paired_is_refused(a: list, b: list, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        paired_bootstrap_over_sets(a, b)


def test_a_level_is_a_share() -> None:
    with pytest.raises(EvaluationError, match=r"such as 0\.95"):
        paired_bootstrap_over_sets([[[1, 0]]], [[[0, 0]]], level=95.0)
