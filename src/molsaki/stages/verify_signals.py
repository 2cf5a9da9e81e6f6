"""Open everything of exported signals: every byte of every file, every row, every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.encoding.chats import render_template
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError, InputError, MolsakiError
from molsaki.records import RowReport
from molsaki.spans.text import Text
from molsaki.spans.views import HEADS, STEPS, VIEWS
from molsaki.stages.load_signals import usable_rows
from molsaki.stages.signals_card import read_card
from molsaki.store import attention_rows
from molsaki.store.exported_files import CARD, STORES, file_problems, list_files, read_file
from molsaki.store.exported_rows import CHANGED, DAMAGED, NO_SIGNAL, OTHER_SIZES, Export
from molsaki.store.signal_reader import SignalStore
from molsaki.store.verify import StoreReport, verify_store
from molsaki.teacher.read_attention import AttentionSignal
from molsaki.teacher.read_logits import NextTokenSignal
from molsaki.teacher.read_signals import prepare_texts
from molsaki.teacher.signals import Signal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OTHER_TOKENS = "the teacher's tokenizer finds other tokens in it than it was read with"


@dataclass(frozen=True, slots=True)
class SignalsCheck:
    """What was found in an export.

    Attributes:
        files: the number of files.
        bytes: their size.
        problems: what is wrong with files, one line each.
        rows: for each signal, how many rows can be used, and why others cannot.
        stores: for each signal, what a look at every number of its store found.
    """

    files: int
    bytes: int
    problems: tuple[str, ...]
    rows: Mapping[str, RowReport]
    stores: Mapping[str, StoreReport]

    @property
    def ok(self) -> bool:
        """Whether every row of the export can be used."""
        whole = not self.problems and all(store.ok for store in self.stores.values())
        return whole and bool(self.rows) and not any(report.skipped for report in self.rows.values())


def verify_signals(folder: Path, tokenizer: PreTrainedTokenizerBase | None = None) -> SignalsCheck:
    """Verify exported signals.

    Args:
        folder: the folder of an export.
        tokenizer: the teacher's, to check that each text still has the tokens that it was read with. It needs texts.

    Raises:
        ArtefactError: it is not a folder of exported signals, or its list of files cannot be read.
        InputError: a tokenizer is given, and the export has only hashes.
    """
    problems = file_problems(folder)
    files, _ = list_files(folder)
    rows: dict[str, RowReport] = {}
    stores: dict[str, StoreReport] = {}
    try:
        read_card(read_file(folder, CARD).decode())
    except (MolsakiError, ValueError) as error:
        problems.append(f"{CARD}: the hub would refuse it: {str(error)[:200]}")
    try:
        export = Export(folder)
    except InputError as error:
        return SignalsCheck(len(files), sum(files.values()), (*problems, str(error)), rows, stores)
    if tokenizer is not None and export.manifest.hashed:
        raise InputError(
            f"Expected texts, to read them with the teacher's tokenizer; the export {folder} has only their hashes. "
            "Nothing was checked; verify it without a tokenizer."
        )
    for name in export.names():
        try:
            _verify_store(export, name, tokenizer, rows, stores)
        except InputError as error:
            problems.append(f"{STORES}/{name}: {error}")
    return SignalsCheck(len(files), sum(files.values()), tuple(problems), rows, stores)


def _verify_store(
    export: Export,
    name: str,
    tokenizer: PreTrainedTokenizerBase | None,
    rows: dict[str, RowReport],
    stores: dict[str, StoreReport],
) -> None:
    stores[name] = verify_store(export.folder / STORES / name)
    store, report = export.store(name), RowReport()
    rows[name] = report
    if export.manifest.hashed:
        usable, texts = _count_hashed(export, name, store, report), []
    else:
        texts = [text for _, text in usable_rows(export, name, store, None, report)]
        usable = [text.id for text in texts]
    refused = {} if tokenizer is None else _other_tokens(export, name, store, tokenizer, texts)
    refused |= dict.fromkeys(stores[name].damaged, DAMAGED)
    for row_id in usable:
        if row_id in refused:
            report.kept -= 1
            report.read -= 1
            report.skip(row_id, refused[row_id])


def _count_hashed(export: Export, name: str, store: SignalStore, report: RowReport) -> list[str]:
    """Compare the rows of a store with the hashes and spans of an export without texts; the ids of those that agree."""
    hashes, by_steps_and_keys = store.text_hashes(), name in (STEPS.name, HEADS.name)
    usable = []
    for row in export.rows.values():
        if row.id not in hashes:
            report.skip(row.id, NO_SIGNAL)
            continue
        sizes = store.sizes(row.id)
        found = sizes.get(attention_rows.STEPS), sizes.get(attention_rows.KEYS)
        if hashes[row.id] != row.text_hash:
            report.skip(row.id, CHANGED)
        elif by_steps_and_keys and found != (len(row.steps), len(row.keys)):
            report.skip(row.id, OTHER_SIZES)
        else:
            report.keep()
            usable.append(row.id)
    return usable


def _other_tokens(
    export: Export, name: str, store: SignalStore, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text]
) -> dict[str, str]:
    """The rows whose text has other tokens of the teacher than it was read with, with that reason."""
    fingerprint = store.fingerprint
    signal: Signal[Any] = AttentionSignal(VIEWS[name]) if name in VIEWS else NextTokenSignal(1)
    prompt = render_template(tokenizer, PromptTemplate.parse(export.manifest.prompt))
    longest = fingerprint.get("max_length", "")
    max_length = int(longest) if longest.isdecimal() and len(longest) < 10 else 1 << 30
    prepared, _ = prepare_texts(tokenizer, texts, prompt, max_length, [signal])
    items = {one.text.id: one.items.get(signal.name) for one in prepared}
    return {text.id: OTHER_TOKENS for text in texts if _differs(signal, items.get(text.id), store, text)}


def _differs(signal: Signal[Any], item: Any, store: SignalStore, text: Text) -> bool:
    if item is None or store.sizes(text.id) != signal.sizes(item):
        return True
    try:
        return bool(signal.check(item, store.get(text.id, text.text_hash)))
    except ArtefactError:  # damaged numbers, which the check of the store names
        return False
