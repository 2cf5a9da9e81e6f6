"""Questions with their answers: every data set by its name, as `Problem`s and a report on its rows.

`load_problems` loads a data set; `SOURCES` lists their names. A row that cannot be used is counted in the report with
its reason, and never left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molsaki.data.asdiv import load_asdiv
from molsaki.data.commonsense import load_commonsenseqa, load_commonsenseqa_dss
from molsaki.data.exported import load_exported
from molsaki.data.files import is_folder
from molsaki.data.gsm8k import load_gsm8k
from molsaki.data.hub import KNOWN, PREFIX, load_hub
from molsaki.data.mapping import Columns
from molsaki.data.palm import ROW_FILES, load_palm_completions
from molsaki.data.pocket.load import load_pocket_commonsense, load_pocket_math
from molsaki.data.singleeq import load_singleeq
from molsaki.data.svamp import load_svamp, load_svamp_dss
from molsaki.data.table import load_table
from molsaki.errors import DataError
from molsaki.records import LoadedProblems
from molsaki.store.exported_files import ROWS

__all__ = ["EXPORTED", "SOURCES", "DataSource", "load_palm_completions", "load_problems"]


@dataclass(frozen=True, slots=True)
class DataSource:
    """One data set that can be loaded by name.

    Attributes:
        load: called with the keyword arguments in `takes` that were given, and always with `limit`.
        description: one line that says what it is.
        file_kind: the kind of file that it reads, or where else its rows come from.
        takes: which of `path`, `split` and `columns` it uses; another one that is given is an error.
        needs: which of these must be given.
        file_of_split: the usual file name of each split, so that `path` may be the folder; `""` stands for
            the whole data set where it has no splits.
        knows_sources: its problems say which numbers of the question the solution uses.
        generated: its problems are generated when they are loaded; a split with a seed, such as `train:7`, has problems
            of its own.
    """

    load: Callable[..., LoadedProblems]
    description: str
    file_kind: str
    takes: frozenset[str]
    needs: frozenset[str]
    file_of_split: Mapping[str, str] = field(default_factory=dict)
    knows_sources: bool = False
    generated: bool = False


EXPORTED = "signals"
"""The name of the problems of exported signals; a recipe's `signals` is their path."""
_PATH = frozenset({"path"})
_SPLIT = frozenset({"split"})
_PATH_SPLIT = frozenset({"path", "split"})


def _ignoring_split(load: Callable[..., LoadedProblems]) -> Callable[..., LoadedProblems]:
    """A reader for which the split only chooses the file, since its rows have ids of their own."""

    def load_file(path: Path, split: str, limit: int | None) -> LoadedProblems:  # noqa: ARG001
        return load(path, limit)

    return load_file


SOURCES: dict[str, DataSource] = {
    "svamp": DataSource(
        load_svamp, "SVAMP, original file (maths, 1000 problems)", "JSON", _PATH, _PATH, {"": "SVAMP.json"}
    ),
    "svamp-dss": DataSource(
        load_svamp_dss,
        "SVAMP as Distilling step-by-step splits it (maths, 800 train, 200 test)",
        "JSON lines",
        _PATH_SPLIT,
        _PATH,
        ROW_FILES["svamp-dss"],
    ),
    "asdiv": DataSource(load_asdiv, "ASDiv (maths, 2305 problems)", "XML", _PATH, _PATH, {"": "ASDiv.xml"}),
    "singleeq": DataSource(
        load_singleeq, "SingleEq (maths, 508 problems)", "JSON", _PATH, _PATH, {"": "questions.json"}
    ),
    "gsm8k": DataSource(
        load_gsm8k,
        "GSM8K (maths, 7473 train, 1319 test)",
        "JSON lines",
        _PATH_SPLIT,
        _PATH,
        {"train": "train.jsonl", "test": "test.jsonl"},
    ),
    "commonsenseqa": DataSource(
        _ignoring_split(load_commonsenseqa),
        "CommonsenseQA, original files (five choices, 9741 train, 1221 validation)",
        "JSON lines",
        _PATH_SPLIT,
        _PATH,
        {"train": "train_rand_split.jsonl", "validation": "dev_rand_split.jsonl"},
    ),
    "commonsenseqa-dss": DataSource(
        _ignoring_split(load_commonsenseqa_dss),
        "CommonsenseQA as Distilling step-by-step stores it, with human explanations (9741 train, 1221 test)",
        "JSON lines",
        _PATH_SPLIT,
        _PATH,
        ROW_FILES["commonsenseqa-dss"],
    ),
    "pocket-math": DataSource(
        load_pocket_math,
        "word problems of the pocket world, with three out-of-domain sets",
        "generated",
        _SPLIT,
        _SPLIT,
        knows_sources=True,
        generated=True,
    ),
    "pocket-commonsense": DataSource(
        load_pocket_commonsense,
        "multiple choice about the pocket world",
        "generated",
        _SPLIT,
        _SPLIT,
        generated=True,
    ),
    EXPORTED: DataSource(
        load_exported,
        "the questions and rationales of exported signals",
        "a folder of `molsaki signals export`",
        _PATH,
        frozenset(),
        {"": ROWS},
    ),
    "table": DataSource(
        load_table,
        "any file of rows, with a mapping of its columns",
        "JSON lines, JSON, CSV, TSV or Parquet",
        frozenset({"path", "columns"}),
        frozenset({"path", "columns"}),
    ),
}
"""The names that `load_problems` accepts, beside `hub:owner/name`."""


