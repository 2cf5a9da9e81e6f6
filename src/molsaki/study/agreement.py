"""Whether students attend to the same keys as the teacher, and whether that is related to right answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from molsaki.analysis import Agreement, ErrorGap, TextAttention, agreement, agreement_by_problem, error_gap
from molsaki.analysis.shift import Estimate
from molsaki.errors import EvaluationError
from molsaki.report.readings import Readings, read_models
from molsaki.report.tables import Table, show_estimate
from molsaki.stages.workspace import Workspace
from molsaki.study.files import Cell, Group, Study

BEFORE = "student before training"
HEAD = ["set: model", "divergence, bits", "rank correlation", "same top key", "more where wrong", "within a problem"]


def attention_table(
    study: Study, name: str, workspace: Workspace, print_line: Callable[[str], None]
) -> tuple[Table, list[dict[str, Any]]]:
    """Agreement of students with the teacher's stepwise attention, before training and after training by each method.

    The columns are the KL divergence in bits, the rank correlation, the share of steps with the same most-attended
    key, and how much larger the divergence is where students are wrong: over all answers, and among the students of
    one problem. The problems are test problems for which the teacher wrote a right rationale. They are training
    problems if the rationales are not the teacher's; the caption says so.

    Returns:
        The table, and its figures.
    """
    group = Group(max(study.sizes, default=None), next(iter(study.settings), None))
    labels = {Cell(method.label, group).label: method.label for method in study.methods}
    readings = read_models(workspace, study.attention_rows, print_line, labels=set(labels))
    for note in readings.notes:
        print_line(f"{name}: {note}")
    if not readings.teacher:
        print_line(f"{name}: no agreement, since the teacher's attention was not read")
    rows: list[list[str]] = []
    figures: list[dict[str, Any]] = []
    for test in readings.texts if readings.teacher else ():
        for model, runs in _models(readings, labels, test).items():
            try:
                found = agreement(readings.teacher[test], *runs)
            except EvaluationError as error:
                print_line(f"{name}: {test}, {model}: left out of the table of agreement. {error}")
                continue
            gap = None
            try:
                gap = None if model == BEFORE else _gap(workspace, readings, test, Cell(model, group).label)
            except EvaluationError as error:
                print_line(f"{name}: {test}, {model}: agreement is not compared with right answers. {error}")
            rows.append([f"{test}: {model}", *_cells(found, gap)])
            when_wrong = None if gap is None else asdict(gap)
            figures.append({"recipe": name, "on": test, "model": model, **asdict(found), "when_wrong": when_wrong})
    problems = "training problems" if readings.trained_on else "problems outside training"
    title = f"{name}, {group}" if str(group) else name
    caption = f"{title}: agreement with the teacher's attention on {problems} [95 % interval over problems and seeds]"
    return Table(caption, HEAD, rows), figures


def _cells(found: Agreement, gap: ErrorGap | None) -> list[str]:
    """The columns of a model, without its name."""
    same_top = f"{100 * found.same_top.mean:.0f} % (chance {100 * found.chance:.0f} %)"
    gaps = (None, None) if gap is None else (gap.gap, gap.within)
    return [_show(found.divergence), _show(found.rank), same_top, *map(_show, gaps)]


def _models(readings: Readings, labels: Mapping[str, str], test: str) -> dict[str, list[dict[str, TextAttention]]]:
    """The attention of the untrained student and of each method's students, one mapping for each seed."""
    models = {BEFORE: [readings.before[test]]} if readings.before else {}
    for label, method in labels.items():
        runs = [attentions[test] for (own_label, _), attentions in readings.after.items() if own_label == label]
        if runs:
            models[method] = runs
    return models


def _gap(workspace: Workspace, readings: Readings, test: str, label: str) -> ErrorGap:
    """How much larger the divergence from the teacher is where students are wrong.

    Raises:
        EvaluationError: students were not tested on the sample, or all are right, or all are wrong, or each seed has
            problems of its own.
    """
    if workspace.is_drawn(test):
        raise EvaluationError(
            "Expected problems that all seeds answered; each seed draws its own (data.draws), so few are in the sample."
        )
    seeds = [seed for own_label, seed in readings.after if own_label == label]
    runs = [readings.after[label, seed][test] for seed in seeds]
    ids, table, _ = agreement_by_problem(readings.teacher[test], *runs)
    correct_SP = []
    for seed in seeds:
        tested = workspace.is_tested(label, seed, test)
        rows = workspace.read_predictions(label, seed, test) if tested else []
        correct = {row.id: float(row.correct) for row in rows}
        missing = [row_id for row_id in ids if row_id not in correct]
        if missing:
            raise EvaluationError(
                f"Expected answers of {label}, seed {seed}, to the {len(ids)} problems with attention; {len(missing)} "
                "have none. They are training problems, or the student was not tested."
            )
        correct_SP.append([correct[row_id] for row_id in ids])
    return error_gap(table[:, :, 0], np.array(correct_SP))


def _show(cell: Estimate | None) -> str:
    return show_estimate(cell, 3).replace("-", "−")
