"""Exported signals: the rows with their texts and spans, the manifest, and the stores.

A row has the character spans of its steps and keys. They say what the numbers belong to, whatever the tokenizer. A row
is used only if the span rules of this version find the same spans in the same text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from molsaki.errors import ArtefactError, InputError
from molsaki.records import Problem, hash_json, hash_text
from molsaki.spans.find import SPAN_RULES, Span
from molsaki.spans.steps import StepRule
from molsaki.spans.text import Text
from molsaki.store.exported_files import (
    MANIFEST,
    ROWS,
    STORES,
    read_file,
    read_object,
    refuse,
    require_bounded,
    require_listed,
    require_plain_tensors,
)
from molsaki.store.shards import read_header, shard_numbers, tensors_path
from molsaki.store.signal_reader import SignalStore
from molsaki.store.whole_files import encode_json, parse_json

FORMAT = "molsaki signals 1"
MAX_ROW_BYTES = 1 << 22
KeysRule = Literal["numbers", "keywords"]
LABEL, WHOLE = "label", "whole"
"""The hashes of a row's label, in earlier exports, and of its whole problem: with answer, label and sources."""


@dataclass(frozen=True, slots=True)
class ExportedRow:
    """One row: a text by its hash, and the spans of its steps and keys.

    Attributes:
        id: the row's id in the stores.
        text_hash: the hash of question, rationale, keys and span rules (`Text.text_hash`).
        hashes: the hashes of question and rationale, and of the whole problem; in earlier exports of the label alone.
        steps, keys: the spans in reading order.
        problem: the question with its answer and label, the rationale and the key words; None where only hashes are
            exported.
    """

    id: str
    text_hash: str
    hashes: Mapping[str, str]
    steps: tuple[Span, ...]
    keys: tuple[Span, ...]
    problem: Problem | None

    @classmethod
    def of(cls, problem: Problem, text: Text, *, hashed: bool) -> ExportedRow:
        """The row of a problem and its text.

        Args:
            problem: the problem.
            text: its question and rationale.
            hashed: leave the texts out.
        """
        spans = text.spans()
        keywords = None if isinstance(text.keys, str) else tuple(map(str, text.keys))  # type: ignore[arg-type]
        whole = dataclasses.replace(problem, rationale=text.rationale, keywords=keywords)
        return cls(
            text.id,
            text.text_hash,
            {
                "question": hash_text(text.question),
                "rationale": hash_text(text.rationale),
                WHOLE: _hash_whole(whole),
            },
            spans.steps,
            spans.keys,
            None if hashed else whole,
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `from_dict` is its inverse."""
        texts = {} if self.problem is None else self.problem.to_dict()
        return {
            "id": self.id,
            "text_hash": self.text_hash,
            "hashes": dict(self.hashes),
            "steps": [[span.text, span.start, span.end] for span in self.steps],
            "keys": [[span.text, span.start, span.end] for span in self.keys],
            **({"keywords": texts.pop("keywords"), **texts} if texts else {}),
        }

    @classmethod
    def from_dict(cls, row: Any) -> ExportedRow:
        """Read the JSON form.

        Raises:
            ValueError: a field is missing or of another type.
        """
        if not isinstance(row, dict):
            raise ValueError("it is not a JSON object")  # noqa: TRY004
        row_id, text_hash, hashes = row.pop("id", None), row.pop("text_hash", None), row.pop("hashes", None)
        texts = [row_id, text_hash, *(hashes.values() if isinstance(hashes, dict) else [None])]
        if not all(isinstance(text, str) and text for text in texts):
            raise ValueError("its id, text_hash and hashes are not texts")
        steps, keys = (_spans(row.pop(name, None)) for name in ("steps", "keys"))
        problem = Problem.from_dict({"id": row_id, **row}) if row else None
        if problem is not None and problem.rationale is None:
            raise ValueError("it has a question without a rationale")
        return cls(row_id, text_hash, hashes, steps, keys, problem)


def _hash_whole(problem: Problem) -> str:
    """The hash of all that is learned from or scored by: question, choices, answer, label, key words and sources."""
    return hash_json([problem.text_hash, problem.keywords, problem.sources])


def _spans(value: Any) -> tuple[Span, ...]:
    if not isinstance(value, list):
        raise ValueError("its steps and keys are not lists")  # noqa: TRY004
    found = []
    for entry in value:
        name, start, end = entry if isinstance(entry, list) and len(entry) == 3 else (None, None, None)
        if name not in ("question", "rationale") or type(start) is not int or type(end) is not int:
            raise ValueError(f"its spans are not [text, start, end], for example {str(entry)[:60]}")
        found.append(Span(name, start, end))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ExportManifest:
    """What `signals.json` says of an export.

    Attributes:
        task: the name of the task.
        rows: the number of rows.
        hashed: the texts are left out.
        keys: what counts as a key.
        steps: what a step of a rationale is.
        span_rules: the version of the span rules.
        teacher: name, revision, hash of the weights, precision and hash of the tokenizer.
        prompt: the template that the teacher was read in.
        prompt_as_read: the text that it came to with the model's chat template, or its hash if it is long.
        left_out: how many of the run's rows are not exported, by reason.
        versions: the versions of Python and of packages.
    """

    task: str
    rows: int
    hashed: bool
    keys: KeysRule
    steps: StepRule
    span_rules: str
    teacher: Mapping[str, str]
    prompt: str
    prompt_as_read: str
    left_out: Mapping[str, int]
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def read(cls, folder: Path) -> ExportManifest:
        """Read the manifest of an export.

        Raises:
            ArtefactError: it is missing, of another format or malformed.
        """
        value = read_object(folder, MANIFEST)
        if value.pop("format", None) != FORMAT:
            refuse(folder, f"the format {FORMAT!r} in {MANIFEST}", "another one")
        try:
            found = cls(**value)
        except TypeError as error:
            refuse(folder, f"the fields of a manifest in {MANIFEST}", str(error)[:200])
        texts = (found.task, found.span_rules, found.prompt, found.prompt_as_read)
        maps = (found.teacher, found.left_out, found.versions)
        valid = all(isinstance(text, str) for text in texts) and all(isinstance(one, dict) for one in maps)
        valid = valid and isinstance(found.hashed, bool) and type(found.rows) is int
        if not valid or found.keys not in get_args(KeysRule) or found.steps not in get_args(StepRule):
            refuse(folder, f"values of a manifest in {MANIFEST}", str(value)[:200])
        return found


CHANGED = "its text, or its answer, is not the one that was read (the hashes differ)"
OTHER_RULES = "its steps and keys were found by other span rules than this version's"
OTHER_SPANS = "the span rules find other steps or keys in its text"
NO_SIGNAL = "the teacher was not read on it"
DAMAGED = "its exported numbers are damaged"
OTHER_SIZES = "its attention has another number of steps or keys than its text"


class Export:
    """A folder of exported signals, opened without trusting it.

    Args:
        folder: the folder.

    Attributes:
        folder: the folder.
        manifest: what it says of itself.
        rows: its rows by id.

    Raises:
        ArtefactError: a file is missing, too large, malformed or not in the list of files, or rows are missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        require_listed(folder)
        self.manifest = ExportManifest.read(folder)
        self.rows = {row.id: row for row in _read_rows(folder)}
        if len(self.rows) != self.manifest.rows:
            refuse(folder, f"the {self.manifest.rows} rows of {MANIFEST} in {ROWS}", f"{len(self.rows)}")

    def names(self) -> list[str]:
        """The names of its signals."""
        stores = self.folder / STORES
        return sorted(path.parent.name for path in stores.glob("*/store.json")) if stores.is_dir() else []

    def store(self, name: str) -> SignalStore:
        """The store of a signal.

        Raises:
            ArtefactError: there is none, or its files are not those of a store.
        """
        folder = self.folder / STORES / name
        if name not in self.names():
            refuse(self.folder, f"the teacher's {name!r}", f"only {', '.join(self.names()) or 'nothing'}")
        require_bounded(folder, read_header(folder).schema)
        for number in shard_numbers(folder):
            require_plain_tensors(tensors_path(folder, number))
        return SignalStore(folder)

    def text_of(self, row: ExportedRow) -> Text:
        """The text of a row by the export's rules.

        Raises:
            InputError: the export has no texts.
        """
        problem = row.problem
        if problem is None:
            raise InputError(
                f"Expected texts in the exported signals {self.folder}; it has only their hashes. Bring the texts: "
                "molsaki.load_signals(folder, texts=…), or a recipe whose data and rationales are these texts."
            )
        keys = "numbers" if self.manifest.keys == "numbers" else tuple(problem.keywords or ())
        return Text(row.id, problem.text, problem.rationale or "", keys, self.manifest.steps)

    def refusal(self, row: ExportedRow, text: Text) -> str:
        """Why a row cannot be used with a text; empty if it can."""
        if text.text_hash != row.text_hash:
            same = (hash_text(text.question), hash_text(text.rationale))
            unchanged = same == (row.hashes.get("question"), row.hashes.get("rationale"))
            return OTHER_RULES if unchanged and self.manifest.span_rules != SPAN_RULES else CHANGED
        if row.problem is not None:
            found = {LABEL: hash_text(row.problem.label), WHOLE: _hash_whole(row.problem)}
            if any(row.hashes.get(name, now) != now for name, now in found.items()):
                return CHANGED
        try:
            spans = text.spans()
        except InputError:
            return OTHER_SPANS
        return "" if (spans.steps, spans.keys) == (row.steps, row.keys) else OTHER_SPANS


def write_rows(rows: Sequence[ExportedRow]) -> bytes:
    """The content of `rows.jsonl`."""
    return b"".join(encode_json(row.to_dict(), f"the row {row.id!r}") + b"\n" for row in rows)


def _read_rows(folder: Path) -> list[ExportedRow]:
    rows: list[ExportedRow] = []
    seen: set[str] = set()
    lines = read_file(folder, ROWS).split(b"\n")
    if not lines[-1]:  # a last line without its end is a row too, or is refused as a cut one
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            if len(line) > MAX_ROW_BYTES:
                raise ValueError(f"it has more than {MAX_ROW_BYTES} bytes")
            value = parse_json(line)
            encode_json(value, "the row")  # lone surrogates and infinities cannot be written back
            row = ExportedRow.from_dict(value)
            if row.id in seen:
                raise ValueError(f"it repeats the id {row.id[:60]!r}")
        except ValueError as error:
            raise ArtefactError(
                f"Expected a row of exported signals in line {number} of {folder / ROWS}; it cannot be used: "
                f"{str(error)[:300]} Nothing was loaded; copy, download or export the folder again, and see "
                "`molsaki signals verify`."
            ) from error
        seen.add(row.id)
        rows.append(row)
    return rows
