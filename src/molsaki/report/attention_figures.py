"""Charts of attention: the shift onto the keys, entropy, most-attended keys, layers and layer weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from molsaki.analysis import (
    Agreement,
    LayerProfile,
    Shift,
    TextAttention,
    agreement,
    layer_profile,
    layer_weights,
    progressive_shift,
    step_facts,
)
from molsaki.analysis.shift import estimate
from molsaki.analysis.text_attention import Floats
from molsaki.counts import plural
from molsaki.errors import EvaluationError
from molsaki.methods import METHODS
from molsaki.methods.terms import LayerChange
from molsaki.report.charts import LAYER_LABEL, Chart, Series, draw_at_most, slug
from molsaki.report.readings import Attentions, Readings
from molsaki.spans.views import HEADS, STEPS
from molsaki.stages.signals import view_of
from molsaki.stages.workspace import Workspace

MIN_PROBLEMS = 5
"""Means over fewer problems are not drawn."""
MAX_LINES = 12
MAX_DOTS = 8
"""Charts of lines, and of dots over layers, draw at most this many series; their tables have all."""
TEACHER, BEFORE = "teacher", "student before"
STEP_LABEL = "step (0 is the question, 1 the first sentence of the rationale)"
Weigh = Callable[[Mapping[str, TextAttention]], dict[str, Floats]]
"""From attention by id to layer weights [L] by id."""


@dataclass
class Attention:
    """The analysis of the attention of a run's models.

    Attributes:
        shifts: by model and set.
        profiles: the layers of each model, on the first set.
        agreements: of each student with the teacher, by model and set.
        charts: the figures, of the first set.
        first: the name of the first set.
    """

    shifts: dict[tuple[str, str], Shift] = field(default_factory=dict)
    profiles: dict[str, list[LayerProfile]] = field(default_factory=dict)
    agreements: dict[tuple[str, str], Agreement] = field(default_factory=dict)
    charts: list[Chart] = field(default_factory=list)
    first: str = ""


def find_attention(workspace: Workspace, readings: Readings) -> Attention:
    """Analyse the attention that was read of a run's models."""
    attention = Attention()
    sets = [name for name, texts in readings.texts.items() if texts]
    models = models_of(workspace, readings)
    if not sets or not models:
        return attention
    attention.first = sets[0]
    for name in sets:
        at_least = min(MIN_PROBLEMS, len(readings.texts[name]))
        for model, runs in models.items():
            attentions = [run[name] for run in runs]
            attention.shifts[model, name] = progressive_shift(*attentions, at_least=at_least)
            if model != TEACHER and readings.teacher:
                shared = _try_agreement(readings.teacher[name], attentions)
                if shared is not None:
                    attention.agreements[model, name] = shared
    first_attentions = {model: [run[attention.first] for run in runs] for model, runs in models.items()}
    attention.profiles = {model: layer_profile(*runs) for model, runs in first_attentions.items()}
    attention.charts = [
        *_shift_charts(attention),
        *_step_charts(first_attentions),
        *_layer_charts(attention.profiles),
        *_weight_charts(workspace, readings),
    ]
    # Rationales of one sentence, for example, have no change from the first sentence to the last.
    attention.charts = [chart for chart in attention.charts if chart.series]
    return attention


def models_of(workspace: Workspace, readings: Readings) -> dict[str, list[dict[str, dict[str, TextAttention]]]]:
    """The models that were read, each with its runs: one for each seed of a method."""
    models = {}
    if readings.teacher:
        models[TEACHER] = [readings.teacher]
    if readings.before:
        models[BEFORE] = [readings.before]
    for method in workspace.recipe.methods:
        runs = [attentions for (label, _), attentions in readings.after.items() if label == method.label]
        if runs:
            models[f"after {method.label}"] = runs
    return models


def _try_agreement(teacher: Mapping[str, TextAttention], runs: list[dict[str, TextAttention]]) -> Agreement | None:
    try:
        return agreement(teacher, *runs)
    except EvaluationError:  # no step of any text sees two keys
        return None


