"""Attention and right answers: on tables made by hand, where the answer is known, and against loops.

Legend: S students (seeds), P problems.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from test_measures import make_attention

from molsaki.analysis import TextAttention, agreement, agreement_by_problem, error_gap
from molsaki.errors import EvaluationError


def table(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


# ---- right and wrong ----


def test_both_gaps_by_hand() -> None:
    """Whoever is wrong has 2 more than the others on the problem; on the last problem all are wrong."""
    measure = table([0, 3, 4, 5], [2, 1, 2, 5], [0, 1, 4, 5], [2, 3, 2, 5])
    found = error_gap(measure, table([1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]))
    assert found.gap.mean == pytest.approx((2 + 2 + 3 + 3 + 4 + 4 + 4 * 5) / 10 - 1)
    assert found.within is not None
    assert found.within.mean == pytest.approx(2)
    assert found.wrong == 10 / 16
    assert (found.gap.runs, found.gap.problems, found.within.runs, found.within.problems) == (4, 4, 4, 4)


def test_hard_problems_make_a_gap_and_none_within_a_problem() -> None:
    """The measure is the problem's alone; the hard ones are wrong more often."""
    measure = np.repeat(table([0.1, 0.2, 0.9, 1.0]), 4, axis=0)
    right = table([1, 1, 0, 1], [1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0])
    found = error_gap(measure, right)
    assert found.gap.mean > 0.3
    assert found.within is not None
    assert found.within.mean == pytest.approx(0, abs=1e-12)


def test_without_students_that_differ_on_a_problem_nothing_is_said_within() -> None:
    found = error_gap(table([1, 2], [3, 5]), table([1, 0], [1, 0]))
    assert found.gap.mean == pytest.approx(3.5 - 2)
    assert found.within is None
    assert error_gap(table([1, 2, 4]), table([1, 0, 1])).within is None, "one student differs from nobody"
    two = error_gap(table([1, 2], [3, 5]), table([1, 0], [0, 0]))
    assert two.within is None, "half of the resamples have one of two students alone"


def loop_gap(measure: np.ndarray, right: np.ndarray) -> float | None:
    wrong = [m for m, r in zip(measure.ravel(), right.ravel(), strict=True) if r == 0]
    others = [m for m, r in zip(measure.ravel(), right.ravel(), strict=True) if r == 1]
    return sum(wrong) / len(wrong) - sum(others) / len(others) if wrong and others else None


def loop_within(measure: np.ndarray, right: np.ndarray) -> float | None:
    """The slope of a line through each problem's students, a problem of its own offset: least squares."""
    above = below = 0.0
    for m, r in zip(measure.T, right.T, strict=True):
        for one, answer in zip(m, r, strict=True):
            w = (1 - answer) - (1 - r).mean()
            above += (one - m.mean()) * w
            below += w * w
    return above / below if below > 1e-12 else None


def test_it_is_that_of_loops_with_its_intervals() -> None:
    rng = np.random.default_rng(6)
    right = (rng.random((4, 9)) < 0.6).astype(float)
    measure = rng.random((4, 9)) + 0.4 * (1 - right)
    found = error_gap(measure, right, seed=3)
    assert found.gap.mean == pytest.approx(loop_gap(measure, right))
    assert found.within is not None
    assert found.within.mean == pytest.approx(loop_within(measure, right))
    draws = np.random.default_rng(3)
    gaps, slopes = [], []
    for _ in range(2000):
        chosen = np.ix_(draws.integers(4, size=4), draws.integers(9, size=9))
        gaps.append(loop_gap(measure[chosen], right[chosen]))
        slopes.append(loop_within(measure[chosen], right[chosen]))
    for estimate, values in ((found.gap, gaps), (found.within, slopes)):
        ends = np.quantile([value for value in values if value is not None], (0.025, 0.975))
        assert [estimate.interval.low, estimate.interval.high] == pytest.approx(ends)
    assert found == error_gap(measure, right, seed=3)


