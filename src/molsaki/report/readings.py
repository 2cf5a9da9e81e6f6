"""What the report needs that a run does not keep: where teacher and students look on problems outside training.

The teacher writes rationales for a sample of the test problems; those that reach the right answer are read by the
teacher, by the student before training and by every student after it. Rationales and readings are kept under
`report/`, so that a second report does not make them again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.analysis import Look, read_looks, student_encoder, teacher_encoder
from molsaki.config.model_spec import ModelSpec
from molsaki.encoding.encode import context_length, tokenizer_hash
from molsaki.errors import ArtefactError, InputError
from molsaki.methods import METHODS
from molsaki.models.load import (
    load_placed_model,
    load_tokenizer,
    model_at,
    model_fingerprint,
    pick_device,
    quiet_libraries,
    tokenizer_at,
)
from molsaki.records import hash_text
from molsaki.report.routers import router_weights
from molsaki.spans.find import SPAN_RULES
from molsaki.spans.text import Text
from molsaki.stages.attend import reading_prompt
from molsaki.stages.generate import generate_rationales
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.store.fingerprints import fingerprint
from molsaki.store.row_log import RowLog
from molsaki.teacher.opening import open_writer, recipe_questions
from molsaki.teacher.rationales import read_rationales

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from molsaki.analysis.looks import Floats
    from molsaki.encoding.prompts import PromptTemplate
    from molsaki.teacher.writer import Writer

FOLDER = "report"
Say = Callable[[str], None]
Looks = dict[str, dict[str, Look]]
"""Looks by set and problem id."""


@dataclass
class Readings:
    """Where the models of a run look.

    Attributes:
        texts: the sample, by set and problem id.
        teacher, before: their looks; empty if they were not read.
        after: the looks of each trained student, by label and seed.
        routers: layer weights at the end of training, by label and seed, set and problem id.
        notes: what is to be known of the sample, a sentence each.
        trained_on: the sample's problems were trained on.
    """

    texts: dict[str, dict[str, Text]] = field(default_factory=dict)
    teacher: Looks = field(default_factory=dict)
    before: Looks = field(default_factory=dict)
    after: dict[tuple[str, int], Looks] = field(default_factory=dict)
    routers: dict[tuple[str, int], dict[str, dict[str, Floats]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    trained_on: bool = False


def read_models(workspace: Workspace, rows: int, say: Say, labels: Collection[str] | None = None) -> Readings:
    """Read every model of a run on a sample of at most `rows` problems of each test set.

    A model that cannot be loaded or read is left out with a note; the report is written all the same.

    Args:
        workspace: the run.
        rows: the size of each sample.
        say: told what is done, since reading models takes time.
        labels: the students to read; all of them by default.
    """
    quiet_libraries()
    readings = Readings()
    if rows < 1:
        readings.notes.append("No attention was read for this page: it was asked for a sample of 0 problems.")
        return readings
    recipe = workspace.recipe
    try:
        _choose_texts(workspace, rows, readings, say)
    except InputError as error:
        readings.notes.append(f"No attention was read for this page: {error}")
    if not any(readings.texts.values()):
        return readings
    if recipe.teacher.attending is not None:
        readings.teacher = _attempt(readings, "the teacher", lambda: _read_teacher(workspace, readings, say))
    readings.before = _attempt(
        readings, "the student before training", lambda: _read_student(workspace, readings, None, say)
    )
    for method in recipe.methods:
        for seed in recipe.seeds:
            if (labels is None or method.label in labels) and workspace.student(method.label, seed).is_dir():
                pair = method.label, seed
                looks = _attempt(
                    readings,
                    f"{pair[0]}, seed {pair[1]}",
                    lambda pair=pair: _read_student(workspace, readings, pair, say),  # type: ignore[misc]
                )
                if looks:
                    readings.after[pair] = looks
    _keep_common(readings)
    return readings


def _attempt(readings: Readings, who: str, read: Callable[[], Looks]) -> Looks:
    try:
        return read()
    except InputError as error:
        readings.notes.append(f"The attention of {who} could not be read: {error}")
        return {}


def _choose_texts(workspace: Workspace, rows: int, readings: Readings, say: Say) -> None:
    recipe = workspace.recipe
    # A server's answers may cost money, and nobody has asked for more of them.
    if recipe.rationales.source != "teacher" or not isinstance(recipe.teacher.writer, ModelSpec):
        _, texts = workspace.read_texts(TRAIN)
        chosen = sorted(texts, key=lambda row_id: hash_text("report", texts[row_id].question))[:rows]
        readings.texts = {TRAIN: {row_id: texts[row_id] for row_id in chosen}}
        readings.trained_on = True
        readings.notes.append(
            f"Attention is shown on {len(chosen)} training problems: the rationales of this run were not written by a "
            "local model that could be asked for more, so there are none for problems outside training."
        )
        return
    writer: Writer | None = None
    for name in workspace.test_names:
        problems = workspace.read_tests(name)
        problems = sorted(problems, key=lambda problem: hash_text("report", problem.text))[:rows]
        log = RowLog(workspace.run.path(FOLDER, "rationales", f"{name}.jsonl"))
        if len(read_rationales(log, problems)) < len(problems) and not {p.id for p in problems} <= log.ids():
            say(f"{name}: the teacher writes {len(problems)} rationales")
            writer = writer or open_writer(recipe)
            generate_rationales(
                writer,
                problems,
                recipe_questions(recipe),
                log=log,
                completions=RowLog(workspace.run.path(FOLDER, "rationales", f"{name}.completions.jsonl")),
                max_new_tokens=recipe.rationales.max_new_tokens,
                temperature=recipe.rationales.temperature,
            )
        kept = read_rationales(log, problems)
        readings.texts[name] = {
            row.problem.id: Text(
                row.problem.id,
                row.problem.text,
                row.rationale,
                workspace.keys_of(row),
                workspace.recipe.rationales.steps,
            )
            for row in kept
        }
        readings.notes.append(
            f"{name}: the teacher wrote rationales for {len(problems)} of {len(workspace.read_tests(name))} test "
            f"problems, drawn by a hash of their text; {len(kept)} "
            + ("were kept." if recipe.rationales.keep == "all" else "reached the right answer and are shown.")
        )


def _read_teacher(workspace: Workspace, readings: Readings, say: Say) -> Looks:
    recipe = workspace.recipe
    spec = recipe.teacher.attending
    assert spec is not None
    say("reading where the teacher looks")
    tokenizer = load_tokenizer(recipe, spec)
    model = load_placed_model(recipe, spec, tokenizer, seed=1)
    max_length = context_length(tokenizer, model.config, recipe.attention.max_length)
    prompt = reading_prompt(workspace, tokenizer)
    encode = teacher_encoder(tokenizer, prompt, max_length)
    folder = workspace.run.path(FOLDER, "attention", "teacher")
    made_from = _made_from(workspace, prompt, spec, model, tokenizer, max_length)
    return _read_sets(folder, made_from, readings, model, tokenizer, encode)


def _read_student(workspace: Workspace, readings: Readings, pair: tuple[str, int] | None, say: Say) -> Looks:
    recipe = workspace.recipe
    if pair is None:
        say("reading where the student looked before training")
        tokenizer = load_tokenizer(recipe, recipe.student)
        model = load_placed_model(recipe, recipe.student, tokenizer)
        folder = workspace.run.path(FOLDER, "attention", "before")
    else:
        say(f"reading where {pair[0]}, seed {pair[1]}, looks")
        where = str(workspace.student(*pair))
        tokenizer = tokenizer_at(where)
        model = model_at(where).to(pick_device())
        folder = workspace.run.path(FOLDER, "attention", f"{pair[0]}-{pair[1]}")
    spec = None if pair is None else workspace.method(pair[0])
    training = recipe.training if spec is None else recipe.training_of(spec)
    max_length = context_length(tokenizer, model.config, training.max_length)
    prompt = workspace.template("explain" if spec is None else METHODS[spec.name].explains_after())
    encode = student_encoder(tokenizer, prompt, max_length)
    made_from = _made_from(workspace, prompt, recipe.student, model, tokenizer, max_length)
    looks = _read_sets(folder, made_from, readings, model, tokenizer, encode)
    if pair is not None:
        weights = {
            name: router_weights(workspace, pair, model, tokenizer, list(texts.values()), encode)
            for name, texts in readings.texts.items()
        }
        if any(weights.values()):
            readings.routers[pair] = weights
    return looks


def _made_from(
    workspace: Workspace,
    prompt: PromptTemplate,
    spec: ModelSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> dict[str, str]:
    return fingerprint(
        weights=model_fingerprint(spec, model),
        tokenizer=tokenizer_hash(tokenizer),
        prompt=str(prompt),
        keys=workspace.recipe.keys,
        span_rules=SPAN_RULES,
        max_length=max_length,
        columns="tokens",
    )


def _read_sets(
    folder: Path, made_from: Mapping[str, str], readings: Readings, model: Any, tokenizer: Any, encode: Any
) -> Looks:
    found: Looks = {}
    for name, texts in readings.texts.items():
        for again in (False, True):
            try:
                found[name], _ = read_looks(
                    model, tokenizer, list(texts.values()), encode, store=(folder / name, made_from)
                )
                break
            except ArtefactError:
                # What lies there is made from another model or text of this run, which is not there any more.
                if again or not (folder / name).is_dir():
                    raise
                shutil.rmtree(folder / name)
    return found


def _keep_common(readings: Readings) -> None:
    """Keep the texts that every model could read, so that all figures are of the same problems."""
    everyone = [looks for looks in (readings.teacher, readings.before, *readings.after.values()) if looks]
    for name in readings.texts:
        shared = set(readings.texts[name]).intersection(*(looks.get(name, {}) for looks in everyone))
        lost = len(readings.texts[name]) - len(shared)
        if lost:
            readings.notes.append(f"{name}: {lost} of them have no key, or are too long for one of the models.")
        for looks in everyone:
            looks[name] = {row_id: looks[name][row_id] for row_id in readings.texts[name] if row_id in shared}
        readings.texts[name] = {row_id: t for row_id, t in readings.texts[name].items() if row_id in shared}
