"""What the page says in words and tables: the result, the data, the time, and how to run it again."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from molsaki.analysis import Estimate
from molsaki.errors import MolsakiError
from molsaki.evaluation.crossed import PairedDifference
from molsaki.evaluation.intervals import Interval, show_p
from molsaki.evaluation.score import result_row, score
from molsaki.report.attention_figures import Attention
from molsaki.stages.pipeline import DATA, GENERATE
from molsaki.stages.results import Mean, differences, means
from molsaki.stages.workspace import ATTEND, TRAIN, VALIDATION, Workspace

MOST_CHARACTERS = 600
"""An example that is longer is cut on the page."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption; the first cell of every row is its heading."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Result:
    """What came out.

    Attributes:
        means: accuracies by method and set.
        sentences: the reading, one sentence for each comparison.
        tables: accuracies, differences, and what could not be read.
        missing: what the run does not have yet.
    """

    means: dict[str, dict[str, Mean]]
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def find_result(workspace: Workspace) -> Result:
    """Accuracies, differences and their reading, from the predictions that are there."""
    recipe = workspace.recipe
    rows, unread = [], []
    result = Result({})
    for method in recipe.methods:
        counts = {"unparsable": 0, "cut": 0, "too_long": 0}
        n = 0
        for seed in recipe.seeds:
            lacking = [t for t in workspace.test_names if not workspace.predictions(method.label, seed, t).is_file()]
            for test in workspace.test_names:
                if test in lacking:
                    continue
                scored = score(workspace.read_predictions(method.label, seed, test))
                rows.append(result_row(recipe.data.task, test, method.label, seed, scored))
                counts = {name: counts[name] + getattr(scored, name) for name in counts}
                n += scored.n
            if lacking:
                trained = "trained, not tested" if workspace.student(method.label, seed).is_dir() else "not trained yet"
                where = "" if len(lacking) == len(workspace.test_names) else f" on {', '.join(lacking)}"
                result.missing.append(f"{method.label}, seed {seed}: {trained}{where}")
        unread.append([method.label, str(n), *(str(count) for count in counts.values())])
    result.means = means(workspace, rows)
    compared = differences(workspace)
    result.tables = [
        Table(
            "Accuracy in %, mean over seeds [95 % interval] (seeds)",
            ["method", *workspace.test_names],
            [
                [label, *(_mean(cells.get(test)) for test in workspace.test_names)]
                for label, cells in result.means.items()
            ],
        )
    ]
    if compared:
        result.tables.append(
            Table(
                "Paired differences in points [95 % interval over seeds and problems], p-value",
                ["methods", *workspace.test_names],
                [
                    [f"{label} − {baseline}", *(_difference(cells.get(test)) for test in workspace.test_names)]
                    for (label, baseline), cells in compared.items()
                ],
            )
        )
    result.tables.append(
        Table(
            "Answers that are no answers, over all sets and seeds",
            ["method", "answers", "could not be read", "cut off", "question too long"],
            unread,
        )
    )
    first = workspace.test_names[0]
    for (label, baseline), cells in compared.items():
        if first in cells:
            result.sentences.append(_reading(label, baseline, first, cells[first]))
    return result


def _mean(cell: Mean | None) -> str:
    return "–" if cell is None else f"{100 * cell.mean:.1f} {_interval(cell.interval)} ({cell.seeds})"


def _interval(interval: Interval) -> str:
    return f"[{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def _difference(cell: PairedDifference | None) -> str:
    if cell is None:
        return "–"
    low, high = 100 * cell.interval.low, 100 * cell.interval.high
    return f"{100 * cell.difference:+.1f} [{low:+.0f}, {high:+.0f}], {show_p(cell.p_value)}"


def _reading(label: str, baseline: str, test: str, cell: PairedDifference) -> str:
    low, high = 100 * cell.interval.low, 100 * cell.interval.high
    points = 100 * cell.difference
    side = "above" if points >= 0 else "below"
    gain = f"{abs(points):.1f} points {side}" if points else "right as often as"
    said = f"On {test}, {label} is {gain} {baseline}, 95 % interval [{low:+.1f}, {high:+.1f}]"
    seeds = f"{cell.seeds} seed{'s' * (cell.seeds != 1)} and {cell.problems} problems"
    if low <= 0 <= high:
        return f"{said}: the interval holds zero, so {seeds} show no difference, nor that there is none."
    return f"{said}: more than the chance of {seeds} explains. One comparison among several may still mislead."


