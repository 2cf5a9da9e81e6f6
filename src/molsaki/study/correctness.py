"""Which problems every student of a study solved, and the metrics of its training.

Legend: S seeds, P problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from molsaki.errors import EvaluationError
from molsaki.evaluation.intervals import Floats
from molsaki.stages.workspace import Workspace
from molsaki.study.files import MEAN, Cell


@dataclass
class RunAnswers:
    """The answers of the students of one recipe.

    Attributes:
        name: the name of the recipe in the study.
        tests: the names of its test sets.
        correct: by label and seed, and by test set: [P], 1 for a right answer and 0 for a wrong one. All students of a
            seed have the problems in the same order, and those of all seeds where seeds share their problems.
        metrics: by label and seed, the metrics of the training.
        planned: the seeds of the recipe, whose students may not all be there.
    """

    name: str
    tests: Sequence[str]
    correct: dict[tuple[str, int], dict[str, Floats]] = field(default_factory=dict)
    metrics: dict[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)
    planned: Sequence[int] = ()

    @property
    def columns(self) -> list[str]:
        """The columns of tables: the test sets, and their mean if there are several."""
        return [*self.tests, MEAN] if len(self.tests) > 1 else list(self.tests)

    def seeds(self, *cells: Cell) -> list[int]:
        """The seeds for which every one of these cells has a student."""
        seeds = [{seed for label, seed in self.correct if label == cell.label} for cell in cells]
        return sorted(set.intersection(*seeds)) if seeds else []

    def tables(self, cell: Cell, column: str, seeds: Sequence[int]) -> list[Floats]:
        """For each test set of a column, a table [S, P] of right answers."""
        tests = self.tests if column == MEAN else [column]
        return [np.stack([self.correct[cell.label, seed][test] for seed in seeds]) for test in tests]

    def accuracies(self, cell: Cell, column: str, seeds: Sequence[int]) -> Floats:
        """[S], the accuracy of each seed; test sets have equal weights in a mean."""
        means_S: Floats = np.mean([table.mean(1) for table in self.tables(cell, column, seeds)], axis=0)
        return means_S

    def examples(self, cells: Sequence[Cell]) -> tuple[int, ...]:
        """The different numbers of examples that students of these cells were trained on, ascending."""
        labels = {cell.label for cell in cells}
        numbers = {metrics.get("examples") for (label, _), metrics in self.metrics.items() if label in labels}
        return tuple(sorted(number for number in numbers if isinstance(number, int)))

    def mean_metric(self, cell: Cell, name: str) -> float | None:
        """The mean of a metric over the students of a cell; None if one of them lacks it."""
        values = [self.metrics.get((cell.label, seed), {}).get(name) for seed in self.seeds(cell)]
        numbers = [value for value in values if isinstance(value, (int, float))]
        return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def read_answers(name: str, workspace: Workspace, cells: Sequence[Cell]) -> RunAnswers:
    """Read the answers of the students of these cells. Students that were not tested on every set are left out.

    Raises:
        EvaluationError: two students were tested on different problems.
    """
    answers = RunAnswers(name, workspace.test_names, planned=workspace.recipe.seeds)
    problems: dict[tuple[str, int | None], list[tuple[str, str]]] = {}
    for cell in cells:
        for seed in workspace.recipe.seeds:
            if not all(workspace.is_tested(cell.label, seed, test) for test in answers.tests):
                continue
            correct = {}
            for test in answers.tests:
                rows = sorted(workspace.read_predictions(cell.label, seed, test), key=lambda row: row.id)
                own_problems = [(row.id, row.text_hash) for row in rows]
                drawn_by = seed if workspace.is_drawn(test) else None
                if problems.setdefault((test, drawn_by), own_problems) != own_problems:
                    raise EvaluationError(
                        f"Expected the same problems of {test!r} for all students of {workspace.run.folder}; "
                        f"{cell.label} with seed {seed} has others. They cannot be paired. Delete its predictions and "
                        "run the study again."
                    )
                correct[test] = np.array([row.correct for row in rows], dtype=np.float64)
            answers.correct[cell.label, seed] = correct
            metrics = workspace.read_metrics(cell.label, seed)
            if metrics.get("resumed_from") is not None:
                metrics["seconds"] = None  # they are of the last session only
            if metrics:
                answers.metrics[cell.label, seed] = metrics
    return answers
