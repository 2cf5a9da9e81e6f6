"""Entries of one recipe that learn from fewer examples or train otherwise; and data that does not suffice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from commands import SMALL, Shown, recipe, run

from molsaki.config.load import override, parse_recipe
from molsaki.config.tiny import TINY_OVERRIDES
from molsaki.errors import ArtefactError, DataError, RecipeError
from molsaki.stages import pipeline, train_student
from molsaki.stages.check import open_workspace, prepare_recipe, prepare_values
from molsaki.stages.signals import open_store
from molsaki.stages.train_student import FEWER
from molsaki.stages.workspace import Workspace
from molsaki.training import encode_examples

METHODS = (
    "methods=[{name: dss, label: few, examples: 3, training: {steps: 2, learning_rate: 0.01, weight_decay: 0.5}}, "
    "{name: dss, label: all}, {name: dss, label: many, examples: 50}]"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shown, dict[str, list[str]]]:
    """A finished run, what it showed, and the problems that each student was given."""
    folder = tmp_path_factory.mktemp("entries")
    given: list[list[str]] = []

    def spy(tokenizer: Any, problems: Any, *rest: Any) -> Any:
        given.append([problem.id for problem in problems])
        return encode_examples(tokenizer, problems, *rest)

    path = recipe(folder, METHODS, "baseline=all", "training.steps=3", "data.tests.chains.limit=4")
    with mock.patch.object(train_student, "encode_examples", spy):
        shown = run(path, folder / "run")
    assert shown.code == 0, shown.error
    return folder / "run", shown, dict(zip(("few", "all", "many"), given, strict=True))


def metrics(folder: Path, label: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"students/{label}-1/metrics.json").read_text(encoding="utf-8"))
    return found


def test_the_first_so_many_examples_are_learned_from(world: tuple[Path, Shown, dict[str, list[str]]]) -> None:
    folder, _, given = world
    kept = [problem.id for problem in Workspace.open(folder).read_texts("train")[0]]
    assert len(kept) > 3
    assert given == {"few": kept[:3], "all": kept, "many": kept}
    assert {label: metrics(folder, label)["examples"] for label in given} == {
        "few": 3,
        "all": len(kept),
        "many": len(kept),
    }


def test_fewer_than_were_asked_for_is_said(world: tuple[Path, Shown, dict[str, list[str]]]) -> None:
    folder, shown, given = world
    missing = 50 - len(given["all"])
    assert metrics(folder, "many")["notes"][FEWER] == missing
    assert f"{missing} examples: {FEWER}" in shown.text
    assert all(FEWER not in metrics(folder, label)["notes"] for label in ("few", "all"))


def test_an_entrys_training_reaches_the_trainer_and_the_card(world: tuple[Path, Shown, dict[str, list[str]]]) -> None:
    folder = world[0]
    assert (metrics(folder, "few")["steps"], metrics(folder, "all")["steps"]) == (2, 3)
    rates = {label: metrics(folder, label)["history"][0]["learning_rate"] for label in ("few", "all")}
    assert rates["few"] == pytest.approx(0.01)
    assert rates["all"] == pytest.approx(SMALL["training"]["learning_rate"])
    card = (folder / "students/few-1/README.md").read_text(encoding="utf-8")
    for value in ("2 steps", "0.01", "weight_decay", "0.5"):
        assert value in card
    training = Workspace.open(folder).recipe.training_of(Workspace.open(folder).method("few"))
    assert (training.steps, training.weight_decay, training.batch_size) == (2, 0.5, 4), "other values are the recipe's"


# ---- invalid entries ----


def refusal(*settings: str) -> str:
    with pytest.raises(RecipeError) as caught:
        prepare_values(override(SMALL, settings))
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "key", "value"),
    [
        ("{name: dss, training: {stepz: 3}}", "methods.0.training.stepz", ""),
        ("{name: dss, training: {steps: 0}}", "methods.0.training.steps", "got 0"),
        ("{name: dss, training: {warmup_steps: 7}}", "methods.0.training", "got 7 beside `steps: 6`"),
        ("{name: dss, training: {select: best}}", "methods.0.training", "`evaluate_every`"),
        ("{name: dss, training: 5}", "methods.0.training", "got 5"),
        ("{name: dss, examples: 0}", "methods.0.examples", "got 0"),
        ("{name: dss, examples: few}", "methods.0.examples", "'few'"),
    ],
)
def test_an_invalid_value_is_refused_with_its_key(entry: str, key: str, value: str) -> None:
    lines = refusal(f"methods=[{entry}]", "baseline=null").splitlines()
    assert any(line.startswith(f"  - {key}: ") and value in line for line in lines)


def test_all_errors_of_entries_are_reported_at_once() -> None:
    text = refusal(
        "methods=[{name: dss, training: {stepz: 3}}, {name: molsaki, beta: -1, training: {steps: 0}}]", "baseline=null"
    )
    assert "3 problems" in text
    for place in ("methods.0.training.stepz", "methods.1.beta", "methods.1.training.steps"):
        assert f"  - {place}: " in text


def test_tiny_overrides_the_steps_of_an_entry_and_a_setting_overrides_tiny() -> None:
    entry = "methods=[{name: dss, training: {steps: 5000, batch_size: 64, weight_decay: 0.5}}]"
    values = override(SMALL, [entry])
    recipe_ = prepare_values(values, tiny=True)
    training = recipe_.training_of(recipe_.methods[0])
    assert training.steps == TINY_OVERRIDES["training"]["steps"]
    assert training.batch_size == TINY_OVERRIDES["training"]["batch_size"]
    assert training.weight_decay == 0.5, "settings that do not affect the time stay"
    assert values["methods"][0]["training"]["steps"] == 5000, "the given values are unchanged"
    warm = override(values, ["methods.0.training.warmup_steps=1000"])
    assert prepare_values(warm, tiny=True).methods[0].training == {"weight_decay": 0.5}
    asked = prepare_values(values, tiny=True, settings=["methods.0.training.steps=7"])
    assert asked.training_of(asked.methods[0]).steps == 7


def test_tiny_uses_question_words_if_the_teacher_is_random() -> None:
    def source(*settings: str) -> str:
        return prepare_values(override(SMALL, ["keys=keywords", *settings]), tiny=True).rationales.keywords

    assert source() == "question-words"
    assert source("keys=numbers") == "teacher"
    given = ("rationales={source: dataset, keywords: dataset}", "teacher.reader={name: 'pocket:teacher'}")
    assert source(*given) == "dataset"
    served = "teacher={writer: {base_url: 'http://localhost:1/v1', model: m}, reader: {name: 'pocket:teacher'}}"
    assert source(served) == "teacher", "a teacher behind a server is not random"


# ---- too few problems ----


def test_validation_cannot_take_all_problems(tmp_path: Path) -> None:
    for aside, kept in ((8, 0), (20, 0), (7, 1)):
        values = override(SMALL, [f"data.validation_rows={aside}"])
        workspace = open_workspace(parse_recipe(values), tmp_path / str(aside))
        if kept:
            pipeline.load_data(workspace)
            assert len(workspace.read_problems("train")) == kept
            continue
        with pytest.raises(DataError, match=rf"{aside} .*data\.validation_rows.* got 8\."):
            pipeline.load_data(workspace)
        assert workspace.run.stage_done("data") is None, "the recipe can be corrected"


@pytest.mark.shared_data
def test_tiny_leaves_training_problems_in_the_papers_recipes(shared_data: Path, tmp_path: Path) -> None:
    for name in ("paper-gpt2-large", "paper-tinyllama", "paper-gpt2-large-csqa", "paper-tinyllama-csqa"):
        workspace = open_workspace(prepare_recipe(name, tiny=True, data=str(shared_data)), tmp_path / name)
        pipeline.load_data(workspace)
        train, validation = (len(workspace.read_problems(split)) for split in ("train", "validation"))
        assert train + validation == 32
        assert 0 < validation <= train


# ---- prompts of any length ----


def test_a_store_is_opened_only_with_its_own_long_prompt(tmp_path: Path) -> None:
    """The fingerprint of a store has the hash of a long prompt."""
    long = "Think it over. " * 20 + "Question: {question}\nAnswer: {rationale}"
    (tmp_path / "train.jsonl").write_text(
        json.dumps({"q": "Ada has 3 pens. She buys 4 more. How many?", "a": "7", "why": "She has 3 and 4 come."})
        + "\n",
        encoding="utf-8",
    )
    settings = {
        "data": {
            "task": "own",
            "root": str(tmp_path),
            "train": {
                "source": "table",
                "path": "train.jsonl",
                "columns": {"question": "q", "answer": "a", "rationale": "why"},
            },
            "tests": {"in-domain": {"source": "pocket-math", "split": "test", "limit": 2}},
        },
        "teacher": {"reader": {"name": "pocket:teacher"}},
        "rationales": {"source": "dataset"},
        "prompts": {"teacher": long},
        "methods": ["molsaki"],
        "baseline": None,
    }
    path = tmp_path / "long.yaml"
    path.write_text(yaml.safe_dump(SMALL | settings), encoding="utf-8")
    for stage in ("generate", "attend"):
        shown = run(path, tmp_path / "run", command=stage)
        assert shown.code == 0, shown.error
    workspace = Workspace.open(tmp_path / "run")
    assert len(open_store(workspace, "steps")) == 1
    ending = long.replace("Answer: {", "Reply: {")
    assert ending[:300] == long[:300], "they differ at their end only"
    values = override(workspace.run.recipe, [])
    values["prompts"]["teacher"] = ending
    with pytest.raises(ArtefactError, match="prompt: "):
        open_store(Workspace(workspace.run, parse_recipe(values)), "steps")
