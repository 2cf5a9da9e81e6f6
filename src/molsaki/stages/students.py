"""One student of a run: trained if it is not there yet, tested on what it has not been tested on yet.

This is what a worker process does; everything comes from the run directory and goes there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.config.model_spec import ModelSpec, ServerSpec
from molsaki.config.recipe import Recipe
from molsaki.distributed import on_main_process, process_count, process_number, wait
from molsaki.encoding.encode import context_length
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError, MolsakiError
from molsaki.evaluation.score import in_order, predict, score
from molsaki.methods import METHODS, Task
from molsaki.models.load import load_model, load_tokenizer, model_at, pick_device, quiet_libraries, tokenizer_at
from molsaki.spans.views import STEPS, VIEWS, View
from molsaki.stages.attend import attention_rules
from molsaki.stages.next_tokens import open_next_tokens, unread_rows
from molsaki.stages.workspace import TRAIN, VALIDATION, Workspace
from molsaki.store.fingerprints import fingerprint, require_same
from molsaki.store.signal_reader import AttentionStore
from molsaki.store.whole_files import disk_is_full, refuse_write
from molsaki.training import encode_examples, encode_labels, train_student
from molsaki.training.card import model_card
from molsaki.training.next_tokens import add_next_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

FEWER = "problems with a rationale less than `examples` asks for"


@dataclass(frozen=True, slots=True)
class Job:
    """One student to train, to test, or both."""

    run: Path
    label: str
    seed: int
    train: bool = True
    test: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a job.

    Attributes:
        job: the job.
        trained: whether it was trained now; False if the student was there.
        tested: test sets that were decoded now.
        accuracy: accuracy on every test set.
        seconds: time of the training.
        notes: what is to be said of its data: counts with reasons.
    """

    job: Job
    trained: bool
    tested: tuple[str, ...]
    accuracy: Mapping[str, float]
    seconds: float
    notes: Mapping[str, int]


def require_all_rows(workspace: Workspace, views: Sequence[View]) -> None:
    """Count what students learn from, so that all of a run learn from the same, whenever they are trained.

    Raises:
        ArtefactError: rationales, or rows of the teacher's in one of these views, are missing though the stage that
            makes them has finished.
    """
    lost = {"generate": workspace.lost_rationales(), "attend": sum(unread_rows(workspace, view) for view in views)}
    for stage, rows in lost.items():
        if rows:
            raise ArtefactError(
                f"Expected all rows that the {stage} stage of {workspace.run.folder} has made; {rows} are missing. The "
                "students that are still to be trained would learn from less than the others, and nothing was trained; "
                f"run `molsaki {stage}` with this recipe and directory, which makes those rows alone."
            )


def run_job(job: Job) -> Done:
    """Do one job.

    Raises:
        StageError: there is no space left; what is whole stays, and the next run goes on from there.
    """
    try:
        return _run_job(job)
    except Exception as error:
        if isinstance(error, MolsakiError) or not disk_is_full(error):
            raise
        consequence = f"The student {job.label} with seed {job.seed} is not finished; checkpoints that are whole stay."
        refuse_write(job.run, error, consequence)


def run_jobs_together(jobs: Sequence[Job]) -> Iterator[Done]:
    """Do jobs one after another with all processes on each; then every process tests its share of the students.

    Yields:
        In every process, what became of each job; those that are tested too come when all have been trained.
    """
    trained: list[Done] = []
    for job in jobs:
        done = run_job(replace(job, test=False))
        trained.append(replace(done, job=job))
        if not job.test:
            yield trained[-1]
    tested = [job for job in jobs if job.test]
    missing = on_main_process(lambda: {_name(job): _not_tested(Workspace.open(job.run), job) for job in tested})
    for job in tested[process_number() :: process_count()]:
        run_job(replace(job, train=False))
    wait()
    for done in trained:
        if done.job.test:
            now = run_job(replace(done.job, train=False))
            yield replace(done, tested=tuple(missing[_name(done.job)]), accuracy=now.accuracy)


def _run_job(job: Job) -> Done:
    quiet_libraries()
    workspace = Workspace.open(job.run)
    folder = workspace.student(job.label, job.seed)
    trained, seconds = False, 0.0
    notes: dict[str, int] = {}
    tested: tuple[str, ...] = ()
    accuracy: dict[str, float] = {}
    if job.train and not on_main_process(folder.is_dir):
        seconds, notes = _train(workspace, job, folder)
        trained = True
    if job.test:
        tested, accuracy = _test(workspace, job, folder)
    return Done(job, trained, tested, accuracy, seconds, notes)


