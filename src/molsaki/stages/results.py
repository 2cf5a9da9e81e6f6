"""Statistics of a run: mean accuracies, paired differences to the baseline, and counts of answers without a score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from molsaki.evaluation.crossed import PairedDifference
from molsaki.evaluation.intervals import MeanAccuracy, mean_accuracy
from molsaki.evaluation.score import compare
from molsaki.stages.references import read_references
from molsaki.stages.workspace import Workspace
from molsaki.store.whole_files import read_json
from molsaki.training.gradients import GRADIENT

SHARE = "_share"
"""The suffix of the names of shares of the loss in the log, after the name of a term."""


def means(workspace: Workspace, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, MeanAccuracy]]:
    """Mean accuracies by method label and test set, without sets that no student was tested on.

    Args:
        workspace: the run.
        rows: the rows of results.json.
    """
    table: dict[str, dict[str, MeanAccuracy]] = {method.label: {} for method in workspace.recipe.methods}
    for label, cells in table.items():
        for test in workspace.test_names:
            own = [row for row in rows if row["method"] == label and row["split"] == test]
            if own:
                cells[test] = mean_accuracy([row["correct"] for row in own], own[0]["n"])
    return table


def failures(workspace: Workspace) -> dict[str, dict[str, int]]:
    """Counts of the answers of each model that could not be parsed, over all sets and seeds."""
    scores = read_json(workspace.run.path("scores.json"), "the scores of a run")
    names = {"unparsable": "unparsable", "cut": "cut off", "too_long": "question too long"}
    table: dict[str, dict[str, int]] = {}
    for method in workspace.recipe.methods:
        own = [row for row in scores if row["method"] == method.label]
        counts = {shown: sum(row[name] for row in own) for name, shown in names.items()}
        table[method.label] = {shown: n for shown, n in counts.items() if n}
    for one in read_references(workspace):
        counts = table.setdefault(one.model, {})
        for name, shown in names.items():
            if n := getattr(one.score, name):
                counts[shown] = counts.get(shown, 0) + n
    return table


def differences(workspace: Workspace) -> dict[tuple[str, str], dict[str, PairedDifference]]:
    """Paired differences of every other method to the baseline by test set, over the seeds that both have."""
    recipe, baseline = workspace.recipe, workspace.recipe.baseline
    table: dict[tuple[str, str], dict[str, PairedDifference]] = {}
    for method in recipe.methods if baseline is not None else ():
        if method.label == baseline:
            continue
        assert baseline is not None
        cells = {}
        for test in workspace.test_names:
            pair = method.label, baseline
            seeds = [s for s in recipe.seeds if all(workspace.is_tested(label, s, test) for label in pair)]
            if seeds:
                a, b = ([workspace.read_predictions(label, seed, test) for seed in seeds] for label in pair)
                cells[test] = compare(a, b)
        if cells:
            table[pair] = cells
    return table


def training_facts(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json says of a student's training: whether its router collapsed, and what each term did.

    Args:
        metrics: of the training; empty if there are none.

    Returns:
        `router_collapsed_at`: the step from which on one layer has nearly all of the router's weight, or None.
        `terms`: at the first and at the last step at which gradients were measured (of all logged steps if they were
        not), each term's share of the loss and the norm of its gradient on the student, by the name of the term.
        `compared_tokens`: the share of the rationales' tokens that is compared with the teacher's next tokens, for each
        kind of token; empty for a method that does not compare them.
    """
    logged = [line for line in metrics.get("history", []) if any(name.endswith(SHARE) for name in line)]
    measured = [line for line in logged if any(name.endswith(GRADIENT) for name in line)] or logged
    ends = [measured[0], measured[-1]] if len(measured) > 1 else measured
    names = metrics.get("weights", {})
    terms = [
        {"step": line["step"], "share": _by_term(line, SHARE, names), "gradient": _by_term(line, GRADIENT, names)}
        for line in ends
    ]
    compared = metrics.get("compared_tokens", {}).items()
    return {
        "router_collapsed_at": metrics.get("router_collapsed_at"),
        "terms": terms,
        "compared_tokens": {kind: n["compared"] / n["tokens"] for kind, n in compared if n["tokens"]},
    }


def _by_term(line: Mapping[str, Any], end: str, weights: Iterable[str]) -> dict[str, float]:
    # In the order of the method's terms: the history of a resumed training has its keys sorted.
    own = [name for name in weights if name + end in line]
    others = [name.removesuffix(end) for name in line if name.endswith(end)]
    return {name: line[name + end] for name in dict.fromkeys([*own, *others])}
