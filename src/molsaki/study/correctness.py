"""What every student of a study got right, problem by problem, and what its training took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from molsaki.errors import EvaluationError
from molsaki.stages.workspace import Workspace
from molsaki.store.whole_files import read_json
from molsaki.study.files import Cell

Marks = npt.NDArray[np.float64]
METRICS = "metrics.json"


@dataclass
class RunMarks:
    """The students of one recipe's run.

    Attributes:
        name: the recipe's name in the study.
        tests: its test sets.
        right: for a label and a seed, for each test set 1 where right and 0 where not, problems in one order.
        metrics: for a label and a seed, what its training left.
    """

    name: str
    tests: Sequence[str]
    right: dict[tuple[str, int], dict[str, Marks]] = field(default_factory=dict)
    metrics: dict[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)

    def seeds(self, *cells: Cell) -> list[int]:
        """The seeds of which there are students of all these cells, tested on every set."""
        having = [{seed for label, seed in self.right if label == cell.label} for cell in cells]
        return sorted(set.intersection(*having)) if having else []

    def table(self, cell: Cell, test: str, seeds: Sequence[int]) -> Marks:
        """[seeds, problems], 1 where right."""
        return np.stack([self.right[cell.label, seed][test] for seed in seeds])

    def accuracies(self, cell: Cell, test: str | None, seeds: Sequence[int]) -> list[float]:
        """One accuracy a seed; None for the mean of all test sets, which weigh alike."""
        tests = self.tests if test is None else [test]
        return [float(np.mean([self.right[cell.label, seed][name].mean() for name in tests])) for seed in seeds]

    def examples(self, cells: Sequence[Cell]) -> tuple[int, ...]:
        """The numbers of examples that students of these cells learned from, each once, ascending."""
        labels = {cell.label for cell in cells}
        found = {metrics.get("examples") for (label, _), metrics in self.metrics.items() if label in labels}
        return tuple(sorted(number for number in found if isinstance(number, int)))

    def mean_metric(self, cell: Cell, name: str) -> float | None:
        """The mean of one of the metrics over the cell's students, where all have it."""
        found = [self.metrics.get((cell.label, seed), {}).get(name) for seed in self.seeds(cell)]
        numbers = [value for value in found if isinstance(value, (int, float))]
        return sum(numbers) / len(numbers) if numbers and len(numbers) == len(found) else None


def read_marks(name: str, workspace: Workspace, cells: Sequence[Cell]) -> RunMarks:
    """Read what the students of these cells got right; a student that was not tested on every set is left out.

    Raises:
        EvaluationError: two students were tested on different problems.
    """
    marks = RunMarks(name, workspace.test_names)
    known: dict[str, list[tuple[str, str]]] = {}
    for cell in cells:
        for seed in workspace.recipe.seeds:
            if not all(workspace.predictions(cell.label, seed, test).is_file() for test in marks.tests):
                continue
            right = {}
            for test in marks.tests:
                rows = sorted(workspace.read_predictions(cell.label, seed, test), key=lambda row: row.id)
                problems = [(row.id, row.text_hash) for row in rows]
                if known.setdefault(test, problems) != problems:
                    raise EvaluationError(
                        f"Expected all students of {workspace.run.folder} to be tested on the same problems of "
                        f"{test!r}; {cell.label} with seed {seed} was tested on others. They cannot be paired; delete "
                        "its predictions and run the study again."
                    )
                right[test] = np.array([row.correct for row in rows], dtype=np.float64)
            marks.right[cell.label, seed] = right
            path = workspace.student(cell.label, seed) / METRICS
            if path.is_file():
                value = read_json(path, "the metrics of a training")
                marks.metrics[cell.label, seed] = _whole(value) if isinstance(value, dict) else {}
    return marks


def _whole(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics without the seconds of a training that went on from a checkpoint: they are of its last part."""
    return metrics if metrics.get("resumed_from") is None else {**metrics, "seconds": None}
