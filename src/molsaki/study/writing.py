"""A study's tables and curves as files: Markdown, LaTeX, JSON, SVG and PNG."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from molsaki.report.charts import draw
from molsaki.report.facts import Table
from molsaki.stages.workspace import Workspace
from molsaki.store.fingerprints import versions
from molsaki.store.whole_files import write_json, write_whole
from molsaki.study.agreement import attention_table
from molsaki.study.correctness import read_marks
from molsaki.study.curves import curve_chart, reach_table
from molsaki.study.files import Study
from molsaki.study.tables import accuracy_table, compare_all, compare_run, difference_table, mcnemar_table

_LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"$<$",
    ">": r"$>$",
    "−": r"$-$",
    "–": "--",
    "×": r"$\times$",
}


@dataclass(frozen=True, slots=True)
class StudyFiles:
    """What was written.

    Attributes:
        tables: all tables, in the order in which they are shown.
        files: where they are.
        missing: how many students of the study there are not yet.
    """

    tables: Sequence[Table]
    files: Sequence[Path]
    missing: int


def write_study(
    study: Study, runs: Mapping[str, Workspace], folder: Path, say: Callable[[str], None] = lambda _: None
) -> StudyFiles:
    """Write tables.md, tables.tex, study.json and the curves into a study's folder, of the students that are there.

    Raises:
        StageError: a file cannot be written.
    """
    marks = [read_marks(name, workspace, study.cells) for name, workspace in runs.items()]
    wanted = len(study.cells) * sum(len(workspace.recipe.seeds) for workspace in runs.values())
    missing = wanted - sum(len(one.right) for one in marks)
    tables: list[Table] = []
    facts: dict[str, Any] = {
        "study": study.model_dump(mode="json"),
        "versions": versions(),
        "missing_students": missing,
        "comparisons": [],
        "reach": [],
        "attention": [],
    }
    for group in study.groups:
        compared = [compare_run(study, one, group) for one in marks]
        if len(marks) > 1:
            compared.append(compare_all(study, marks, group))
        for found in compared:
            if not found.accuracies:
                continue
            tables.append(accuracy_table(found))
            if found.differences:
                tables.append(difference_table(found))
                if any(cell.only_a is not None for cells in found.differences.values() for cell in cells.values()):
                    tables.append(mcnemar_table(found))
            facts["comparisons"].append(found.to_dict())
    files = []
    for one in marks if len(study.sizes) > 1 else ():
        for setting in dict.fromkeys(group.setting for group in study.groups):
            table, figures = reach_table(study, one, setting)
            if table.rows:
                tables.append(table)
            facts["reach"].append({"recipe": one.name, "setting": setting, "methods": _plain(figures)})
            chart = curve_chart(study, one, setting)
            if chart.series:
                svg, png = draw(chart)
                for suffix, data in (("svg", svg), ("png", png)):
                    files.append(folder / f"{chart.name}.{suffix}")
                    write_whole(files[-1], data)
    for name, workspace in runs.items() if study.attention_rows else ():
        table, read = attention_table(study, name, workspace, say)
        tables.append(table)
        facts["attention"] += _plain(read)
    head = f"# {study.name}\n\n{study.description}\n\n"
    if missing:
        head += f"{missing} of {wanted} students are not there yet; the tables are of the others.\n\n"
    written = {
        "tables.md": head + "\n".join(markdown(table) for table in tables),
        "tables.tex": "\n".join(latex(table) for table in tables),
    }
    for name, text in written.items():
        write_whole(folder / name, text)
    write_json(folder / "study.json", facts)
    return StudyFiles(tables, [*(folder / name for name in written), folder / "study.json", *files], missing)


def markdown(table: Table) -> str:
    """A table in Markdown, its caption above it."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |\n"

    rule = "| " + " | ".join("---" for _ in table.head) + " |\n"
    return f"**{table.caption}**\n\n" + line(table.head) + rule + "".join(line(row) for row in table.rows)


def latex(table: Table) -> str:
    """A table in LaTeX, for the `booktabs` package."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(_latex(cell) for cell in cells) + r" \\" + "\n"

    columns = "l" + "r" * (len(table.head) - 1)
    return (
        "\\begin{table}\n\\caption{" + _latex(table.caption) + "}\n\\begin{tabular}{" + columns + "}\n\\toprule\n"
        f"{line(table.head)}\\midrule\n{''.join(line(row) for row in table.rows)}"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def _latex(text: str) -> str:
    return re.sub(r"[&%$#_{}~^\\<>−–×]", lambda found: _LATEX[found[0]], text)


def _plain(value: Any) -> Any:
    """Dataclasses as mappings, and numbers that are not finite as text, which JSON has no other word for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value
