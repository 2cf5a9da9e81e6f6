"""What the stages find and leave in a run directory: which file is where, and how it is read back.

recipe.yaml  manifest.json            what is run, with which versions
data/<set>.jsonl                      the problems of each set
rationales.jsonl                      the rationale of each problem, kept or not, and why
completions.jsonl                     all that the teacher wrote for them
attention/  attention-heads/  …       where the teacher looked, in each view that a method compares
next_tokens/                          what it expected to write next, where a method compares that
students/<label>-<seed>/              plain model directories
predictions/<label>-<seed>/<set>.jsonl
predictions/<label>-<seed>/explanations/<set>.jsonl
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

from molsaki.config.load import parse_recipe
from molsaki.config.recipe import MethodSpec, Recipe
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError, EvaluationError
from molsaki.records import Problem, hash_text
from molsaki.store.row_log import RowLog
from molsaki.store.run_directory import RunDirectory
from molsaki.store.whole_files import write_whole
from molsaki.teacher.rationales import RationaleRow, read_rationales

if TYPE_CHECKING:
    from molsaki.evaluation.score import Prediction
    from molsaki.spans.text import Text

TRAIN, VALIDATION = "train", "validation"
DATA, GENERATE = "data", "generate"
"""The stages that load problems and that have rationales written."""
EXPLANATIONS = "explanations"
"""The folder beside a student's predictions, which are files, whatever a test set is called."""


class Workspace:
    """A run directory together with the recipe that it belongs to."""

    def __init__(self, run: RunDirectory, recipe: Recipe) -> None:
        self.run = run
        self.recipe = recipe
        self._tested: dict[str, list[Problem]] = {}

    @classmethod
    def open(cls, folder: Path) -> Workspace:
        """Open an existing run, as a worker process does."""
        run = RunDirectory(folder)
        return cls(run, parse_recipe(run.recipe))

    # ---- problems ----

    def write_problems(self, name: str, problems: Iterable[Problem]) -> None:
        """Keep the problems of one set."""
        lines = "".join(json.dumps(problem.to_dict(), ensure_ascii=False) + "\n" for problem in problems)
        write_whole(self._problem_file(name), lines)
        self._tested.pop(name, None)

    def read_problems(self, name: str) -> list[Problem]:
        """The problems of one set.

        Raises:
            ArtefactError: the data stage has not been run, or some of what it left is not there any more.
        """
        path, kept = self._problem_file(name), self._kept_problems().get(name, 0)
        if not path.is_file() and not kept:
            raise ArtefactError(
                f"Expected the problems of {name!r} in {path}; they are not there. Run `molsaki generate` with this "
                "recipe and directory first."
            )
        problems = [Problem.from_dict(row) for row in RowLog(path).rows()]
        self._require_problems(name, len(problems), kept)
        return problems

    def require_problems(self) -> None:
        """Count the problems of every set.

        Raises:
            ArtefactError: some of what the data stage left is not there any more.
        """
        for name, kept in self._kept_problems().items():
            self._require_problems(name, RowLog(self._problem_file(name)).count(), kept)

    def _problem_file(self, name: str) -> Path:
        return self.run.path("data", f"{name}.jsonl")

    def _kept_problems(self) -> dict[str, int]:
        """How many problems of each set the data stage left; nothing where it has not finished."""
        kept = {name: int(report["kept"]) for name, report in self.stage(DATA).items()}
        if kept and VALIDATION not in kept and self.has_validation:  # set aside from the training problems
            kept[VALIDATION] = min(self.recipe.data.validation_rows, kept[TRAIN])
            kept[TRAIN] -= kept[VALIDATION]
        return kept

    def _require_problems(self, name: str, found: int, kept: int) -> None:
        if found < kept:
            path, told = self._problem_file(name), self.run.stage_path(DATA)
            raise ArtefactError(
                f"Expected the {kept} problems of {name!r} that the data stage left in {path}; {kept - found} of them "
                "are missing. Students would learn from other problems than those before, or be tested on others, and "
                f"nothing was done; put the file back from a copy, or delete it together with {told} and run "
                "`molsaki generate` with this recipe and directory, which loads every set anew from its source."
            )

    def read_tests(self, name: str) -> list[Problem]:
        """The problems of a test set that are tested on, in the set's order."""
        if name in self._tested:
            return list(self._tested[name])
        problems, rows = self.read_problems(name), self.recipe.evaluation.rows_of(name)
        if rows is not None and rows < len(problems):
            chosen = sorted(problems, key=lambda problem: hash_text("test", problem.text))[:rows]
            ids = {problem.id for problem in chosen}
            problems = [problem for problem in problems if problem.id in ids]
        self._tested[name] = problems  # every student's predictions are held against them
        return list(problems)

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

    def lost_rationales(self) -> int:
        """How many rationales are not in the log any more though the generate stage has finished."""
        told = self.stage(GENERATE)
        written = told.get("problems", 0) - told.get("unanswered", 0)
        return max(0, written - self.rationale_log.count()) if written else 0

    def read_texts(self, name: str) -> tuple[list[Problem], dict[str, Text]]:
        """The problems of a set that have a rationale, and their texts as attention is read on them."""
        from molsaki.spans.text import Text

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
        write_whole(self.predictions(label, seed, test), _lines(predictions))

    def write_explanations(self, label: str, seed: int, test: str, written: Sequence[Prediction]) -> None:
        """Keep what a student wrote after `explain:`, beside its predictions."""
        path = self.predictions(label, seed, test)
        write_whole(path.parent / EXPLANATIONS / path.name, _lines(written))

    def has_predictions(self, label: str, seed: int, test: str) -> bool:
        """Whether there are predictions of one student for exactly the problems that a test set is tested on.

        Raises:
            DataError: the file has a line that is no prediction.
        """
        if not self.predictions(label, seed, test).is_file():
            return False
        self.read_tests(test)  # if the problems themselves are not there, that is no fault of the predictions
        try:
            self.read_predictions(label, seed, test)
        except ArtefactError:
            return False
        return True

    def read_predictions(self, label: str, seed: int, test: str) -> list[Prediction]:
        """The predictions of one student for one test set, in the set's order.

        Raises:
            ArtefactError: they are not those of the problems that it is tested on: some are missing, or of other text.
            DataError: the file has a line that is no prediction.
        """
        from molsaki.evaluation.score import Prediction, in_order

        path, problems = self.predictions(label, seed, test), self.read_tests(test)
        rows = [Prediction.from_dict(row) for row in RowLog(path).rows()]
        try:
            return in_order(rows, problems)
        except EvaluationError as error:
            raise ArtefactError(
                f"Expected {path} to have an answer to each of the {len(problems)} problems that {test!r} is tested "
                f"on, and to no other; it has {len(rows)} rows. {error} `molsaki evaluate` with this recipe and "
                "directory does that, for this file alone."
            ) from error

    def method(self, label: str) -> MethodSpec:
        """The method that a label stands for."""
        return next(method for method in self.recipe.methods if method.label == label)

    def stage(self, name: str) -> Mapping[str, Any]:
        """What a stage has left, or nothing."""
        return self.run.stage_done(name) or {}


def _lines(predictions: Sequence[Prediction]) -> str:
    return "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in predictions)
