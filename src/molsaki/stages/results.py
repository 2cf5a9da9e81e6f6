"""What the results of a run say: means over seeds with intervals, and paired differences to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from molsaki.evaluation.crossed import PairedDifference
from molsaki.evaluation.intervals import Interval, seed_interval, wilson_interval
from molsaki.evaluation.score import compare
from molsaki.stages.workspace import Workspace
from molsaki.store.whole_files import read_json


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean accuracy of one method on one test set.

    Attributes:
        mean: over seeds.
        interval: Student's t over seeds; with one seed, Wilson's over problems.
        seeds: how many.
    """

    mean: float
    interval: Interval
    seeds: int


def means(workspace: Workspace, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Mean]]:
    """Mean accuracies by method label and test set; a cell that nothing was tested for is not there."""
    table: dict[str, dict[str, Mean]] = {}
    for method in workspace.recipe.methods:
        table[method.label] = {}
        for test in workspace.test_names:
            found = [row for row in rows if row["method"] == method.label and row["split"] == test]
            if not found:
                continue
            accuracies = [row["accuracy"] for row in found]
            if len(found) == 1:
                interval = wilson_interval(found[0]["correct"], found[0]["n"])
            else:
                interval = seed_interval(accuracies)
            table[method.label][test] = Mean(sum(accuracies) / len(accuracies), interval, len(accuracies))
    return table


def failures(workspace: Workspace) -> dict[str, dict[str, int]]:
    """How many answers of each method are no answers, over all sets and seeds: unparsable, cut off, too long."""
    scores = read_json(workspace.run.path("scores.json"), "the scores of a run")
    named = {"unparsable": "answers unparsable", "cut": "cut off", "too_long": "questions too long"}
    found: dict[str, dict[str, int]] = {}
    for method in workspace.recipe.methods:
        mine = [row for row in scores if row["method"] == method.label]
        sums = {shown: sum(row[name] for row in mine) for name, shown in named.items()}
        found[method.label] = {shown: n for shown, n in sums.items() if n}
    return found


def differences(workspace: Workspace) -> dict[tuple[str, str], dict[str, PairedDifference]]:
    """Paired differences of every other method to the recipe's baseline, by test set, over the seeds that both have."""
    recipe = workspace.recipe
    baseline = recipe.baseline
    if baseline is None:
        return {}
    found = {}
    for method in recipe.methods:
        if method.label == baseline:
            continue
        cells = {}
        for test in workspace.test_names:
            seeds = [
                seed
                for seed in recipe.seeds
                if all(workspace.predictions(label, seed, test).is_file() for label in (method.label, baseline))
            ]
            if seeds:
                cells[test] = compare(
                    [workspace.read_predictions(method.label, seed, test) for seed in seeds],
                    [workspace.read_predictions(baseline, seed, test) for seed in seeds],
                )
        if cells:
            found[method.label, baseline] = cells
    return found
