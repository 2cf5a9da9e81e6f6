"""Charts: their data, their drawing as SVG and PNG, and their numbers as a table.

The page, the SVG file and the PNG file have the same drawing. The colours are those of Okabe and Ito, which
colour-blind readers can tell apart. Lines also differ in dashes and markers, for print without colour.
"""

from __future__ import annotations

import io
import itertools
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from molsaki.evaluation.intervals import Interval

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#B59B00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
INK = "#1b1f24"
"""The colour of text and axes in the files. On the page they have the colour of its text."""
MAX_NAME_CHARACTERS = 40
LEGEND_WIDTH = 100
"""Characters in a line of the legend."""
LAYER_LABEL = "layer (1 is the first after the embeddings)"


_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
}


class Estimated(Protocol):
    """A mean with an interval."""

    @property
    def mean(self) -> float:
        """The mean."""

    @property
    def interval(self) -> Interval:
        """The interval of the mean."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or the dots of one colour.

    Attributes:
        name: its name in the legend.
        x, y: the points.
        low, high: the ends of their intervals; empty without intervals.
        drawn: whether it is in the drawing; the table has all series.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    drawn: bool = True

    @classmethod
    def of_estimates(cls, name: str, x: Sequence[float], cells: Sequence[Estimated], scale: float = 100) -> Series:
        """A series of means with their intervals, in percent by default."""
        return cls(
            name,
            [float(value) for value in x],
            [scale * cell.mean for cell in cells],
            [scale * cell.interval.low for cell in cells],
            [scale * cell.interval.high for cell in cells],
        )


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure.

    Attributes:
        name: the name of its files.
        title: the title.
        note: how to read it.
        x_label, y_label: labels of the axes, with units.
        series: the data.
        kind: lines over numbers, or dots over categories.
        ticks: the names of the categories.
        zero: whether to draw a line at 0.
    """

    name: str
    title: str
    note: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    kind: Literal["lines", "dots"] = "lines"
    ticks: Sequence[str] = ()
    zero: bool = False

    @property
    def drawn(self) -> list[Series]:
        """The series that are in the drawing."""
        return [series for series in self.series if series.drawn]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The head and the rows of a table with the numbers: one row per x, one column per series."""
        rows = []
        for x in sorted({x for series in self.series for x in series.x}):
            name = self.ticks[int(x)] if self.ticks else f"{x:g}"
            rows.append([name, *(_cell(series, x) for series in self.series)])
        return [self.x_label, *(series.name for series in self.series)], rows


def draw_at_most(
    most: int, series: Sequence[Series], which: str, rank: Callable[[Series], float] = lambda _: 0.0
) -> tuple[list[Series], str]:
    """Leave all but some of many series to the table.

    Args:
        most: the number of series that are drawn.
        series: all of them.
        which: the drawn ones in words, such as `the first lines`.
        rank: those with the largest rank are drawn; by default the first ones.

    Returns:
        The series, and a sentence for the chart's note that says what is drawn; empty if all are.
    """
    if len(series) <= most:
        return list(series), ""
    chosen = sorted(range(len(series)), key=lambda i: -rank(series[i]))[:most]
    shown = [replace(one, drawn=i in chosen) for i, one in enumerate(series)]
    return shown, f" Only {which} are drawn, {most} of {len(series)}; the table has all."


def slug(label: str) -> str:
    """A label as part of a file name."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in label)


def _cell(series: Series, x: float) -> str:
    if x not in series.x:
        return "–"
    i = list(series.x).index(x)
    shown = f"{series.y[i]:.4g}"
    return f"{shown} [{series.low[i]:.3g}, {series.high[i]:.3g}]" if series.low else shown


def draw(chart: Chart, methods: Sequence[str] = ()) -> tuple[str, bytes]:
    """Draw a chart as SVG and as PNG.

    Args:
        chart: the chart.
        methods: names that have the same colour, dashes and marker in every chart; other series take the next ones.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # silences messages about its font cache
    # matplotlib warns of characters that its font lacks. They are boxes in the PNG, and text in the SVG.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": chart.name}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        styles = _style_numbers([series.name for series in chart.drawn], methods)
        for i, series in enumerate(chart.drawn):
            _draw_series(axes, chart, i, styles[i], series)
        if chart.ticks:
            axes.set_xticks(range(len(chart.ticks)), [_short(tick, 24) for tick in chart.ticks])
            axes.set_xlim(-0.5, len(chart.ticks) - 0.5)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if chart.zero:
            axes.axhline(0, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
        axes.grid(axis="y", color="#808080", alpha=0.25)
        if len(chart.drawn) > 1 or chart.drawn[0].name:
            longest = max(len(_short(series.name, MAX_NAME_CHARACTERS)) for series in chart.drawn)
            columns = max(1, min(len(chart.drawn), LEGEND_WIDTH // (longest + 8)))
            figure.legend(loc="outside upper center", ncols=columns, frameon=False)
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Title": chart.title})
        figure.savefig(png, format="png", dpi=200, facecolor="white", metadata={"Title": chart.title})
    return svg.getvalue(), png.getvalue()


def for_page(svg: str, chart: Chart) -> str:
    """An SVG file as an element of the page: in the colour of its text, with a label, without metadata."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<title>.*?</title>", "", body, count=1, flags=re.DOTALL)
    body = body.replace(INK, "currentColor")
    # Ids must be unique on the page, and each drawing uses the same ones.
    body = re.sub(r'(\bid="|"#|url\(#)', lambda match: f"{match[1]}{chart.name}-", body)
    return re.sub(
        r'<svg([^>]*?)width="[^"]*"([^>]*)>', rf'<svg\1\2 role="img" aria-labelledby="{chart.name}">', body, count=1
    )


def _style_numbers(names: Sequence[str], methods: Sequence[str]) -> list[int]:
    """The number of the colour, dashes and marker of each series: a method's own, or the next one after them."""
    own = [next((i for i, method in enumerate(methods) if name in (method, f"after {method}")), None) for name in names]
    others = itertools.count(len(methods) if any(i is not None for i in own) else 0)
    return [next(others) if i is None else i for i in own]


def _draw_series(axes: Any, chart: Chart, i: int, style: int, series: Series) -> None:
    # Where colours repeat, dashes and markers do not repeat with them.
    shifted = style + style // len(COLOURS)
    colour, marker = COLOURS[style % len(COLOURS)], MARKERS[shifted % len(MARKERS)]
    name = _short(series.name, MAX_NAME_CHARACTERS)
    if chart.kind == "lines":
        markers = {"marker": marker, "markersize": 4} if len(series.x) <= 12 else {}
        dashes = DASHES[shifted % len(DASHES)]
        axes.plot(series.x, series.y, color=colour, linestyle=dashes, linewidth=1.6, label=name, **markers)
        if series.low:
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
        return
    # The dots of a category stand side by side within 0.8 of its width.
    offset = 0.8 / (len(chart.drawn) + 1) * (i + 1) - 0.4
    xs = [x + offset for x in series.x]
    axes.plot(xs, series.y, color=colour, linestyle="none", marker=marker, markersize=6, label=name)
    if series.low:
        axes.vlines(xs, series.low, series.high, color=colour, linewidth=1.8)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
