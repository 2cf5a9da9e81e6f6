"""The models that students are compared with: the student before its training, and the teacher.

The untrained student answers with the prompt that students of the recipe's first method are tested with. Its
predictions are kept like theirs. A local teacher answers a sample of the problems with its own prompt
(`evaluation.teacher_rows`). What both scored is in references.json, so that a finished run needs neither model again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from molsaki.config.model_spec import ModelSpec
from molsaki.config.recipe import Recipe
from molsaki.counts import Progress
from molsaki.errors import DataError, MolsakiError
from molsaki.evaluation.intervals import Interval, MeanAccuracy, mean_accuracy
from molsaki.evaluation.score import Score, score
from molsaki.models.decode import Completion
from molsaki.models.load import load_placed_model, load_tokenizer, quiet_libraries
from molsaki.stages.costs import costs_of
from molsaki.stages.evaluate_student import in_test_precision, predict_all
from molsaki.stages.score_model import COMPLETIONS, EVALUATIONS, ScoreSettings, logged_completion, score_model
from molsaki.stages.workspace import Workspace
from molsaki.store.row_log import RowLog
from molsaki.store.whole_files import read_json, write_json

UNTRAINED, TEACHER = "untrained student", "teacher model"
"""Their names in tables. No label of a method has a blank, so none is equal to one of them."""
FILE = "references.json"
TEACHER_FOLDER = "references/teacher"
"""The teacher's folder among the evaluations of a run."""
TEACHER_ROWS = 100
"""Problems of each set that a local teacher answers by default."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The score of a model on a test set.

    Attributes:
        model: `UNTRAINED` or `TEACHER`.
        test: the set.
        seed: of the students that train from this model or are tested on these problems; None for the teacher.
        score: its counts.
    """

    model: str
    test: str
    seed: int | None
    score: Score

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"model": self.model, "split": self.test, "seed": self.seed, **self.score.to_dict()}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Reference:
        """Read the JSON form.

        Raises:
            DataError: it is malformed.
        """
        try:
            counts = {name: row[name] for name in ("correct", "wrong", "unparsable", "cut", "too_long")}
            interval = Interval(**row["interval"])
            return cls(row["model"], row["split"], row["seed"], Score(**counts, interval=interval))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"Expected the score of a model in {FILE}; got {error!r} from {row!r:.200}. Delete the file; the "
                "models are scored again."
            ) from error


def score_references(workspace: Workspace, progress: Progress | None = None) -> list[str]:
    """Score the untrained student and the teacher on the test sets, as the recipe asks, and write references.json.

    Scores that exist are kept. A model that cannot be loaded, or does not answer, costs its rows and not the run.

    Args:
        workspace: the run; its problems have been loaded.
        progress: called with the numbers of answers so far and of all of a set.

    Returns:
        For each model without its rows, a sentence that says why.
    """
    quiet_libraries()
    found, notes = read_references(workspace), []
    for model, test in ((UNTRAINED, _test_untrained), (TEACHER, _test_teacher)):
        wanted = {key: n for key, n in _wanted(workspace).items() if key[0] == model}
        have = {(one.model, one.test, one.seed): one.score.n for one in found}
        if wanted.items() <= have.items():
            continue
        try:
            with costs_of(workspace, "references"):
                scored = list(test(workspace, progress))
        except MolsakiError as error:
            notes.append(f"the tables have no row of the {model}: {error}")
            continue
        found = [one for one in found if one.model != model] + scored
        write_json(workspace.run.path(FILE), [one.to_dict() for one in found])
    return notes


def read_references(workspace: Workspace) -> list[Reference]:
    """The scores that the run has; empty if none were made.

    Raises:
        DataError: the file is malformed.
    """
    path = workspace.run.path(FILE)
    return [Reference.from_dict(row) for row in read_json(path, "the scores of a run")] if path.is_file() else []


