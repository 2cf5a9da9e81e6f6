"""Read the attention of the teacher and the students on problems outside training, for the report.

The teacher writes rationales for a sample of the test problems, unless it has for its row of the tables. The teacher,
the untrained student and every trained student read those that reach the right answer. Rationales and attention are
stored in `report/`, so that the next report reuses them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.analysis import TextAttention, read_text_attention, student_encoder, teacher_encoder
from molsaki.config.model_spec import ModelSpec
from molsaki.counts import plural
from molsaki.encoding.chats import describe_prompt
from molsaki.encoding.encode import context_length, tokenizer_hash
from molsaki.errors import ArtefactError, InputError
from molsaki.models.fingerprint import model_fingerprint
from molsaki.models.load import load_placed_model, load_tokenizer, quiet_libraries, student_at, tokenizer_at
from molsaki.records import Problem, hash_text
from molsaki.report.routers import router_weights
from molsaki.spans.find import SPAN_RULES
from molsaki.spans.text import Text
from molsaki.stages.attend import reading_prompt
from molsaki.stages.evaluate_student import student_weights
from molsaki.stages.generate import generate_rationales
from molsaki.stages.references import teacher_completions
from molsaki.stages.workspace import TRAIN, Workspace, sample_problems
from molsaki.store.fingerprints import fingerprint
from molsaki.store.row_log import RowLog
from molsaki.teacher.opening import open_writer, recipe_questions
from molsaki.teacher.rationales import read_rationales
from molsaki.teacher.requests import Key, ProblemRequests, Questions, completion_row

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from molsaki.analysis.text_attention import Floats
    from molsaki.encoding.prompts import PromptTemplate
    from molsaki.teacher.writer import Writer

FOLDER = "report"
PrintLine = Callable[[str], None]
Attentions = dict[str, dict[str, TextAttention]]
"""The attention of a model by set and problem id."""


@dataclass
class Readings:
    """The attention of the models of a run on a sample of problems.

    Attributes:
        texts: the sample, by set and problem id.
        teacher, before: the attention of the teacher and of the untrained student; empty if they were not read.
        after: the attention of each trained student, by label and seed.
        routers: the layer weights of trained routers, by label and seed, set and problem id.
        notes: sentences about the sample.
        trained_on: whether the problems of the sample are training problems.
    """

    texts: dict[str, dict[str, Text]] = field(default_factory=dict)
    teacher: Attentions = field(default_factory=dict)
    before: Attentions = field(default_factory=dict)
    after: dict[tuple[str, int], Attentions] = field(default_factory=dict)
    routers: dict[tuple[str, int], dict[str, dict[str, Floats]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    trained_on: bool = False


def read_models(
    workspace: Workspace, rows: int, print_line: PrintLine, labels: Collection[str] | None = None
) -> Readings:
    """Read every model of a run on a sample of at most `rows` problems of each test set.

    A model that cannot be loaded or read is left out, with a note.

    Args:
        workspace: the run.
        rows: the size of the sample of each set.
        print_line: called with a description of each step.
        labels: the labels of the students to read; all by default.
    """
    quiet_libraries()
    readings = Readings()
    if rows < 1:
        readings.notes.append("No attention was read: the size of the sample is 0.")
        return readings
    recipe = workspace.recipe
    try:
        _sample_texts(workspace, rows, readings, print_line)
    except InputError as error:
        readings.notes.append(f"No attention was read: {error}")
    if not any(readings.texts.values()):
        return readings
    if recipe.teacher.attending is not None:
        readings.teacher = _try_read(readings, "the teacher", partial(_read_teacher, workspace, readings, print_line))
    read_student = partial(_read_student, workspace, readings, print_line)
    readings.before = _try_read(readings, "the student before training", partial(read_student, None))
    _read_students(workspace, readings, read_student, labels)
    _keep_common(readings)
    return readings


def _read_students(
    workspace: Workspace,
    readings: Readings,
    read: Callable[[tuple[str, int]], Attentions],
    labels: Collection[str] | None,
) -> None:
    recipe = workspace.recipe
    pairs = [(method.label, seed) for method in recipe.methods for seed in recipe.seeds]
    deleted = 0
    for label, seed in pairs:
        folder = workspace.student(label, seed)
        if (labels is not None and label not in labels) or not folder.is_dir():
            continue
        if not recipe.evaluation.keep_weights and not student_weights(folder):
            deleted += 1
        elif attentions := _try_read(readings, f"{label}, seed {seed}", partial(read, (label, seed))):
            readings.after[label, seed] = attentions
    if deleted:
        readings.notes.append(
            f"The attention of {plural(deleted, 'student')} cannot be read: with evaluation.keep_weights: false the "
            "weights are deleted after the tests."
        )


def _try_read(readings: Readings, model: str, read: Callable[[], Attentions]) -> Attentions:
    try:
        attentions = read()
    except InputError as error:
        readings.notes.append(f"The attention of {model} could not be read: {error}")
        return {}
    layers = next((one.layers for texts in attentions.values() for one in texts.values()), ())
    if layers:
        shown = ", ".join(str(layer + 1) for layer in layers)
        readings.notes.append(f"The attention of {model} is that of its layers {shown}; the others have no softmax.")
    return attentions


def _sample_texts(workspace: Workspace, rows: int, readings: Readings, print_line: PrintLine) -> None:
    recipe = workspace.recipe
    # A server may cost money, so the report does not send requests to one.
    if recipe.rationales.source != "teacher" or not isinstance(recipe.teacher.writer, ModelSpec):
        _, texts = workspace.read_texts(TRAIN)
        ids = sorted(texts, key=lambda row_id: hash_text("report", texts[row_id].question))[:rows]
        readings.texts = {TRAIN: {row_id: texts[row_id] for row_id in ids}}
        readings.trained_on = True
        readings.notes.append(
            f"Attention is shown on {plural(len(ids), 'training problem')}. Rationales for other problems would "
            "need a local teacher that writes them, which this run does not have."
        )
        return
    shown = "all that were kept" if recipe.rationales.keep == "all" else "those that reached the right answer"
    writer: Writer | None = None
    for name in workspace.test_names:
        problems = workspace.read_tests(name)
        sample = sample_problems(problems, rows)  # the first ones of the teacher's row in the tables
        log = RowLog(workspace.run.path(FOLDER, "rationales", f"{name}.jsonl"))
        if not {problem.id for problem in sample} <= log.ids():
            print_line(f"{name}: rationales of the teacher for {plural(len(sample), 'problem')}")
            writer = writer or open_writer(recipe)
            _write_rationales(workspace, writer, name, sample, log)
        texts = {row.problem.id: workspace.text_of(row) for row in read_rationales(log, sample)}
        readings.texts[name] = texts
        readings.notes.append(
            f"{name}: the teacher wrote rationales for a sample of {len(sample)} of the "
            f"{plural(len(problems), 'test problem')}. Shown are {shown}: {len(texts)}."
        )


def _write_rationales(
    workspace: Workspace, writer: Writer, name: str, problems: Sequence[Problem], log: RowLog
) -> None:
    settings, questions = workspace.recipe.rationales, recipe_questions(workspace.recipe, workspace.run.date)
    completions = RowLog(workspace.run.path(FOLDER, "rationales", f"{name}.completions.jsonl"))
    if questions.samples == 1 and not settings.temperature:
        _take_answers(workspace, name, problems, questions, completions)
    generate_rationales(
        writer,
        problems,
        questions,
        log=log,
        completions=completions,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
    )


def _take_answers(
    workspace: Workspace, name: str, problems: Sequence[Problem], questions: Questions, completions: RowLog
) -> None:
    """Add what the teacher answered for its row of the tables, so that it does not write it again."""
    answers, have = teacher_completions(workspace, name), completions.ids()
    new = [problem for problem in problems if problem.id in answers and problem.id not in have]
    key: Key = ("rationale", 0)
    completions.append(completion_row(ProblemRequests(problem, questions), key, answers[problem.id]) for problem in new)


def _read_teacher(workspace: Workspace, readings: Readings, print_line: PrintLine) -> Attentions:
    recipe = workspace.recipe
    spec = recipe.teacher.attending
    assert spec is not None
    print_line("reading the attention of the teacher")
    tokenizer = load_tokenizer(recipe, spec)
    model = load_placed_model(recipe, spec, tokenizer, seed=1)
    max_length = context_length(tokenizer, model.config, recipe.attention.max_length)
    prompt = reading_prompt(workspace, tokenizer)
    encode = teacher_encoder(tokenizer, prompt, max_length)
    folder = workspace.run.path(FOLDER, "attention", "teacher")
    rules = _store_rules(workspace, workspace.template("teacher"), spec, model, tokenizer, max_length)
    return _read_sets(folder, rules, readings, model, tokenizer, encode)


def _read_student(
    workspace: Workspace, readings: Readings, print_line: PrintLine, pair: tuple[str, int] | None
) -> Attentions:
    """The attention of a trained student, or of the untrained one if `pair` is None."""
    recipe = workspace.recipe
    if pair is None:
        print_line("reading the attention of the student before training")
        base = recipe.student_of(recipe.seeds[0])
        tokenizer = load_tokenizer(recipe, base)
        model = load_placed_model(recipe, base, tokenizer)
        folder = workspace.run.path(FOLDER, "attention", "before")
    else:
        print_line(f"reading the attention of {pair[0]}, seed {pair[1]}")
        trained = workspace.student(*pair)
        tokenizer = tokenizer_at(str(trained), trust_remote_code=recipe.student.trust_remote_code)
        model = student_at(recipe, trained)
        folder = workspace.run.path(FOLDER, "attention", f"{pair[0]}-{pair[1]}")
    spec = None if pair is None else workspace.method(pair[0])
    training = recipe.training if spec is None else recipe.training_of(spec)
    max_length = context_length(tokenizer, model.config, training.max_length)
    prompt = workspace.template((spec or recipe.methods[0]).terms.explains_with)
    encode = student_encoder(tokenizer, prompt, max_length)
    rules = _store_rules(workspace, prompt, recipe.student, model, tokenizer, max_length)
    attentions = _read_sets(folder, rules, readings, model, tokenizer, encode)
    if pair is not None:
        weights = {
            name: router_weights(workspace, pair, model, tokenizer, list(texts.values()), encode)
            for name, texts in readings.texts.items()
        }
        if any(weights.values()):
            readings.routers[pair] = weights
    return attentions


def _store_rules(
    workspace: Workspace,
    prompt: PromptTemplate,
    spec: ModelSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> dict[str, str]:
    """Everything that stored attention depends on."""
    return fingerprint(
        weights=model_fingerprint(spec.name, model),
        tokenizer=tokenizer_hash(tokenizer),
        prompt=describe_prompt(tokenizer, prompt),
        keys=workspace.recipe.keys,
        span_rules=SPAN_RULES,
        max_length=max_length,
        columns="tokens",
    )


def _read_sets(
    folder: Path, rules: Mapping[str, str], readings: Readings, model: Any, tokenizer: Any, encode: Any
) -> Attentions:
    attentions: Attentions = {}
    for name, texts in readings.texts.items():
        read = partial(
            read_text_attention, model, tokenizer, list(texts.values()), encode, store=(folder / name, rules)
        )
        try:
            attentions[name], _ = read()
        except ArtefactError:
            # The store is of a model or of texts that this run no longer has.
            if not (folder / name).is_dir():
                raise
            shutil.rmtree(folder / name)
            attentions[name], _ = read()
    return attentions


def _keep_common(readings: Readings) -> None:
    """Keep the texts that every model could read, so that all figures show the same problems."""
    models = [attentions for attentions in (readings.teacher, readings.before, *readings.after.values()) if attentions]
    for name, texts in readings.texts.items():
        shared = set(texts).intersection(*(attentions.get(name, {}) for attentions in models))
        lost = len(texts) - len(shared)
        if lost:
            readings.notes.append(f"{name}: {lost} of them without a key, or too long for a model, are left out.")
        for attentions in models:
            attentions[name] = {row_id: attentions[name][row_id] for row_id in texts if row_id in shared}
        readings.texts[name] = {row_id: text for row_id, text in texts.items() if row_id in shared}
