"""The figures on the run itself: accuracy and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from molsaki.report.charts import Chart, Series
from molsaki.stages.results import Mean
from molsaki.stages.workspace import Workspace
from molsaki.store.whole_files import read_json

METRICS = "metrics.json"
MOST_POINTS = 400
"""A longer log is thinned out before it is drawn."""

_LOGGED = {
    "label_loss": ("label-loss", "Loss on the answers", "nats per token"),
    "rationale_loss": ("rationale-loss", "Loss on the rationales", "nats per token"),
    "attention_loss": ("attention-loss", "Attention loss", "nats"),
    "label_share": ("label-share", "The answers' share of the loss", "share"),
    "rationale_share": ("rationale-share", "The rationales' share of the loss", "share"),
    "attention_share": ("attention-share", "The attention's share of the loss", "share"),
    "grad_norm": ("gradient-norm", "Gradient norm before clipping", "norm"),
    "learning_rate": ("learning-rate", "Learning rate", "per step"),
    "eval_accuracy": ("validation-accuracy", "Accuracy on the validation problems", "share right"),
    "eval_label_loss": ("validation-loss", "Loss on the validation problems' answers", "nats per token"),
}


def read_metrics(workspace: Workspace) -> dict[tuple[str, int], dict[str, Any]]:
    """What every trained student left of its training."""
    found = {}
    for method in workspace.recipe.methods:
        for seed in workspace.recipe.seeds:
            path = workspace.student(method.label, seed) / METRICS
            if path.is_file():
                value = read_json(path, "the metrics of a training")
                if isinstance(value, dict):
                    found[method.label, seed] = value
    return found


def accuracy_chart(means: Mapping[str, Mapping[str, Mean]], tests: Sequence[str]) -> Chart:
    """Mean accuracies with intervals."""
    series = []
    for label, cells in means.items():
        there = [(i, cells[test]) for i, test in enumerate(tests) if test in cells]
        series.append(
            Series(
                label,
                [float(i) for i, _ in there],
                [100 * cell.mean for _, cell in there],
                [100 * cell.interval.low for _, cell in there],
                [100 * cell.interval.high for _, cell in there],
            )
        )
    return Chart(
        "accuracy",
        "Accuracy by test set and method",
        "Dots are means over seeds, lines 95 % intervals over seeds (over problems where there is one seed).",
        "",
        "% right",
        [one for one in series if one.x],
        "dots",
        list(tests),
    )


def training_charts(workspace: Workspace, metrics: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[Chart]:
    """Everything that was logged by step: means over the seeds of each method."""
    charts = []
    for key, (name, title, unit) in _LOGGED.items():
        series = [_logged(workspace, metrics, method.label, key) for method in workspace.recipe.methods]
        drawn = [one for one in series if one.x]
        if drawn:
            charts.append(Chart(name, title, "Mean over the seeds of each method.", "training step", unit, drawn))
    return charts + router_charts(workspace, metrics)


def router_charts(workspace: Workspace, metrics: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[Chart]:
    """The router's layer weights over training; they start equal."""
    charts = []
    for method in workspace.recipe.methods:
        keys = {
            key
            for (label, _), one in metrics.items()
            if label == method.label
            for entry in one.get("history", [])
            for key in entry
            if key.startswith("layer_weight_") and key.removeprefix("layer_weight_").isdecimal()
        }
        series = []
        for layer in sorted(int(key.removeprefix("layer_weight_")) for key in keys):
            logged = _logged(workspace, metrics, method.label, f"layer_weight_{layer}")
            series.append(Series(f"layer {layer + 1}", (0.0, *logged.x), (1 / len(keys), *logged.y)))
        if series:
            slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in method.label)
            charts.append(
                Chart(
                    f"router-{slug}",
                    f"{method.label}: the router's layer weights over training",
                    "Mean over examples and seeds. Step 0 is the start: equal weights, by construction.",
                    "training step",
                    "weight",
                    series[:12],
                )
            )
    return charts


def _logged(workspace: Workspace, metrics: Mapping[tuple[str, int], Mapping[str, Any]], label: str, key: str) -> Series:
    """Means over seeds at the steps where every seed has a number; a log that is too long is thinned out."""
    runs = [metrics[label, seed] for seed in workspace.recipe.seeds if (label, seed) in metrics]
    tables = [
        {entry["step"]: entry[key] for entry in run.get("history", []) if "step" in entry and _number(entry.get(key))}
        for run in runs
    ]
    steps = sorted(set.intersection(*map(set, tables))) if tables else []
    steps = steps[:: max(1, len(steps) // MOST_POINTS)]
    return Series(label, [float(s) for s in steps], [sum(t[s] for t in tables) / len(tables) for s in steps])


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
