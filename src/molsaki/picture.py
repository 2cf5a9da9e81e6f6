"""The results of a run as one picture: a dot for each method's mean, its interval, and every seed beside it.

Plain SVG written by hand, so that a run needs no plotting library and the picture opens anywhere. Colours are
Okabe and Ito's, which colour-blind readers can tell apart; every value is in the text of the picture too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from molsaki.summary import Mean

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442")
WIDTH, TOP, PLOT, BOTTOM = 760, 64, 260, 44
LEFT, RIGHT = 52, 16


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where things are: the x of a method in a set's group, the y of an accuracy."""

    sets: int
    methods: int

    def x(self, group: int, method: int) -> float:
        width = (WIDTH - LEFT - RIGHT) / self.sets
        return LEFT + width * (group + (method + 1) / (self.methods + 1))

    def middle(self, group: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) / self.sets * (group + 0.5)

    @staticmethod
    def y(accuracy: float) -> float:
        return TOP + PLOT * (1 - accuracy)


def results_svg(
    title: str,
    means: Mapping[str, Mapping[str, Mean]],
    rows: Sequence[Mapping[str, Any]],
    tests: Sequence[str],
) -> str:
    """Draw accuracies by test set and method.

    Args:
        title: what was run.
        means: mean accuracies with intervals by method and test set; see `molsaki.summary.means`.
        rows: the rows of results.json, for the single seeds.
        tests: the test sets in order.

    Returns:
        The picture as SVG; text is escaped.
    """
    frame = _Frame(len(tests), len(means))
    height = TOP + PLOT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" font-size="13"',
        f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(_in_words(means, tests))}</desc>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 22, title, 'font-size="15" font-weight="600"'),
        *_legend(list(means)),
        *_axis(),
    ]
    for group, test in enumerate(tests):
        parts.append(_text(frame.middle(group), TOP + PLOT + 24, test, 'text-anchor="middle"'))
        for index, (label, cells) in enumerate(means.items()):
            seeds = [row["accuracy"] for row in rows if row["method"] == label and row["split"] == test]
            parts += _dot(frame.x(group, index), cells[test], seeds, COLOURS[index % len(COLOURS)], frame)
    return "\n".join([*parts, "</svg>", ""])


def _dot(x: float, mean: Mean, seeds: Sequence[float], colour: str, frame: _Frame) -> list[str]:
    low, high = frame.y(mean.interval.low), frame.y(mean.interval.high)
    singles = [
        f'<circle cx="{x - 9:.1f}" cy="{frame.y(seed):.1f}" r="2.2" fill="{colour}" fill-opacity="0.55"/>'
        for seed in seeds
    ]
    return [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}" stroke-width="2"/>',
        f'<circle cx="{x:.1f}" cy="{frame.y(mean.mean):.1f}" r="5" fill="{colour}"/>',
        _text(x + 8, frame.y(mean.mean) + 4, f"{100 * mean.mean:.0f}", 'font-size="11"'),
        *singles,
    ]


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="#222222" {more}>{escape(text)}</text>'


def _axis() -> list[str]:
    lines = []
    for percent in range(0, 101, 25):
        y = _Frame.y(percent / 100)
        lines += [
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>',
            _text(LEFT - 8, y + 4, f"{percent} %", 'text-anchor="end"'),
        ]
    return lines


def _legend(labels: Sequence[str]) -> list[str]:
    parts, x = [], float(LEFT)
    for index, label in enumerate(labels):
        parts += [
            f'<circle cx="{x + 5:.1f}" cy="40" r="5" fill="{COLOURS[index % len(COLOURS)]}"/>',
            _text(x + 15, 44, label),
        ]
        x += 34 + 7.5 * len(label)
    return parts


def _in_words(means: Mapping[str, Mapping[str, Mean]], tests: Sequence[str]) -> str:
    said = [
        f"{label} on {test}: {100 * cells[test].mean:.1f} % "
        f"[{100 * cells[test].interval.low:.0f}, {100 * cells[test].interval.high:.0f}]"
        for label, cells in means.items()
        for test in tests
    ]
    return "Accuracy, mean over seeds with 95 % interval. " + "; ".join(said) + "."
