"""Charts of accuracies and of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from molsaki.evaluation.intervals import MeanAccuracy
from molsaki.report.charts import Chart, Series, draw_at_most, slug
from molsaki.stages.workspace import Workspace

MAX_POINTS = 400
"""A chart shows every n-th entry of a longer log."""
MAX_LAYERS = 12
"""A chart has a line for each of this many layers at most."""

_LOGGED = {
    "label_loss": ("label-loss", "Loss on the answers", "nats per token"),
    "rationale_loss": ("rationale-loss", "Loss on the rationales", "nats per token"),
    "reasoning_loss": ("reasoning-loss", "Loss on rationale and answer", "nats per token"),
    "attention_loss": ("attention-loss", "Attention loss", "nats"),
    "label_share": ("label-share", "The answers' share of the loss", "share"),
    "rationale_share": ("rationale-share", "The rationales' share of the loss", "share"),
    "reasoning_share": ("reasoning-share", "The share of rationale and answer in the loss", "share"),
    "attention_share": ("attention-share", "The attention's share of the loss", "share"),
    "grad_norm": ("gradient-norm", "Gradient norm before clipping", "norm"),
    "learning_rate": ("learning-rate", "Learning rate", "per step"),
    "eval_accuracy": ("validation-accuracy", "Accuracy on the validation problems", "share right"),
    "eval_label_loss": ("validation-loss", "Loss on the validation problems' answers", "nats per token"),
}


def read_metrics(workspace: Workspace) -> dict[tuple[str, int], dict[str, Any]]:
    """The metrics of the training of every student."""
    pairs = [(method.label, seed) for method in workspace.recipe.methods for seed in workspace.recipe.seeds]
    return {pair: metrics for pair in pairs if (metrics := workspace.read_metrics(*pair))}


def accuracy_chart(means: Mapping[str, Mapping[str, MeanAccuracy]], tests: Sequence[str]) -> Chart:
    """Mean accuracies with intervals."""
    series = []
    for label, cells in means.items():
        xs = [i for i, test in enumerate(tests) if test in cells]
        series.append(Series.of_estimates(label, xs, [cells[tests[i]] for i in xs]))
    return Chart(
        "accuracy",
        "Accuracy by test set and method",
        "Dots are means over seeds. Lines are 95 % intervals over seeds, over problems if they agree.",
        "",
        "% right",
        [one for one in series if one.x],
        "dots",
        list(tests),
    )


def training_charts(workspace: Workspace, metrics: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[Chart]:
    """What training logged, by step: means over the seeds of each method."""
    charts = []
    for key, (name, title, unit) in _LOGGED.items():
        series = [_logged(workspace, metrics, method.label, key) for method in workspace.recipe.methods]
        drawn = [one for one in series if one.x]
        if drawn:
            charts.append(Chart(name, title, "Mean over the seeds of each method.", "training step", unit, drawn))
    return charts + router_charts(workspace, metrics)


def router_charts(workspace: Workspace, metrics: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[Chart]:
    """The layer weights of the router during training."""
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
            heaviest = "the layers with the largest weights at the end"
            series, note = draw_at_most(MAX_LAYERS, series, heaviest, lambda one: one.y[-1])
            charts.append(
                Chart(
                    f"router-{slug(method.label)}",
                    f"{method.label}: the router's layer weights during training",
                    f"Mean over examples and seeds. The router starts with equal weights.{note}",
                    "training step",
                    "weight",
                    series,
                )
            )
    return charts


def _logged(workspace: Workspace, metrics: Mapping[tuple[str, int], Mapping[str, Any]], label: str, key: str) -> Series:
    """Means over seeds at the steps that all seeds have logged."""
    runs = [metrics[label, seed] for seed in workspace.recipe.seeds if (label, seed) in metrics]
    tables = [
        {
            entry["step"]: entry[key]
            for entry in run.get("history", [])
            if "step" in entry and _is_number(entry.get(key))
        }
        for run in runs
    ]
    steps = sorted(set.intersection(*map(set, tables))) if tables else []
    steps = steps[:: max(1, math.ceil(len(steps) / MAX_POINTS))]
    return Series(label, [float(s) for s in steps], [sum(t[s] for t in tables) / len(tables) for s in steps])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