def _train(workspace: Workspace, job: Job, folder: Path) -> tuple[float, dict[str, int]]:
    recipe = workspace.recipe
    spec = workspace.method(job.label)
    method = METHODS[spec.name]
    settings, training = method.Settings(**spec.settings), recipe.training_of(spec)
    tokenizer = load_tokenizer(recipe, recipe.student)
    student = load_model(recipe, recipe.student, tokenizer).to(pick_device())
    max_length = context_length(tokenizer, student.config, training.max_length)
    tasks: set[Task] = {"predict", "explain", *method.tasks}
    templates = {task: workspace.template(task) for task in tasks}
    asked = templates[method.answers_with]
    choice = method.attention_choice(settings)
    store = open_store(workspace, VIEWS[choice.view]) if method.reads_attention else None
    problems, texts = workspace.read_texts(TRAIN)
    problems = problems[: spec.examples]
    examples, report = encode_examples(tokenizer, problems, texts, templates, max_length, store, choice)
    if method.reads_logits:
        expected, tokens = open_next_tokens(workspace, tokenizer)
        examples = add_next_tokens(examples, texts, expected, tokens, method.temperature_of(settings), report)
    validation_problems = workspace.read_problems(VALIDATION) if workspace.has_validation else []

    def validate(model: PreTrainedModel) -> dict[str, float]:
        predictions = _decode(recipe, model, tokenizer, validation_problems, asked)
        return {"accuracy": score(predictions).accuracy}

    notes = {**report.skipped, **report.notes}
    if spec.examples is not None and len(problems) < spec.examples:
        notes[FEWER] = spec.examples - len(problems)
    metrics = train_student(
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
        max_new_tokens=recipe.evaluation.bound_for(asked),
        card=lambda: model_card(
            {
                "label": job.label,
                "seed": job.seed,
                "method": method.name,
                "summary": method.summary,
                "student": recipe.student.name,
                "writer": _named(recipe.teacher.writer, recipe.rationales.path or recipe.rationales.source),
                "reader": _named(recipe.teacher.attending, "none")
                if method.reads_attention or method.reads_logits
                else "not read",
                "examples": len(examples),
                "task": recipe.data.task,
                "steps": training.steps,
                "batch": training.batch_size,
                "prompt": asked.prompt("{question}"),
            },
            {"method": settings.model_dump(), "training": training.model_dump(mode="json")},
        ),
        notes=notes,
        show_progress=False,
    )
    return metrics["seconds"], notes


def _named(spec: ModelSpec | ServerSpec | None, otherwise: str) -> str:
    return otherwise if spec is None else f"`{spec.name}`"


def open_store(workspace: Workspace, view: View = STEPS) -> AttentionStore:
    """A view of the teacher's attention, checked against what this run would have read."""
    store = AttentionStore(workspace.run.path(view.folder))
    wanted = fingerprint(**attention_rules(workspace, view))
    found = {name: store.fingerprint.get(name, "nothing") for name in wanted}
    require_same(found, wanted, "the attention store of this run")
    return store


def _name(job: Job) -> str:
    return f"{job.run}: {job.label}-{job.seed}"


def _not_tested(workspace: Workspace, job: Job) -> list[str]:
    """The test sets that a student has no predictions for, or not one for each problem."""
    return [name for name in workspace.test_names if not workspace.has_predictions(job.label, job.seed, name)]


def _test(workspace: Workspace, job: Job, folder: Path) -> tuple[tuple[str, ...], dict[str, float]]:
    recipe = workspace.recipe
    missing = _not_tested(workspace, job)
    if missing:
        tokenizer = tokenizer_at(str(folder))
        model = model_at(str(folder)).to(pick_device())
        asked = workspace.template(METHODS[workspace.method(job.label).name].answers_with)
        for name in missing:
            problems, path = workspace.read_tests(name), workspace.predictions(job.label, job.seed, name)
            if path.is_file():
                logger.warning("%s is not of exactly the %d problems of its set; it is made again", path, len(problems))
            if recipe.evaluation.explain:  # first, since a student that has its predictions counts as tested
                written = _decode(recipe, model, tokenizer, problems, workspace.template("explain"))
                workspace.write_explanations(job.label, job.seed, name, written)
            predictions = _decode(recipe, model, tokenizer, problems, asked)
            workspace.write_predictions(job.label, job.seed, name, predictions)
    accuracy = {
        name: score(workspace.read_predictions(job.label, job.seed, name)).accuracy for name in workspace.test_names
    }
    return tuple(missing), accuracy


def _decode(
    recipe: Recipe,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    problems: Any,
    template: PromptTemplate,
) -> Any:
    batches = predict(
        model,
        tokenizer,
        problems,
        template,
        max_new_tokens=recipe.evaluation.bound_for(template),
        batch_size=recipe.evaluation.batch_size,
    )
    return in_order((prediction for batch in batches for prediction in batch), problems)
