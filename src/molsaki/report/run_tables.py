"""What the report says about a run besides its result: its data, the cost of training, and how to run it again."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from molsaki.counts import format_attention_error, format_counts, plural, shorten
from molsaki.errors import MolsakiError
from molsaki.methods.router import COLLAPSED
from molsaki.report.tables import NONE, Table
from molsaki.stages.costs import TESTING, TRAINING, stage_costs
from molsaki.stages.results import training_facts
from molsaki.stages.workspace import ATTEND, DATA, GENERATE, TRAIN, VALIDATION, Workspace
from molsaki.store.strict_yaml import dump_yaml

MAX_CHARACTERS = 600
"""Longer examples are truncated."""
NOT_RECORDED = "not recorded"
LEFT_OUT = "left out, and notes"


def data_tables(workspace: Workspace) -> list[Table]:
    """The counts of problems, rationales and read rationales, and the lengths of the questions."""
    problems = [
        [name, str(report["read"]), str(report["kept"]), _show_counts(report)]
        for name, report in workspace.stage(DATA).items()
    ]
    tables = [Table("Problems", ["set", "rows", "used", LEFT_OUT], problems)]
    manifest = workspace.stage(GENERATE)
    if manifest:
        rows = [[reason, str(n), _example(manifest, reason)] for reason, n in manifest["reasons"].items()]
        rows += [[note, str(n), ""] for note, n in manifest["notes"].items() if n]
        tables.append(Table("Rationales of the training problems", ["result", "rationales", "an example"], rows))
    signals = workspace.stage(ATTEND).get("signals", {}).values()
    rows = [[entry["title"], str(entry["read"]), str(entry["kept"]), _show_counts(entry)] for entry in signals]
    if rows:
        head = ["signal", "rationales", "read", LEFT_OUT]
        tables.append(Table("What was read of the teacher on the rationales", head, rows))
    head = ["set", "median", "90 % below", "longest"]
    tables.append(Table("Lengths of the questions in words", head, _question_lengths(workspace)))
    return tables


def _show_counts(report: Mapping[str, Any]) -> str:
    """Why rows were left out, with an example for each reason, and notes."""
    counts = [found] if (found := format_counts(report)) else []
    if report.get("layers_left_out"):
        counts.append(f"layers without attention, not read: {', '.join(report['layers_left_out'])}")
    if report.get("attention_error"):
        counts.append(format_attention_error(report["attention_error"]))
    return "; ".join(counts) or NONE


def _example(manifest: Mapping[str, Any], reason: str) -> str:
    rows = manifest.get("examples", {}).get(reason) or []
    return shorten(str(rows[0].get("output", "")).strip(), MAX_CHARACTERS) if rows else ""


def _question_lengths(workspace: Workspace) -> list[list[str]]:
    rows = []
    validation = [VALIDATION] if workspace.has_validation else []
    for name in dict.fromkeys((TRAIN, *validation, *workspace.test_names)):
        if not workspace.run.path("data", f"{name}.jsonl").is_file():
            continue
        lengths = sorted(len(problem.text.split()) for problem in workspace.read_problems(name))
        if lengths:
            last = len(lengths) - 1
            rows.append([name, *(str(lengths[round(last * share)]) for share in (0.5, 0.9, 1.0))])
    return rows


def cost_table(metrics: Mapping[tuple[str, int], Mapping[str, Any]]) -> Table | None:
    """Steps, time and memory of each training, and what was left out or cut in it. None without students."""
    if not metrics:
        return None
    rows = []
    for (label, seed), one in metrics.items():
        memory, notes = one.get("peak_memory_bytes"), one.get("notes")
        rows.append(
            [
                f"{label}, seed {seed}",
                str(one.get("steps", NONE)),
                str(one.get("examples", NONE)),
                f"{one['seconds']:.0f}" if isinstance(one.get("seconds"), (int, float)) else NONE,
                f"{memory / 2**20:.0f}" if isinstance(memory, int) else NOT_RECORDED,
                _show_parts(one),
                "yes" if one.get("resumed_from") else "no",
                (format_counts({"skipped": {}, "notes": notes}) or NONE) if isinstance(notes, dict) else NOT_RECORDED,
            ]
        )
    head = ["student", "steps", "examples", "time, s", "peak memory, MiB", "a batch", "interrupted", "left out or cut"]
    return Table("Training of each student (time of the last session)", head, rows)


def _show_parts(metrics: Mapping[str, Any]) -> str:
    parts = metrics.get("parts")
    return plural(parts, "part") + (", checkpointed" if metrics["checkpointing"] else "") if parts else NOT_RECORDED


def stage_table(workspace: Workspace) -> Table | None:
    """Time and memory of each stage; None if nothing was measured."""
    rows = []
    for stage, costs in stage_costs(workspace).items():
        gpu = max(cost.peak_gpu_bytes for cost in costs)
        rows.append(
            [
                f"{stage}, {plural(len(costs), 'student')}" if stage in (TRAINING, TESTING) else stage,
                f"{sum(cost.seconds for cost in costs):.1f}",
                f"{sum(cost.processor_seconds for cost in costs):.1f}",
                f"{max(cost.peak_memory_bytes for cost in costs) / 2**20:.0f}",
                f"{gpu / 2**20:.0f}" if gpu else NONE,
                str(max(cost.sessions for cost in costs)),
            ]
        )
    head = ["stage", "time, s", "processor time, s", "peak memory, MiB", "peak memory of the GPU, MiB", "sessions"]
    caption = "Time and memory of each stage (students: the sum of their times, the largest of their peaks)"
    return Table(caption, head, rows) if rows else None


def term_table(workspace: Workspace, metrics: Mapping[tuple[str, int], Mapping[str, Any]]) -> Table | None:
    """What each term of the loss did, at the first and the last step that was measured. None without students."""
    rows: list[list[str]] = []
    for method in workspace.recipe.methods:
        own = [training_facts(one)["terms"] for (label, _), one in metrics.items() if label == method.label]
        # One list over the seeds for the first measured step, and one for the last.
        ends = list(zip(*(terms for terms in own if terms), strict=False))
        for term in dict.fromkeys(name for end in ends for line in end for name in line["share"]):
            shown = [
                [_mean([line[what][term] for line in end if term in line[what]], digits) for end in ends]
                for what, digits in (("share", "{:.1%}"), ("gradient", "{:.3g}"))
            ]
            steps = " → ".join(str(end[0]["step"]) for end in ends)
            rows.append([f"{method.label}: {term}", steps, *(" → ".join(cells) for cells in shown)])
    head = ["term of the loss", "steps", "share of the loss", "norm of its gradient on the student"]
    caption = "What each term of the loss does, from the first measured step to the last (mean over seeds)"
    return Table(caption, head, rows) if rows else None


def _mean(values: Sequence[float | None], shown: str) -> str:
    """The mean of numbers; a value that was not finite is null in a log."""
    numbers = [value for value in values if value is not None]
    return shown.format(sum(numbers) / len(numbers)) if numbers else NONE


def collapsed_routers(workspace: Workspace, metrics: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[str]:
    """A sentence for each method whose router collapsed onto one layer."""
    sentences = []
    for method in workspace.recipe.methods:
        own = [one.get("router_collapsed_at") for (label, _), one in metrics.items() if label == method.label]
        steps = sorted(step for step in own if step is not None)
        if steps:
            since = f"step {steps[0]}" if steps[0] == steps[-1] else f"steps {steps[0]} to {steps[-1]}"
            sentences.append(
                f"{method.label}: in {len(steps)} of {plural(len(own), 'student')}, the router gives one layer more "
                f"than {100 * COLLAPSED:g} % of the weight, from {since} on. Its layers are not mixed any more."
            )
    return sentences


def rerun_tables(workspace: Workspace) -> tuple[str, str, list[Table]]:
    """The command that repeats the run, the recipe, and tables of versions and hashes."""
    manifest = workspace.run.manifest
    recipe_text = dump_yaml(workspace.run.recipe)
    command = f"molsaki run {shlex.quote(str(workspace.run.folder / 'recipe.yaml'))} --out NEW-FOLDER"
    hashes = [["recipe", str(manifest.get("recipe_hash"))]]
    for entry in workspace.stage(ATTEND).get("signals", {}).values():
        parts = entry["fingerprint"].items()
        hashes += [[f"teacher's {entry['title']}: {key}", str(part)[:200]] for key, part in parts if key != "prompt"]
    for path in sorted(workspace.run.path("data").glob("*.jsonl")):
        hashes.append([f"data/{path.name}", f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"])
    versions = [[name, str(version)] for name, version in manifest.get("versions", {}).items()]
    tables = [
        Table(f"Versions, as of {manifest.get('created')}", ["package", "version"], versions),
        Table("Hashes", ["file or setting", "hash"], hashes),
    ]
    return command, recipe_text, tables


def count_test_problems(workspace: Workspace) -> int:
    """The number of test problems of all sets that exist."""
    total = 0
    for name in workspace.test_names:
        try:
            total += len(workspace.read_tests(name))
        except MolsakiError:
            continue
    return total
