"""How many examples one method needs to reach another: cases by hand, and properties of all curves."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_answers import make_answers, make_study

from molsaki.errors import EvaluationError
from molsaki.evaluation.intervals import Interval, seed_interval
from molsaki.study.curves import curve_chart, examples_to_reach, reach, reach_table
from molsaki.study.files import MEAN

SIZES = (100, 300, 900)
RISING = (0.2, 0.4, 0.8)


@pytest.mark.parametrize(
    ("curve", "target", "expected"),
    [
        (RISING, 0.1, 0.0),
        (RISING, 0.2, 100),
        (RISING, 0.3, math.sqrt(100 * 300)),
        (RISING, 0.4, 300),
        (RISING, 0.5, 300 * 3**0.25),
        (RISING, 0.8, 900),
        (RISING, 0.81, math.inf),
        ((0.5, 0.5, 0.5), 0.5, 100),
        ((0.5, 0.5, 0.5), 0.4, 0.0),
        ((0.5, 0.5, 0.5), 0.6, math.inf),
        ((0.2, 0.2, 0.4), 0.3, math.sqrt(300 * 900)),
        ((0.8, 0.4, 0.2), 0.3, 0.0),
        ((0.8, 0.4, 0.2), 0.8, 100),
        ((0.2, 0.6, 0.4), 0.5, 100 * 3**0.75),
        ((0.2, 0.6, 0.4), 0.6, 300),
        ((0.6, 0.2, 0.8), 0.7, math.sqrt(300 * 900)),
        ((0.0, 0.0, 0.0), 0.0, 0.0),
        ((0.0, 0.5, 0.8), 0.0, 0.0),
    ],
)
def test_a_target_is_reached_first_at(curve: tuple[float, ...], target: float, expected: float) -> None:
    assert examples_to_reach(SIZES, curve, target) == pytest.approx(expected)


def test_a_curve_may_have_one_size() -> None:
    assert [examples_to_reach([50], [0.5], target) for target in (0.4, 0.5, 0.6)] == [0.0, 50.0, math.inf]


CURVES = st.lists(st.floats(0, 1), min_size=1, max_size=6)
STEPS = st.lists(st.integers(1, 500), min_size=6, max_size=6)


@given(CURVES, STEPS, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_target_needs_no_fewer_examples(curve: list[float], steps: list[int], a: float, b: float) -> None:
    sizes = list(np.cumsum(steps)[: len(curve)])
    low, high = (examples_to_reach(sizes, curve, target) for target in sorted((a, b)))
    assert low <= high * (1 + 1e-9)
    for found in (low, high):
        assert found == 0 or math.isinf(found) or sizes[0] * (1 - 1e-9) <= found <= sizes[-1] * (1 + 1e-9)


@given(CURVES, STEPS)
def test_the_accuracy_of_a_size_is_reached_at_this_size_or_below(curve: list[float], steps: list[int]) -> None:
    sizes = [int(n) for n in np.cumsum(steps)[: len(curve)]]
    for place, accuracy in enumerate(curve):
        found = examples_to_reach(sizes, curve, accuracy)
        if accuracy > max(curve[:place], default=0):
            assert found == sizes[place]
        else:
            assert found <= sizes[place]


# ---- with intervals ----


def test_a_method_reaches_itself_with_factor_1() -> None:
    curve = np.array([[0.2, 0.4, 0.8], [0.3, 0.5, 0.7], [0.2, 0.5, 0.9]])
    for found, size in zip(reach(SIZES, curve, curve), SIZES, strict=True):
        assert (found.size, found.examples, found.factor, found.interval) == (size, size, 1.0, Interval(1.0, 1.0))


def test_factors_and_intervals_by_hand() -> None:
    baseline = np.array([RISING, RISING])
    method = np.array([[0.4, 0.8, 0.9], [0.4, 0.8, 0.9]])
    found = reach(SIZES, baseline, method)
    assert [one.examples for one in found] == [300, 900, math.inf]
    assert [one.factor for one in found] == [3, 3, math.inf]
    assert [one.interval for one in found] == [Interval(3, 3), Interval(3, 3), Interval(math.inf, math.inf)]
    below = reach(SIZES, baseline, baseline - 0.15)
    assert (below[0].examples, below[0].interval) == (0.0, Interval(0.0, 0.0))


def test_the_bootstrap_interval_equals_a_loop() -> None:
    rng = np.random.default_rng(2)
    baseline = np.sort(rng.random((5, 3)), axis=1)
    method = np.sort(rng.random((5, 3)), axis=1)
    draws = np.random.default_rng(4)
    for place, found in enumerate(reach(SIZES, baseline, method, seed=1)):
        factors = []
        for _ in range(2000):
            seeds = [int(draws.integers(5)) for _ in range(5)]
            curve = [sum(baseline[seed, i] for seed in seeds) / 5 for i in range(3)]
            target = sum(method[seed, place] for seed in seeds) / 5
            factors.append(examples_to_reach(SIZES, curve, target) / SIZES[place])
        inside = sorted(factors)[50:1950]
        assert found.interval.low <= np.quantile(inside, 0.02) + 0.05
        assert found.interval.high >= inside[-100] - 0.05
        share = sum(found.interval.low <= factor <= found.interval.high for factor in factors) / 2000
        assert share >= 0.93
    assert reach(SIZES, baseline, method, seed=1) == reach(SIZES, baseline, method, seed=1)


def test_an_interval_may_end_at_0_and_at_infinity() -> None:
    baseline = np.array([[0.5, 0.6, 0.7]] * 2)
    method = np.array([[0.1, 0.1, 0.1], [0.95, 0.95, 0.95]])
    found = reach(SIZES, baseline, method)[0]
    assert found.interval == Interval(0.0, math.inf)
    assert 100 <= found.examples <= 300


def test_with_one_seed_the_interval_is_unbounded() -> None:
    found = reach(SIZES, np.array([RISING]), np.array([RISING]))
    assert [one.examples for one in found] == list(SIZES)
    assert {one.interval for one in found} == {Interval(0.0, math.inf)}


@pytest.mark.parametrize(
    ("baseline", "method"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3))),
        (np.zeros((2, 2)), np.zeros((2, 2))),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((0, 3)), np.zeros((0, 3))),
    ],
)
def test_tables_of_another_shape_are_refused(baseline: np.ndarray, method: np.ndarray) -> None:
    with pytest.raises(EvaluationError, match=re.escape(f"{baseline.shape} and {method.shape}")):
        reach(SIZES, baseline, method)


# ---- as a table and as a chart ----

RIGHT = {
    **{(f"dss-n{n}", seed): (row, row) for seed in (1, 2) for n, row in ((2, "1000"), (4, "1100"), (8, "1111"))},
    **{(f"molsaki-n{n}", seed): ("1100", "1100") for seed in (1, 2) for n in (2, 4)},
    **{("molsaki-n8", seed): ("1111", "1111") for seed in (1, 2)},
}


def test_the_table_has_a_row_for_each_method_and_size() -> None:
    study = make_study(sizes=[8, 2, 4], methods=["dss", "molsaki", "cot"])
    weaker = {(f"cot-n{n}", seed): ("0000", "1000") for seed in (1, 2) for n in (2, 4, 8)}
    table, figures = reach_table(study, make_answers({**RIGHT, **weaker}, ("in", "out")), None)
    assert table.head[1:] == ["in", "out", MEAN]
    assert [one[0] for one in table.rows] == [f"{label}, {n}" for label in ("molsaki", "cot") for n in (2, 4, 8)]
    assert table.rows[0][1] == "4, × 2.00 [2.00, 2.00]"
    assert table.rows[2][3] == "8, × 1.00 [1.00, 1.00]"
    assert table.rows[3][1] == "–", "without a right answer there is nothing to reach"
    assert table.rows[3][3] == "under 2, × under 1.00 [<, <]"
    assert [found.factor for found in figures["molsaki"][MEAN]] == [2.0, 1.0, 1.0]
    better = reach_table(study, make_answers({**RIGHT, ("dss-n8", 1): ("1110",) * 2}, ("in", "out")), None)[0]
    assert better.rows[2][1].startswith("over 8, × over 1.00 [1.00, >]")


def test_fewer_training_problems_than_the_size_are_in_the_caption() -> None:
    study = make_study(sizes=[2, 4, 8])
    caption = reach_table(study, make_answers(RIGHT, ("in", "out"), examples=7), None)[0].caption
    assert caption.endswith(" 7")
    assert not reach_table(study, make_answers(RIGHT, ("in", "out"), examples=8), None)[0].caption.endswith(" 8")


def test_a_method_without_students_of_a_size_is_left_out() -> None:
    study = make_study(sizes=[2, 4, 8])
    without = {key: row for key, row in RIGHT.items() if key[0] != "molsaki-n4"}
    table, figures = reach_table(study, make_answers(without, ("in", "out")), None)
    assert (table.rows, figures) == ([], {})


def test_the_curve_is_of_means_over_seeds_and_sets() -> None:
    study = make_study(sizes=[8, 2, 4])
    right = {**RIGHT, ("dss-n4", 2): ("1111", "1000")}
    chart = curve_chart(study, make_answers(right, ("in", "out")), None)
    assert chart.name == "curve-main"
    dss, ours = chart.series
    assert (dss.name, list(dss.x)) == ("dss", [2.0, 4.0, 8.0])
    assert list(dss.y) == pytest.approx([25.0, (50 + 62.5) / 2, 100.0])
    interval = seed_interval([0.5, 0.625])
    assert (dss.low[1], dss.high[1]) == pytest.approx((100 * interval.low, 100 * interval.high))
    assert list(ours.y) == [50.0, 50.0, 100.0]
    assert [
        one.name
        for one in curve_chart(
            make_study(sizes=[2, 4], curve=["molsaki"]), make_answers(RIGHT, ("in", "out")), None
        ).series
    ] == ["molsaki"]
    named = make_study(sizes=[2, 4], settings={"fast": {}})
    empty = curve_chart(named, make_answers(RIGHT, ("in", "out")), "fast")
    assert (empty.name, list(empty.series)) == ("curve-main-fast", [])
