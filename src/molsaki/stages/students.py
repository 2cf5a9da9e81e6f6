"""Train and test the students of a run.

A job is one student: it is trained if it does not exist, and tested on the sets without predictions. Jobs run in worker
processes. They read and write only files of the run directory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.attention import ReadLayers
from molsaki.config.recipe import Recipe
from molsaki.distributed import on_main_process, process_count, process_number, wait
from molsaki.encoding.encode import context_length
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError, InputError, MolsakiError
from molsaki.evaluation.score import Prediction, in_order, predict, score
from molsaki.methods import METHODS, Task
from molsaki.models.decode import Progress
from molsaki.models.load import load_student, load_tokenizer, quiet_libraries, student_at, tokenizer_at
from molsaki.models.merging import write_merged
from molsaki.models.progress import ProgressLines
from molsaki.models.shapes import shapes_of
from molsaki.records import Problem
from molsaki.stages.costs import TESTING, TRAINING, costs_of
from molsaki.stages.fit import MemoryShare, choose_workers, share_memory
from molsaki.stages.signals import (
    make_signal,
    needed_signals,
    open_next_tokens,
    open_store,
    read_so_far,
    unread_rows,
)
from molsaki.stages.student_cards import student_card
from molsaki.stages.workers import heard_by, run_in_workers, say, visible_gpus
from molsaki.stages.workspace import GENERATE, VALIDATION, Workspace
from molsaki.store.attention_rows import ATTENTION, layer_numbers
from molsaki.store.signal_reader import SignalStore
from molsaki.store.whole_files import disk_is_full, refuse_write
from molsaki.training import encode_examples, encode_labels, train_student
from molsaki.training.next_tokens import ComparedTokens, add_next_tokens

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

FEWER = "fewer problems with a rationale than `examples` or `data.rows` requests"


@dataclass(frozen=True, slots=True)
class Job:
    """A student to train, to test, or both.

    Attributes:
        run: the run directory.
        label, seed: the student's method and seed.
        train: train the student if it does not exist.
        test: test it on the sets without predictions.
        share: the memory that it may take.
    """

    run: Path
    label: str
    seed: int
    train: bool = True
    test: bool = True
    share: MemoryShare = field(default_factory=MemoryShare)


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job.

    Attributes:
        job: the job.
        trained: whether the job trained the student; False if it existed.
        tested: the test sets that the job tested it on.
        accuracy: accuracy on every test set.
        seconds: time of the training.
        parameters: how many parameters were trained, and how many the student has.
        notes: counts of training examples by what was left out or cut.
    """

    job: Job
    trained: bool
    tested: tuple[str, ...]
    accuracy: Mapping[str, float]
    seconds: float
    parameters: tuple[int, int]
    notes: Mapping[str, int]


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


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    on_done: Callable[[JobResult], None] | None = None,
    hear: Callable[[str], None] = lambda _: None,
) -> list[JobResult]:
    """Run the jobs of one run or of several. See `pipeline.students` for the arguments.

    Raises:
        InputError: `workers` is given, and several processes work on this job.
    """
    if process_count() > 1 and workers not in (None, 1):
        raise InputError(
            f"Expected no --workers with {process_count()} processes that train each student together; got {workers}. "
            "Nothing was trained. Leave --workers out, or start one process."
        )
    if workers is None and process_count() == 1 and len(jobs) > 1 and not visible_gpus():
        workers = _workers_that_fit(jobs, hear)
    share = share_memory(len(jobs), workers)
    jobs = [replace(job, share=share) for job in jobs]
    results = []
    with heard_by(hear):
        for result in _run_together(jobs) if process_count() > 1 else run_in_workers(run_job, jobs, workers, hear):
            if on_done is not None:
                on_done(result)
            results.append(result)
    return results


def _workers_that_fit(jobs: Sequence[Job], hear: Callable[[str], None]) -> int | None:
    """How many students fit into memory, if some are to be trained; None otherwise."""
    opened = {folder: Workspace.open(folder) for folder in {job.run for job in jobs}}
    left = {job.run for job in jobs if job.train and not opened[job.run].student(job.label, job.seed).is_dir()}
    if not left:
        return None
    workers, sentence = choose_workers(opened[folder] for folder in left)
    hear(sentence)
    return workers


