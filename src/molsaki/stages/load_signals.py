"""A teacher's signals for a training loop of your own: of a run, or exported by somebody else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from molsaki.errors import ArtefactError
from molsaki.records import RowReport
from molsaki.spans.find import SPAN_RULES
from molsaki.spans.text import Text
from molsaki.spans.views import STEPS, VIEWS
from molsaki.stages.signals import open_store
from molsaki.stages.signals_hub import find_signals
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.store import attention_rows
from molsaki.store.exported_files import is_export
from molsaki.store.exported_rows import CHANGED, NO_SIGNAL, OTHER_SIZES, Export, ExportedRow
from molsaki.store.signal_reader import SignalStore
from molsaki.training.loop import Signals

NOT_BROUGHT = "no text with its hash was brought"
NOT_AMONG = "not among the exported rows: no row has the hash of its text"
NOT_EXPORTED = "a text that was brought, whose hash no row has"


def load_signals(source: str | Path, texts: Iterable[Text] | None = None) -> Signals:
    """Open a teacher's stepwise attention, with the texts that it was read on.

    Example:
        >>> import molsaki
        >>> signals = molsaki.load_signals("runs/pocket")
        >>> text = next(iter(signals.texts.values()))
        >>> text.id in signals.attention, signals.teacher_layers
        (True, 4)

    Args:
        source: a run directory in which `molsaki attend` (or `molsaki run`) has read steps and keys; a folder of
            `molsaki signals export`; or `owner/name[@revision]`, the name of such an export on the Hugging Face hub.
        texts: your texts, for an export that has only hashes. They are joined by the hash of question, rationale,
            keys and span rules.

    Returns:
        The rows that can be used. `report` counts the others, with reasons: a changed text, other span rules.

    Raises:
        ArtefactError: the attention was read with other settings than the run's recipe has, or is damaged; an
            export's files are missing or malformed, or none of its rows can be used.
        DataError: there is no such folder, or the run's teacher was not read.
        InputError: the export has only hashes, and no texts were brought.
    """
    folder = find_signals(str(source))
    if not is_export(folder):
        workspace = Workspace.open(folder)
        problems, found = workspace.read_texts(TRAIN)
        return Signals(found, open_store(workspace, STEPS.name), {one.id: one for one in problems})
    export, report = Export(folder), RowReport()
    store = export.store(STEPS.name)
    rows = usable_rows(export, STEPS.name, store, texts, report)
    require_rows(export, report)
    problems_by_id = {row.id: row.problem for row, _ in rows if row.problem is not None}
    return Signals({row.id: text for row, text in rows}, store, problems_by_id, report)


def usable_rows(
    export: Export, name: str, store: SignalStore, texts: Iterable[Text] | None, report: RowReport
) -> list[tuple[ExportedRow, Text]]:
    """The rows of one signal of an export that were read on their text as it is now, with that text.

    No tensor is read. A brought text gets the id of its row; several rows may have the same text.

    Args:
        export: the export.
        name: the name of the signal.
        store: its store.
        texts: the texts to join by their hash; None for the export's own.
        report: counts the rows, with the reasons of those that cannot be used.

    Raises:
        InputError: there are no texts.
    """
    brought = None if texts is None else [(text.text_hash, text) for text in texts]
    by_hash = dict(brought or ())
    hashes = store.text_hashes()
    usable = []
    for row in export.rows.values():
        text = export.text_of(row) if brought is None else by_hash.get(row.text_hash)
        if text is None:
            report.skip(row.id, NOT_BROUGHT)
        elif reason := row_refusal(export, store, hashes, name, row, text):
            report.skip(row.id, reason)
        else:
            report.keep()
            usable.append((row, Text(row.id, text.question, text.rationale, text.keys, text.steps)))
    exported = {row.text_hash for row in export.rows.values()}
    for text_hash, _ in brought or ():
        if text_hash not in exported:
            report.note(NOT_EXPORTED)
    return usable


def row_refusal(
    export: Export, store: SignalStore, hashes: Mapping[str, str], name: str, row: ExportedRow, text: Text
) -> str:
    """Why a row of one signal cannot be used with a text; empty if it can. No tensor is read.

    Args:
        export: the export.
        store: the store of the signal.
        hashes: the text hashes of the store's rows by id.
        name: the name of the signal.
        row: the row.
        text: the text.
    """
    if reason := export.refusal(row, text):
        return reason
    if row.id not in hashes:
        return NO_SIGNAL
    if hashes[row.id] != row.text_hash:
        return CHANGED
    return "" if name not in VIEWS or sizes_fit(store.sizes(row.id), name, text) else OTHER_SIZES


def sizes_fit(sizes: Mapping[str, int], name: str, text: Text) -> bool:
    """Whether a row of attention has the numbers of steps and keys of its text, in the view of its store."""
    spans = VIEWS[name].spans(text.question, text.rationale, text.keys, text.steps)
    found: Sequence[int | None] = (sizes.get(attention_rows.STEPS), sizes.get(attention_rows.KEYS))
    return tuple(found) == (spans.n_steps, spans.n_keys)


def require_rows(export: Export, report: RowReport) -> None:
    """Raise `ArtefactError` if no row can be used."""
    if not report.kept:
        raise ArtefactError(
            f"Expected rows that can be used in the exported signals {export.folder}; there is none of {report.read}: "
            f"{dict(report.skipped)}. {way_out(export, report)}"
        )


def way_out(export: Export, report: RowReport) -> str:
    """What to do if no row can be used: if the hashes are of other texts, the manifest says what they are of."""
    manifest = export.manifest
    if manifest.span_rules != SPAN_RULES:
        version = f"{manifest.versions.get('molsaki', 'that exported them')}"[:40]
        return (
            f"Their span rules are {manifest.span_rules[:40]!r}, this version's {SPAN_RULES!r}; use the version of "
            f"molsaki {version}, or export them again."
        )
    if not {NOT_BROUGHT, NOT_AMONG} & report.skipped.keys():
        return "See `molsaki signals verify`, and copy, download or export them again."
    keys = "'numbers'" if manifest.keys == "numbers" else "the key words of each question, in their order"
    return (
        "The hashes are of the question with its lettered choices and of the rationale as they were read, every blank "
        f"included, with keys={keys} and steps={manifest.steps!r}; bring these, or export the signals again."
    )
