"""What the stages find and leave in a run directory: which file is where, and how it is read back.

recipe.yaml  manifest.json            what is run, with which versions
data/<set>.jsonl                      the problems of each set
rationales.jsonl                      the rationale of each problem, kept or not, and why
completions.jsonl                     all that the teacher wrote for them
attention/  attention-heads/  …       where the teacher looked, in each view that a method compares
next_tokens/                          what it expected to write next, where a method compares that
students/<label>-<seed>/              plain model directories
predictions/<label>-<seed>/<set>.jsonl
results.json                          one row for each task, set, method and seed
scores.json                           the same with intervals and failures
report.html  report/                  the page; its figures, what was read for it, the rationales that it shows
stages/<stage>.json                   what each stage has to tell: counts, reasons, fingerprints
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.artefacts import RowLog, RunDirectory, write_whole
from molsaki.errors import ArtefactError
from molsaki.prompts import PromptTemplate
from molsaki.rationales import RationaleRow, read_rationales
from molsaki.recipe import MethodSpec, Recipe
from molsaki.recipe_files import parse_recipe
from molsaki.records import Problem, hash_text

if TYPE_CHECKING:
    from molsaki.evaluation import Prediction
    from molsaki.extraction import Text

TRAIN, VALIDATION = "train", "validation"


class Workspace:
    """A run directory together with the recipe that it belongs to."""

    def __init__(self, run: RunDirectory, recipe: Recipe) -> None:
        self.run = run
        self.recipe = recipe

    @classmethod
    def open(cls, folder: Path) -> Workspace:
        """Open an existing run, as a worker process does."""
        run = RunDirectory(folder)
        return cls(run, parse_recipe(run.recipe))

    # ---- problems ----

    def write_problems(self, name: str, problems: Iterable[Problem]) -> None:
        """Keep the problems of one set."""
        lines = "".join(json.dumps(problem.to_dict(), ensure_ascii=False) + "\n" for problem in problems)
        write_whole(self.run.path("data", f"{name}.jsonl"), lines)

    def read_problems(self, name: str) -> list[Problem]:
        """The problems of one set.

        Raises:
            ArtefactError: the data stage has not been run.
        """
        path = self.run.path("data", f"{name}.jsonl")
        if not path.is_file():
            raise ArtefactError(
                f"Expected the problems of {name!r} in {path}; they are not there. Run `molsaki generate` with this "
                "recipe and directory first."
            )
        return [Problem.from_dict(row) for row in RowLog(path).rows()]

    def read_tests(self, name: str) -> list[Problem]:
        """The problems of a test set that are tested on, in the set's order."""
        problems, rows = self.read_problems(name), self.recipe.evaluation.rows
        if rows is None or rows >= len(problems):
            return problems
        chosen = sorted(problems, key=lambda problem: hash_text("test", problem.text))[:rows]
        ids = {problem.id for problem in chosen}
        return [problem for problem in problems if problem.id in ids]

    @property
    def test_names(self) -> list[str]:
        """The test sets, the in-domain one first."""
        return list(self.recipe.data.tests)

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split."""
        return self.recipe.data.validation is not None or self.recipe.data.validation_rows > 0

    # ---- rationales ----

    @property
    def rationale_log(self) -> RowLog:
        """The log of rationales."""
        return RowLog(self.run.path("rationales.jsonl"))

    @property
    def completion_log(self) -> RowLog:
        """The log of all that the teacher wrote."""
        return RowLog(self.run.path("completions.jsonl"))

    def read_texts(self, name: str) -> tuple[list[Problem], dict[str, Text]]:
        """The problems of a set that have a rationale, and their texts as attention is read on them."""
        from molsaki.extraction import Text

        rows = read_rationales(self.rationale_log, self.read_problems(name))
        texts = {
            row.problem.id: Text(row.problem.id, row.problem.text, row.rationale, self.keys_of(row)) for row in rows
        }
        return [row.problem for row in rows], texts

    def keys_of(self, row: RationaleRow) -> Any:
        """What counts as a key in a problem's texts."""
        return "numbers" if self.recipe.keys == "numbers" else tuple(row.keywords or ())

    def template(self, name: str) -> PromptTemplate:
        """One of the recipe's prompts."""
        return self.recipe.prompts.template(name)

    # ---- students ----

    def student(self, label: str, seed: int) -> Path:
        """The directory of one student."""
        return self.run.path("students", f"{label}-{seed}")

    def predictions(self, label: str, seed: int, test: str) -> Path:
        """The predictions of one student for one test set."""
        return self.run.path("predictions", f"{label}-{seed}", f"{test}.jsonl")

    def write_predictions(self, label: str, seed: int, test: str, predictions: Sequence[Prediction]) -> None:
        """Keep every prediction."""
        lines = "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in predictions)
        write_whole(self.predictions(label, seed, test), lines)

    def read_predictions(self, label: str, seed: int, test: str) -> list[Prediction]:
        """The predictions of one student for one test set."""
        from molsaki.evaluation import Prediction

        return [Prediction.from_dict(row) for row in RowLog(self.predictions(label, seed, test)).rows()]

    def method(self, label: str) -> MethodSpec:
        """The method that a label stands for."""
        return next(method for method in self.recipe.methods if method.label == label)

    def stage(self, name: str) -> Mapping[str, Any]:
        """What a stage has left, or nothing."""
        return self.run.stage_done(name) or {}
