"""The progressive shift: does attention move onto the keys as the reasoning continues?

The paper's first finding, as a number. The share of attention on keys rises by itself, since every sentence adds keys.
So it is compared with the share on shuffled keys (`TextAttention.shuffled_LS`).

Legend: L layers, S steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from molsaki.analysis.text_attention import Floats, TextAttention
from molsaki.errors import EvaluationError
from molsaki.evaluation.crossed import crossed_interval
from molsaki.evaluation.intervals import Interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval, and the number of problems and runs that it is over."""

    mean: float
    interval: Interval
    problems: int
    runs: int = 1

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} [{100 * self.interval.low:+.1f}, {100 * self.interval.high:+.1f}] points"


@dataclass(frozen=True, slots=True)
class StepShare:
    """Attention on keys at one step.

    Attributes:
        step: 0 for the question, 1 for the rationale's first sentence.
        share: the share of a token's attention that is on keys.
        shuffled: the share on shuffled keys.
        above: share − shuffled, with its interval.
    """

    step: int
    share: float
    shuffled: float
    above: Estimate


@dataclass(frozen=True, slots=True)
class Shift:
    """How attention on keys changes from step to step.

    Attributes:
        steps: every step that enough problems have.
        change: how much `above` changes from the rationale's first sentence to its last, along the least-squares line
            through each problem's sentences; None where no rationale has two sentences.
        too_short: number of problems whose rationale has fewer than two sentences; `change` leaves them out.
    """

    steps: tuple[StepShare, ...]
    change: Estimate | None
    too_short: int


def progressive_shift(
    *runs: Mapping[str, TextAttention], layer: int | None = None, weights: Floats | None = None, at_least: int = 5
) -> Shift:
    """Measure how the attention on keys, above that on shuffled keys, changes from step to step.

    above(s) = (1/|s|)·Σ_{i ∈ s} Σ_{j ∈ keys} I[i, j] − its mean over all placements of the key tokens in their own
    sentences. `change` is the slope of above(s) over the rationale's sentences, with the first at 0 and the last at 1,
    averaged over problems. Sentences that were cut off do not count. The interval is over problems, and over runs if
    there are several.

    It can show that later sentences attend to the keys more than to other words of the same sentences, and by how
    much. It cannot show that an answer is right because of this. Keys may also draw attention because they are rare and
    short words, which shuffling does not remove; the change over the steps depends less on that. Rationales of
    different lengths are pooled by relative position.

    Args:
        *runs: attention by problem id, one mapping for each trained model (seed); all of the same problems.
        layer: one layer; by default all are mixed.
        weights: weights of the mixture [L]; the plain mean by default.
        at_least: steps that fewer problems have are left out of `steps`.

    Raises:
        EvaluationError: there is no attention, or the runs are not of the same problems.
    """
    tables = _tables(runs, layer, weights)
    longest = max(len(share) for share, _ in tables[0])
    steps = []
    for step in range(longest):
        # All runs are averaged over the same problems: those where no run had the step cut off.
        has = [
            i for i in range(len(tables[0])) if all(len(t[i][0]) > step and not np.isnan(t[i][0][step]) for t in tables)
        ]
        if len(has) < at_least:
            continue
        share = np.array([[table[i][0][step] for i in has] for table in tables])
        shuffled = np.array([[table[i][1][step] for i in has] for table in tables])
        steps.append(StepShare(step, float(share.mean()), float(shuffled.mean()), estimate(share - shuffled)))
    change, too_short = _change(tables)
    return Shift(tuple(steps), change, too_short)


def shift_of_layer(runs: Sequence[Mapping[str, TextAttention]], layer: int) -> Estimate | None:
    """`Shift.change` of one layer."""
    return _change(_tables(runs, layer, None))[0]


def _tables(
    runs: Sequence[Mapping[str, TextAttention]], layer: int | None, weights: Floats | None
) -> list[list[tuple[Floats, Floats]]]:
    _require_same(runs)
    ids = sorted(runs[0])
    return [[_share_and_shuffled(run[row_id], layer, weights) for row_id in ids] for run in runs]


def _change(tables: Sequence[Sequence[tuple[Floats, Floats]]]) -> tuple[Estimate | None, int]:
    slopes = np.array([[_slope(*row) for row in table] for table in tables])
    usable = ~np.isnan(slopes).any(0)
    change = estimate(slopes[:, usable], bounds=(-3.0, 3.0)) if usable.any() else None
    return change, int((~usable).sum())


def estimate(table: Floats, bounds: tuple[float, float] = (-1.0, 1.0)) -> Estimate:
    """The mean of a table [runs, problems] with its interval."""
    return Estimate(float(table.mean()), crossed_interval(table, bounds=bounds), table.shape[1], table.shape[0])


def _share_and_shuffled(attention: TextAttention, layer: int | None, weights: Floats | None) -> tuple[Floats, Floats]:
    if layer is not None:
        return attention.share_LS[layer], attention.shuffled_LS[layer]
    layers = len(attention.share_LS)
    weights_L = np.full(layers, 1 / layers) if weights is None else weights
    return weights_L @ attention.share_LS, weights_L @ attention.shuffled_LS


def _slope(share_S: Floats, shuffled_S: Floats) -> float:
    """Least-squares slope of share − shuffled over the rationale's sentences; NaN for fewer than two."""
    above = (share_S - shuffled_S)[1:]
    there = ~np.isnan(above)
    if there.sum() < 2:
        return float("nan")
    position = np.linspace(0.0, 1.0, int(there.sum()))
    position = position - position.mean()
    return float((position * above[there]).sum() / (position * position).sum())


def _require_same(runs: Sequence[Mapping[str, TextAttention]]) -> None:
    if not runs or not runs[0]:
        raise EvaluationError(
            "Expected attention on at least one text; got none. There is nothing to average; read some texts."
        )
    differing = {row_id for run in runs[1:] for row_id in run.keys() ^ runs[0].keys()}
    if differing:
        raise EvaluationError(
            f"Expected attention of all runs on the same texts; {len(differing)} texts are not in all of them, "
            f"{min(differing)!r} for example. The runs cannot be averaged; keep the texts that all have."
        )
