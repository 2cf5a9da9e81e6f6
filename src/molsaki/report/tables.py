"""Tables of text cells, as reports and studies have them, and numbers with their intervals as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from molsaki.analysis import Estimate
from molsaki.evaluation.crossed import PairedDifference
from molsaki.evaluation.intervals import Interval, MeanAccuracy, show_p

NONE = "–"
"""A cell without a value."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption. The first cell of a row is its heading."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def show_accuracy(cell: MeanAccuracy | None) -> str:
    """A mean accuracy in percent, such as `53.5 [45, 62]`."""
    return NONE if cell is None else f"{100 * cell.mean:.1f} {show_interval(cell.interval, 0, 100)}"


def show_difference(cell: PairedDifference | None, p_value: float | None = None, digits: int = 0) -> str:
    """A difference in percentage points, such as `+1.7 [-5, +8] p=0.38`.

    Args:
        cell: the difference.
        p_value: a corrected p-value; by default that of the difference.
        digits: decimal places of the interval.
    """
    if cell is None:
        return NONE
    p_shown = show_p(cell.p_value if p_value is None else p_value)
    return f"{100 * cell.difference:+.1f} {show_interval(cell.interval, digits, 100, '+')} {p_shown}"


def describe_interval(seeds: Iterable[int]) -> str:
    """What intervals of paired differences cover, such as `over seeds and problems`.

    Args:
        seeds: the numbers of seeds that the differences are over.
    """
    counts = set(seeds)
    if counts == {1}:
        return "over problems"
    return "over seeds and problems" + (", over problems for one seed" if 1 in counts else "")


def show_points(cell: Estimate | None) -> str:
    """A share of attention, or a change of it, in percentage points, with the number of problems."""
    if cell is None:
        return NONE
    return f"{100 * cell.mean:+.1f} {show_interval(cell.interval, 1, 100, '+')} ({cell.problems})"


def show_estimate(cell: Estimate | None, digits: int) -> str:
    """A mean without a unit."""
    return NONE if cell is None else f"{cell.mean:.{digits}f} {show_interval(cell.interval, digits)}"


def show_interval(interval: Interval, digits: int, scale: float = 1, sign: str = "") -> str:
    """An interval, such as `[45, 62]`; with the sign `+`, such as `[-5, +8]`."""
    return f"[{scale * interval.low:{sign}.{digits}f}, {scale * interval.high:{sign}.{digits}f}]"