def is_generated(source: str) -> bool:
    """Whether a source's problems are generated when they are loaded, others for each seed of a split."""
    return source in SOURCES and SOURCES[source].generated


_HUB = DataSource(
    load_hub,
    f"a data set of the Hugging Face hub; without a column mapping: {', '.join(KNOWN)}",
    "the hub",
    frozenset({"split", "columns"}),
    frozenset(),
)


def load_problems(
    source: str,
    path: str | Path | None = None,
    split: str | None = None,
    columns: Columns | None = None,
    limit: int | None = None,
) -> LoadedProblems:
    """Load a data set by its name.

    Example:
        >>> import molsaki
        >>> problems = molsaki.load_problems("pocket-math", split="train", limit=3)
        >>> len(problems), problems.report.kept
        (3, 3)
        >>> next(iter(problems)).id
        'pocket-math/in-domain/train/0-1'

    Args:
        source: a name in `SOURCES`, or `hub:owner/name[/config][@revision]`.
        path: the data set's file, or the folder that holds it under its usual name.
        split: which part: chooses the file in a folder, and is part of the ids where rows have none of their
            own.
        columns: for `table` and `hub:`, the columns' names; see `molsaki.data.table.load_table`.
        limit: stop after this many usable rows; None reads all.

    Raises:
        DataError: the name is unknown, an argument is missing or of no use to it, or the data cannot be used.
    """
    entry = _HUB if source.startswith(PREFIX) else SOURCES.get(source)
    if entry is None:
        raise DataError(
            f"Expected the name of a data set, one of {', '.join(SOURCES)} or {PREFIX}owner/name; got "
            f"{source!r}. Nothing was loaded; for a file of your own use `table` with a column mapping."
        )
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise DataError(f"Expected a limit of at least one row; got {limit!r}. Leave it out to load all rows.")
    given: dict[str, Any] = {"path": path, "split": split, "columns": columns}
    given = {name: value for name, value in given.items() if value is not None}
    _check_arguments(source, entry, given)
    if "path" in given:
        given["path"], part = _find_file(source, entry, Path(given["path"]), split)
        if "split" in entry.takes:
            given["split"] = part
    if entry is _HUB:
        given["source"] = source
    return entry.load(**given, limit=limit)


def _check_arguments(source: str, entry: DataSource, given: Mapping[str, Any]) -> None:
    unused = sorted(set(given) - entry.takes)
    if unused:
        takes = ", ".join(sorted(entry.takes)) or "none of path, split, columns"
        raise DataError(
            f"Expected for {source!r} only what it can use ({takes}); got {', '.join(unused)} too. It would "
            f"have no effect; leave it out, or choose another data set."
        )
    missing = sorted(entry.needs - set(given))
    if missing:
        raise DataError(
            f"Expected {' and '.join(missing)} for {source!r} ({entry.description}; {entry.file_kind}); got "
            f"none. Nothing was loaded; give what is missing."
        )


def _find_file(source: str, entry: DataSource, path: Path, split: str | None) -> tuple[Path, str]:
    """The file to read and the name of its split."""
    files = entry.file_of_split
    if not is_folder(path):
        usual = {name: part for part, name in files.items() if part}
        if split and usual.get(path.name, split) != split:
            raise DataError(
                f"Expected a file of the split {split!r} of {source!r}; got {path}, which by its name is its "
                f"{usual[path.name]!r}. Test rows could end up in training; give the split or the file that "
                f"you mean."
            )
        return path, split or usual.get(path.name) or path.stem
    if "" in files:
        return path / files[""], ""
    if split is None or split not in files:
        known = ", ".join(f"{part!r} ({name})" for part, name in files.items()) or "none: name the file itself"
        raise DataError(
            f"Expected a split that tells which file of the folder {path} to read for {source!r}: {known}; "
            f"got {split!r}. Nothing was loaded; give one of these, or the file's own path."
        )
    return path / files[split], split
