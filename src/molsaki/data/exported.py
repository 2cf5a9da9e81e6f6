"""The questions of exported signals, with the rationales that the teacher was read on."""

from __future__ import annotations

from pathlib import Path

from molsaki.errors import DataError
from molsaki.records import LoadedProblems, Problem, RowReport
from molsaki.store.exported_files import ROWS


def load_exported(path: Path | None = None, limit: int | None = None) -> LoadedProblems:
    """Load the problems of exported signals; see `molsaki signals export`.

    Args:
        path: the folder of the export, or its file of rows.
        limit: stop after this many usable rows; None reads all.

    Raises:
        DataError: no path is given, the export has only hashes, or no row can be used.
        ArtefactError: the folder is not an export, or is damaged.
    """
    from molsaki.store.exported_rows import Export

    if path is None:
        raise DataError("Expected the folder of exported signals as `path`; got none. Nothing was loaded.")
    export = Export(path.parent if path.name == ROWS else path)
    if export.manifest.hashed:
        raise DataError(
            f"Expected texts in the exported signals {export.folder}; it has only their hashes. Load the problems from "
            "their own source, with the same rationales; the signals are joined to them by hash."
        )
    report, problems = RowReport(), list[Problem]()
    for row in export.rows.values():
        if limit is not None and len(problems) == limit:
            report.note(f"stopped after {limit} usable rows, as requested; later rows were not read")
            break
        reason = export.refusal(row, export.text_of(row))
        if reason:
            report.skip(row.id, reason)
        elif row.problem is not None:
            report.keep()
            problems.append(row.problem)
    if not problems:
        raise DataError(f"Expected rows that can be used in {export.folder}; got {dict(report.skipped)}.")
    return LoadedProblems(tuple(problems), report)
