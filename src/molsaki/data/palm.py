"""PaLM's raw completions for the two data sets of Distilling step-by-step, matched by position.

The published files have no ids: the completions of a split are numbered files (`train_CoT_0.json`,
`train_CoT_1.json`, …) of plain texts in the order of the split's rows. Only this order links them, so different
counts are an error. A completion is the model's raw output, possibly cut off or followed by invented questions;
`molsaki.answers.parse` parses it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molsaki.data.commonsense import name_commonsense_row
from molsaki.data.files import is_folder
from molsaki.data.json_files import read_json_lines, read_json_list
from molsaki.data.svamp import name_dss_row
from molsaki.errors import DataError

ROW_FILES = {
    "svamp-dss": {"train": "svamp_train.json", "test": "svamp_test.json"},
    "commonsenseqa-dss": {"train": "cqa_train.json", "test": "cqa_test.json"},
}
"""The rows' file of each split, in the folder that also holds `palm/`."""


def load_palm_completions(source: str, path: str | Path, split: str) -> dict[str, str]:
    """Load PaLM's completions of one split, keyed by the ids that `load_problems` gives the same rows.

    Args:
        source: `svamp-dss` or `commonsenseqa-dss`.
        path: the folder with the rows' files and, in `palm/`, the completions; or the split's rows' file in it.
        split: `train` or `test`.

    Raises:
        DataError: a file is missing or malformed, or by its name another split's, or there are not as many
            completions as rows.
    """
    files = ROW_FILES.get(source, {})
    if split not in files:
        known = ", ".join(f"{name} {part}" for name, parts in ROW_FILES.items() for part in parts)
        raise DataError(f"Expected one of: {known}; got {source} {split}. There are no completions of PaLM's for it.")
    rows_path = _rows_file(Path(path), files, split)
    ids = [_row_id(source, split, index, row, rows_path) for index, row in enumerate(read_json_lines(rows_path))]
    paths = _numbered_files(rows_path.parent / "palm", split)
    completions = [completion for path in paths for completion in _read_completions(path)]
    if len(completions) != len(ids):
        raise DataError(
            f"Expected one completion for each of the {len(ids)} rows of {rows_path}; the {len(paths)} files "
            f"{split}_CoT_*.json beside it hold {len(completions)}. They are matched by place, so every pair "
            f"would be in doubt; get the files of one release together again."
        )
    return dict(zip(ids, completions, strict=True))


def _rows_file(path: Path, files: Mapping[str, str], split: str) -> Path:
    """The file of a split's rows: the named file, under any name, as in `load_problems`."""
    if is_folder(path):
        return path / files[split]
    other = next((part for part, name in files.items() if name == path.name and part != split), None)
    if other is not None:
        raise DataError(
            f"Expected the rows' file of the split {split!r}, or its folder; got {path}, which by its name is the "
            f"{other!r} split's. Its rows would get the completions of others; give the split or the file that you "
            "mean."
        )
    return path


def _row_id(source: str, split: str, index: int, row: Any, path: Path) -> str:
    if source == "svamp-dss":
        return name_dss_row(split, index)
    if not isinstance(row, Mapping):
        raise DataError(
            f"Expected an object in every line of {path}; row {index} is {type(row).__name__}. Its "
            f"completion could not be given an id; check that it is the file of {source}."
        )
    return name_commonsense_row(index, row)


def _numbered_files(folder: Path, split: str) -> list[Path]:
    pattern = re.compile(re.escape(split) + r"_CoT_(\d{1,6})\.json")
    found = {
        int(match[1]): path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := pattern.fullmatch(path.name))
    }
    missing = sorted(set(range(max(found, default=0) + 1)) - set(found))
    if missing:
        raise DataError(
            f"Expected {split}_CoT_0.json and the numbers after it in {folder}; "
            f"{split}_CoT_{missing[0]}.json is not there. Completions are matched to rows by place, so none "
            f"can be used; get all the files."
        )
    return [found[number] for number in sorted(found)]


def _read_completions(path: Path) -> list[str]:
    completions = list(read_json_list(path))
    for index, completion in enumerate(completions):
        if not isinstance(completion, str):
            raise DataError(
                f"Expected {path} to be a list of texts; entry {index} is {type(completion).__name__}. "
                f"Completions are matched to rows by place, so none can be used; get the file again."
            )
    return completions
