"""Write the report of a run: `report.html`, and its figures as PNG and SVG."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molsaki.report.attention_figures import find_attention
from molsaki.report.attention_tables import attention_tables, shift_sentences
from molsaki.report.browser import MAX_PROBLEMS, browser_data
from molsaki.report.charts import Chart, draw, for_page
from molsaki.report.page import render
from molsaki.report.readings import FOLDER, read_models
from molsaki.report.results import find_result
from molsaki.report.run_figures import accuracy_chart, read_metrics, training_charts
from molsaki.report.run_tables import (
    collapsed_routers,
    cost_table,
    count_test_problems,
    data_tables,
    rerun_tables,
    stage_table,
    term_table,
)
from molsaki.report.tables import Table
from molsaki.stages.costs import costs_of
from molsaki.stages.workspace import Workspace
from molsaki.store.locks import exclusive_lock
from molsaki.store.whole_files import refuse_write, write_whole

ROWS = 60
"""Default number of problems of each test set to read attention on."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was written.

    Attributes:
        page: the path of the page.
        figures: the folder of its figures.
        size: of the page, in bytes.
        sentences: the result in words.
        shift_sentences: the shift of attention in words; empty if no attention was read.
        shift: the tables about attention.
        notes: what is unfinished, and what is only a sample.
    """

    page: Path
    figures: Path
    size: int
    sentences: tuple[str, ...]
    shift_sentences: tuple[str, ...]
    shift: tuple[Table, ...]
    notes: tuple[str, ...]


def write_report(
    workspace: Workspace,
    *,
    rows: int = ROWS,
    problems: int = MAX_PROBLEMS,
    print_line: Callable[[str], None] = lambda _: None,
) -> Report:
    """Write the report of a run, which may be unfinished.

    Args:
        workspace: the run.
        rows: number of problems of each test set to read attention on; 0 loads no model.
        problems: maximum number of problems on the page.
        print_line: called with a description of each step.

    Raises:
        ArtefactError: artefacts of the run are missing or do not match.
        StageError: a file cannot be written, or another process is writing the report.
    """
    folder = workspace.run.path(FOLDER)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        refuse_write(folder, error, "No report was written.")
    with exclusive_lock(folder, "the report of this run"), costs_of(workspace, "report", again=True):
        context, data = _collect(workspace, rows, problems, print_line)
        print_line("drawing the figures")
        methods = [method.label for method in workspace.recipe.methods]
        drawings = _draw_all(context["charts"], folder / "figures", methods)
        context["figures"] = {chart.name: _figure(chart, drawings) for chart in context["charts"]}
        page = workspace.run.path("report.html")
        text = render("report.html.jinja", context, data)
        write_whole(page, text)
    return Report(
        page,
        folder / "figures",
        len(text.encode()),
        tuple(context["result"].sentences),
        tuple(context["shift_sentences"]),
        tuple(context["attention_tables"]),
        (*context["notes"], *context["readings"].notes),
    )


def _collect(
    workspace: Workspace, rows: int, problems: int, print_line: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables of the page's template, without drawings, and the data of its script."""
    result = find_result(workspace)
    metrics = read_metrics(workspace)
    readings = read_models(workspace, rows, print_line)
    attention = find_attention(workspace, readings)
    data, sample_notes = browser_data(workspace, readings, problems)
    accuracy = [accuracy_chart(result.means, workspace.test_names)] if any(result.means.values()) else []
    training = training_charts(workspace, metrics)
    command, recipe_text, rerun = rerun_tables(workspace)
    context = {
        "name": workspace.recipe.name,
        "recipe": workspace.recipe,
        "tested": count_test_problems(workspace),
        "result": result,
        "notes": [*(f"This run is not finished: {line}." for line in result.unfinished), *sample_notes],
        "readings": readings,
        "attention_tables": attention_tables(attention),
        "shift_sentences": shift_sentences(attention),
        "collapsed": collapsed_routers(workspace, metrics),
        "terms": term_table(workspace, metrics),
        "cost": cost_table(metrics),
        "stage_costs": stage_table(workspace),
        "data_tables": data_tables(workspace),
        "command": command,
        "recipe_text": recipe_text,
        "rerun": rerun,
        "charts": [*accuracy, *attention.charts, *training],
        # The names of the charts in each section.
        "accuracy": _names(accuracy),
        "attention": [name for name in _names(attention.charts) if not _shows_weights(name)],
        "weights": [name for name in _names([*attention.charts, *training]) if _shows_weights(name)],
        "training": [name for name in _names(training) if not _shows_weights(name)],
    }
    return context, data


def _names(charts: Iterable[Chart]) -> list[str]:
    return [chart.name for chart in charts]


def _shows_weights(name: str) -> bool:
    return "weights" in name or "router" in name


def _draw_all(charts: list[Chart], folder: Path, methods: list[str]) -> dict[str, str]:
    """Draw all charts into files, replace those of an earlier report, and return the drawings for the page by name."""
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
    except OSError as error:
        refuse_write(folder, error, "Some figures of an earlier report were deleted.")
    drawings = {}
    for chart in charts:
        svg, png = draw(chart, methods)
        write_whole(folder / f"{chart.name}.svg", svg)
        write_whole(folder / f"{chart.name}.png", png)
        drawings[chart.name] = for_page(svg, chart)
    return drawings


def _figure(chart: Chart, drawings: dict[str, str]) -> dict[str, Any]:
    from markupsafe import Markup

    return {
        "name": chart.name,
        "title": chart.title,
        "note": chart.note,
        "svg": Markup(drawings[chart.name]),  # noqa: S704 - drawn here; matplotlib escapes the text in it
        "table": chart.table(),
    }
