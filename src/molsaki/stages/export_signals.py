"""A run's signals as a self-contained folder, for others to train from without the teacher.

README.md                a dataset card
signals.json             the teacher, its prompt, the rules for steps and keys
rows.jsonl               question, rationale and label (or their hashes), and the spans of steps and keys
attention/<signal>/      the teacher's attention in one view, or its next tokens
tokenizer/               the teacher's tokenizer, if next tokens are there
files.json               size and SHA-256 of every file
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molsaki.counts import format_attention_error
from molsaki.encoding.encode import tokenizer_hash
from molsaki.errors import ArtefactError
from molsaki.records import RowReport
from molsaki.spans.align import Alignment
from molsaki.spans.find import SPAN_RULES
from molsaki.spans.views import VIEWS
from molsaki.stages.compare_original import ERROR
from molsaki.stages.signals import NEXT_TOKENS, PROMPT, open_store, read_so_far, teacher_tokenizer
from molsaki.stages.signals_card import signals_card
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.store.attention_rows import (
    ATTENTION,
    ERROR_SCHEMA,
    TOP_KEYS,
    attention_row,
    attention_schema,
    compact_schema,
    pack_attention,
    round_compact,
    stored_error,
    with_error,
)
from molsaki.store.exported_files import CARD, MANIFEST, ROWS, STORES, TOKENIZER, list_files, write_file_list
from molsaki.store.exported_rows import NO_SIGNAL, ExportedRow, ExportManifest, KeysRule, write_rows
from molsaki.store.fingerprints import versions
from molsaki.store.locks import LOCK_NAME
from molsaki.store.signal_reader import SignalStore
from molsaki.store.signal_writer import SignalWriter
from molsaki.store.whole_files import refuse_write, write_json, write_whole
from molsaki.teacher.collect_attention import LayerMix
from molsaki.teacher.read_attention import AttentionSignal
from molsaki.training.card import require_license

if TYPE_CHECKING:
    from torch import Tensor

NOT_ASKED_FOR = "beyond the number of rows asked for"


@dataclass(frozen=True, slots=True)
class ExportForm:
    """What an export holds.

    Attributes:
        signals: the names of the signals; empty for all that the run has read.
        rows: at most this many rows, the first ones; None for all.
        hashed: leave the texts out, and keep their hashes.
        mixed: store the teacher's layers as their mixture (Eq. 4), with the settings of the recipe's `attention`.
        half: store attention in float16.
        license: the license of the card, as the hub names it.

    Raises:
        InputError: the hub cannot have a license of this name.
    """

    signals: tuple[str, ...] = ()
    rows: int | None = None
    hashed: bool = False
    mixed: bool = False
    half: bool = False
    license: str = "unknown"

    def __post_init__(self) -> None:
        """Refuse a license that the hub cannot name."""
        require_license(self.license)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        rows: counts of the run's rows, with the reasons of those that were left out.
        signals: the names of the signals.
        bytes: the size of all files.
        seconds: how long it took.
        errors: for each signal that is not stored exactly, the largest and the mean absolute error of its attention
            against the teacher's in float32, or against the mixture of the run's rows; of compact rows a bound.
    """

    rows: RowReport
    signals: tuple[str, ...]
    bytes: int
    seconds: float
    errors: Mapping[str, tuple[float, float]]


def export_signals(run: Path, folder: Path, form: ExportForm) -> ExportReport:
    """Export a run's signals. Nothing of the run is changed.

    Args:
        run: a run directory in which the teacher was read.
        folder: a missing or empty folder.
        form: what to export.

    Raises:
        ArtefactError: the folder is not empty, the run lacks a signal, or no row is left.
        StageError: the folder cannot be written.
    """
    began = time.perf_counter()
    workspace = Workspace.open(run)
    names = _names(workspace, form)
    stores = {name: open_store(workspace, name) for name in names}
    _make_folder(folder)
    report = RowReport()
    rows = _rows(workspace, stores, form, report)
    if not rows:
        raise ArtefactError(
            f"Expected rows that the teacher was read on in {run}; there is none: {dict(report.skipped)}. Nothing was "
            "exported; run `molsaki attend` with its recipe and directory first."
        )
    for name, store in stores.items():
        _copy_store(workspace, name, store, rows, folder / STORES / name, form)
    if NEXT_TOKENS in stores:
        _save_tokenizer(workspace, stores[NEXT_TOKENS], folder / TOKENIZER)
    manifest = _manifest(workspace, stores, rows, form, report)
    write_whole(folder / ROWS, write_rows(rows))
    write_json(folder / MANIFEST, manifest.to_dict())
    write_whole(folder / CARD, signals_card(manifest, _layers(folder, names), form.license))
    write_file_list(folder)
    size = sum(list_files(folder)[0].values())
    errors = {name: stored_error(SignalStore(folder / STORES / name)) for name in names if name in VIEWS}
    inexact = {name: error for name, error in errors.items() if any(error)}
    return ExportReport(report, tuple(names), size, time.perf_counter() - began, inexact)


def _names(workspace: Workspace, form: ExportForm) -> tuple[str, ...]:
    """The names of the signals to export."""
    there = tuple(read_so_far(workspace))
    missing = [name for name in form.signals if name not in there]
    if missing or not there:
        wanted = f"the signals {', '.join(missing)}" if missing else "a signal"
        raise ArtefactError(
            f"Expected {wanted} in the run {workspace.run.folder}; of its teacher, {', '.join(there) or 'nothing'} was "
            "read. Nothing was exported; ask for what is there, or read the rest with `molsaki attend`."
        )
    return form.signals or there


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(entry.name for entry in folder.iterdir())
    except (OSError, ValueError) as error:
        refuse_write(folder, error, "Nothing was exported.")
    if there:
        raise ArtefactError(
            f"Expected an empty or missing folder for exported signals; {folder} has {there[:5]}. Nothing was written; "
            "choose another folder."
        )


