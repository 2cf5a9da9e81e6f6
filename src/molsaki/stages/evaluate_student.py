"""Test one student of a run: its predictions for the test sets, and its accuracy on them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molsaki.config.recipe import Recipe
from molsaki.counts import Progress
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError
from molsaki.evaluation.score import Prediction, in_order, predict, score
from molsaki.models.load import student_at, tokenizer_at
from molsaki.models.progress import ProgressLines
from molsaki.records import Problem
from molsaki.stages.costs import TESTING, costs_of
from molsaki.stages.workers import print_line
from molsaki.stages.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def student_title(workspace: Workspace, label: str, seed: int) -> str:
    """A student's name in a line of progress."""
    return f"{workspace.run.folder.name}: {label}, seed {seed}"


def untested_sets(workspace: Workspace, label: str, seed: int) -> list[str]:
    """The test sets without a complete file of the student's predictions."""
    return [name for name in workspace.test_names if not workspace.has_predictions(label, seed, name)]


def evaluate_one(workspace: Workspace, label: str, seed: int) -> tuple[tuple[str, ...], dict[str, float]]:
    """Test a student on the sets without its predictions, and score it on all.

    Returns:
        The names of the sets that it was tested on now, and its accuracy by set.

    Raises:
        ArtefactError: the student has no weights.
    """
    folder = workspace.student(label, seed)
    untested = untested_sets(workspace, label, seed)
    if untested:
        _require_weights(folder, untested)
        with costs_of(workspace, TESTING, folder.name):
            _predict_sets(workspace, label, seed, untested)
    accuracy = {name: score(workspace.read_predictions(label, seed, name)).accuracy for name in workspace.test_names}
    if not workspace.recipe.evaluation.keep_weights:
        for weights in student_weights(folder):
            weights.unlink(missing_ok=True)  # another process may have done so
    return tuple(untested), accuracy


def _predict_sets(workspace: Workspace, label: str, seed: int, untested: Sequence[str]) -> None:
    """Write a student's predictions for some test sets."""
    recipe, folder, title = workspace.recipe, workspace.student(label, seed), student_title(workspace, label, seed)
    tokenizer = tokenizer_at(str(folder), trust_remote_code=recipe.student.trust_remote_code)
    model = in_test_precision(recipe, student_at(recipe, folder))
    terms = workspace.method(label).terms
    prompt, explain = workspace.template(terms.answers_with), workspace.template(terms.explains_with)
    for name in untested:
        problems, path = workspace.read_tests(name, seed), workspace.predictions(label, seed, name)
        if path.is_file():
            logger.warning(
                "%s is of an earlier student, or not of the %d problems of its set, and is replaced",
                path,
                len(problems),
            )
        lines = ProgressLines(print_line, f"{title}, {name}", "problems")
        predictions = predict_all(recipe, model, tokenizer, problems, prompt, lines)
        if recipe.evaluation.explain:  # written before the predictions, because a student with predictions is skipped
            explanations = predictions
            if explain != prompt:
                lines = ProgressLines(print_line, f"{title}, rationales for {name}", "problems")
                explanations = predict_all(recipe, model, tokenizer, problems, explain, lines)
            workspace.write_explanations(label, seed, name, explanations)
        workspace.write_predictions(label, seed, name, predictions)


def student_weights(folder: Path) -> list[Path]:
    """The files of a student's weights: its model or adapter, and the adapter's base with it merged."""
    return [path for pattern in ("model*.safetensors", "adapter_model.safetensors") for path in folder.rglob(pattern)]


def _require_weights(folder: Path, untested: Sequence[str]) -> None:
    """Check that a student that is to be tested has its weights.

    Raises:
        ArtefactError: it has none, as `evaluation.keep_weights: false` leaves it.
    """
    if not student_weights(folder):
        raise ArtefactError(
            f"Expected the weights of the student in {folder}, to test it on {', '.join(untested)}; it has none, as "
            "after its tests with evaluation.keep_weights: false. Delete the directory to train the student again."
        )


def in_test_precision(recipe: Recipe, model: PreTrainedModel) -> PreTrainedModel:
    """Convert a model that is only tested to the precision that the recipe's `evaluation` names.

    A quantised model stays as it is: its weights have the precision that it computes in.
    """
    import torch

    if recipe.evaluation.dtype is None or getattr(model, "is_quantized", False):
        return model
    return model.to(getattr(torch, recipe.evaluation.dtype))


def predict_all(
    recipe: Recipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    template: PromptTemplate,
    progress: Progress | None,
) -> list[Prediction]:
    """The predictions of a model with the settings of a recipe, in the order of the problems."""
    batches = predict(
        model,
        tokenizer,
        problems,
        template,
        max_new_tokens=recipe.evaluation.bound_for(template),
        batch_size=recipe.evaluation.batch_size,
        progress=progress,
    )
    return in_order((prediction for batch in batches for prediction in batch), problems)