def _shift_charts(attention: Attention) -> list[Chart]:
    shifts = {model: shift for (model, name), shift in attention.shifts.items() if name == attention.first}
    above, shares = [], []
    for model, shift in shifts.items():
        steps = [float(step.step) for step in shift.steps]
        above.append(Series.of_estimates(model, steps, [step.above for step in shift.steps]))
        shares.append(Series(model, steps, [100 * step.share for step in shift.steps]))
        shares.append(Series(f"{model}, shuffled keys", steps, [100 * step.shuffled for step in shift.steps]))
    shares, drawn = draw_at_most(MAX_LINES, shares, "the lines of the first models")
    return [
        Chart(
            "shift",
            f"Attention on keys above shuffled keys, by step ({attention.first})",
            "Above 0, a step attends to the keys more than to other words of the same sentences. A rising line is the "
            "progressive shift. Bands are 95 % intervals over problems and seeds.",
            STEP_LABEL,
            "percentage points of attention",
            above,
            zero=True,
        ),
        Chart(
            "shares",
            f"Share of attention on keys, by step ({attention.first})",
            f"For comparison, the share if the keys were any words of their sentences (shuffled keys).{drawn}",
            STEP_LABEL,
            "% of a token's attention",
            shares,
        ),
    ]


def _step_charts(attentions: Mapping[str, list[dict[str, TextAttention]]]) -> list[Chart]:
    entropies, shares = [], []
    for model, runs in attentions.items():
        facts = [step_facts(look) for run in runs for look in run.values()]
        steps = range(max((len(row) for row in facts), default=0))
        at_step = {s: [fact for row in facts if len(row) > s and (fact := row[s]) is not None] for s in steps}
        drawn = [s for s in steps if len(at_step[s]) >= MIN_PROBLEMS * len(runs) or (at_step[s] and s == 0)]
        mean_entropy = [float(np.mean([fact.entropy for fact in at_step[s]])) for s in drawn]
        entropies.append(Series(model, [float(s) for s in drawn], mean_entropy))
        later = [s for s in drawn if s > 0]
        in_question = [100 * float(np.mean([fact.place == "question" for fact in at_step[s]])) for s in later]
        shares.append(Series(model, [float(s) for s in later], in_question))
    return [
        Chart(
            "entropy",
            "Entropy of attention over the keys, by step",
            "Over the keys that a step can see: 0 bits for attention on one key only, log2(n) bits for equal attention "
            "on n keys. Later steps see more keys.",
            "step",
            "bits",
            entropies,
        ),
        Chart(
            "most-attended",
            "Position of the most-attended key, by step",
            "The share of problems whose most-attended key is in the question, not in the rationale so far.",
            "step",
            "% of problems",
            shares,
        ),
    ]


def _layer_charts(profiles: Mapping[str, list[LayerProfile]]) -> list[Chart]:
    above, change = [], []
    for model, profile in profiles.items():
        above.append(Series.of_estimates(model, [layer.layer for layer in profile], [layer.above for layer in profile]))
        changes = {layer.layer: layer.change for layer in profile if layer.change is not None}
        if changes:
            change.append(Series.of_estimates(model, list(changes), list(changes.values())))
    ticks = _layer_ticks(max((layer.layer + 1 for profile in profiles.values() for layer in profile), default=0))
    intervals = "Lines are 95 % intervals over problems and seeds."
    return [
        Chart(
            "layers-above",
            "Attention on keys above shuffled keys, by layer",
            f"Mean over the sentences of the rationale. {intervals}",
            LAYER_LABEL,
            "percentage points of attention",
            above,
            "dots",
            ticks,
            zero=True,
        ),
        Chart(
            "layers-shift",
            "Change from the first sentence to the last, by layer",
            f"Above 0, the layer moves onto the keys as the rationale continues. {intervals}",
            LAYER_LABEL,
            "percentage points of attention",
            change,
            "dots",
            ticks,
            zero=True,
        ),
    ]