def run_job(job: Job) -> JobResult:
    """Run one job.

    Raises:
        StageError: the disk is full. Complete checkpoints stay, and the next run continues from them.
    """
    try:
        return _run_job(job)
    except Exception as error:
        if isinstance(error, MolsakiError) or not disk_is_full(error):
            raise
        consequence = f"The student {job.label} with seed {job.seed} is not finished. Complete checkpoints stay."
        refuse_write(job.run, error, consequence)


def _run_together(jobs: Sequence[Job]) -> Iterator[JobResult]:
    """Train the students one after another with all processes; then each process tests its share of them.

    Yields:
        In every process, the results of all jobs. Results with tests come after the last training.
    """
    trained: list[JobResult] = []
    for job in jobs:
        result = run_job(replace(job, test=False))
        trained.append(replace(result, job=job))
        if not job.test:
            yield trained[-1]
    to_test = [job for job in jobs if job.test]
    untested = on_main_process(lambda: [_untested_sets(Workspace.open(job.run), job) for job in to_test])
    for job in to_test[process_number() :: process_count()]:
        run_job(replace(job, train=False))
    wait()
    for result, sets in zip([result for result in trained if result.job.test], untested, strict=True):
        accuracy = run_job(replace(result.job, train=False)).accuracy  # reads the predictions of all processes
        yield replace(result, tested=tuple(sets), accuracy=accuracy)


def _run_job(job: Job) -> JobResult:
    quiet_libraries()
    workspace = Workspace.open(job.run)
    folder = workspace.student(job.label, job.seed)
    result = JobResult(job, trained=False, tested=(), accuracy={}, seconds=0.0, parameters=(0, 0), notes={})
    if job.train and not on_main_process(folder.is_dir):
        with costs_of(workspace, TRAINING, folder.name):
            metrics = _train(workspace, job, folder)
        parameters = metrics["trained_parameters"], metrics["parameters"]
        result = replace(
            result, trained=True, seconds=metrics["seconds"], parameters=parameters, notes=metrics["notes"]
        )
    if job.test:
        tested, accuracy = _test(workspace, job, folder)
        result = replace(result, tested=tested, accuracy=accuracy)
    return result


def _train(workspace: Workspace, job: Job, folder: Path) -> dict[str, Any]:
    """Train a student, and return its metrics."""
    recipe = workspace.recipe
    spec = workspace.method(job.label)
    method = METHODS[spec.name]
    settings, training = method.Settings(**spec.settings), recipe.training_of(spec)
    tokenizer = load_tokenizer(recipe, recipe.student_of(job.seed))
    student = load_student(recipe, tokenizer, job.seed)
    max_length = context_length(tokenizer, student.config, training.max_length)
    terms = method.terms_of(settings)
    tasks: set[Task] = {"predict", "explain", *terms.tasks}
    templates = {task: workspace.template(task) for task in tasks}
    test_prompt = templates[method.answers_with]
    store = None if terms.attention is None else open_store(workspace, terms.attention.view.name)
    layers = None if terms.attention is None else _read_layers(recipe, student)
    problems, texts = workspace.read_training(job.seed)
    wanted = spec.examples or recipe.data.rows
    problems = problems[: spec.examples]
    examples, report = encode_examples(
        tokenizer, problems, texts, templates, max_length, store, terms.attention, job.seed
    )
    compared: ComparedTokens = {}
    if terms.next_tokens is not None:
        stored, tokens = open_next_tokens(workspace, tokenizer)
        temperature = terms.next_tokens.temperature
        examples, compared = add_next_tokens(examples, texts, stored, tokens, temperature, report)
    validation_problems = workspace.read_drawn(VALIDATION, job.seed) if workspace.has_validation else []

    def validate(model: PreTrainedModel) -> dict[str, float]:
        lines = ProgressLines(say, f"{_name(job)}, {VALIDATION}", "problems")
        predictions = predict_all(recipe, model, tokenizer, validation_problems, test_prompt, lines)
        return {"accuracy": score(predictions).accuracy}

    notes = {**report.skipped, **report.notes}
    if wanted is not None and len(problems) < wanted:
        notes[FEWER] = wanted - len(problems)
    return train_student(
        student,
        tokenizer,
        method,
        settings,
        examples,
        training,
        seed=job.seed,
        output=folder,
        validation=encode_labels(tokenizer, validation_problems, templates["predict"], max_length) or None,
        validate=validate if validation_problems else None,
        max_new_tokens=recipe.evaluation.bound_for(test_prompt),
        card=lambda: student_card(workspace, job.label, job.seed, len(examples), layers),
        finish=_merge(recipe),
        notes=notes,
        teacher_layers=() if store is None else _stored_layers(recipe, store),
        compared_tokens=compared,
        show_progress=False,
        memory=job.share.of(student.device),
        say=lambda line: say(f"{_name(job)}: {line}"),
    )