def attention_tables(found: Attention) -> list[Table]:
    """The shift and the agreement with the teacher, for every model and set."""
    tables = []
    if found.shifts:
        tables.append(
            Table(
                "Does attention move onto the keys? Change from the rationale's first sentence to its last, above "
                "shuffled keys, in points of attention [95 % interval] (problems)",
                ["model", *dict.fromkeys(name for _, name in found.shifts)],
                [
                    [model, *(_shift(found, model, name) for name in dict.fromkeys(n for _, n in found.shifts))]
                    for model in dict.fromkeys(model for model, _ in found.shifts)
                ],
            )
        )
    if found.profiles:
        rows = [
            [f"{model}, layer {layer.layer + 1}", _points(layer.above), _points(layer.change)]
            for model, profile in found.profiles.items()
            for layer in profile
        ]
        caption = f"The same layer by layer on {found.first}, in points of attention [95 % interval] (problems)"
        head = ["model and layer", "above shuffled keys", "change from first sentence to last"]
        tables.append(Table(caption, head, rows))
    if found.agreements:
        rows = []
        for (model, name), one in found.agreements.items():
            rows.append(
                [
                    model,
                    name,
                    _plain(one.divergence, 3),
                    _plain(one.rank, 2),
                    f"{100 * one.same_top.mean:.0f} {_interval(one.same_top.interval)}",
                    f"{100 * one.chance:.0f}",
                    str(one.problems),
                ]
            )
        head = [
            "model",
            "set",
            "divergence, bits",
            "rank correlation",
            "same most-attended key, %",
            "by chance, %",
            "problems",
        ]
        tables.append(Table("Does it look where the teacher looks? Layers averaged [95 % interval]", head, rows))
    return tables


def _plain(cell: Estimate | None, digits: int) -> str:
    if cell is None:
        return "–"
    return f"{cell.mean:.{digits}f} [{cell.interval.low:.{digits}f}, {cell.interval.high:.{digits}f}]"


def _shift(found: Attention, model: str, name: str) -> str:
    shift = found.shifts.get((model, name))
    return _points(None if shift is None else shift.change)


def _points(cell: Estimate | None) -> str:
    if cell is None:
        return "–"
    low, high = 100 * cell.interval.low, 100 * cell.interval.high
    return f"{100 * cell.mean:+.1f} [{low:+.1f}, {high:+.1f}] ({cell.problems})"


def shift_sentences(found: Attention) -> list[str]:
    """The reading of the shift on the first set, one sentence for each model."""
    said = []
    for (model, name), shift in found.shifts.items():
        if name != found.first or shift.change is None:
            continue
        low, high = shift.change.interval.low, shift.change.interval.high
        verdict = (
            "moves onto the keys"
            if low > 0
            else "moves off the keys"
            if high < 0
            else "neither moves onto the keys nor off them, as far as this sample shows"
        )
        said.append(
            f"{model}: attention {verdict}: {shift.change} above shuffled keys "
            f"({shift.change.problems} {name} problems)."
        )
    return said


def data_tables(workspace: Workspace) -> list[Table]:
    """How many rows came in, where the others went, and how long the texts are."""
    rows = []
    for name, report in workspace.stage(DATA).items():
        rows.append([name, str(report["read"]), str(report["kept"]), _reasons(report)])
    tables = [Table("Problems", ["set", "came in", "used", "left out, and what to know"], rows)]
    generated = workspace.stage(GENERATE)
    if generated:
        shown = [[reason, str(n), _example(generated, reason)] for reason, n in generated["reasons"].items()]
        shown += [[note, str(n), ""] for note, n in generated["notes"].items() if n]
        tables.append(Table("Rationales of the training problems", ["verdict", "rationales", "one of them"], shown))
    signals = workspace.stage(ATTEND).get("signals", {}).values()
    shown = [[entry["title"], str(entry["read"]), str(entry["kept"]), _reasons(entry)] for entry in signals]
    if shown:
        head = ["what", "rationales that came in", "read", "left out, and what to know"]
        tables.append(Table("What was read of the teacher on them", head, shown))
    tables.append(
        Table(
            "Lengths of the questions, in words", ["set", "median", "nine of ten below", "longest"], _lengths(workspace)
        )
    )
    return tables


