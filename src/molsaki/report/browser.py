"""What the page's problem browser shows, as one JSON value: problems, answers, and where models look.

Numbers are small integers (a hundredth of a percent) and repeated texts stand once, since a page of thousands of
problems must load at once. Places in texts count characters as Python does, whole code points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from molsaki.analysis import TextAttention, step_facts
from molsaki.records import Problem, hash_text
from molsaki.report.attention_figures import BEFORE, TEACHER
from molsaki.report.readings import Readings
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.store.row_log import RowLog

MOST_PROBLEMS = 10_000
"""Of more, a sample is on the page, and it says so."""
MOST_CHARACTERS = 20_000
"""A text that is longer is cut on the page."""
MOST_TEXT = 40_000_000
"""Characters of all texts on a page; problems beyond are left out, and the page says so."""


def browser_data(
    workspace: Workspace, readings: Readings, most: int = MOST_PROBLEMS
) -> tuple[dict[str, Any], list[str]]:
    """The JSON value, and what is to be said of it: which problems are on the page.

    Args:
        workspace: the run.
        readings: where its models look.
        most: of more problems than that, those with attention and a sample of the others are on the page.
    """
    recipe = workspace.recipe
    students = [
        (method.label, seed)
        for method in recipe.methods
        for seed in recipe.seeds
        if any(workspace.predictions(method.label, seed, test).is_file() for test in workspace.test_names)
    ]
    sets = [*workspace.test_names, *(name for name in readings.texts if name == TRAIN)]
    pool = [(name, problem) for name in sets for problem in _problems(workspace, name, readings)]
    chosen, notes = _choose(pool, readings, most)
    answers = {pair: {test: _answers(workspace, pair, test) for test in workspace.test_names} for pair in students}
    looks: list[Any] = []
    rows = []
    for name, problem in chosen:
        text = readings.texts.get(name, {}).get(problem.id)
        place = -1
        if text is not None:
            place = len(looks)
            looks.append(_looks(readings, name, problem.id))
        given = [answers[pair].get(name, {}).get(problem.id) for pair in students]
        rows.append(
            [
                sets.index(name),
                _cut(problem.id),
                _cut(problem.text),
                _cut(problem.answer),
                _cut(problem.label),
                given,
                place,
            ]
        )
    models = _model_names(readings)
    return {
        "sets": sets,
        "students": [[label, seed] for label, seed in students],
        "methods": list(dict.fromkeys(label for label, _ in students)),
        "baseline": recipe.baseline,
        "problems": rows,
        "looks": looks,
        "models": models,
        "before": [i for i, model in enumerate(models) if model == BEFORE],
        "teacher": [i for i, model in enumerate(models) if model == TEACHER],
    }, notes


def look_data(look: TextAttention, model: str, answer: str) -> dict[str, Any]:
    """The JSON value for one text that one model looks at; for `molsaki look`."""
    question = look.text.question
    return {
        "sets": ["your question"],
        "students": [],
        "methods": [],
        "baseline": None,
        "problems": [[0, look.text.id, _cut(question), answer, "", [], 0]],
        "looks": [_one([look])],
        "models": [model],
        "before": [],
        "teacher": [0],
    }


def _problems(workspace: Workspace, name: str, readings: Readings) -> list[Problem]:
    if not workspace.run.path("data", f"{name}.jsonl").is_file():
        return []
    if name == TRAIN:  # those that attention is shown on
        return [problem for problem in workspace.read_problems(name) if problem.id in readings.texts[TRAIN]]
    return workspace.read_tests(name)


def _choose(
    pool: Sequence[tuple[str, Problem]], readings: Readings, most: int
) -> tuple[list[tuple[str, Problem]], list[str]]:
    def shown(entry: tuple[str, Problem]) -> tuple[bool, str]:
        name, problem = entry
        return problem.id not in readings.texts.get(name, {}), hash_text("report", problem.text)

    kept = set()
    room = MOST_TEXT
    for place in sorted(range(len(pool)), key=lambda i: shown(pool[i]))[:most]:
        room -= min(len(pool[place][1].text), MOST_CHARACTERS)
        if room < 0:
            break
        kept.add(place)
    notes = []
    if len(kept) < len(pool):
        notes.append(
            f"{len(kept)} of {len(pool)} problems are on this page: those with attention, and others drawn by a hash "
            "of their text. All figures and tables are of all of them."
        )
    # Whoever opens the first problem should see where the models look.
    return sorted((entry for i, entry in enumerate(pool) if i in kept), key=lambda entry: shown(entry)[0]), notes


def _answers(workspace: Workspace, pair: tuple[str, int], test: str) -> dict[str, list[Any]]:
    path = workspace.predictions(*pair, test)
    if not path.is_file():
        return {}
    return {
        row["id"]: [
            _cut(row["answer"] or row["output"]),
            int(row["correct"]),
            "" if row["status"] == "ok" else row["status"],
        ]
        for row in RowLog(path).rows()
    }


def _model_names(readings: Readings) -> list[str]:
    names = [TEACHER] if readings.teacher else []
    names += [BEFORE] if readings.before else []
    return names + [f"after {label}, seed {seed}" for label, seed in readings.after]


def _looks(readings: Readings, name: str, row_id: str) -> dict[str, Any]:
    everyone = [looks for looks in (readings.teacher, readings.before, *readings.after.values()) if looks]
    return _one([looks[name][row_id] for looks in everyone])


def _one(looks: Sequence[TextAttention]) -> dict[str, Any]:
    first = looks[0]
    return {
        "rationale": first.text.rationale,
        "steps": [_place(span) for span in first.spans.steps],
        "keys": [_place(span) for span in first.spans.keys],
        "rows": [_rows(look) for look in looks],
        "facts": [[None if f is None else [f.top, round(f.entropy, 2)] for f in step_facts(look)] for look in looks],
    }


def _place(span: Any) -> list[int]:
    return [int(span.text == "rationale"), span.start, span.end]


def _rows(look: TextAttention) -> list[list[int]]:
    """A token's attention on each key, in hundredths of a percent, layers averaged; -1 for a key out of sight."""
    per_token_SK = look.keys_SK() / look.tokens_S.clip(1)[:, None]
    return [
        [round(10_000 * float(value)) if seen else -1 for value, seen in zip(row, visible, strict=True)]
        for row, visible in zip(per_token_SK, look.visible_SK, strict=True)
    ]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}… (cut: {len(text)} characters)"
