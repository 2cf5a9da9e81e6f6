"""Train one student of a run, on what the earlier stages wrote."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.attention import ReadLayers
from molsaki.config.data_settings import VALIDATION
from molsaki.config.recipe import MethodSpec, Recipe
from molsaki.distributed import process_count
from molsaki.encoding.encode import context_length
from molsaki.errors import ArtefactError
from molsaki.evaluation.score import score
from molsaki.methods import METHODS, Task, Terms
from molsaki.models.load import load_student, load_tokenizer
from molsaki.models.merging import write_merged
from molsaki.models.progress import ProgressLines
from molsaki.models.shapes import shapes_of
from molsaki.stages.evaluate_student import predict_all, student_title
from molsaki.stages.fit import MemoryShare
from molsaki.stages.signals import (
    make_signal,
    needed_signals,
    open_next_tokens,
    open_store,
    read_so_far,
    unread_rows,
)
from molsaki.stages.student_cards import student_card
from molsaki.stages.workers import print_line
from molsaki.stages.workspace import GENERATE, Workspace
from molsaki.store.attention_rows import ATTENTION, layer_numbers
from molsaki.store.signal_reader import SignalStore
from molsaki.training import encode_examples, encode_labels, train_student
from molsaki.training.example import Example
from molsaki.training.next_tokens import ComparedTokens, add_next_tokens
from molsaki.training.progress import TrainingLines

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FEWER = "fewer problems with a rationale than `examples` or `data.rows` requests"


def require_stages(workspace: Workspace) -> None:
    """Check that everything that students learn from was made.

    Raises:
        ArtefactError: the generate stage has not finished, or a signal that a method compares was not read.
    """
    if workspace.run.stage_done(GENERATE) is None:
        raise ArtefactError(
            f"Expected the generate stage of {workspace.run.folder} to have finished; it has not. Run "
            "`molsaki generate` with this recipe and directory first."
        )
    done = read_so_far(workspace)
    missing = [make_signal(workspace, name).title for name in needed_signals(workspace.recipe) if name not in done]
    if missing:
        raise ArtefactError(
            f"Expected the teacher's {', '.join(missing)} in {workspace.run.folder}, which methods of the recipe "
            "compare; it was not read. Run `molsaki attend` with this recipe and directory first."
        )


def require_all_rows(workspace: Workspace) -> None:
    """Check that no row of training data is missing, so that all students of a run train on the same data.

    Raises:
        ArtefactError: rationales, or rows of a signal, are missing although their stage has finished.
    """
    unread = sum(unread_rows(workspace, name) for name in needed_signals(workspace.recipe))
    lost = {"generate": workspace.lost_rationales(), "attend": unread}
    for stage, rows in lost.items():
        if rows:
            raise ArtefactError(
                f"Expected all rows that the {stage} stage of {workspace.run.folder} wrote; {rows} are missing. New "
                f"students would train on less data than the others. Run `molsaki {stage}` with this recipe and "
                "directory, which adds only these rows."
            )


def train_one(workspace: Workspace, label: str, seed: int, share: MemoryShare) -> dict[str, Any]:
    """Train a student, write it to its directory, and return its metrics.

    Args:
        workspace: the run; its stages up to `attend` have finished.
        label: the label of the student's method.
        seed: the student's seed.
        share: the memory that the training may take.

    Raises:
        InputError: there is nothing to learn from; see `molsaki.training.train_student`, whose other errors it has.
        UnreadableModelError: the method compares attention, and the student's cannot be read.
    """
    recipe, spec = workspace.recipe, workspace.method(label)
    method = METHODS[spec.name]
    settings, training = method.Settings(**spec.settings), recipe.training_of(spec)
    tokenizer = load_tokenizer(recipe, recipe.student_of(seed))
    student = load_student(recipe, tokenizer, seed)
    max_length = context_length(tokenizer, student.config, training.max_length)
    terms = method.terms_of(settings)
    test_prompt = workspace.template(terms.answers_with)
    store = None if terms.attention is None else open_store(workspace, terms.attention.view.name)
    layers = None if terms.attention is None else _read_layers(recipe, student)
    examples, compared, notes = _encode(workspace, spec, seed, tokenizer, max_length, terms, store)
    validation = workspace.read_drawn(VALIDATION, seed) if workspace.has_validation else []
    title = student_title(workspace, label, seed)

    def validate(model: PreTrainedModel) -> dict[str, float]:
        lines = ProgressLines(print_line, f"{title}, {VALIDATION}", "problems")
        return {"accuracy": score(predict_all(recipe, model, tokenizer, validation, test_prompt, lines)).accuracy}

    return train_student(
        student,
        tokenizer,
        method,
        settings,
        examples,
        training,
        seed=seed,
        output=workspace.student(label, seed),
        validation=encode_labels(tokenizer, validation, workspace.template("predict"), max_length) or None,
        validate=validate if validation else None,
        max_new_tokens=recipe.evaluation.bound_for(test_prompt),
        card=lambda: student_card(workspace, label, seed, len(examples), layers, processes=process_count()),
        finish=_merge(recipe),
        notes=notes,
        teacher_layers=() if store is None else _stored_layers(recipe, store),
        compared_tokens=compared,
        callbacks=[TrainingLines(print_line, title)],
        show_progress=False,
        memory=share.of(student.device),
        print_line=lambda line: print_line(f"{title}: {line}"),
    )


def _encode(
    workspace: Workspace,
    spec: MethodSpec,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    terms: Terms,
    store: SignalStore | None,
) -> tuple[list[Example], ComparedTokens, dict[str, int]]:
    """The examples of a student, with the signals that its method compares.

    Returns:
        The examples, the numbers of compared tokens, and the counts of examples by what was left out or cut.
    """
    tasks: set[Task] = {"predict", "explain", *terms.tasks}
    templates = {task: workspace.template(task) for task in tasks}
    problems, texts = workspace.read_training(seed)
    problems = problems[: spec.examples]
    examples, report = encode_examples(tokenizer, problems, texts, templates, max_length, store, terms.attention, seed)
    compared: ComparedTokens = {}
    if terms.next_tokens is not None:
        stored, tokens = open_next_tokens(workspace, tokenizer)
        temperature = terms.next_tokens.temperature
        examples, compared = add_next_tokens(examples, texts, stored, tokens, temperature, report)
    notes = {**report.skipped, **report.notes}
    wanted = spec.examples or workspace.recipe.data.rows
    if wanted is not None and len(problems) < wanted:
        notes[FEWER] = wanted - len(problems)
    return examples, compared, notes


def _merge(recipe: Recipe) -> Callable[[PreTrainedModel | PeftModel, Path], None] | None:
    """What writes a student whole, with its adapter merged, if the recipe asks for that."""
    spec = recipe.student
    return partial(write_merged, dtype=spec.dtype) if spec.lora is not None and spec.lora.merge else None


def _read_layers(recipe: Recipe, student: PreTrainedModel | PeftModel) -> ReadLayers:
    """The student's layers whose attention is compared.

    Raises:
        UnreadableModelError: there is none, or the recipe asks for every layer and some have none.
    """
    layers = shapes_of(student).layers
    if recipe.attention.layers == "every":
        layers.require_every("student")
    return layers


def _stored_layers(recipe: Recipe, store: SignalStore) -> tuple[int, ...]:
    """The numbers of the teacher's layers in a store that has some of them; empty for all, for heads or a mixture."""
    numbers = layer_numbers(store.fingerprint) or ()
    apart = recipe.attention.layers != "mixed" and store.schema[ATTENTION].shape[0] == len(numbers)
    return numbers if apart else ()