def _merge(recipe: Recipe) -> Callable[[PreTrainedModel | PeftModel, Path], None] | None:
    """What writes a student whole, with its adapter merged, if the recipe asks for that."""
    spec = recipe.student
    return partial(write_merged, dtype=spec.dtype) if spec.lora is not None and spec.lora.merge else None


def _name(job: Job) -> str:
    """A student's name in a line of progress."""
    return f"{job.run.name}: {job.label}, seed {job.seed}"


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


def _untested_sets(workspace: Workspace, job: Job) -> list[str]:
    """The test sets without a complete file of the student's predictions."""
    return [name for name in workspace.test_names if not workspace.has_predictions(job.label, job.seed, name)]


def _test(workspace: Workspace, job: Job, folder: Path) -> tuple[tuple[str, ...], dict[str, float]]:
    """Test a student. Returns the sets that it was tested on now, and its accuracy on all sets."""
    recipe = workspace.recipe
    untested = _untested_sets(workspace, job)
    if untested:
        _require_weights(folder, untested)
        with costs_of(workspace, TESTING, folder.name):
            _predict_sets(workspace, job, folder, untested)
    accuracy = {
        name: score(workspace.read_predictions(job.label, job.seed, name)).accuracy for name in workspace.test_names
    }
    if not recipe.evaluation.keep_weights:
        for weights in student_weights(folder):
            weights.unlink(missing_ok=True)  # another process may have done so
    return tuple(untested), accuracy


def _predict_sets(workspace: Workspace, job: Job, folder: Path, untested: Sequence[str]) -> None:
    """Write a student's predictions for some test sets."""
    recipe = workspace.recipe
    tokenizer = tokenizer_at(str(folder))
    model = in_test_precision(recipe, student_at(recipe, folder))
    prompt = workspace.template(METHODS[workspace.method(job.label).name].answers_with)
    for name in untested:
        problems, path = workspace.read_tests(name, job.seed), workspace.predictions(job.label, job.seed, name)
        if path.is_file():
            logger.warning(
                "%s is of an earlier student, or not of the %d problems of its set, and is replaced",
                path,
                len(problems),
            )
        if recipe.evaluation.explain:  # before the predictions, because a student with predictions is skipped
            lines = ProgressLines(say, f"{_name(job)}, rationales for {name}", "problems")
            explanations = predict_all(recipe, model, tokenizer, problems, workspace.template("explain"), lines)
            workspace.write_explanations(job.label, job.seed, name, explanations)
        lines = ProgressLines(say, f"{_name(job)}, {name}", "problems")
        predictions = predict_all(recipe, model, tokenizer, problems, prompt, lines)
        workspace.write_predictions(job.label, job.seed, name, predictions)


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
    """Convert a model that is only tested to the precision that the recipe's `evaluation` names."""
    import torch

    return model if recipe.evaluation.dtype is None else model.to(getattr(torch, recipe.evaluation.dtype))


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
