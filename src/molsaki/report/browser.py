"""The data of the page's problem browser as JSON: problems, answers, and the attention of the models.

A page of thousands of problems must load fast. So attention is in integers (hundredths of a percent), and texts are not
repeated. Positions in texts count code points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from molsaki.analysis import TextAttention, step_facts
from molsaki.records import Problem, hash_text
from molsaki.report.attention_figures import BEFORE, TEACHER
from molsaki.report.readings import Attentions, Readings
from molsaki.spans.find import Span
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.store.row_log import RowLog

MAX_PROBLEMS = 10_000
"""The page shows a sample of more problems, and says so."""
MAX_CHARACTERS = 20_000
"""Longer texts are truncated."""
MAX_QUESTION_CHARACTERS = 40_000_000
"""Characters of all questions on a page. Further problems are left out, and the page says so."""


def browser_data(
    workspace: Workspace, readings: Readings, most: int = MAX_PROBLEMS
) -> tuple[dict[str, Any], list[str]]:
    """The JSON data of the page, and notes about it.

    Args:
        workspace: the run.
        readings: the attention of its models.
        most: the maximum number of problems. Problems with attention come first, then a sample of the others.
    """
    students = [
        (method.label, seed)
        for method in workspace.recipe.methods
        for seed in workspace.recipe.seeds
        if any(workspace.is_tested(method.label, seed, test) for test in workspace.test_names)
    ]
    sets = [*workspace.test_names, *(name for name in readings.texts if name == TRAIN)]
    pool = [(name, problem) for name in sets for problem in _problems(workspace, name, readings)]
    chosen, notes = _choose(pool, readings, most)
    answers = {pair: {test: _answers(workspace, pair, test) for test in workspace.test_names} for pair in students}
    models = _models(readings)
    attentions: list[Any] = []
    rows = []
    for name, problem in chosen:
        look_index = -1
        if models and problem.id in readings.texts.get(name, {}):
            look_index = len(attentions)
            attentions.append(_attention_data([model[name][problem.id] for model in models.values()]))
        texts = [_truncate(text) for text in (problem.id, problem.text, problem.answer, problem.label)]
        given = [answers[pair].get(name, {}).get(problem.id) for pair in students]
        rows.append([sets.index(name), *texts, given, look_index])
    return {
        "sets": sets,
        "students": [[label, seed] for label, seed in students],
        "methods": list(dict.fromkeys(label for label, _ in students)),
        "baseline": workspace.recipe.baseline,
        "answer_name": "Right answer",
        "problems": rows,
        "looks": attentions,
        "models": list(models),
        "before": [i for i, model in enumerate(models) if model == BEFORE],
        "teacher": [i for i, model in enumerate(models) if model == TEACHER],
    }, notes


def look_data(look: TextAttention, model: str, answer: str) -> dict[str, Any]:
    """The JSON data of the page of `molsaki look`: one text and one model."""
    return {
        "sets": ["your question"],
        "students": [],
        "methods": [],
        "baseline": None,
        "answer_name": "The model's answer",
        "problems": [[0, look.text.id, _truncate(look.text.question), answer, "", [], 0]],
        "looks": [_attention_data([look])],
        "models": [model],
        "before": [],
        "teacher": [0],
    }


def _problems(workspace: Workspace, name: str, readings: Readings) -> list[Problem]:
    if not workspace.run.path("data", f"{name}.jsonl").is_file():
        return []
    if name == TRAIN:  # only those with attention
        return [problem for problem in workspace.read_problems(name) if problem.id in readings.texts[TRAIN]]
    return workspace.read_tests(name)


def _choose(
    pool: Sequence[tuple[str, Problem]], readings: Readings, most: int
) -> tuple[list[tuple[str, Problem]], list[str]]:
    def priority(entry: tuple[str, Problem]) -> tuple[bool, str]:
        name, problem = entry
        return problem.id not in readings.texts.get(name, {}), hash_text("report", problem.text)

    kept = set()
    room = MAX_QUESTION_CHARACTERS
    for index in sorted(range(len(pool)), key=lambda i: priority(pool[i]))[:most]:
        room -= min(len(pool[index][1].text), MAX_CHARACTERS)
        if room < 0:
            break
        kept.add(index)
    notes = []
    if len(kept) < len(pool):
        notes.append(
            f"{len(kept)} of {len(pool)} problems are on this page: those with attention, and a sample of the others. "
            "All tables and figures use all problems."
        )
    # Problems with attention come first, because the page opens at the first problem.
    return sorted((entry for i, entry in enumerate(pool) if i in kept), key=lambda entry: priority(entry)[0]), notes


def _answers(workspace: Workspace, pair: tuple[str, int], test: str) -> dict[str, list[Any]]:
    path = workspace.predictions(*pair, test)
    if not path.is_file():
        return {}
    return {
        row["id"]: [
            _truncate(row["answer"] or row["output"]),
            int(row["correct"]),
            "" if row["status"] == "ok" else row["status"],
        ]
        for row in RowLog(path).rows()
    }


def _models(readings: Readings) -> dict[str, Attentions]:
    """The attention of all models by the model's name on the page."""
    students = {f"after {label}, seed {seed}": attentions for (label, seed), attentions in readings.after.items()}
    models = {TEACHER: readings.teacher, BEFORE: readings.before, **students}
    return {name: attentions for name, attentions in models.items() if attentions}


def _attention_data(attentions: Sequence[TextAttention]) -> dict[str, Any]:
    """The attention of several models on one text."""
    spans = attentions[0].spans
    return {
        "rationale": attentions[0].text.rationale,
        "steps": [_position(span) for span in spans.steps],
        "keys": [_position(span) for span in spans.keys],
        "rows": [_rows(look) for look in attentions],
        "facts": [
            [None if f is None else [f.top, round(f.entropy, 2)] for f in step_facts(look)] for look in attentions
        ],
    }


def _position(span: Span) -> list[int]:
    return [int(span.text == "rationale"), span.start, span.end]


def _rows(look: TextAttention) -> list[list[int]]:
    """A token's attention on each key [S][K], in hundredths of a percent, mean of layers; -1 for a key not visible."""
    return [[-1 if value is None else round(10_000 * value) for value in row] for row in attention_per_token(look)]


def attention_per_token(look: TextAttention) -> list[list[float | None]]:
    """The share of an average token's attention on each key [S][K], mean of layers; None for a key not visible."""
    per_token_SK = look.keys_SK() / look.tokens_S.clip(1)[:, None]
    return [
        [float(value) if visible else None for value, visible in zip(values, visibles, strict=True)]
        for values, visibles in zip(per_token_SK, look.visible_SK, strict=True)
    ]


def _truncate(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… (cut: {len(text)} characters)"