def _reasons(report: Mapping[str, Any]) -> str:
    """Why rows were left out, each with one of them, and what happened to others."""
    found = []
    for reason, n in report["skipped"].items():
        ids = report["examples"].get(reason) or []
        found.append(f"{n} {reason}" + (f" ({_shortened(ids[0], 80)}, for one)" if ids else ""))
    found += [f"{n} {note}" for note, n in report["notes"].items()]
    return "; ".join(found) or "–"


def _counts(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{n} {reason}" for reason, n in counts.items()) or "–"


def _example(manifest: Mapping[str, Any], reason: str) -> str:
    rows = manifest.get("examples", {}).get(reason) or []
    text = str(rows[0].get("output", "")).strip() if rows else ""
    return _shortened(text, MOST_CHARACTERS)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _lengths(workspace: Workspace) -> list[list[str]]:
    rows = []
    validation = [VALIDATION] if workspace.has_validation else []
    for name in (TRAIN, *validation, *workspace.test_names):
        if not workspace.run.path("data", f"{name}.jsonl").is_file():
            continue
        lengths = sorted(len(problem.text.split()) for problem in workspace.read_problems(name))
        if lengths:
            last = len(lengths) - 1
            rows.append([name, *(str(lengths[round(last * share)]) for share in (0.5, 0.9, 1.0))])
    return rows


def cost_table(metrics: Mapping[tuple[str, int], Mapping[str, Any]]) -> Table | None:
    """Time and memory of each training, and what was cut or left out in it."""
    rows = []
    for (label, seed), one in metrics.items():
        memory = one.get("peak_memory_bytes")
        rows.append(
            [
                f"{label}, seed {seed}",
                str(one.get("steps", "–")),
                str(one.get("examples", "–")),
                f"{one['seconds']:.0f}" if isinstance(one.get("seconds"), (int, float)) else "–",
                f"{memory / 2**20:.0f}" if isinstance(memory, int) else "not kept by this run",
                "yes" if one.get("resumed_from") else "no",
                _counts(one["notes"]) if isinstance(one.get("notes"), dict) else "not kept by this run",
            ]
        )
    if not rows:
        return None
    head = [
        "student",
        "steps",
        "examples",
        "time, s (last session)",
        "largest memory, MiB",
        "was interrupted",
        "cut or left out",
    ]
    return Table("Time and memory of each training, and what was cut or left out in it", head, rows)


def rerun_tables(workspace: Workspace) -> tuple[str, str, list[Table]]:
    """The command, the recipe, and versions and hashes: all that is needed to run it again."""
    manifest = workspace.run.manifest
    recipe_text = yaml.safe_dump(workspace.run.recipe, sort_keys=False, allow_unicode=True, width=100)
    command = f"molsaki run {shlex.quote(str(workspace.run.folder / 'recipe.yaml'))} --out NEW-FOLDER"
    hashes = [["recipe", str(manifest.get("recipe_hash"))]]
    for entry in workspace.stage(ATTEND).get("signals", {}).values():
        parts = entry["fingerprint"].items()
        hashes += [[f"teacher's {entry['title']}: {key}", str(part)[:200]] for key, part in parts if key != "prompt"]
    for path in sorted(workspace.run.path("data").glob("*.jsonl")) if workspace.run.path("data").is_dir() else []:
        hashes.append([f"data/{path.name}", f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"])
    versions = [[name, str(version)] for name, version in manifest.get("versions", {}).items()]
    return (
        command,
        recipe_text,
        [
            Table(f"Versions, as of {manifest.get('created')}", ["package", "version"], versions),
            Table("Hashes", ["what", "hash"], hashes),
        ],
    )


def tested_rows(workspace: Workspace) -> int:
    """How many problems are tested on, over all sets that are there."""
    total = 0
    for name in workspace.test_names:
        try:
            total += len(workspace.read_tests(name))
        except MolsakiError:
            continue
    return total
