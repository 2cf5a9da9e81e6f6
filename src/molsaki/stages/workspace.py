"""The files of a run directory, and how stages read and write them.

recipe.yaml  manifest.json            the resolved recipe, and the versions it was run with
data/<set>.jsonl                      the problems of each set
data/draws.json                       which of them each seed has, where each draws its own (`data.draws`)
rationales.jsonl                      the rationale of each problem, and whether and why it was kept
completions.jsonl                     all completions of the teacher
attention/steps/  …/heads/  …/words/  the teacher's attention, in each view that a method compares
attention/next-tokens/                the teacher's next-token distributions, if a method compares them
students/<label>-<seed>/              the students, as model directories
predictions/<label>-<seed>/<set>.jsonl
tested/<label>-<seed>.json             by set, a hash of the metrics of the student that was tested
predictions/<label>-<seed>/explanations/<set>.jsonl
results.json                          one row for each task, set, method and seed
scores.json                           the same with intervals and counts of failures
references.json                       the same for the student before its training, and the teacher
report.html  report/                  the report, its figures, and what was generated and read for it
stages/<stage>.json                   the manifest of each finished stage: counts, reasons, fingerprints
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.config.data_settings import TRAIN as TRAIN
from molsaki.config.data_settings import VALIDATION as VALIDATION
from molsaki.config.model_spec import ModelSpec
from molsaki.config.recipe import MethodSpec, Recipe
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError, EvaluationError, InputError
from molsaki.records import Problem, hash_text
from molsaki.store.row_log import RowLog
from molsaki.store.run_directory import METRICS_NAME, RunDirectory
from molsaki.store.whole_files import read_json, write_json, write_whole
from molsaki.teacher.rationales import RationaleRow, read_rationales

if TYPE_CHECKING:
    from molsaki.evaluation.score import Prediction
    from molsaki.spans.text import Text

DATA, GENERATE, ATTEND = "data", "generate", "attend"
"""The names of three stages: loading problems, generating rationales, and reading the teacher on them."""
EXPLANATIONS = "explanations"
"""The folder of explanations. It is a folder beside the files of predictions, so no name of a test set can clash."""


class Workspace:
    """A run directory and its recipe."""

    def __init__(self, run: RunDirectory, recipe: Recipe) -> None:
        self.run = run
        self.recipe = recipe
        self._test_problems: dict[tuple[str, int | None], list[Problem]] = {}
        self._drawn: dict[str, dict[str, list[Problem]]] = {}

    @classmethod
    def open(cls, folder: Path) -> Workspace:
        """Open an existing run."""
        from molsaki.config.methods import parse_run_recipe

        run = RunDirectory(folder)
        return cls(run, parse_run_recipe(run.recipe))

    def require_no_remote_code(self) -> None:
        """Refuse a run whose recipe asks for code that comes with a model: the run may be somebody else's.

        Raises:
            InputError: it asks for it.
        """
        specs = {"student": self.recipe.student, **self.recipe.teacher.models}
        asking = [key for key, spec in specs.items() if isinstance(spec, ModelSpec) and spec.trust_remote_code]
        if asking:
            raise InputError(
                f"Expected a run whose models come without code; the recipe of {self.run.folder} has trust_remote_code "
                f"for {', '.join(asking)}. No model was loaded; if you trust the code, give --trust-remote-code."
            )

    # ---- problems ----

    def write_problems(self, name: str, problems: Iterable[Problem]) -> None:
        """Write the problems of a set."""
        write_whole(self._problem_file(name), _json_lines(problems))
        self._test_problems.clear()
        self._drawn.clear()

    def read_problems(self, name: str) -> list[Problem]:
        """Read the problems of a set.

        Raises:
            ArtefactError: the data stage has not run, or problems that it wrote are missing.
        """
        path, written = self._problem_file(name), self._count_written_problems().get(name, 0)
        if not path.is_file() and not written:
            raise ArtefactError(
                f"Expected the problems of {name!r} in {path}; the file does not exist. Run `molsaki generate` with "
                "this recipe and directory first."
            )
        problems = [Problem.from_dict(row) for row in RowLog(path).rows()]
        self._check_count(name, len(problems), written)
        return problems

    def require_problems(self) -> None:
        """Check that no problem of any set is missing.

        Raises:
            ArtefactError: problems that the data stage wrote are missing.
        """
        for name, written in self._count_written_problems().items():
            self._check_count(name, RowLog(self._problem_file(name)).count(), written)

    def _problem_file(self, name: str) -> Path:
        return self.run.path("data", f"{name}.jsonl")

    def _count_written_problems(self) -> dict[str, int]:
        """The number of problems of each set that the data stage wrote; empty if it has not finished."""
        counts = {name: int(report["kept"]) for name, report in self.stage(DATA).items()}
        if counts and VALIDATION not in counts and self.has_validation:  # held out from the training problems
            counts[VALIDATION] = min(self.recipe.data.validation_rows, counts[TRAIN])
            counts[TRAIN] -= counts[VALIDATION]
        return counts

    def _check_count(self, name: str, found: int, written: int) -> None:
        if found < written:
            path, manifest = self._problem_file(name), self.run.stage_path(DATA)
            raise ArtefactError(
                f"Expected the {written} problems of {name!r} that the data stage wrote to {path}; {written - found} "
                "are missing. Students would train or be tested on other problems than before. Restore the file, or "
                f"delete it and {manifest} and run `molsaki generate` with this recipe and directory."
            )

    def read_tests(self, name: str, seed: int | None = None) -> list[Problem]:
        """The problems of a test set that students are tested on (see `evaluation.rows`), in the order of the set.

        Args:
            name: the name of the set.
            seed: of the students; by default, the problems of all seeds.
        """
        if (name, seed) in self._test_problems:
            return list(self._test_problems[name, seed])
        if seed is None and self.is_drawn(name):
            problems = [problem for seed in self.recipe.seeds for problem in self.read_tests(name, seed)]
        else:
            problems = sample_problems(self.read_drawn(name, seed), self.recipe.evaluation.rows_of(name))
        self._test_problems[name, seed] = problems  # the predictions of every student are compared with them
        return list(problems)

    @property
    def test_names(self) -> list[str]:
        """The names of the sets that students are tested on, the in-domain one first."""
        return [VALIDATION] if self.recipe.evaluation.on == "validation" else list(self.recipe.data.tests)

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split."""
        return self.recipe.has_validation

    # ---- what each seed draws ----

    def write_draws(self, draws: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Write the ids that each seed drew, by set and seed."""
        write_json(self._draws_file, draws)

    def is_drawn(self, name: str) -> bool:
        """Whether each seed has its own problems of a set."""
        return "seeds" in self.stage(DATA).get(name, {})

    def read_drawn(self, name: str, seed: int | None) -> list[Problem]:
        """The problems of a set that a seed has; all of them without a seed, or if all seeds share the set.

        Raises:
            ArtefactError: as `read_problems`, or the seed drew nothing.
        """
        if seed is None or not self.is_drawn(name):
            return self.read_problems(name)
        if name not in self._drawn:  # a file with the problems of all seeds takes long to read
            by_id = {problem.id: problem for problem in self.read_problems(name)}
            draws = read_json(self._draws_file, "the draws of each seed").get(name, {})
            self._drawn[name] = {own: [by_id[i] for i in ids if i in by_id] for own, ids in draws.items()}
        drawn = list(self._drawn[name].get(str(seed), ()))
        if not drawn:
            raise ArtefactError(
                f"Expected problems of {name!r} that seed {seed} drew in {self._draws_file}; there are none. Run "
                "`molsaki generate` with this recipe and directory, which draws them."
            )
        return drawn

    def read_training(self, seed: int) -> tuple[list[Problem], dict[str, Text]]:
        """The training problems with a rationale that a seed has, and the texts of all of them by id."""
        problems, texts = self.read_texts(TRAIN)
        rows = self.recipe.data.rows
        if self.is_drawn(TRAIN):
            ids = {problem.id for problem in self.read_drawn(TRAIN, seed)}
            problems = [problem for problem in problems if problem.id in ids]
        elif rows is not None:
            # In the order of the draw, so that the first n of a larger draw are the smaller draw.
            problems = sorted(problems, key=lambda problem: hash_text("draw", str(seed), problem.text))[:rows]
        return problems, texts

    def undrawn_seeds(self) -> list[int]:
        """The seeds of the recipe that have no draw yet, since they were added to a run with its own for each seed."""
        drawn = [report["seeds"] for report in self.stage(DATA).values() if "seeds" in report]
        return [seed for seed in self.recipe.seeds if any(seed not in seeds for seeds in drawn)]

    @property
    def _draws_file(self) -> Path:
        return self.run.path("data", "draws.json")

    # ---- rationales ----

    @property
    def rationale_log(self) -> RowLog:
        """The log of rationales."""
        return RowLog(self.run.path("rationales.jsonl"))

    @property
    def completion_log(self) -> RowLog:
        """The log of all completions of the teacher."""
        return RowLog(self.run.path("completions.jsonl"))

    def lost_rationales(self) -> int:
        """The number of rationales that the finished generate stage wrote and that are missing now."""
        manifest = self.stage(GENERATE)
        written = manifest.get("problems", 0) - manifest.get("unanswered", 0)
        return max(0, written - self.rationale_log.count()) if written else 0

    def read_texts(self, name: str) -> tuple[list[Problem], dict[str, Text]]:
        """The problems of a set with a rationale, and the texts that attention is read on, by id."""
        rows = read_rationales(self.rationale_log, self.read_problems(name))
        return [row.problem for row in rows], {row.problem.id: self.text_of(row) for row in rows}

    def text_of(self, row: RationaleRow) -> Text:
        """The text that attention is read on: a question, its rationale, and what counts as a key."""
        from molsaki.spans.text import Text

        keys = "numbers" if self.recipe.keys == "numbers" else tuple(row.keywords or ())
        return Text(row.problem.id, row.problem.text, row.rationale, keys, self.recipe.rationales.steps)

    def template(self, name: str) -> PromptTemplate:
        """The template of one of the recipe's prompts. A chat is asked on the day on which the run was created."""
        template = self.recipe.prompts.template(name)
        return replace(template, date=self.run.date) if template.is_chat else template

    # ---- students ----

    def student(self, label: str, seed: int) -> Path:
        """The directory of a student."""
        return self.run.path("students", f"{label}-{seed}")

    def read_metrics(self, label: str, seed: int) -> dict[str, Any]:
        """The metrics of a student's training; empty if there are none."""
        path = self.student(label, seed) / METRICS_NAME
        metrics = read_json(path, "the metrics of a training") if path.is_file() else {}
        return metrics if isinstance(metrics, dict) else {}

    def predictions(self, label: str, seed: int, test: str) -> Path:
        """The file of a student's predictions for a test set."""
        return self.run.path("predictions", f"{label}-{seed}", f"{test}.jsonl")

    def write_predictions(self, label: str, seed: int, test: str, predictions: Sequence[Prediction]) -> None:
        """Write a student's predictions for a test set."""
        path, student = self.predictions(label, seed, test), self._student_hash(label, seed)
        if student is not None:
            path.unlink(missing_ok=True)  # those of an earlier student must not be beside the hash of this one
            tested = self._tested_file(label, seed)
            tested.parent.mkdir(exist_ok=True)
            write_json(tested, {**self._tested_students(label, seed), test: student})
        write_whole(path, _json_lines(predictions))

    def predictions_are_of(self, label: str, seed: int, test: str) -> bool | None:
        """Whether a student's predictions are of the student that is there now; None if that is not known.

        A student that was deleted and trained again has the name of the earlier one, and other metrics.
        """
        student, tested = self._student_hash(label, seed), self._tested_students(label, seed).get(test)
        return None if student is None or tested is None else tested == student

    def is_tested(self, label: str, seed: int, test: str) -> bool:
        """Whether there are predictions of a student, and not those of an earlier one of its name."""
        return self.predictions(label, seed, test).is_file() and self.predictions_are_of(label, seed, test) is not False

    def _student_hash(self, label: str, seed: int) -> str | None:
        path = self.student(label, seed) / METRICS_NAME
        return hash_text(path.read_text(encoding="utf-8")) if path.is_file() else None

    def _tested_file(self, label: str, seed: int) -> Path:
        return self.run.path("tested", f"{label}-{seed}.json")

    def _tested_students(self, label: str, seed: int) -> dict[str, str]:
        path = self._tested_file(label, seed)
        tested = read_json(path, "the students that were tested") if path.is_file() else {}
        return tested if isinstance(tested, dict) else {}

    def write_explanations(self, label: str, seed: int, test: str, explanations: Sequence[Prediction]) -> None:
        """Write the rationales that a student generated for a test set with the `explain` prompt."""
        path = self.predictions(label, seed, test)
        write_whole(path.parent / EXPLANATIONS / path.name, _json_lines(explanations))

    def has_predictions(self, label: str, seed: int, test: str) -> bool:
        """Whether a student has predictions for exactly the test problems of a set, and they are its own.

        Raises:
            DataError: the file has a malformed line.
        """
        if not self.is_tested(label, seed, test):
            return False
        self.read_tests(test, seed)  # an error about missing problems must not look like missing predictions
        try:
            self.read_predictions(label, seed, test)
        except ArtefactError:
            return False
        return True

    def read_predictions(self, label: str, seed: int, test: str) -> list[Prediction]:
        """Read a student's predictions for a test set, in the order of the set.

        Raises:
            ArtefactError: predictions are missing, or belong to other problems or texts.
            DataError: the file has a malformed line.
        """
        from molsaki.evaluation.score import Prediction, in_order

        path, problems = self.predictions(label, seed, test), self.read_tests(test, seed)
        rows = [Prediction.from_dict(row) for row in RowLog(path).rows()]
        try:
            return in_order(rows, problems)
        except EvaluationError as error:
            raise ArtefactError(
                f"Expected one prediction in {path} for each of the {len(problems)} test problems of {test!r}; got "
                f"{len(rows)} rows. {error} Run `molsaki evaluate` with this recipe and directory, which rewrites this "
                "file."
            ) from error

    def method(self, label: str) -> MethodSpec:
        """The entry of the recipe with this label."""
        return next(method for method in self.recipe.methods if method.label == label)

    def stage(self, name: str) -> Mapping[str, Any]:
        """The manifest of a stage; empty if it has not finished."""
        return self.run.stage_done(name) or {}


def sample_problems(problems: Sequence[Problem], rows: int | None) -> list[Problem]:
    """At most this many problems, chosen by a hash of their text, in their order; all of them for None."""
    if rows is None or rows >= len(problems):
        return list(problems)
    chosen = sorted(problems, key=lambda problem: hash_text("test", problem.text))[:rows]
    ids = {problem.id for problem in chosen}
    return [problem for problem in problems if problem.id in ids]


def _json_lines(rows: Iterable[Problem | Prediction]) -> str:
    return "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in rows)
