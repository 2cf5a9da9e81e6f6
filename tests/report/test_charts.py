"""Charts of more series than a drawing can show, and of long logs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from molsaki.analysis.shift import Shift, StepShare, estimate
from molsaki.config.recipe import MethodSpec
from molsaki.report import attention_figures, run_figures
from molsaki.report.charts import Chart, Series, draw
from molsaki.report.readings import Readings


def workspace_of_one_run() -> Any:
    return SimpleNamespace(recipe=SimpleNamespace(methods=[MethodSpec(name="molsaki", label="mine")], seeds=[1]))


def router_chart(layers: int) -> Chart:
    """The chart of a router whose weights end in the order of the layers."""
    entry = {"step": 10, **{f"layer_weight_{layer}": layer / 1000 for layer in range(layers)}}
    charts = run_figures.router_charts(workspace_of_one_run(), {("mine", 1): {"history": [entry]}})
    return charts[0]


def columns(chart: Chart) -> list[str]:
    return chart.table()[0][1:]


def test_the_heaviest_layers_of_a_deep_router_are_drawn_and_the_table_has_all():
    chart = router_chart(30)
    assert columns(chart) == [f"layer {i}" for i in range(1, 31)]
    assert [series.name for series in chart.drawn] == [f"layer {i}" for i in range(19, 31)]
    assert "12 of 30" in chart.note
    svg, _ = draw(chart)
    assert "layer 30<" in svg
    assert "layer 18<" not in svg


def test_the_note_of_a_chart_with_all_its_series_speaks_of_none_left_out():
    chart = router_chart(12)
    assert len(chart.drawn) == len(columns(chart)) == 12
    assert "drawn" not in chart.note


def test_series_of_one_colour_differ_in_dashes_and_markers():
    nine = [Series(f"s{i}", (0.0, 1.0), (float(i), 2.0)) for i in range(9)]
    first, ninth = (
        draw(Chart("c", "t", "n", "x", "y", [one]), [series.name for series in nine])[0].replace(one.name, "s")
        for one in (nine[0], Series("s8", nine[0].x, nine[0].y))
    )
    assert first != ninth


def test_shares_of_many_models_are_all_in_the_table():
    step = StepShare(1, 0.5, 0.25, estimate(np.array([[0.25, 0.25]])))
    shifts = {(f"model {i}", "test"): Shift((step,), None, 0) for i in range(7)}
    shares = attention_figures._shift_charts(attention_figures.Attention(shifts=shifts, first="test"))[1]
    assert len(columns(shares)) == 14
    assert len(shares.drawn) == 12
    assert "12 of 14" in shares.note


def test_weights_of_many_types_of_problem_are_all_in_the_table():
    looks: dict[str, Any] = {
        f"{length}-{i}": SimpleNamespace(layer_numbers=(0, 1), spans=SimpleNamespace(n_steps=length + 1))
        for length in range(1, 10)
        for i in range(attention_figures.MIN_PROBLEMS)
    }
    readings = Readings(teacher={"test": looks})
    chart = attention_figures._weights_by_type(
        "weights", "", "", readings, lambda rows: {row_id: np.array([0.25, 0.75]) for row_id in rows}, readings.teacher
    )
    assert len(columns(chart)) == 10
    assert len(chart.drawn) == 8
    assert "8 of 10" in chart.note


@pytest.mark.parametrize("logged", [1, 400, 401, 799, 801])
def test_a_long_log_has_no_more_points_than_a_chart_shows(logged: int):
    history = [{"step": step, "label_loss": 1.0} for step in range(logged)]
    chart = run_figures.training_charts(workspace_of_one_run(), {("mine", 1): {"history": history}})[0]
    points = len(chart.series[0].x)
    assert min(logged, run_figures.MAX_POINTS) / 2 <= points <= run_figures.MAX_POINTS


def test_the_chart_of_the_change_by_layer_has_a_title_in_words():
    titles = [chart.title for chart in attention_figures._layer_charts({})]
    assert titles[1].startswith("Change from the first sentence")