@pytest.mark.parametrize(
    ("measure", "right"),
    [
        (table([1, 2]), table([1, 0, 1])),
        (np.array([1.0, 2.0]), np.array([1.0, 0.0])),
        (table([1, np.nan]), table([1, 0])),
        (table([1, 2]), table([1, np.nan])),
        (table([1, 2]), table([1, 0.5])),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.zeros((3, 0)), np.zeros((3, 0))),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(measure: np.ndarray, right: np.ndarray) -> None:
    with pytest.raises(EvaluationError) as error:
        error_gap(measure, right)
    assert str(measure.shape) in str(error.value)


@pytest.mark.parametrize("answer", [0, 1])
def test_answers_that_are_all_right_or_all_wrong_are_refused(answer: int) -> None:
    with pytest.raises(EvaluationError):
        error_gap(table([1, 2]), table([answer, answer]))


# ---- agreement, problem by problem ----


def attend_to_keys(row_id: str, *, rising: bool) -> TextAttention:
    """Attention on the visible keys with the weights 1, 2, 3 …, or the other way round."""
    plain = make_attention(row_id)
    attention = np.zeros_like(plain.attention_LST)
    for step, seen in enumerate(plain.visible_SK):
        for place, key in enumerate(np.flatnonzero(seen)):
            token = int(np.flatnonzero(plain.key_of_token_T == key)[0])
            attention[:, step, token] = place + 1 if rising else seen.sum() - place
    return replace(plain, attention_LST=attention)


def test_a_problems_figures_are_those_of_scipy() -> None:
    teacher = {name: attend_to_keys(name, rising=True) for name in ("b", "a")}
    other = {
        "b": attend_to_keys("b", rising=False),
        "a": attend_to_keys("a", rising=True),
        "c": attend_to_keys("c", rising=True),
    }
    ids, found, left_out = agreement_by_problem(teacher, teacher, other)
    assert (ids, found.shape, left_out) == (["a", "b"], (2, 2, 4), 0)
    counts = [int(seen.sum()) for seen in make_attention().visible_SK[1:]]
    assert min(counts) >= 2
    divergences, ranks = [], []
    for n in counts:
        p, q = np.arange(1.0, n + 1), np.arange(n, 0.0, -1)
        divergences.append(stats.entropy(p, q, base=2))
        if n >= 3:
            ranks.append(stats.spearmanr(p, q).statistic)
    chance = float(np.mean([1 / n for n in counts]))
    assert found[0] == pytest.approx(np.array([[0.0, 1.0, 1.0, chance]] * 2), abs=1e-9)
    assert found[1, 0] == pytest.approx([0.0, 1.0, 1.0, chance], abs=1e-9)
    assert found[1, 1] == pytest.approx([np.mean(divergences), np.mean(ranks), 0.0, chance], abs=1e-6)
    together = agreement(teacher, teacher, other)
    assert together.divergence.mean == pytest.approx(found[:, :, 0].mean())
    assert (together.same_top.mean, together.problems, together.left_out) == (0.75, 2, 0)


def test_a_text_that_one_of_the_runs_cannot_be_compared_on_is_left_out_of_all() -> None:
    teacher = {name: attend_to_keys(name, rising=True) for name in ("a", "b")}
    blind = attend_to_keys("b", rising=True)
    blind = replace(blind, attention_LST=blind.attention_LST * 0)
    ids, found, left_out = agreement_by_problem(teacher, teacher, {"a": teacher["a"], "b": blind})
    assert (ids, found.shape, left_out) == (["a"], (2, 1, 4), 1)


def test_nothing_to_compare_is_refused() -> None:
    teacher = {"a": attend_to_keys("a", rising=True)}
    for runs in ((), ({},), ({"b": attend_to_keys("b", rising=True)},)):
        with pytest.raises(EvaluationError):
            agreement_by_problem(teacher, *runs)
    with pytest.raises(EvaluationError) as error:
        agreement_by_problem(teacher, {"a": other_text()})
    assert "'a'" in str(error.value)


def other_text() -> TextAttention:
    attention = attend_to_keys("a", rising=True)
    text = type(attention.text)("a", attention.text.question + " Why?", attention.text.rationale, attention.text.keys)
    return TextAttention(
        text, attention.spans, attention.attention_LST, attention.step_of_token_T, attention.key_of_token_T
    )