def _mixture_settings(workspace: Workspace) -> tuple[float, LayerChange]:
    """τ1 and G of the first method that mixes layers over steps and keys; else the defaults."""
    for spec in workspace.recipe.methods:
        settings = METHODS[spec.name].Settings(**spec.settings).model_dump()
        if settings.get("layer_change") in ("sum", "mean") and view_of(spec) in (STEPS.name, HEADS.name):
            return settings["teacher_temperature"], settings["layer_change"]
    return 0.1, "sum"


def _weight_charts(workspace: Workspace, readings: Readings) -> list[Chart]:
    charts = []
    if readings.teacher and any(view_of(spec) is not None for spec in workspace.recipe.methods):
        temperature, change = _mixture_settings(workspace)

        def weigh_teacher(attentions: Mapping[str, TextAttention]) -> dict[str, Floats]:
            return dict(zip(*layer_weights(attentions, temperature, change=change), strict=True))

        title = "The teacher's layer weights, by type of problem"
        note = (
            f"Eq. 4: the more a layer's attention changes from key to key, the more it weighs (τ1 = {temperature:g})."
        )
        charts.append(_weights_by_type("teacher-weights", title, note, readings, weigh_teacher, readings.teacher))
    for label in dict.fromkeys(label for label, _ in readings.routers):
        title = f"{label}: the router's layer weights after training, by type of problem"
        note = "Eq. 5, a softmax over scores of the layers' values. The router starts with equal weights."
        student = next((attentions for (other, _), attentions in readings.after.items() if other == label), {})
        routed = _routed(readings, label)
        charts.append(_weights_by_type(f"router-end-{slug(label)}", title, note, readings, routed, student))
    return charts


def _routed(readings: Readings, label: str) -> Weigh:
    """The layer weights of a method's routers, averaged over seeds."""
    runs = [weights for (other, _), weights in readings.routers.items() if other == label]
    mean: dict[str, Floats] = {}
    for name in readings.texts:
        shared = set.intersection(*(set(run.get(name, {})) for run in runs))
        mean |= {row_id: np.mean([run[name][row_id] for run in runs], axis=0) for row_id in shared}
    return lambda attentions: {row_id: mean[row_id] for row_id in attentions if row_id in mean}


def _weights_by_type(name: str, title: str, note: str, readings: Readings, weigh: Weigh, weighed: Attentions) -> Chart:
    """Mean layer weights of each set, and of each number of sentences in the first set, for the model `weighed`."""
    layers = next((one.layer_numbers for texts in weighed.values() for one in texts.values()), ())
    series = []
    for group, attentions in _problem_types(readings.teacher or readings.before).items():
        weights = weigh(attentions)
        if not weights:
            continue
        weights_PL = np.array(list(weights.values()))
        cells = [estimate(weights_L[None], (0.0, 1.0)) for weights_L in weights_PL.T]
        series.append(Series.of_estimates(f"{group} ({len(weights_PL)})", layers, cells, scale=1))
    series, drawn = draw_at_most(MAX_DOTS, series, "the first types")
    note += f" In brackets, the number of problems. Lines are 95 % intervals over them.{drawn}"
    return Chart(name, title, note, LAYER_LABEL, "weight", series, "dots", _layer_ticks(max(layers, default=-1) + 1))


def _layer_ticks(layers: int) -> list[str]:
    return [str(layer + 1) for layer in range(layers)]


def _problem_types(attentions: Mapping[str, Mapping[str, TextAttention]]) -> dict[str, dict[str, TextAttention]]:
    """The sets, and the first set split by the number of sentences of the rationale."""
    groups: dict[str, dict[str, TextAttention]] = {}
    for i, (name, members) in enumerate(attentions.items()):
        if members:
            groups[name] = dict(members)
        if i == 0:
            for length in sorted({look.spans.n_steps - 1 for look in members.values()}):
                same = {row_id: look for row_id, look in members.items() if look.spans.n_steps - 1 == length}
                if len(same) >= MIN_PROBLEMS:
                    groups[f"{name}, {plural(length, 'sentence')}"] = same
    return groups
