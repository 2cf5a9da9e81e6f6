"""From a run's directory to its page and figures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molsaki.report.attention_figures import find_attention
from molsaki.report.browser import MOST_PROBLEMS, browser_data
from molsaki.report.charts import Chart, draw, for_page
from molsaki.report.facts import (
    Table,
    attention_tables,
    cost_table,
    data_tables,
    find_result,
    rerun_tables,
    shift_sentences,
    tested_rows,
)
from molsaki.report.page import render
from molsaki.report.readings import FOLDER, read_models
from molsaki.report.run_figures import accuracy_chart, read_metrics, training_charts
from molsaki.stages.workspace import Workspace
from molsaki.store.locks import exclusive_lock
from molsaki.store.whole_files import refuse_write, write_whole

ROWS = 60
"""Problems of each test set that attention is read on, by default."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was written.

    Attributes:
        page: the page.
        figures: the folder of its figures, each as PNG and SVG.
        size: of the page, in bytes.
        sentences: the reading of the results.
        shift_sentences: the reading of the shift, if attention was read.
        shift: the table of the shift and that of the agreement, if attention was read.
        notes: what is to be known: what is missing, what was sampled.
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
    problems: int = MOST_PROBLEMS,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Write `report.html` and its figures into a run's directory; a run that has not finished has a page, too.

    Args:
        workspace: the run.
        rows: problems of each test set to read attention on; 0 loads no model.
        problems: the most problems on the page.
        say: told what is done, since reading models takes time.

    Raises:
        ArtefactError: the run's artefacts do not fit together.
        StageError: the files cannot be written, or another process writes this run's report.
    """
    folder = workspace.run.path(FOLDER)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        refuse_write(folder, error, "No report was written.")
    with exclusive_lock(folder, "the report of this run"):
        result = find_result(workspace)
        metrics = read_metrics(workspace)
        readings = read_models(workspace, rows, say)
        attention = find_attention(workspace, readings)
        data, sampled = browser_data(workspace, readings, problems)
        accuracy = [accuracy_chart(result.means, workspace.test_names)] if any(result.means.values()) else []
        training = training_charts(workspace, metrics)
        say("drawing")
        drawn = _draw_all([*accuracy, *attention.charts, *training], folder / "figures")
        command, recipe_text, rerun = rerun_tables(workspace)
        notes = [*(f"This run is not finished: {what}." for what in result.missing), *sampled]
        context: dict[str, Any] = {
            "name": workspace.recipe.name,
            "recipe": workspace.recipe,
            "result": result,
            "attention": attention,
            "attention_tables": attention_tables(attention),
            "shift_sentences": shift_sentences(attention),
            "readings": readings,
            "notes": notes,
            "accuracy": _shown(accuracy, drawn),
            "figures": _shown(
                [c for c in attention.charts if "weights" not in c.name and "router" not in c.name], drawn
            ),
            "weights": _shown(
                [c for c in [*attention.charts, *training] if "weights" in c.name or "router" in c.name], drawn
            ),
            "training": _shown([c for c in training if "router" not in c.name], drawn),
            "cost": cost_table(metrics),
            "data_tables": data_tables(workspace),
            "command": command,
            "recipe_text": recipe_text,
            "rerun": rerun,
            "tested": tested_rows(workspace),
        }
        page = workspace.run.path("report.html")
        text = render("report.html.jinja", context, data)
        write_whole(page, text)
    return Report(
        page,
        folder / "figures",
        len(text.encode()),
        tuple(result.sentences),
        tuple(context["shift_sentences"]),
        tuple(context["attention_tables"]),
        (*notes, *readings.notes),
    )


def _draw_all(charts: list[Chart], folder: Path) -> dict[str, str]:
    """Draw every chart into files; figures of an earlier report go away. Returns each for the page."""
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
    except OSError as error:
        refuse_write(folder, error, "The figures of an earlier report are deleted in part.")
    found = {}
    for chart in charts:
        svg, png = draw(chart)
        write_whole(folder / f"{chart.name}.svg", svg)
        write_whole(folder / f"{chart.name}.png", png)
        found[chart.name] = for_page(svg, chart)
    return found


def _shown(charts: list[Chart], drawn: dict[str, str]) -> list[dict[str, Any]]:
    from markupsafe import Markup

    return [
        {
            "name": chart.name,
            "title": chart.title,
            "note": chart.note,
            "svg": Markup(drawn[chart.name]),  # noqa: S704 - drawn here; matplotlib escapes the text in it
            "table": chart.table(),
        }
        for chart in charts
    ]
