"""What the model card of a run's student says."""

from __future__ import annotations

import logging

from molsaki.attention import ReadLayers
from molsaki.config.model_spec import ModelSpec, ServerSpec
from molsaki.config.recipe import MethodSpec, Recipe
from molsaki.evaluation.score import score
from molsaki.methods import METHODS
from molsaki.stages.signals import method_signals, read_so_far, view_of
from molsaki.stages.workspace import Workspace
from molsaki.training.card import ScoredSet, model_card

logger = logging.getLogger(__name__)


def student_card(
    workspace: Workspace,
    label: str,
    seed: int,
    examples: int,
    layers: ReadLayers | None,
    *,
    processes: int = 1,
    exported: bool = False,
    license_name: str | None = None,
) -> str:
    """The model card of a student; once it is exported, with its scores on the sets that it was tested on.

    Args:
        workspace: the run.
        label: the label of the student's method.
        seed: the student's seed.
        examples: the number of its training examples.
        layers: the student's layers whose attention was compared; None if none was.
        processes: the number of processes that trained it together.
        exported: the card is beside the whole model, whatever was trained, and has the student's scores.
        license_name: the license as the hub writes it.
    """
    recipe, spec = workspace.recipe, workspace.method(label)
    method, training, lora = METHODS[spec.name], recipe.training_of(spec), recipe.student_of(seed).lora
    facts = {
        "label": label,
        "seed": seed,
        "method": method.name,
        "summary": method.summary,
        "student": recipe.student_of(seed).name,
        "student_layers": "" if layers is None or layers.is_whole else f"; compared in {_without(layers)}",
        "trained": "all weights" if lora is None else f"a LoRA adapter of rank {lora.r}; all other weights are frozen",
        "writer": _model_name(recipe.teacher.writer, recipe.rationales.path or recipe.rationales.source),
        "reader": _reader_name(recipe) if method_signals(spec) else "not read",
        "reader_layers": _teacher_layers(workspace, spec),
        "examples": examples,
        "task": recipe.data.task,
        "steps": training.steps,
        "batch": training.batch_size * training.accumulation * processes,
        "prompt": workspace.template(spec.terms.answers_with).ask("{question}"),
    }
    settings = {
        "method": method.Settings(**spec.settings).model_dump(),
        "training": training.model_dump(mode="json"),
        **({} if lora is None else {"lora": lora.model_dump()}),
    }
    adapter = lora is not None and not lora.merge and not exported
    tests = _tests(workspace, label, seed) if exported else ()
    return model_card(facts, settings, tests, adapter=adapter, license_name=license_name)


def _tests(workspace: Workspace, label: str, seed: int) -> list[ScoredSet]:
    tests = []
    for name, data in workspace.recipe.data.tests.items():
        if workspace.predictions(label, seed, name).is_file() and not workspace.predictions_are_of(label, seed, name):
            logger.warning(
                "the predictions for %r are of an earlier student, or do not say of which; the card leaves their score "
                "out. Delete %s and run `molsaki evaluate` to test this one",
                name,
                workspace.predictions(label, seed, name),
            )
        elif workspace.has_predictions(label, seed, name):
            source = data.source.removeprefix("hub:").partition("@")[0]
            result = score(workspace.read_predictions(label, seed, name))
            tests.append(ScoredSet(name, source, data.split, result))
    return tests


def _without(layers: ReadLayers) -> str:
    return f"{layers}, without {', '.join(layers.others)}"


def _teacher_layers(workspace: Workspace, spec: MethodSpec) -> str:
    """The layers that a method's attention was read of, if the teacher has others; empty otherwise."""
    view = view_of(spec)
    entry = {} if view is None else read_so_far(workspace).get(view, {})
    left_out = entry.get("layers_left_out")
    return f"; read in {entry['row']}, without {', '.join(left_out)}" if left_out else ""


def _model_name(spec: ModelSpec | ServerSpec | None, default: str) -> str:
    return default if spec is None else f"`{spec.name}`"


def _reader_name(recipe: Recipe) -> str:
    if recipe.signals is not None:
        return f"exported signals, `{recipe.signals}`"
    return _model_name(recipe.teacher.attending, "none")
