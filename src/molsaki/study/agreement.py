"""Does the teacher's attention come across, and has it to do with being right?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from molsaki.analysis import ErrorGap, agreement, agreement_by_problem, error_gap
from molsaki.analysis.shift import Estimate
from molsaki.errors import EvaluationError
from molsaki.report.facts import Table
from molsaki.report.readings import Readings, read_models
from molsaki.stages.workspace import Workspace
from molsaki.study.files import Cell, Group, Study

BEFORE = "student before training"


def attention_table(
    study: Study, name: str, workspace: Workspace, say: Callable[[str], None]
) -> tuple[Table, list[dict[str, Any]]]:
    """Agreement with the teacher's stepwise attention, before training and after it by each method.

    On problems of the test sets that nobody trained on, of which the teacher wrote a right rationale, or on training
    problems where the rationales are not the teacher's own (the caption says which): KL divergence in bits, rank
    correlation, share of rows with the same most-attended key; and how much larger the divergence is where students
    are wrong, over all and among students of one problem.

    Returns:
        The table, and its figures.
    """
    group = Group(max(study.sizes, default=None), next(iter(study.settings), None))
    labels = {Cell(method.label, group).label: method.label for method in study.methods}
    readings = read_models(workspace, study.attention_rows, say, labels=set(labels))
    for note in readings.notes:
        say(f"{name}: {note}")
    rows: list[list[str]] = []
    figures: list[dict[str, Any]] = []
    if not readings.teacher:
        say(f"{name}: nothing to compare with, since the teacher's attention was not read")
    for test in readings.texts if readings.teacher else ():
        models = {BEFORE: [readings.before[test]]} if readings.before else {}
        for label, method in labels.items():
            runs = [looks[test] for (one, _), looks in readings.after.items() if one == label]
            if runs:
                models[method] = runs
        for model, runs in models.items():
            try:
                found = agreement(readings.teacher[test], *runs)
            except EvaluationError as error:
                say(f"{name}: {test}, {model}: left out of the table of agreement. {error}")
                continue
            gap = None
            if model != BEFORE:
                try:
                    gap = _gap(workspace, readings, test, Cell(model, group).label)
                except EvaluationError as error:
                    say(f"{name}: {test}, {model}: agreement is not compared with being right. {error}")
            rank = "–" if found.rank is None else _shown(found.rank)
            same = f"{100 * found.same_top.mean:.0f} % (chance {100 * found.chance:.0f} %)"
            gaps = ["–", "–"] if gap is None else [_shown(gap.gap), "–" if gap.within is None else _shown(gap.within)]
            rows.append([f"{test}: {model}", _shown(found.divergence), rank, same, *gaps])
            figures.append(
                {"recipe": name, "on": test, "model": model, **asdict(found)}
                | {"when_wrong": None if gap is None else asdict(gap)}
            )
    head = [
        "set: model",
        "divergence, bits",
        "rank correlation",
        "same top key",
        "more where wrong",
        "within a problem",
    ]
    problems = "training problems" if readings.trained_on else "problems that nobody trained on"
    caption = (
        f"{name}{', ' + str(group) if str(group) else ''}: agreement with the teacher's stepwise attention on "
        f"{problems} [95 % interval over problems and seeds]"
    )
    return Table(caption, head, rows), figures


def _gap(workspace: Workspace, readings: Readings, test: str, label: str) -> ErrorGap:
    """How much larger the divergence is where students are wrong.

    Raises:
        EvaluationError: students were not tested on the sample, or all are right, or all wrong.
    """
    seeds = [seed for one, seed in readings.after if one == label]
    runs = [readings.after[label, seed][test] for seed in seeds]
    ids, table, _ = agreement_by_problem(readings.teacher[test], *runs)
    right = []
    for seed in seeds:
        tested = workspace.predictions(label, seed, test).is_file()
        rows = workspace.read_predictions(label, seed, test) if tested else []
        marks = {row.id: float(row.correct) for row in rows}
        missing = [row_id for row_id in ids if row_id not in marks]
        if missing:
            raise EvaluationError(
                f"Expected answers of {label}, seed {seed}, to the {len(ids)} problems that attention was read on; "
                f"{len(missing)} have none, since training problems are shown or this student was not tested."
            )
        right.append([marks[row_id] for row_id in ids])
    return error_gap(table[:, :, 0], np.array(right))


def _shown(found: Estimate) -> str:
    return f"{found.mean:.3f} [{found.interval.low:.3f}, {found.interval.high:.3f}]".replace("-", "−")
