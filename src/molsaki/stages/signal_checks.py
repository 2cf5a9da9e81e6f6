"""The check of the signals that a run has stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.stages.attend import READ_AS, read_as, reading_prompt
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.store.fingerprints import differences, fingerprint

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from molsaki.store.shards import StoredRow
    from molsaki.store.verify import RowCheck, StoreReport
    from molsaki.teacher.signals import PreparedSignals, Signal


@dataclass(frozen=True, slots=True)
class SignalCheck:
    """What a look at every row of one signal of a run found.

    Attributes:
        title: of the signal.
        store: of the store itself, with the problems of its rows.
        problems: what does not fit the run: other rules than the recipe's, rows that are missing.
        waiting: how many rationales are still to be read; 0 when the signal has been read.
    """

    title: str
    store: StoreReport
    problems: tuple[str, ...]
    waiting: int

    @property
    def ok(self) -> bool:
        """Whether all that is there is right."""
        return self.store.ok and not self.problems


def check_signal(workspace: Workspace, name: str) -> SignalCheck:
    """Open every shard of a run's store of one signal and check every row of it.

    A row must have the numbers that were written, be of a rationale of this run and of its text, have the sizes that
    this text has, and be what the signal's `check` expects.

    Raises:
        DataError: there is no store.
    """
    from molsaki.encoding.encode import tokenizer_hash
    from molsaki.models.load import load_tokenizer
    from molsaki.stages.signals import make_signal, read_so_far, reader_of, signal_rules
    from molsaki.store.shards import read_header
    from molsaki.store.verify import verify_store
    from molsaki.teacher.read_signals import prepare_texts

    signal = make_signal(workspace, name)
    folder = workspace.run.path(signal.folder)
    found = read_header(folder).fingerprint
    if workspace.recipe.signals is not None:
        return _check_taken(workspace, signal, found)
    tokenizer: PreTrainedTokenizerBase = load_tokenizer(workspace.recipe, reader_of(workspace))
    prompt = reading_prompt(workspace, tokenizer)
    rules = signal_rules(workspace, signal)
    wanted = fingerprint(**rules, tokenizer=tokenizer_hash(tokenizer), **{READ_AS: read_as(workspace, tokenizer)})
    other = differences({part: found.get(part, "nothing") for part in wanted}, wanted)
    problems = [f"the store was made from something else: {line.strip()}" for line in other]
    longest = found.get("max_length", "")
    _, texts = workspace.read_texts(TRAIN)
    max_length = int(longest) if longest.isdecimal() else 1 << 30
    prepared, _ = prepare_texts(tokenizer, list(texts.values()), prompt, max_length, [signal])
    by_id = {item.text.id: item for item in prepared}
    seen: set[str] = set()
    report = verify_store(folder, row_check(signal, by_id, seen))
    missing = [row_id for row_id in by_id if row_id not in seen]
    was_read = name in read_so_far(workspace)
    if was_read and missing and report.ok:
        problems.append(
            f"{len(missing)} rows are missing though they were read, {missing[0]!r} for one; run the stage again"
        )
    return SignalCheck(signal.title, report, tuple(problems), 0 if was_read else len(missing))


def _check_taken(workspace: Workspace, signal: Signal[Any], found: Mapping[str, str]) -> SignalCheck:
    """The check of signals that were taken from an export: there is no teacher to prepare texts for."""
    from molsaki.stages.signals import read_so_far, signal_rules
    from molsaki.stages.take_signals import check_taken

    wanted = fingerprint(**signal_rules(workspace, signal))
    other = differences({part: found.get(part, "nothing") for part in wanted}, wanted)
    problems = [f"the store was made from something else: {line.strip()}" for line in other]
    _, texts = workspace.read_texts(TRAIN)
    report = check_taken(workspace.run.path(signal.folder), signal.name, texts)
    expected = read_so_far(workspace).get(signal.name, {}).get("kept", report.rows)
    if report.rows < expected and report.ok:
        problems.append(f"{expected - report.rows} rows are missing though they were taken; run the stage again")
    return SignalCheck(signal.title, report, tuple(problems), 0)


def row_check(signal: Signal[Any], by_id: Mapping[str, PreparedSignals], seen: set[str]) -> RowCheck:
    """Says what is wrong with a row of a signal.

    Args:
        signal: the signal.
        by_id: the texts that can be read, with their tokens.
        seen: gets the ids of the rows that were checked.
    """

    def check(row: StoredRow, tensors: Mapping[str, Tensor]) -> list[str]:
        seen.add(row.id)
        text = by_id.get(row.id)
        if text is None:
            return ["it is of no rationale of this run that can be read"]
        wrong = []
        if row.text_hash != text.text.text_hash:
            wrong.append("it was read on other text (the hashes differ)")
        item = text.items[signal.name]
        if dict(row.sizes) != signal.sizes(item):
            return [*wrong, f"it has the sizes {dict(row.sizes)}, its text has {signal.sizes(item)}"]
        return [*wrong, *signal.check(item, tensors)]

    return check
