"""Write the tables and curves of a study as Markdown, LaTeX, JSON, SVG and PNG."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from molsaki.counts import plural
from molsaki.report.charts import Chart, draw
from molsaki.report.tables import Table
from molsaki.stages.workspace import Workspace
from molsaki.store.fingerprints import versions
from molsaki.store.whole_files import write_json, write_whole
from molsaki.study.agreement import attention_table
from molsaki.study.correctness import RunAnswers, read_answers
from molsaki.study.curves import curve_chart, reach_table
from molsaki.study.files import Study
from molsaki.study.tables import accuracy_table, compare_all, compare_run, difference_table, mcnemar_table
from molsaki.study.tuning import Choice, tuning_table

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
        tables: all tables in order.
        files: the paths of the files.
        missing: the number of students of the study that are missing.
    """

    tables: Sequence[Table]
    files: Sequence[Path]
    missing: int


def write_study(
    study: Study,
    runs: Mapping[str, Workspace],
    folder: Path,
    print_line: Callable[[str], None] = lambda _: None,
    choices: Sequence[Choice] = (),
) -> StudyFiles:
    """Write tables.md, tables.tex, study.json and the curves of the existing students into the study's folder.

    Args:
        study: the study.
        runs: its runs by the names of their recipes.
        folder: the folder to write to.
        print_line: called with a description of each slow step.
        choices: the settings that were tried and chosen.

    Raises:
        StageError: a file cannot be written.
    """
    answers = [read_answers(name, workspace, study.cells) for name, workspace in runs.items()]
    students = len(study.cells) * sum(len(workspace.recipe.seeds) for workspace in runs.values())
    missing = students - sum(len(one.correct) for one in answers)
    comparisons, comparison_facts = _compare(study, answers)
    reaches, reach_facts, charts = _draw_curves(study, answers)
    attention, attention_facts = _compare_attention(study, runs, print_line)
    tables = [*map(tuning_table, choices), *comparisons, *reaches, *attention]
    left_out = f"{missing} of {plural(students, 'student')} missing; the tables show the others." if missing else ""
    parts = [f"# {study.name}\n", f"{study.description}\n", *([f"{left_out}\n"] if missing else [])]
    parts += [markdown(table) for table in tables]
    parts += [f"**{chart.title}** ([{chart.name}.svg]({chart.name}.svg))\n\n{chart.note}\n" for chart in charts]
    contents = {
        "tables.md": "\n".join(parts),
        "tables.tex": (f"% {left_out}\n" if missing else "") + "\n".join(latex(table) for table in tables),
    }
    for name, text in contents.items():
        write_whole(folder / name, text)
    facts = {
        "study": study.model_dump(mode="json"),
        "versions": versions(),
        "missing_students": missing,
        "tuning": [choice.to_dict() for choice in choices],
        "comparisons": comparison_facts,
        "reach": reach_facts,
        "attention": attention_facts,
    }
    write_json(folder / "study.json", facts)
    figures = [path for chart in charts for path in _write_chart(chart, folder)]
    return StudyFiles(tables, [*(folder / name for name in contents), folder / "study.json", *figures], missing)


def _compare(study: Study, answers: Sequence[RunAnswers]) -> tuple[list[Table], list[dict[str, Any]]]:
    """The tables of every group of students, for each run and for the mean of all runs; and their figures."""
    tables: list[Table] = []
    facts = []
    for group in study.groups:
        comparisons = [compare_run(study, one, group) for one in answers]
        if len(answers) > 1:
            comparisons.append(compare_all(study, answers, group))
        for comparison in comparisons:
            if not comparison.accuracies:
                continue
            tables.append(accuracy_table(comparison))
            if comparison.differences:
                tables.append(difference_table(comparison))
            if any(cell.only_a is not None for cells in comparison.differences.values() for cell in cells.values()):
                tables.append(mcnemar_table(comparison))
            facts.append(comparison.to_dict())
    return tables, facts


def _draw_curves(study: Study, answers: Sequence[RunAnswers]) -> tuple[list[Table], list[dict[str, Any]], list[Chart]]:
    """For studies of several data sizes: how many problems the baseline needs, the figures, and the curves."""
    tables, facts, charts = [], [], []
    for one in answers if len(study.sizes) > 1 else ():
        for setting in dict.fromkeys(group.setting for group in study.groups):
            table, figures = reach_table(study, one, setting)
            chart = curve_chart(study, one, setting)
            tables += [table] if table.rows else []
            charts += [chart] if chart.series else []
            facts.append({"recipe": one.name, "setting": setting, "methods": _plain(figures)})
    return tables, facts, charts


def _compare_attention(
    study: Study, runs: Mapping[str, Workspace], print_line: Callable[[str], None]
) -> tuple[list[Table], list[Any]]:
    tables, facts = [], []
    for name, workspace in runs.items() if study.attention_rows else ():
        table, figures = attention_table(study, name, workspace, print_line)
        tables.append(table)
        facts += _plain(figures)
    return tables, facts


def _write_chart(chart: Chart, folder: Path) -> list[Path]:
    svg, png = draw(chart)
    paths = [folder / f"{chart.name}.svg", folder / f"{chart.name}.png"]
    write_whole(paths[0], svg)
    write_whole(paths[1], png)
    return paths


def markdown(table: Table) -> str:
    """A table in Markdown, with its caption above."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |\n"

    rule = "| " + " | ".join("---" for _ in table.head) + " |\n"
    return f"**{table.caption}**\n\n" + line(table.head) + rule + "".join(line(row) for row in table.rows)


def latex(table: Table) -> str:
    """A table in LaTeX, for the `booktabs` package."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(_escape_latex(cell) for cell in cells) + r" \\" + "\n"

    columns = "l" + "r" * (len(table.head) - 1)
    caption = _escape_latex(table.caption)
    return (
        f"\\begin{{table}}\n\\caption{{{caption}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{line(table.head)}\\midrule\n{''.join(line(row) for row in table.rows)}"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def _escape_latex(text: str) -> str:
    return re.sub(r"[&%$#_{}~^\\<>−–×]", lambda match: _LATEX[match[0]], text)


def _plain(value: Any) -> Any:
    """Values as JSON: dataclasses as mappings, and infinite numbers and NaN as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value
