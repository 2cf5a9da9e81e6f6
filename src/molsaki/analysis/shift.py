"""The progressive shift: does attention move onto the keys as the reasoning goes on?

The paper's first finding, as a number. A plain share of attention on keys would rise by itself, since every sentence
adds keys; so it is compared with what shuffled keys would get (`Look.shuffled_LS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from molsaki.analysis.looks import Floats, Look
from molsaki.errors import EvaluationError
from molsaki.evaluation.crossed import crossed_interval
from molsaki.evaluation.intervals import Interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval, and how many problems and runs it rests on."""

    mean: float
    interval: Interval
    problems: int
    runs: int = 1

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} [{100 * self.interval.low:+.1f}, {100 * self.interval.high:+.1f}] points"


@dataclass(frozen=True, slots=True)
class StepShare:
    """What lies on keys at one step.

    Attributes:
        step: 0 is the question, 1 the rationale's first sentence.
        share: the share of a token's attention that lies on keys.
        shuffled: what lies on shuffled keys.
        above: share − shuffled, with its interval.
    """

    step: int
    share: float
    shuffled: float
    above: Estimate


@dataclass(frozen=True, slots=True)
class Shift:
    """How attention moves.

    Attributes:
        steps: every step that enough problems have.
        change: how much `above` changes from the rationale's first sentence to its last, along the line that fits
            each problem's sentences best.
        too_short: problems whose rationale has fewer than two sentences; they have no say in `change`.
    """

    steps: tuple[StepShare, ...]
    change: Estimate | None
    too_short: int


def progressive_shift(
    *runs: Mapping[str, Look], layer: int | None = None, weights: Floats | None = None, at_least: int = 5
) -> Shift:
    """Measure how the attention on keys, above that on shuffled keys, changes from step to step.

    above(s) = (1/|s|)·Σ_{i ∈ s} Σ_{j ∈ keys} I[i, j] − its mean over all placements of the key tokens in their own
    sentences. `change` is the slope of above(s) over the rationale's sentences, where the first stands at 0 and the
    last at 1, averaged over problems; of a rationale that was cut off, those are of the sentences that are there. Its
    interval is over problems, and over runs if there are several.

    It can show that later sentences attend to the keys more than to other words of the same sentences, and by how
    much. It cannot show that this is why an answer is right. Keys may also draw attention for what they are (digits
    are rare and short words), which a shuffle does not take away; a *change* of it over the steps is less open to
    that. Rationales of different lengths are pooled by their relative place.

    Args:
        *runs: looks by problem id, one mapping for each trained model (seed); all of the same problems.
        layer: one layer; by default all are mixed.
        weights: how to mix them [L]; the plain mean by default.
        at_least: a step that fewer problems have is left out of `steps`.

    Raises:
        EvaluationError: there are no looks, or the runs are not of the same problems.
    """
    tables = _tables(runs, layer, weights)
    longest = max(len(share) for share, _ in tables[0])
    steps = []
    for step in range(longest):
        # A step that was cut off in one run is left out for all of them: they are compared on the same problems.
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


def layer_change(runs: Sequence[Mapping[str, Look]], layer: int) -> Estimate | None:
    """The `change` of one layer's shift, without its steps."""
    return _change(_tables(runs, layer, None))[0]


def _tables(
    runs: Sequence[Mapping[str, Look]], layer: int | None, weights: Floats | None
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


def _share_and_shuffled(look: Look, layer: int | None, weights: Floats | None) -> tuple[Floats, Floats]:
    if layer is not None:
        return look.share_LS[layer], look.shuffled_LS[layer]
    layers = len(look.share_LS)
    mix = np.full(layers, 1 / layers) if weights is None else weights
    return mix @ look.share_LS, mix @ look.shuffled_LS


def _slope(share_S: Floats, shuffled_S: Floats) -> float:
    above = (share_S - shuffled_S)[1:]
    there = ~np.isnan(above)
    if there.sum() < 2:
        return float("nan")
    place = np.linspace(0.0, 1.0, int(there.sum()))
    place = place - place.mean()
    return float((place * above[there]).sum() / (place * place).sum())


def _require_same(runs: Sequence[Mapping[str, Look]]) -> None:
    if not runs or not runs[0]:
        raise EvaluationError("Expected looks at one text at least; got none. There is nothing to average.")
    differing = {row_id for run in runs[1:] for row_id in run.keys() ^ runs[0].keys()}
    if differing:
        raise EvaluationError(
            f"Expected all runs to look at the same texts; {len(differing)} differ, {min(differing)!r} among them. "
            f"They cannot be averaged; keep the texts that all have."
        )