def teacher_completions(workspace: Workspace, test: str) -> dict[str, Completion]:
    """What the teacher answered to a sample of a test set, by problem id; empty if it answered none.

    It decoded greedily, with the prompt and the number of tokens that rationales are generated with.
    """
    log = RowLog(workspace.run.path(EVALUATIONS, TEACHER_FOLDER, COMPLETIONS))
    texts = {problem.id: problem.text_hash for problem in workspace.read_tests(test)}
    rows = [row for row in log.rows() if row.get("set") == test and "text_hash" in row]
    return {row["id"]: logged_completion(row) for row in rows if texts.get(row["id"]) == row["text_hash"]}


def reference_means(workspace: Workspace) -> dict[str, dict[str, MeanAccuracy]]:
    """The mean accuracy by model and test set."""
    table: dict[str, dict[str, MeanAccuracy]] = {}
    found = read_references(workspace)
    for model, test in dict.fromkeys((one.model, one.test) for one in found):
        own = [one.score for one in found if (one.model, one.test) == (model, test)]
        table.setdefault(model, {})[test] = mean_accuracy([one.correct for one in own], own[0].n)
    return table


def teacher_rows(recipe: Recipe) -> int:
    """The number of problems of each set that the teacher answers; 0 where no teacher wrote the rationales."""
    writer, rows = recipe.teacher.writer, recipe.evaluation.teacher_rows
    if writer is None or recipe.rationales.source != "teacher":
        return 0
    if rows is None:
        return TEACHER_ROWS if isinstance(writer, ModelSpec) else 0
    return rows


def _wanted(workspace: Workspace) -> dict[tuple[str, str, int | None], int]:
    """The number of problems of each score, by model, test set and seed."""
    wanted: dict[tuple[str, str, int | None], int] = {}
    rows = teacher_rows(workspace.recipe)
    for test in workspace.test_names:
        if workspace.recipe.evaluation.untrained:
            wanted |= {(UNTRAINED, test, seed): len(workspace.read_tests(test, seed)) for seed in _seeds(workspace)}
        if rows:
            wanted[TEACHER, test, None] = min(rows, len(workspace.read_tests(test)))
    return wanted


def _seeds(workspace: Workspace) -> list[int]:
    """The first seed of each base model, or all seeds if each is tested on its own problems."""
    recipe = workspace.recipe
    if any(workspace.is_drawn(test) for test in workspace.test_names):
        return list(recipe.seeds)
    first: dict[str, int] = {}
    for seed in recipe.seeds:
        first.setdefault(recipe.student_of(seed).name, seed)
    return list(first.values())


def _test_untrained(workspace: Workspace, progress: Progress | None) -> Iterator[Reference]:
    recipe = workspace.recipe
    prompt = workspace.template(recipe.methods[0].terms.answers_with)  # the first stays the first when a run grows
    for seed in _seeds(workspace):
        untested = [test for test in workspace.test_names if not workspace.has_predictions(UNTRAINED, seed, test)]
        if untested:
            spec = recipe.student_of(seed)
            tokenizer = load_tokenizer(recipe, spec)
            model = in_test_precision(recipe, load_placed_model(recipe, spec, tokenizer))
            for test in untested:
                problems = workspace.read_tests(test, seed)
                predictions = predict_all(recipe, model, tokenizer, problems, prompt, progress)
                workspace.write_predictions(UNTRAINED, seed, test, predictions)
        for test in workspace.test_names:
            yield Reference(UNTRAINED, test, seed, score(workspace.read_predictions(UNTRAINED, seed, test)))


def _test_teacher(workspace: Workspace, progress: Progress | None) -> Iterator[Reference]:
    recipe = workspace.recipe
    assert recipe.teacher.writer is not None
    settings = ScoreSettings(workspace.template("teacher"), max_new_tokens=recipe.rationales.max_new_tokens)
    rows = teacher_rows(recipe)
    for one in score_model(workspace, TEACHER_FOLDER, recipe.teacher.writer, settings, progress, rows):
        yield Reference(TEACHER, one.test, None, Score(**one.outcomes, interval=one.interval))
