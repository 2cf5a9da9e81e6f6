"""Recipes: those that ship are whole, and bad ones are refused with every problem and nothing run."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from molsaki.config.load import MAX_RECIPE_BYTES, RECIPES, override, parse_recipe, read_recipe, recipe_names
from molsaki.config.recipe import Recipe
from molsaki.errors import RecipeError
from molsaki.stages.check import TRACKER_CHECKS, prepare_recipe

NEEDS_NO_FILES = {"pocket", "pocket-commonsense"}
SMALL: dict[str, Any] = {
    "name": "small",
    "data": {
        "task": "pocket-math",
        "train": {"source": "pocket-math", "split": "train"},
        "tests": {"in-domain": {"source": "pocket-math", "split": "test"}},
    },
    "teacher": {"writer": {"name": "pocket:teacher"}},
    "student": {"name": "pocket:student"},
    "methods": ["label-only", "dss", "molsaki"],
}

SERVED = "teacher={writer: {base_url: 'http://localhost:8000/v1', model: m}, reader: {name: pocket:teacher}}"


def changed(*settings: str) -> dict[str, Any]:
    return override(SMALL, settings)


def saved(folder: Path, recipe: object) -> str:
    path = folder / "recipe.yaml"
    path.write_text(recipe if isinstance(recipe, str) else yaml.safe_dump(recipe), encoding="utf-8")
    return str(path)


def refusal(folder: Path, recipe: object, **options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        prepare_recipe(saved(folder, recipe), **options)
    return str(caught.value)


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("tiny", [False, True])
def test_every_shipped_recipe_is_whole(name: str, tiny: bool, request: pytest.FixtureRequest) -> None:
    data = None if name in NEEDS_NO_FILES else str(request.getfixturevalue("shared_data"))
    recipe = prepare_recipe(name, tiny=tiny, data=data)
    assert recipe.name == name
    assert recipe.tiny == tiny
    if tiny and recipe.keys == "keywords":
        assert recipe.rationales.keywords != "teacher", "a random teacher names nothing that a step could look at"
    own = {"molsaki-words"} if name in NEEDS_NO_FILES else set()
    assert {method.name for method in recipe.methods} == {"label-only", "dss", "molsaki"} | own
    assert recipe.baseline == "dss"
    # What is written into a run directory reads back as the same recipe.
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_describes_itself_and_ships_its_prompts(name: str) -> None:
    raw = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    assert raw["name"] == name
    assert 20 < len(raw["description"]) < 140
    for prompt, text in (raw.get("prompts") or {}).items():
        assert "{question}" in read_recipe(name)["prompts"][prompt], f"{text} was not read"


@pytest.mark.parametrize("name", sorted(set(recipe_names()) - NEEDS_NO_FILES))
def test_a_recipe_without_its_data_says_where_each_file_was_looked_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="expected a file or folder at") as caught:
        prepare_recipe(name, data=str(tmp_path))
    recipe = parse_recipe(read_recipe(name))
    files = 1 + len(recipe.data.tests) + (recipe.rationales.path is not None)
    assert str(caught.value).count("expected a file or folder at") == files
    assert str(tmp_path) in str(caught.value)
    assert "MOLSAKI_DATA" in str(caught.value)


def test_the_papers_settings_are_the_papers() -> None:
    for name in ("paper-gpt2-large", "paper-tinyllama", "paper-gpt2-large-csqa", "paper-tinyllama-csqa"):
        recipe = parse_recipe(read_recipe(name))
        molsaki = next(method for method in recipe.methods if method.name == "molsaki").settings
        assert molsaki == {
            "alpha": 0.5,
            "beta": 1.0,
            "teacher_temperature": 0.1,
            "router_temperature": 0.5,
            "kl_temperature": 1.0,
        }
        assert (recipe.training.steps, recipe.training.batch_size, recipe.training.learning_rate) == (10000, 16, 5e-5)
        assert len(recipe.seeds) == 3


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("trainign.steps=5", "trainign: there is no such key; look for a typo"),
        ("training.stepz=5", "training.stepz: there is no such key; look for a typo"),
        ("data.train.sorce=x", "data.train.sorce: there is no such key; look for a typo"),
        ("training.steps=0", "training.steps: Input should be greater than or equal to 1; got 0"),
        ("training.steps=many", "training.steps: Input should be a valid integer"),
        ("training.learning_rate=-1", "training.learning_rate: Input should be greater than 0; got -1"),
        ("training.learning_rate=.nan", "training.learning_rate: Input should be a finite number"),
        ("training.weight_decay=.inf", "training.weight_decay: Input should be a finite number"),
        ("training.precision=fp8", "training.precision: Input should be 'float32' or 'bf16'; got 'fp8'"),
        ("training.select=best", "expected `evaluate_every` of at least 1 with `select: best`, got 0"),
        ("seeds=[]", "seeds: Tuple should have at least 1 item"),
        ("seeds=[1, 2, 1]", "seeds: expected different seeds; got [1, 2, 1]"),
        ("seeds=[-1]", "seeds.0: Input should be greater than or equal to 0"),
        ("methods=[]", "methods: Tuple should have at least 1 item"),
        ("methods=[dss, dss]", "methods.0.label: expected labels of their own; 'dss' occurs more than once"),
        ("methods=[magic]", "methods.0.name: expected one of label-only, cot, dss, logits, mmi,"),
        ("methods=[{name: dss, beta: 1}]", "methods.0.beta: there is no such key; look for a typo"),
        ("methods=[{name: dss, alpha: 2}]", "methods.0.alpha: Input should be less than or equal to 1; got 2"),
        (
            "methods=[{name: molsaki, student_weights: uniform, gate: shared}]",
            "methods.0: Value error, expected no gate with `student_weights: uniform`",
        ),
        ("methods=[{name: molsaki, beta: .inf}]", "methods.0.beta: Input should be a finite number"),
        ("methods=[{name: dss, label: ../x}]", "methods.0.label: String should match pattern"),
        ("baseline=magic", "baseline: expected one of the methods' labels"),
        ("data.train.source=svmap", "data.train.source: expected one of svamp,"),
        ("data.train.split=null", "data.train.split: expected a value, since pocket-math needs one; got none"),
        ("data.train.path=x", "data.train.path: expected none, since pocket-math has no use for it; got 'x'"),
        ("data.train={source: svamp, path: nowhere}", "data.train.path: expected a file or folder at"),
        ("data.tests={}", "data.tests: Dictionary should have at least 1 item"),
        ("data.tests.train={source: pocket-math, split: test}", "data.tests.train: expected another name"),
        ("data.tests.a/b={source: pocket-math, split: test}", "String should match pattern"),
        ("data.validation_rows=-1", "data.validation_rows: Input should be greater than or equal to 0"),
        ("student.name=pocket:tutor", "student.name: expected one of pocket:teacher, pocket:student"),
        ("student.dtype=int8", "student.dtype: Input should be 'float32', 'bfloat16' or 'float16'; got 'int8'"),
        ("teacher=null", "teacher: Input should be a valid dictionary"),
        ("teacher={}", "teacher.writer: expected a model, since rationales.source is teacher; got none"),
        ("prompts.teacher=templates/none.txt", "prompts.teacher: "),
        ("prompts.teacher='{question} only'", "Expected a prompt template with one {question}"),
        ("prompts.predict='{question} {rationale}'", "expected the predict prompt to end with {label}"),
        ("prompts.reason='{question} {rationale}'", "expected the reason prompt to end with {reasoning}"),
        (
            'prompts.reason="[user]\\n{question}\\n[assistant]\\n{reasoning}"',
            "expected the student's reason prompt to be text; got a chat's turns",
        ),
        ("evaluation.max_new_tokens=1e12", "evaluation.max_new_tokens: Input should be"),
        ("name=../elsewhere", "name: String should match pattern"),
        ("evaluation.rows={elsewhere: 5}", "evaluation.rows.elsewhere: expected one of the test sets ['in-domain']"),
        ("evaluation.rows={in-domain: 0}", "greater than or equal to 1"),
        ("rationales={source: file}", "expected `path` and `columns` with `source: file`"),
        ("rationales={path: x.jsonl}", "expected no path with `source: teacher`"),
        (
            "data.train={source: table, path: x, columns: {question: q, anser: a}}",
            "data.train.columns: Expected a mapping",
        ),
        ("data.train={source: table, path: x, columns: {question: q, anser: a}}", "'anser' is no part of a row"),
        (
            "training.trackers=[tensorboard, nonsense]",
            "training.trackers.1: expected one of azure_ml, comet_ml,",
        ),
        ("training.trackers=[all, tensorboard]", "training.trackers.0: expected one of azure_ml, comet_ml,"),
        (
            "methods=[{name: dss, training: {trackers: [nonsense]}}]",
            "methods.0.training.trackers.0: expected one of azure_ml, comet_ml,",
        ),
        (f"data.train={{source: svamp, path: {'p' * 300}}}", "pppp; "),
        (f"data.train={{source: svamp, path: {'folder/' * 900}}}", "data.train.path: expected a file or folder at"),
        ("teacher.writer={base_url: 'http://\u200b\ufeff.example/v1', model: m}", "Invalid IDNA hostname"),
        ("teacher.writer={base_url: 'http://256.0.0.1/v1', model: m}", "Invalid IPv4 address"),
        ('teacher.writer={base_url: "http://local\\nhost/v1", model: m}', "Invalid non-printable ASCII character"),
    ],
)
def test_an_impossible_value_is_refused_with_its_place(setting: str, expected: str, tmp_path: Path) -> None:
    assert expected in refusal(tmp_path, changed(setting))
    if not setting.startswith(("prompts.teacher=templates", "name=")):
        assert expected in refusal(tmp_path, SMALL, settings=[setting])


@pytest.mark.parametrize("length", [264, 5000, 100_000])
def test_a_prompt_without_a_slot_that_is_no_files_name_is_a_message(length: int, tmp_path: Path) -> None:
    text = refusal(tmp_path, changed(f"prompts.teacher={'Answer. ' * (length // 8)}"))
    assert "prompts.teacher: expected a template with {question}, or a file with one; got 'Answer. Answer." in text
    assert "the system says: File name too long" in text
    assert len(text) < 2000


def test_what_lies_in_a_folder_that_may_not_be_entered_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = Path.stat

    def refuse(path: Path, **options: Any) -> Any:
        if "closed" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    # Whom the tests run as may be let in everywhere.
    monkeypatch.setattr(Path, "stat", refuse)
    written = changed("data.train={source: svamp, path: closed/SVAMP.json}", "prompts.teacher=closed/prompt.txt")
    assert "closed/prompt.txt; the system says: Permission denied" in refusal(tmp_path, written)
    del written["prompts"]
    assert "closed/SVAMP.json; " in refusal(tmp_path, written)


def test_trackers_that_are_not_installed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import integrations

    for name, check in {"wandb": "wandb", "comet_ml": "comet"}.items():
        monkeypatch.setattr(integrations, f"is_{check}_available", lambda: False)
        expected = f"expected a tracker that is installed and set up; transformers does not find {name!r} here"
        assert f"training.trackers.0: {expected}" in refusal(tmp_path, changed(f"training.trackers=[{name}]"))
        monkeypatch.setattr(integrations, f"is_{check}_available", lambda: True)
        assert prepare_recipe(saved(tmp_path, changed(f"training.trackers=[{name}]"))).training.trackers == (name,)


@pytest.mark.parametrize("name", ["all", "none"])
def test_trackers_can_be_all_that_are_installed_or_none(name: str, tmp_path: Path) -> None:
    assert prepare_recipe(saved(tmp_path, changed(f"training.trackers=[{name}]"))).training.trackers == (name,)


def test_every_tracker_is_asked_for_by_a_name_that_transformers_has() -> None:
    from transformers import integrations

    for name in integrations.INTEGRATION_TO_CALLBACK:
        assert callable(getattr(integrations, f"is_{TRACKER_CHECKS.get(name, name)}_available"))


@pytest.mark.parametrize(
    ("settings", "limit", "aside"),
    [
        (["data.train.limit=null"], 32, 0),
        (["data.train.limit=null", "data.validation_rows=500"], 32, 8),
        (["data.train.limit=5000", "data.validation_rows=4"], 32, 4),
        (["data.train.limit='5000'", "data.validation_rows='500'"], 32, 8),
        (["data.train.limit=5"], 5, 0),
        ([], 32, 0),
    ],
)
def test_tiny_asks_a_teacher_for_few_rationales_whatever_the_recipe_says(
    settings: list[str], limit: int, aside: int, tmp_path: Path
) -> None:
    served = changed(SERVED, *settings)
    data = prepare_recipe(saved(tmp_path, served), tiny=True).data
    assert (data.train.limit, data.validation_rows) == (limit, aside)


def test_tiny_bounds_a_resolved_recipe_too(tmp_path: Path) -> None:
    served = changed(SERVED)
    resolved = prepare_recipe(saved(tmp_path, served)).model_dump(mode="json")
    assert resolved["data"]["train"]["limit"] is None
    assert prepare_recipe(saved(tmp_path, resolved), tiny=True).data.train.limit == 32


def test_every_kind_of_problem_is_reported_at_once(tmp_path: Path) -> None:
    written = changed(
        "trainign.steps=5",
        "training.learning_rate=7",
        "data.train={source: svamp, path: nowhere}",
        "data.tests.ood={source: nonesuch}",
        "methods=[label-only, {name: dss, alhpa: 0.5}, magic]",
        "student.nmae=x",
    )
    del written["student"]["name"]
    text = refusal(tmp_path, written)
    for place in (
        "trainign",
        "training.learning_rate",
        "data.train.path",
        "data.tests.ood.source",
        "methods.1.alhpa",
        "methods.2.name",
        "student.name",
        "student.nmae",
    ):
        assert f"  - {place}: " in text
    assert "has 8 problems; nothing was run" in text


@pytest.mark.parametrize("missing", ["name", "data", "student", "methods"])
def test_a_missing_part_does_not_hide_other_problems(missing: str, tmp_path: Path) -> None:
    written = changed("typo=1", "teacher.writer.name=pocket:tutor")
    del written[missing]
    text = refusal(tmp_path, written)
    assert f"  - {missing}: expected a value, got none" in text
    assert "  - typo: there is no such key" in text
    assert "  - teacher.writer.name: expected one of" in text


@pytest.mark.parametrize("part", ["data", "data.train", "data.tests", "training", "rationales", "methods", "teacher"])
@pytest.mark.parametrize("value", ["5", "[1]", "text", "null"])
@pytest.mark.parametrize("tiny", [False, True])
def test_a_part_of_another_form_is_a_message_and_never_a_crash(
    part: str, value: str, tiny: bool, tmp_path: Path
) -> None:
    written = changed(f"{part}={value}")
    if tiny and value == "null" and part in ("training", "rationales"):
        assert prepare_recipe(saved(tmp_path, written), tiny=True).tiny, "--tiny puts its own settings there"
    else:
        assert part in refusal(tmp_path, written, tiny=tiny, data=str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["training.steps"], "--set training.steps: expected key=value"),
        (["=5"], "--set =5: expected key=value"),
        (["name.first=x"], "'name' holds str, which has no keys"),
        (["methods.9=dss"], "--set methods.9=dss: "),
        (["methods.first=dss"], "--set methods.first=dss: "),
        (["seeds=[1"], "--set seeds=[1: "),
        (["seeds=[1", "x"], "The settings has 2 problems"),
        (["student=!!python/name:os.system"], "could not determine a constructor"),
    ],
)
def test_settings_that_cannot_be_applied_are_refused(settings: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in refusal(tmp_path, SMALL, settings=settings)


def test_settings_reach_every_depth_and_win_over_tiny(tmp_path: Path) -> None:
    recipe = prepare_recipe(
        saved(tmp_path, SMALL),
        tiny=True,
        settings=[
            "training.steps=7",
            "training.learning_rate=1e-3",
            "seeds=[4, 5]",
            "methods.1={name: dss, alpha: 0.25}",
            "rationales.keep=right",
            "evaluation.explain=true",
        ],
    )
    assert recipe.training.steps == 7
    assert recipe.training.learning_rate == 1e-3
    assert recipe.seeds == (4, 5)
    assert recipe.methods[1].settings == {"alpha": 0.25}
    assert recipe.rationales.keep == "right"
    assert recipe.evaluation.explain
    assert recipe.training.batch_size == 4, "what was not set is tiny's"


HOSTILE = {
    "an object": "name: !!python/object/apply:os.system ['echo taken > taken']",
    "a module": "name: !!python/module:os",
    "an alias": "name: &a x\ndescription: *a",
    "aliases of aliases": "name: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]",
    "merge keys of merge keys": "a: &a {x: 1}\nb: {<<: [*a, *a]}",
    "itself": "name: &a [*a]",
    "a thousand brackets": "name: " + "[" * 3000,
    "a key twice": "name: x\nname: y",
    "a key twice further in": "name: x\ntraining: {steps: 5, steps: 6}",
    "a month that is none": "name: 2024-13-45",
    "a number too long to read": "name: " + "9" * 5000,
    "bytes": "name: \x00",
    "a list": "- name",
    "nothing": "",
    "a word": "pocket",
    "cut": "name: x\ndata: {task: [",
    "keys that are no text": "1: 2\n[3]: 4",
}


@pytest.mark.parametrize("recipe", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_yaml_is_refused_at_once(recipe: str, tmp_path: Path) -> None:
    begin = time.process_time()
    text = refusal(tmp_path, recipe)
    assert len(text) < 5000
    assert time.process_time() - begin < 10
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.yaml"}
    assert not Path("taken").exists()


def test_long_wrong_values_are_shown_in_part(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, changed(f"training.steps={'x' * 100_000}"))) < 2000


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"pocket-commonsense.*or a YAML file; got 'pokcet'"):
        prepare_recipe("pokcet")
    with pytest.raises(RecipeError, match="or a YAML file"):
        prepare_recipe(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(RecipeError, match="in another encoding"):
        prepare_recipe(str(tmp_path / "latin.yaml"))
    (tmp_path / "large.yaml").write_text("#" * (MAX_RECIPE_BYTES + 1), encoding="utf-8")
    with pytest.raises(RecipeError, match="at most"):
        prepare_recipe(str(tmp_path / "large.yaml"))


SECRET = "not-to-be-shown"  # noqa: S105
NO_RECIPES = {
    "no YAML": f"name: [{SECRET}",
    "a tag": f"name: !{SECRET} x",
    "a key twice": f"{SECRET}: 1\n{SECRET}: 2",
    "a word": SECRET,
    "a tab": f"name:\n\t{SECRET}: {SECRET}",
    "a character that is none": f"name: {SECRET}\x07",
}


@pytest.mark.parametrize("content", NO_RECIPES.values(), ids=NO_RECIPES.keys())
def test_what_stands_in_a_file_that_is_no_recipe_is_not_shown(content: str, tmp_path: Path) -> None:
    assert SECRET not in refusal(tmp_path, content)


@pytest.mark.parametrize("content", [SECRET, f"{SECRET} {{question}}", f"{{question}} {SECRET} {{label}} {{label}}"])
def test_what_stands_in_a_file_that_is_no_prompt_is_not_shown(content: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(content, encoding="utf-8")
    shown = refusal(tmp_path, changed("prompts.teacher=key"))
    assert "prompts.teacher: expected a file with a template" in shown
    assert SECRET not in shown
    (tmp_path / "key").write_text(f"{SECRET} {{question}} {{label}}", encoding="utf-8")  # a template of another slot
    shown = refusal(tmp_path, changed("prompts.teacher=key"))
    assert "expected the teacher prompt to end with {rationale}" in shown
    assert SECRET not in shown


@pytest.mark.parametrize("kind", ["zero", "pipe", "folder", "large"])
def test_a_device_a_pipe_a_folder_or_a_huge_file_is_neither_read_nor_waited_for(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/zero") if kind == "zero" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(b"")
        os.truncate(path, 1 << 40)  # sparse: takes no space
    with pytest.raises(RecipeError, match=r"regular file|at most 1048576 bytes"):
        prepare_recipe(str(path))
    assert re.search("regular file|at most 1048576 bytes", refusal(tmp_path, changed(f"prompts.teacher={path}")))


def test_relative_data_paths_start_from_the_root_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.jsonl").write_text('{"q": "1 + 1?", "a": "2"}\n', encoding="utf-8")
    written = changed("data.train={source: table, path: mine.jsonl, columns: {question: q, answer: a}}")
    assert prepare_recipe(saved(tmp_path, written), data=str(tmp_path)).data.root == str(tmp_path)
    monkeypatch.setenv("MOLSAKI_DATA", str(tmp_path))
    recipe = prepare_recipe(saved(tmp_path, written))
    assert recipe.data.root == str(tmp_path), "the resolved recipe says where the data was"
    monkeypatch.delenv("MOLSAKI_DATA")
    assert parse_recipe(recipe.model_dump(mode="json")).data_path("mine.jsonl") == tmp_path / "mine.jsonl"


def test_a_recipe_cannot_be_changed_after_it_was_checked() -> None:
    recipe = parse_recipe(SMALL)
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.steps = 3  # type: ignore[misc]
    assert isinstance(recipe, Recipe)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("single-layer", "methods.0.name: expected a method that mixes the teacher's layers, as they are stored"),
        ("attention-map", "methods.0.name: expected a method that mixes the teacher's layers, as they are stored"),
        ("{name: molsaki, teacher_weights: uniform}", "methods.0.teacher_weights: expected 'change', as the teacher's"),
        ("{name: molsaki-words, teacher_weights: learned}", "methods.0.teacher_weights: expected 'change', as the"),
        ("{name: molsaki, step_pool: mean}", "methods.0.step_pool: expected 'sum', as the teacher's"),
        ("{name: molsaki, heads: each}", "methods.0.heads: expected 'mean', as the teacher's"),
        ("{name: molsaki, keys: question}", "methods.0.keys: expected 'all', as the teacher's"),
        ("{name: molsaki, teacher_temperature: 1}", "methods.0.teacher_temperature: expected 0.1, as the teacher's"),
    ],
)
def test_a_method_that_would_mix_other_layers_than_are_stored_is_refused(
    method: str, expected: str, tmp_path: Path
) -> None:
    settings = [f"methods=[{method}]", "attention.layers=mixed"]
    assert expected in refusal(tmp_path, SMALL, settings=settings)
