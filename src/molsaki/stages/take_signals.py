"""The attend stage without a teacher: the exported signals of the rationales of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from molsaki.errors import ArtefactError
from molsaki.records import RowReport
from molsaki.spans.text import Text
from molsaki.spans.views import VIEWS
from molsaki.stages.compare_original import ERROR
from molsaki.stages.load_signals import NOT_AMONG, row_refusal, sizes_fit, way_out
from molsaki.stages.signals import NEXT_TOKENS, PROMPT, TEACHER_TOKENIZER, make_signal, signal_rules
from molsaki.stages.signals_hub import signals_folder
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.store.exported_files import TOKENIZER, list_files, read_file
from molsaki.store.exported_rows import CHANGED, DAMAGED, Export, ExportedRow
from molsaki.store.fingerprints import fingerprint, require_same
from molsaki.store.next_tokens import TEMPERATURES
from molsaki.store.shards import StoredRow
from molsaki.store.signal_reader import SignalStore
from molsaki.store.signal_writer import SignalWriter, flush_if_due
from molsaki.store.verify import StoreReport, verify_store
from molsaki.store.whole_files import write_whole
from molsaki.teacher.read_logits import NextTokenSignal
from molsaki.teacher.signals import Signal


def take_signals(workspace: Workspace, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Copy the rows of some signals from the export that the recipe names into the run.

    Args:
        workspace: the run.
        names: the signals.

    Returns:
        What the stage's manifest says of each.

    Raises:
        ArtefactError: the export has no such signal, it was read by other rules than the recipe's, or it has no row
            for the rationales of this run.
    """
    export = Export(signals_folder(workspace.recipe))
    _, texts = workspace.read_texts(TRAIN)
    read: dict[str, Mapping[str, Any]] = {}
    for name in names:
        signal = make_signal(workspace, name)
        store = open_exported(workspace, export, signal)
        report = _copy(export, store, name, list(texts.values()), workspace.run.path(signal.folder))
        if not report.kept:
            own = " Or use the rationales of the export (data.train.source: signals, rationales.source: dataset)."
            raise ArtefactError(
                f"Expected rows of {export.folder} for the {len(texts)} rationales of {workspace.run.folder}; there is "
                f"none: {dict(report.skipped)}. {way_out(export, report)}{'' if export.manifest.hashed else own}"
            )
        if name == NEXT_TOKENS:
            for file in list_files(export.folder)[0]:
                if file.startswith(f"{TOKENIZER}/"):
                    target = workspace.run.path(TEACHER_TOKENIZER, file.removeprefix(f"{TOKENIZER}/"))
                    write_whole(target, read_file(export.folder, file))
        row = f"exported signals of {export.manifest.teacher.get('name', 'a teacher')}"
        error = export.manifest.teacher.get(ERROR) if name in VIEWS else None
        compared = {} if error is None else {ERROR: error}
        entry = {"title": signal.title, "row": row, **report.to_dict(), **compared}
        read[name] = {**entry, PROMPT: export.manifest.prompt, "fingerprint": store.fingerprint}
    return read


def open_exported(workspace: Workspace, export: Export, signal: Signal[Any]) -> SignalStore:
    """The store of an exported signal, checked against the rules of a run's recipe. It may have more temperatures.

    Raises:
        ArtefactError: the export has no such signal, or it was read by other rules.
    """
    store = export.store(signal.name)
    wanted = fingerprint(**signal_rules(workspace, signal))
    kept = store.fingerprint.get(TEMPERATURES, "")
    if isinstance(signal, NextTokenSignal) and set(wanted[TEMPERATURES].split()) <= set(kept.split()):
        wanted[TEMPERATURES] = kept
    found = {part: store.fingerprint.get(part, "nothing") for part in wanted}
    require_same(found, wanted, f"the exported {signal.title} in {store.folder}")
    return store


def _copy(export: Export, store: SignalStore, name: str, texts: Sequence[Text], folder: Path) -> RowReport:
    by_hash, hashes, report = {row.text_hash: row for row in export.rows.values()}, store.text_hashes(), RowReport()
    with SignalWriter(folder, store.fingerprint, store.schema) as writer:
        done = writer.done()
        for text in texts:
            same = export.rows.get(text.id)  # of rows with the same text, the one with this id
            row = same if same is not None and same.text_hash == text.text_hash else by_hash.get(text.text_hash)
            if text.id in done:
                report.keep()
            elif row is None:
                report.skip(text.id, NOT_AMONG)
            elif reason := row_refusal(export, store, hashes, name, row, text):
                report.skip(text.id, reason)
            else:
                _add(writer, store, row, text, report)
    return report


def _add(writer: SignalWriter, store: SignalStore, row: ExportedRow, text: Text, report: RowReport) -> None:
    try:
        tensors = store.get(row.id, row.text_hash)
    except ArtefactError:
        report.skip(text.id, DAMAGED)
        return
    writer.add(text.id, text.text_hash, tensors)
    report.keep()
    flush_if_due([writer])


def check_taken(folder: Path, name: str, texts: Mapping[str, Text]) -> StoreReport:
    """Open every shard of a signal that was taken from an export, and compare every row with its text.

    Raises:
        DataError: there is no store.
    """

    def check(row: StoredRow, _: Mapping[str, Tensor]) -> list[str]:
        text = texts.get(row.id)
        if text is None:
            return ["it is of no rationale of this run"]
        wrong = [] if row.text_hash == text.text_hash else [CHANGED]
        if name in VIEWS and not sizes_fit(dict(row.sizes), name, text):
            wrong.append("it has another number of steps or keys than its text")
        return wrong

    return verify_store(folder, check)
