"""Do two models attend to the same keys?

Legend: S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from molsaki.analysis.shift import Estimate, estimate
from molsaki.analysis.text_attention import Floats, TextAttention
from molsaki.errors import EvaluationError

_LEAST = 1e-6
"""Smaller shares of a row count as this much, so that a divergence stays finite."""
_MAX_BITS = 30.0
"""No divergence is larger, given `_LEAST`."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How similar two models' attention on the keys is.

    Attributes:
        divergence: KL(reference ‖ model) in bits, mean over steps; 0 for equal distributions over the keys.
        rank: Spearman's correlation over the keys, mean over steps with at least three keys; 1 for the same order.
        same_top: the share of steps with the same most-attended key.
        chance: that share for a model that picks a key at random.
        problems: number of texts compared.
        left_out: number of texts without a step that sees two keys on both sides.
    """

    divergence: Estimate
    rank: Estimate | None
    same_top: Estimate
    chance: float
    problems: int
    left_out: int


def agreement(reference: Mapping[str, TextAttention], *runs: Mapping[str, TextAttention]) -> Agreement:
    """Compare two models' attention on the keys, on the texts that both have.

    For every step of the rationale, over the keys that it can see on both sides, with the layers averaged and the row
    divided by its sum: KL(p ‖ q) = Σ_k p_k·log2(p_k / q_k), Spearman's rank correlation, and whether the largest key is
    the same. Means are over a text's steps and then over texts; intervals are over texts, and over runs.

    It can show that a student spreads its attention over the keys as its teacher does. It cannot show that the student
    learned this from the teacher: compare with the student before training, and with one that was trained without the
    attention loss. The average over layers hides what one layer does; training compares mixtures of layers.

    Args:
        reference: attention by text id, of the teacher for example.
        *runs: attention of the model to compare, one mapping for each trained model (seed).

    Raises:
        EvaluationError: no text can be compared, or two texts of one id differ.
    """
    _, table, left_out = agreement_by_problem(reference, *runs)
    ranked = ~np.isnan(table[:, :, 1]).any(0)
    return Agreement(
        divergence=estimate(table[:, :, 0], (0.0, _MAX_BITS)),
        rank=estimate(table[:, ranked, 1]) if ranked.any() else None,
        same_top=estimate(table[:, :, 2], (0.0, 1.0)),
        chance=float(table[:, :, 3].mean()),
        problems=table.shape[1],
        left_out=left_out,
    )


def agreement_by_problem(
    reference: Mapping[str, TextAttention], *runs: Mapping[str, TextAttention]
) -> tuple[list[str], Floats, int]:
    """The values that `agreement` averages, problem by problem.

    Args:
        reference: as there.
        *runs: as there.

    Returns:
        The ids of the texts that can be compared; a table [runs, texts, 4] of the mean over steps of the divergence in
        bits, the rank correlation (NaN where no step has three keys), whether the most-attended key is the same, and
        that share by chance; and the number of texts that cannot be compared.

    Raises:
        EvaluationError: as there.
    """
    shared = sorted(set(reference).intersection(*runs)) if runs else []
    rows = [[_compare(reference[row_id], run[row_id]) for row_id in shared] for run in runs]
    usable = [i for i in range(len(shared)) if all(row[i] is not None for row in rows)]
    if not usable:
        raise EvaluationError(
            f"Expected a text on which both models see at least two keys; got none among {len(shared)} shared texts. "
            "There is nothing to compare; read both models on the same texts."
        )
    table = np.array([[row[i] for i in usable] for row in rows], dtype=np.float64)
    return [shared[i] for i in usable], table, len(shared) - len(usable)


def _compare(a: TextAttention, b: TextAttention) -> tuple[float, float, float, float] | None:
    """Means over the rationale's steps: divergence, rank correlation (NaN for none), same top, chance."""
    if a.text.text_hash != b.text.text_hash:
        raise EvaluationError(
            f"Expected attention of both models on the same text; those of {a.text.id!r} differ. Their keys are not "
            "the same; read both models on the same texts."
        )
    visible_SK = a.visible_SK & b.visible_SK
    found = []
    for row_a, row_b, visible in zip(a.keys_SK()[1:], b.keys_SK()[1:], visible_SK[1:], strict=True):
        if visible.sum() >= 2 and row_a[visible].sum() > 0 and row_b[visible].sum() > 0:
            found.append(_compare_rows(row_a[visible], row_b[visible]))
    if not found:
        return None
    table = np.array(found)
    ranks = table[:, 1][~np.isnan(table[:, 1])]
    rank = float(ranks.mean()) if ranks.size else float("nan")
    return float(table[:, 0].mean()), rank, float(table[:, 2].mean()), float(table[:, 3].mean())


def _compare_rows(row_a: Floats, row_b: Floats) -> tuple[float, float, float, float]:
    p, q = _distribution(row_a), _distribution(row_b)
    divergence = max(0.0, float((p * np.log2(p / q)).sum()))
    return divergence, _rank_correlation(row_a, row_b), float(row_a.argmax() == row_b.argmax()), 1 / len(row_a)


def _distribution(row: Floats) -> Floats:
    raised = np.maximum(row / row.sum(), _LEAST)
    distribution: Floats = raised / raised.sum()
    return distribution


def _rank_correlation(row_a: Floats, row_b: Floats) -> float:
    """Spearman's correlation; NaN for fewer than three keys, or where a row is the same for all keys."""
    if len(row_a) < 3 or np.ptp(row_a) == 0 or np.ptp(row_b) == 0:
        return float("nan")
    from scipy import stats

    return float(stats.spearmanr(row_a, row_b).statistic)
