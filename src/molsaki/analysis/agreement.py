"""Do two models look at the same keys?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from molsaki.analysis.looks import Floats, Look
from molsaki.analysis.shift import Estimate, estimate
from molsaki.errors import EvaluationError

_LEAST = 1e-6
"""Attention that is counted at least, as a share of a row, so that a divergence stays finite."""
_MOST_BITS = 30.0
"""No divergence is larger, with attention counted at least so much."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike two models' attention on the keys is.

    Attributes:
        divergence: KL(a ‖ b) in bits, mean over steps; 0 is the same distribution over the keys.
        rank: Spearman's correlation of the keys' order, mean over steps with three keys or more; 1 is the same.
        same_top: the share of steps whose most-attended key is the same.
        chance: that share, had b picked a key at random.
        problems: how many texts were compared.
        left_out: texts in which no step sees two keys on both sides.
    """

    divergence: Estimate
    rank: Estimate | None
    same_top: Estimate
    chance: float
    problems: int
    left_out: int


def agreement(a: Mapping[str, Look], *runs: Mapping[str, Look]) -> Agreement:
    """Compare where two models look, key by key, on the texts that both have.

    For every step of the rationale, and every key that it can see on both sides, with the layers averaged and the row
    divided by its sum: KL(a ‖ b) = Σ_k a_k·log2(a_k / b_k), Spearman's rank correlation, and whether the largest is
    the same. Means are over a text's steps and then over texts; intervals are over texts, and over runs.

    It can show that a student spreads its attention over the keys as its teacher does. It cannot show that it learned
    to from the teacher: compare with the student before training, and with one that was trained without the attention
    loss. Averaging the layers hides what one layer does; the training compares mixtures of its own.

    Args:
        a: the looks that are the measure, the teacher's.
        *runs: the looks to compare, one mapping for each trained model (seed).

    Raises:
        EvaluationError: no text can be compared.
    """
    _, table, left_out = agreement_by_problem(a, *runs)
    ranked = ~np.isnan(table[:, :, 1]).any(0)
    return Agreement(
        divergence=estimate(table[:, :, 0], (0.0, _MOST_BITS)),
        rank=estimate(table[:, ranked, 1]) if ranked.any() else None,
        same_top=estimate(table[:, :, 2], (0.0, 1.0)),
        chance=float(table[:, :, 3].mean()),
        problems=table.shape[1],
        left_out=left_out,
    )


def agreement_by_problem(a: Mapping[str, Look], *runs: Mapping[str, Look]) -> tuple[list[str], Floats, int]:
    """What `agreement` averages, problem by problem.

    Args:
        a: the looks that are the measure, the teacher's.
        *runs: the looks to compare, one mapping for each trained model (seed).

    Returns:
        The ids of the texts that can be compared; a table [runs, texts, 4] of the mean over steps of the divergence in
        bits, the rank correlation (NaN where no step has three keys), whether the most-attended key is the same, and
        that share by chance; and how many texts could not be compared.

    Raises:
        EvaluationError: no text can be compared.
    """
    shared = sorted(set(a).intersection(*runs)) if runs else []
    rows = [[_compare(a[row_id], run[row_id]) for row_id in shared] for run in runs]
    usable = [i for i in range(len(shared)) if all(row[i] is not None for row in rows)]
    if not usable:
        raise EvaluationError(
            f"Expected a text on which both models see two keys or more; none of {len(shared)} is one. There is "
            f"nothing to compare; read both on the same texts."
        )
    table = np.array([[row[i] for i in usable] for row in rows], dtype=np.float64)
    return [shared[i] for i in usable], table, len(shared) - len(usable)


def _compare(a: Look, b: Look) -> tuple[float, float, float, float] | None:
    """Means over the rationale's steps: divergence, rank correlation (NaN for none), same top, chance."""
    if a.text.text_hash != b.text.text_hash:
        raise EvaluationError(
            f"Expected two looks at one text; those at {a.text.id!r} are at different ones. Their keys are not the "
            f"same; read both models on the same texts."
        )
    seen_SK = a.visible_SK & b.visible_SK
    found = []
    for row_a, row_b, seen in zip(a.keys_SK()[1:], b.keys_SK()[1:], seen_SK[1:], strict=True):
        if seen.sum() >= 2 and row_a[seen].sum() > 0 and row_b[seen].sum() > 0:
            found.append(_compare_rows(row_a[seen], row_b[seen]))
    if not found:
        return None
    table = np.array(found)
    ranks = table[:, 1][~np.isnan(table[:, 1])]
    rank = float(ranks.mean()) if ranks.size else float("nan")
    return float(table[:, 0].mean()), rank, float(table[:, 2].mean()), float(table[:, 3].mean())


def _compare_rows(row_a: Floats, row_b: Floats) -> tuple[float, float, float, float]:
    p, q = _distribution(row_a), _distribution(row_b)
    divergence = max(0.0, float((p * np.log2(p / q)).sum()))
    return divergence, _spearman(row_a, row_b), float(row_a.argmax() == row_b.argmax()), 1 / len(row_a)


def _distribution(row: Floats) -> Floats:
    raised = np.maximum(row / row.sum(), _LEAST)
    distribution: Floats = raised / raised.sum()
    return distribution


def _spearman(row_a: Floats, row_b: Floats) -> float:
    if len(row_a) < 3:
        return float("nan")
    a, b = _ranks(row_a), _ranks(row_b)
    spread = a.std() * b.std()
    if spread == 0:
        return float("nan")
    return float(np.clip(((a - a.mean()) * (b - b.mean())).mean() / spread, -1.0, 1.0))


def _ranks(row: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, count = np.unique(row, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks
