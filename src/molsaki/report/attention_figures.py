"""The figures on attention: the shift, entropy, most-attended keys, layers, layer weights, agreement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from molsaki.analysis import (
    Agreement,
    LayerProfile,
    Look,
    Shift,
    agreement,
    layer_profile,
    layer_weights,
    progressive_shift,
    step_facts,
)
from molsaki.analysis.looks import Floats
from molsaki.analysis.shift import estimate
from molsaki.methods import METHODS, terms_of
from molsaki.report.charts import Chart, Series
from molsaki.report.readings import Readings
from molsaki.stages.workspace import Workspace

LEAST = 5
"""A mean over fewer problems is not drawn."""
TEACHER, BEFORE = "teacher", "student before"


@dataclass
class Attention:
    """What was found on attention.

    Attributes:
        shifts: by model and set.
        profiles: the layers of each model, on the first set.
        agreements: of each student with the teacher, by model and set.
        charts: the figures.
        first: the set that the figures are of.
    """

    shifts: dict[tuple[str, str], Shift] = field(default_factory=dict)
    profiles: dict[str, list[LayerProfile]] = field(default_factory=dict)
    agreements: dict[tuple[str, str], Agreement] = field(default_factory=dict)
    charts: list[Chart] = field(default_factory=list)
    first: str = ""


def find_attention(workspace: Workspace, readings: Readings) -> Attention:
    """Analyse the readings of a run; figures are of the first set that was read, tables of all."""
    found = Attention()
    sets = [name for name, texts in readings.texts.items() if texts]
    models = models_of(workspace, readings)
    if not sets or not models:
        return found
    found.first = sets[0]
    for name in sets:
        for model, runs in models.items():
            found.shifts[model, name] = progressive_shift(
                *(run[name] for run in runs), at_least=min(LEAST, len(readings.texts[name]))
            )
            if model != TEACHER and readings.teacher:
                shared = _try_agreement(readings.teacher[name], [run[name] for run in runs])
                if shared is not None:
                    found.agreements[model, name] = shared
    looks = {model: [run[found.first] for run in runs] for model, runs in models.items()}
    found.profiles = {model: layer_profile(*runs) for model, runs in looks.items()}
    found.charts = [
        *_shift_charts(found),
        *_row_charts(looks),
        *_layer_charts(found.profiles),
        *_weight_charts(workspace, readings),
    ]
    return found


def models_of(workspace: Workspace, readings: Readings) -> dict[str, list[dict[str, dict[str, Look]]]]:
    """Every model that was read, with its runs: one for each seed of a method."""
    models = {}
    if readings.teacher:
        models[TEACHER] = [readings.teacher]
    if readings.before:
        models[BEFORE] = [readings.before]
    for method in workspace.recipe.methods:
        runs = [looks for (label, _), looks in readings.after.items() if label == method.label]
        if runs:
            models[f"after {method.label}"] = runs
    return models


def _try_agreement(teacher: Mapping[str, Look], runs: list[dict[str, Look]]) -> Agreement | None:
    from molsaki.errors import EvaluationError

    try:
        return agreement(teacher, *runs)
    except EvaluationError:
        return None


def _shift_charts(found: Attention) -> list[Chart]:
    mine = {model: shift for (model, name), shift in found.shifts.items() if name == found.first}
    above, shares = [], []
    for model, shift in mine.items():
        x = [float(step.step) for step in shift.steps]
        cells = [step.above for step in shift.steps]
        above.append(
            Series(
                model,
                x,
                [100 * cell.mean for cell in cells],
                [100 * cell.interval.low for cell in cells],
                [100 * cell.interval.high for cell in cells],
            )
        )
        shares.append(Series(model, x, [100 * step.share for step in shift.steps]))
        shares.append(Series(f"{model}, shuffled keys", x, [100 * step.shuffled for step in shift.steps]))
    return [
        Chart(
            "shift",
            f"Attention on keys above shuffled keys, by step ({found.first})",
            "Above 0, a step looks at the keys more than at other words of the same sentences. A rising line is the "
            "progressive shift. Bands are 95 % intervals over problems and seeds.",
            "step (0 is the question, 1 the rationale's first sentence)",
            "points of attention",
            above,
            zero=True,
        ),
        Chart(
            "shares",
            f"Share of attention on keys, by step ({found.first})",
            "Beside each model, what the keys would get if they lay on any words of their sentences.",
            "step (0 is the question, 1 the rationale's first sentence)",
            "% of a token's attention",
            shares[:12],
        ),
    ]


def _row_charts(looks: Mapping[str, list[dict[str, Look]]]) -> list[Chart]:
    entropies, places = [], []
    for model, runs in looks.items():
        facts = [step_facts(look) for run in runs for look in run.values()]
        steps = range(max((len(row) for row in facts), default=0))
        at = {s: [row[s] for row in facts if len(row) > s and row[s] is not None] for s in steps}
        used = [s for s in steps if len(at[s]) >= LEAST * len(runs) or (at[s] and s == 0)]
        x = [float(s) for s in used]
        entropies.append(Series(model, x, [float(np.mean([f.entropy for f in at[s] if f])) for s in used]))
        question = [100 * float(np.mean([f.place == "question" for f in at[s] if f])) for s in used if s > 0]
        places.append(Series(model, [s for s in x if s > 0], question))
    return [
        Chart(
            "entropy",
            "How widely attention is spread over the keys, by step",
            "Entropy of a step's attention over the keys that it can see: 0 bits looks at one key only, log2(n) at n "
            "keys alike. Later steps see more keys.",
            "step",
            "bits",
            entropies,
        ),
        Chart(
            "most-attended",
            "Where the most-attended key stands, by step",
            "The share of problems whose most-attended key is in the question, not in the rationale so far.",
            "step",
            "% of problems",
            places,
        ),
    ]


def _layer_charts(profiles: Mapping[str, list[LayerProfile]]) -> list[Chart]:
    above, change = [], []
    most = 0
    for model, profile in profiles.items():
        most = max(most, *(layer.layer + 1 for layer in profile))
        above.append(
            Series(
                model,
                [float(p.layer) for p in profile],
                [100 * p.above.mean for p in profile],
                [100 * p.above.interval.low for p in profile],
                [100 * p.above.interval.high for p in profile],
            )
        )
        moved = [(p.layer, p.change) for p in profile if p.change is not None]
        change.append(
            Series(
                model,
                [float(layer) for layer, _ in moved],
                [100 * c.mean for _, c in moved],
                [100 * c.interval.low for _, c in moved],
                [100 * c.interval.high for _, c in moved],
            )
        )
    ticks = [str(layer + 1) for layer in range(most)]
    intervals = "Lines are 95 % intervals over problems and seeds."
    return [
        Chart(
            "layers-above",
            "Attention on keys above shuffled keys, layer by layer",
            f"Mean over the rationale's sentences. {intervals}",
            "layer (1 is next to the words)",
            "points of attention",
            above,
            "dots",
            ticks,
            zero=True,
        ),
        Chart(
            "layers-shift",
            "How that changes from the first sentence to the last, layer by layer",
            f"Above 0, the layer moves onto the keys as the rationale goes on. {intervals}",
            "layer (1 is next to the words)",
            "points of attention",
            [series for series in change if series.x],
            "dots",
            ticks,
            zero=True,
        ),
    ]


def _weight_charts(workspace: Workspace, readings: Readings) -> list[Chart]:
    charts = []
    spec = next((m for m in workspace.recipe.methods if terms_of(m.name, m.settings).attention), None)
    if readings.teacher and spec is not None:
        settings = METHODS[spec.name].Settings(**spec.settings).model_dump()
        temperature, normalise = settings.get("teacher_temperature", 0.1), settings.get("layer_change") != "sum"

        def weigh(looks: Mapping[str, Look]) -> dict[str, Floats]:
            return dict(zip(*layer_weights(looks, temperature, normalise=normalise), strict=True))

        charts.append(
            _by_type(
                "teacher-weights",
                "The teacher's layer weights, by problem type",
                "Eq. 4: the more a layer's attention changes from key to key, the more it weighs "
                f"(τ1 = {temperature:g}).",
                readings,
                weigh,
            )
        )
    for label in dict.fromkeys(label for label, _ in readings.routers):
        mine = [weights for (other, _), weights in readings.routers.items() if other == label]
        by_id: dict[str, dict[str, Floats]] = {}
        for name in readings.texts:
            shared = set.intersection(*(set(run.get(name, {})) for run in mine))
            by_id[name] = {row_id: np.mean([run[name][row_id] for run in mine], axis=0) for row_id in shared}

        def routed(looks: Mapping[str, Look], by_id: dict[str, dict[str, Floats]] = by_id) -> dict[str, Floats]:
            return {row_id: rows[row_id] for rows in by_id.values() for row_id in looks if row_id in rows}

        charts.append(
            _by_type(
                f"router-end-{_slug(label)}",
                f"{label}: the router's layer weights after training, by problem type",
                "A softmax over what each layer's values hold; the router starts at equal weights.",
                readings,
                routed,
            )
        )
    return [chart for chart in charts if chart.series]


def _by_type(
    name: str, title: str, note: str, readings: Readings, weigh: Callable[[Mapping[str, Look]], dict[str, Floats]]
) -> Chart:
    """Mean layer weights of each set, and of each number of sentences within the first."""
    looks = readings.teacher or readings.before
    series, most = [], 0
    for group, members in _types(looks).items():
        weights = weigh(members)
        if not weights:
            continue
        table = np.array(list(weights.values()))
        most = max(most, table.shape[1])
        cells = [estimate(table[None, :, layer], (0.0, 1.0)) for layer in range(table.shape[1])]
        series.append(
            Series(
                f"{group} ({len(table)})",
                [float(layer) for layer in range(table.shape[1])],
                [cell.mean for cell in cells],
                [cell.interval.low for cell in cells],
                [cell.interval.high for cell in cells],
            )
        )
    ticks = [str(layer + 1) for layer in range(most)]
    explained = f"{note} In brackets, how many problems; lines are 95 % intervals over them."
    return Chart(name, title, explained, "layer (1 is next to the words)", "weight", series[:8], "dots", ticks)


def _types(looks: Mapping[str, Mapping[str, Look]]) -> dict[str, dict[str, Look]]:
    groups: dict[str, dict[str, Look]] = {}
    for i, (name, members) in enumerate(looks.items()):
        if members:
            groups[name] = dict(members)
        if i == 0:
            for length in sorted({look.spans.n_steps - 1 for look in members.values()}):
                same = {row_id: look for row_id, look in members.items() if look.spans.n_steps - 1 == length}
                if len(same) >= LEAST:
                    groups[f"{name}, {length} sentence{'s' * (length != 1)}"] = same
    return groups


def _slug(label: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in label)
