"""The same data sets from the Hugging Face hub, by name, and any other one with a column mapping.

A source is written `hub:owner/name`, with the configuration after another slash and the revision after an
`@`, both optional: `hub:openai/gsm8k/main@e53f048`. Rows pass through the same functions as those of
the files, so a problem has the same id and text whichever way it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from molsaki.data.asdiv import asdiv_problem
from molsaki.data.commonsense import commonsenseqa_problem, name_commonsense_row
from molsaki.data.gsm8k import gsm8k_problem, name_gsm8k_row
from molsaki.data.mapping import Columns
from molsaki.data.rows import Note, collect
from molsaki.data.svamp import name_svamp_row, svamp_problem
from molsaki.data.table import load_mapped
from molsaki.errors import DataError
from molsaki.records import LoadedProblems, Problem

PREFIX = "hub:"

_NAME = re.compile(
    r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)"
    r"(?:/(?P<config>[\w-][\w.-]*))?(?:@(?P<revision>[\w-][\w./-]*))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class HubDataSet:
    """A data set of the hub with known columns.

    Attributes:
        config: the configuration's name, or None for the default one.
        splits: the names of its splits that come with answers.
        name_row: gives a row's id from the split, its place (from 0) and its content.
        to_problem: the row function that it shares with the files.
    """

    config: str | None
    splits: tuple[str, ...]
    name_row: Callable[[str, int, Mapping[str, Any]], str]
    to_problem: Callable[[str, Mapping[str, Any], Note], Problem]


KNOWN: dict[str, HubDataSet] = {
    "ChilleD/SVAMP": HubDataSet(None, ("train", "test"), lambda _, i, row: name_svamp_row(i, row), svamp_problem),
    "openai/gsm8k": HubDataSet("main", ("train", "test"), lambda split, i, _: name_gsm8k_row(split, i), gsm8k_problem),
    "tau/commonsense_qa": HubDataSet(
        None, ("train", "validation"), lambda _, i, row: name_commonsense_row(i, row), commonsenseqa_problem
    ),
    "EleutherAI/asdiv": HubDataSet("asdiv", ("validation",), lambda split, i, _: f"asdiv/{split}/{i}", asdiv_problem),
}
"""The data sets that need no column mapping."""


def load_hub(
    source: str, split: str | None = None, columns: Columns | None = None, limit: int | None = None
) -> LoadedProblems:
    """Load a data set of the hub.

    Args:
        source: `hub:owner/name`, `hub:owner/name/config`, either with `@revision` after it.
        split: the split's name; may be left out where a known data set has only one.
        columns: as for `load_table`; needed unless the data set is one of `KNOWN`, and used instead of what
            is known about it if given.
        limit: stop after this many usable rows; None reads all.

    Raises:
        DataError: the name is malformed, the hub cannot be reached or has no such data set, configuration or
            split, there is no column mapping for an unknown data set, or no row can be used.
    """
    parts = _parts_of(source)
    known = KNOWN.get(parts["repository"])
    if known is None and columns is None:
        raise DataError(
            f"Expected a column mapping for {source}, for example "
            f"{{'question': 'question', 'answer': 'answer'}}; got none. Its rows cannot be read without; "
            f"known without one are {', '.join(KNOWN)}."
        )
    if split is None and known is not None and len(known.splits) == 1:
        split = known.splits[0]
    if split is None:
        choices = f"one of {', '.join(known.splits)}" if known is not None else "for example train"
        raise DataError(f"Expected the name of a split of {source}, {choices}; got none. Give it as `split`.")
    config = parts["config"] or (known.config if known is not None else None)
    rows = _fetch(parts["repository"], config, split, parts["revision"])
    return convert_hub_rows(rows, source, split, columns, limit)


def convert_hub_rows(
    rows: Iterable[Any],
    source: str,
    split: str,
    columns: Columns | None = None,
    limit: int | None = None,
) -> LoadedProblems:
    """Convert rows of the hub to problems; the arguments are those of `load_hub`."""
    parts = _parts_of(source)
    repository, config = parts["repository"], parts["config"]
    if columns is not None:
        prefix = f"{repository}/{split}" if config is None else f"{repository}/{config}/{split}"
        return load_mapped(rows, columns, prefix, f"{source} ({split})", limit)
    known = KNOWN[repository]
    prefix = "" if config in (None, known.config) else f"{config}/"
    return collect(
        rows,
        lambda index, row: prefix + known.name_row(split, index, row),
        known.to_problem,
        f"{source} ({split})",
        limit,
    )


def _parts_of(source: str) -> Mapping[str, Any]:
    """The repository, configuration and revision (or None) that a source names."""
    match = _NAME.fullmatch(source.removeprefix(PREFIX))
    if match is None:
        raise DataError(
            f"Expected hub:owner/name, hub:owner/name/config, either with @revision after it; got "
            f"{source!r}. Nothing was loaded; known without a column mapping are {', '.join(KNOWN)}."
        )
    return match.groupdict()


def _fetch(repository: str, config: str | None, split: str, revision: str | None) -> Iterable[Any]:
    import datasets
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    what = f"{repository}{f', configuration {config}' if config else ''}, split {split}"
    try:
        rows: Iterable[Any] = datasets.load_dataset(repository, config, split=split, revision=revision)
    except (FileNotFoundError, DatasetsError, HfHubHTTPError, ValueError, RuntimeError) as error:
        raise DataError(
            f"Expected the hub to have {what}; it answers: {_first_line(error)}. Nothing was loaded; check "
            f"the names, and log in with `hf auth login` if it is private or gated."
        ) from error
    except OSError as error:
        raise DataError(
            f"Expected to reach the Hugging Face hub for {what}; got: {_first_line(error)}. Nothing was "
            f"loaded; connect to the network, or load the data set's own file with `path` where there is a "
            f"reader for it."
        ) from error
    return rows


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
