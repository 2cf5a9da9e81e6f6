"""Charts: their data, their drawing as SVG and PNG, and the same numbers as a table.

One drawing serves the page, the SVG and the PNG. Colours are Okabe and Ito's, which colour-blind readers can tell
apart; lines differ in dashes and marks as well, for print without colour.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#B59B00")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
INK = "#1b1f24"
"""The colour of text and axes in the files; on the page they take the page's own."""
MOST_NAME = 40
LINE = 100
"""Characters that fit beside one another in a legend."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one kind of dot; `low` and `high` are an interval's ends, where there is one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure.

    Attributes:
        name: its file's name.
        title: what it shows.
        note: one sentence on how to read it.
        x_label, y_label: with units.
        series: what is drawn.
        kind: lines over numbers, or dots over categories.
        ticks: the categories' names.
        zero: draw a line at 0.
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

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The heading and the rows of the chart's numbers: one row for each x, one column for each series."""
        places = sorted({x for series in self.series for x in series.x})
        rows = []
        for place in places:
            name = self.ticks[int(place)] if self.ticks else f"{place:g}"
            rows.append([name, *(_cell(series, place) for series in self.series)])
        return [self.x_label or "", *(series.name for series in self.series)], rows


def _cell(series: Series, place: float) -> str:
    if place not in series.x:
        return "–"
    i = list(series.x).index(place)
    shown = f"{series.y[i]:.4g}"
    return f"{shown} [{series.low[i]:.3g}, {series.high[i]:.3g}]" if series.low else shown


def draw(chart: Chart) -> tuple[str, bytes]:
    """Draw a chart: SVG for the page and for papers, PNG for slides."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it tells of its font cache
    settings = {
        "font.size": 9,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
        "svg.hashsalt": chart.name,
        "text.parse_math": False,
        "font.family": "sans-serif",
    }
    # A name may hold characters that the font for PNG lacks; they are drawn as boxes there and as text in SVG.
    with mpl.rc_context(cast(Any, settings)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for i, series in enumerate(chart.series):
            _draw_series(axes, chart, i, series)
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
        if len(chart.series) > 1 or chart.series[0].name:
            longest = max(len(_short(series.name, MOST_NAME)) for series in chart.series)
            columns = max(1, min(len(chart.series), LINE // (longest + 8)))
            figure.legend(loc="outside upper center", ncols=columns, frameon=False)
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Title": chart.title})
        figure.savefig(png, format="png", dpi=200, facecolor="white", metadata={"Title": chart.title})
    return svg.getvalue(), png.getvalue()


def for_page(svg: str, chart: Chart) -> str:
    """The drawing as an element of the page: in the page's ink, with a name, and without what a file needs."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<title>.*?</title>", "", body, count=1, flags=re.DOTALL)
    body = body.replace(INK, "currentColor")
    # Names inside a drawing are the page's own; those of two drawings must not be taken for one another.
    body = re.sub(r'(\bid="|"#|url\(#)', lambda found: f"{found[1]}{chart.name}-", body)
    return re.sub(
        r'<svg([^>]*?)width="[^"]*"([^>]*)>', rf'<svg\1\2 role="img" aria-labelledby="{chart.name}">', body, count=1
    )


def _draw_series(axes: Any, chart: Chart, i: int, series: Series) -> None:
    colour, mark = COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)]
    name = _short(series.name, MOST_NAME)
    if chart.kind == "lines":
        marks = {"marker": mark, "markersize": 4} if len(series.x) <= 12 else {}
        line = DASHES[i % len(DASHES)]
        axes.plot(series.x, series.y, color=colour, linestyle=line, linewidth=1.6, label=name, **marks)
        if series.low:
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
        return
    beside = 0.8 / (len(chart.series) + 1) * (i + 1) - 0.4
    places = [x + beside for x in series.x]
    axes.plot(places, series.y, color=colour, linestyle="none", marker=mark, markersize=6, label=name)
    if series.low:
        axes.vlines(places, series.low, series.high, color=colour, linewidth=1.8)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