def _rows(
    workspace: Workspace, stores: Mapping[str, SignalStore], form: ExportForm, report: RowReport
) -> list[ExportedRow]:
    """The rows that every signal has."""
    problems, texts = workspace.read_texts(TRAIN)
    rows: list[ExportedRow] = []
    for problem in problems:
        text = texts[problem.id]
        if any(problem.id not in store for store in stores.values()):
            report.skip(problem.id, NO_SIGNAL)
        elif form.rows is not None and len(rows) >= form.rows:
            report.skip(problem.id, NOT_ASKED_FOR)
        else:
            report.keep()
            rows.append(ExportedRow.of(problem, text, hashed=form.hashed))
    return rows


def _copy_store(
    workspace: Workspace, name: str, store: SignalStore, rows: Sequence[ExportedRow], folder: Path, form: ExportForm
) -> None:
    """Copy the rows of one signal into a store of the export, with mixed layers or half precision if asked for."""
    settings = workspace.recipe.attention
    mixing = form.mixed and settings.layers != "mixed"
    mix = LayerMix(settings.temperature, settings.layer_change) if mixing else None
    fingerprint, schema = dict(store.fingerprint), store.schema
    dtype = "float16" if form.half else schema[ATTENTION].dtype if name in VIEWS else ""
    # Rows that are float16 already stay as they are, with the error that was measured when they were written.
    changed = name in VIEWS and (mix is not None or dtype != schema[ATTENTION].dtype)
    # A compact row stays compact: the full row that it stands for is larger.
    compact = changed and mix is None and TOP_KEYS in schema
    if changed:
        layers = schema[ATTENTION].shape[0]
        assert isinstance(layers, int)
        if mix is not None:
            fingerprint |= AttentionSignal(VIEWS[name], workspace.recipe.keys, dtype, mix).rules()
        full = attention_schema(layers if mix is None else 1, dtype) | ({} if dtype == "float32" else ERROR_SCHEMA)
        schema = compact_schema(layers, dtype) if compact else full
    with SignalWriter(folder, fingerprint, schema) as writer:
        for row in rows:
            if changed and not compact:
                tensors = _attention(store, row, mix, dtype)
            else:
                tensors = store.get(row.id, row.text_hash)
            writer.add(row.id, row.text_hash, round_compact(tensors, dtype) if compact else tensors)
            if writer.is_due:
                writer.flush()
    (folder / LOCK_NAME).unlink(missing_ok=True)


def _attention(store: SignalStore, row: ExportedRow, mix: LayerMix | None, dtype: str) -> dict[str, Tensor]:
    found = attention_row(store, row.id, row.text_hash)
    attention_LSK = found.attention_LSK
    if mix is not None:
        sizes = attention_LSK.shape[1:]
        tokens = Alignment((), (), sizes[0], sizes[1], found.missing_steps, found.missing_keys)
        attention_LSK = mix.mix(attention_LSK, tokens)
    packed = pack_attention(attention_LSK, found.step_tokens, found.missing_steps, found.missing_keys)
    return packed if dtype == "float32" else with_error(packed, dtype)


def _save_tokenizer(workspace: Workspace, store: SignalStore, folder: Path) -> None:
    """Next tokens are ids of the teacher's vocabulary, so they need its tokenizer."""
    tokenizer = teacher_tokenizer(workspace)
    if tokenizer_hash(tokenizer) != store.fingerprint.get("tokenizer"):
        raise ArtefactError(
            f"Expected the tokenizer that the next tokens of {workspace.run.folder} were read with; the teacher "
            "has another one now. Export without next tokens (--signal), or read them again."
        )
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def _attention_error(workspace: Workspace, stores: Mapping[str, SignalStore]) -> dict[str, str]:
    """What the run's manifest says of a quantised teacher's error, as a sentence; empty if it says nothing.

    Of signals that were taken from an export, it is the sentence of that export.
    """
    read = read_so_far(workspace)
    found = [error for name in stores if (error := read.get(name, {}).get(ERROR))]
    if not found:
        return {}
    return {ERROR: found[0] if isinstance(found[0], str) else format_attention_error(found[0])}


def _manifest(
    workspace: Workspace,
    stores: Mapping[str, SignalStore],
    rows: Sequence[ExportedRow],
    form: ExportForm,
    report: RowReport,
) -> ExportManifest:
    recipe, found = workspace.recipe, next(iter(stores.values())).fingerprint
    keys: KeysRule = "numbers" if recipe.keys == "numbers" else "keywords"
    parts = {"name": "teacher", "revision": "revision", "weights": "weights", "precision": "precision"}
    return ExportManifest(
        task=recipe.data.task,
        rows=len(rows),
        hashed=form.hashed,
        keys=keys,
        steps=recipe.rationales.steps,
        span_rules=SPAN_RULES,
        teacher={
            **{name: found.get(part, "none") for name, part in {**parts, "tokenizer": "tokenizer"}.items()},
            **_attention_error(workspace, stores),
        },
        prompt=read_so_far(workspace)[next(iter(stores))].get(PROMPT, str(workspace.template("teacher"))),
        prompt_as_read=found.get("prompt as read", "none"),
        left_out=dict(report.skipped),
        versions=versions(),
    )


def _layers(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """What each signal of an export stores, in words."""
    found = {}
    for name in names:
        store = SignalStore(folder / STORES / name)
        layers = store.fingerprint.get("layers", "")
        if layers == "all":
            layers = f"all {store.schema[ATTENTION].shape[0]} layers"
        found[name] = f"{layers}, {store.schema[ATTENTION].dtype}" if name in VIEWS else "the likeliest next tokens"
    return found
