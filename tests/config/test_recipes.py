"""Recipes: shipped ones are complete, and invalid ones are refused with all errors before anything runs."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from molsaki.config.check_names import TRACKER_CHECKS
from molsaki.config.load import MAX_RECIPE_BYTES, RECIPES, override, parse_recipe, read_recipe, recipe_names
from molsaki.config.methods import resolve_methods
from molsaki.config.recipe import Recipe
from molsaki.errors import RecipeError
from molsaki.stages.check import prepare_recipe
from molsaki.store.strict_yaml import dump_yaml, parse_yaml

NEEDS_NO_FILES = {"pocket", "pocket-chains", "pocket-commonsense"}
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
def test_every_shipped_recipe_is_complete(name: str, tiny: bool, request: pytest.FixtureRequest) -> None:
    data = None if name in NEEDS_NO_FILES else str(request.getfixturevalue("shared_data"))
    recipe = prepare_recipe(name, tiny=tiny, data=data)
    assert recipe.name == name
    assert recipe.tiny == tiny
    if tiny and recipe.keys == "keywords":
        assert recipe.rationales.keywords != "teacher", "the key words of a random teacher are in no text"
    own = {"attention-map"} if name in NEEDS_NO_FILES else set()
    assert {method.name for method in recipe.methods} == {"label-only", "dss", "molsaki"} | own
    assert recipe.baseline == "dss"
    # The resolved recipe in a run directory is the same recipe.
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_has_a_description_and_its_prompts(name: str) -> None:
    raw = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    assert raw["name"] == name
    assert 20 < len(raw["description"]) < 140
    for prompt, text in (raw.get("prompts") or {}).items():
        assert "{question}" in read_recipe(name)["prompts"][prompt], f"{text} was not read"


@pytest.mark.parametrize("name", sorted(set(recipe_names()) - NEEDS_NO_FILES))
def test_a_recipe_without_its_data_names_every_missing_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        prepare_recipe(name, data=str(tmp_path))
    recipe = parse_recipe(read_recipe(name))
    own = recipe.data.train.source != "signals"  # those may be on the hub
    files = own + len(recipe.data.tests) + (recipe.rationales.path is not None)
    assert (
        len(re.findall(rf"^  - (?:data\..*|rationales)\.path: .*{tmp_path}", str(caught.value), re.MULTILINE)) == files
    )
    assert "MOLSAKI_DATA" in str(caught.value)


def test_the_papers_settings_are_the_papers() -> None:
    for name in ("paper-gpt2-large", "paper-tinyllama", "paper-gpt2-large-csqa", "paper-tinyllama-csqa"):
        recipe = resolve_methods(parse_recipe(read_recipe(name)))
        found = {method.label: method.settings for method in recipe.methods}
        for label, preset, temperature in (("molsaki", "as-run", 0.1), ("molsaki-as-written", "as-written", 1.0)):
            molsaki = found[label]
            assert (molsaki["preset"], molsaki["kl_temperature"]) == (preset, temperature)
            assert (molsaki["alpha"], molsaki["beta"]) == (0.5, 1.0)
            assert (molsaki["teacher_temperature"], molsaki["router_temperature"]) == (0.1, 0.5)
        assert (recipe.training.select, recipe.training.best_by) == ("best", "accuracy")
        assert (recipe.training.steps, recipe.training.batch_size, recipe.training.learning_rate) == (10000, 16, 5e-5)
        assert len(recipe.seeds) == 3


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("trainign.steps=5", "trainign", ""),
        ("training.stepz=5", "training.stepz", ""),
        ("data.train.sorce=x", "data.train.sorce", ""),
        ("training.steps=0", "training.steps", "got 0"),
        ("training.steps=many", "training.steps", "got 'many'"),
        ("training.learning_rate=-1", "training.learning_rate", "got -1"),
        ("training.learning_rate=.nan", "training.learning_rate", "nan"),
        ("training.weight_decay=.inf", "training.weight_decay", "inf"),
        ("training.precision=fp8", "training.precision", "'fp8'"),
        ("training={steps: 20, warmup_steps: 20}", "training", "got 20 beside `steps: 20`"),
        ("training.select=best", "training", "`evaluate_every`"),
        ("training={select: best, evaluate_every: 500, save_every: 50}", "training", "`save_every`"),
        ("seeds=[]", "seeds", ""),
        ("seeds=[1, 2, 1]", "seeds", "[1, 2, 1]"),
        ("seeds=[-1]", "seeds.0", "got -1"),
        ("methods=[]", "methods", ""),
        ("methods=[dss, dss]", "methods.0.label", "'dss'"),
        ("methods=[magic]", "methods.0.name", "'magic'"),
        ("methods=[{name: dss, beta: 1}]", "methods.0.beta", ""),
        ("methods=[{name: dss, alpha: 2}]", "methods.0.alpha", "got 2"),
        ("methods=[{name: molsaki, student_weights: uniform, gate: per-layer}]", "methods.0", "gate"),
        ("methods=[{name: molsaki, beta: .inf}]", "methods.0.beta", "inf"),
        ("methods=[{name: dss, label: ../x}]", "methods.0.label", "'../x'"),
        ("baseline=magic", "baseline", "'magic'"),
        ("data.train.source=svmap", "data.train.source", "'svmap'"),
        ("data.train.split=null", "data.train.split", "pocket-math"),
        ("data.train.path=x", "data.train.path", "'x'"),
        ("data.train={source: svamp, path: nowhere}", "data.train.path", "nowhere"),
        ("data.tests={}", "data.tests", ""),
        ("data.tests.train={source: pocket-math, split: test}", "data.tests.train", ""),
        ("data.tests.a/b={source: pocket-math, split: test}", "data.tests.a/b.[key]", "'a/b'"),
        ("data.validation_rows=-1", "data.validation_rows", "got -1"),
        ("student.name=pocket:tutor", "student.name", "'pocket:tutor'"),
        ("student.dtype=int8", "student.dtype", "'int8'"),
        ("teacher=null", "teacher", "None"),
        ("teacher={}", "teacher.writer", ""),
        ("prompts.teacher=templates/none.txt", "prompts.teacher", "templates/none.txt"),
        ("prompts.teacher='{question} only'", "prompts", "{question}"),
        ("prompts.predict='{question} {rationale}'", "prompts", "{label}"),
        ("prompts.reason='{question} {rationale}'", "prompts", "{reasoning}"),
        ("student={name: s, chat_template_kwargs: {messages: []}}", "student.chat_template_kwargs", "messages"),
        ("student={name: s, chat_template_kwargs: {mode: 1}}", "student.chat_template_kwargs", "mode"),
        ("teacher.reader={name: s, chat_template_kwargs: {mode: 1}}", "teacher.reader.chat_template_kwargs", "mode"),
        ("teacher.writer={name: s, chat_template_kwargs: {mode: 1}}", "teacher.writer.chat_template_kwargs", "mode"),
        ("evaluation.max_new_tokens=1e12", "evaluation.max_new_tokens", ""),
        ("name=../elsewhere", "name", "'../elsewhere'"),
        ("training.trackers=[tensorboard, nonsense]", "training.trackers.1", "'nonsense'"),
        ("training.trackers=[all, tensorboard]", "training.trackers.0", "'all'"),
        ("evaluation.rows={elsewhere: 5}", "evaluation.rows.elsewhere", "['in-domain']"),
        ("evaluation.rows={in-domain: 0}", "evaluation.rows.dict[constrained-str,constrained-int].in-domain", "got 0"),
        ("rationales={source: file}", "rationales", "`path`"),
        ("rationales={path: x.jsonl}", "rationales", "path"),
        ("data.train={source: table, path: x, columns: {question: q, anser: a}}", "data.train.columns", "'anser'"),
        (
            "methods=[{name: dss, training: {trackers: [nonsense]}}]",
            "methods.0.training.trackers.0",
            "'nonsense'",
        ),
        (f"data.train={{source: svamp, path: {'p' * 300}}}", "data.train.path", "pppp; "),
        (f"data.train={{source: svamp, path: {'folder/' * 900}}}", "data.train.path", "folder/folder"),
        ("teacher.writer={base_url: 'http://\u200b\ufeff.example/v1', model: m}", "teacher.writer.base_url", "IDNA"),
        ("teacher.writer={base_url: 'http://256.0.0.1/v1', model: m}", "teacher.writer.base_url", "256.0.0.1"),
        ('teacher.writer={base_url: "http://local\\nhost/v1", model: m}', "teacher.writer.base_url", "local"),
    ],
)
def test_an_invalid_value_is_refused_with_its_key(setting: str, key: str, value: str, tmp_path: Path) -> None:
    texts = [refusal(tmp_path, changed(setting))]
    if not setting.startswith(("prompts.teacher=templates", "name=")):
        texts.append(refusal(tmp_path, SMALL, settings=[setting]))
    for text in texts:
        assert any(line.startswith(f"  - {key}: ") and value in line for line in text.splitlines()), text


@pytest.mark.parametrize("length", [264, 5000, 100_000])
def test_a_prompt_without_a_slot_and_too_long_for_a_file_name_is_refused(length: int, tmp_path: Path) -> None:
    text = refusal(tmp_path, changed(f"prompts.teacher={'Answer. ' * (length // 8)}"))
    assert "  - prompts.teacher: " in text
    assert "'Answer. Answer." in text
    assert len(text) < 2000


def test_a_file_in_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    def refuse(path: Path, **options: Any) -> Any:
        if "closed" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    # The user that runs the tests may have all permissions.
    monkeypatch.setattr(Path, "stat", refuse)
    written = changed("data.train={source: svamp, path: closed/SVAMP.json}", "prompts.teacher=closed/prompt.txt")
    assert "closed/prompt.txt" in refusal(tmp_path, written)
    del written["prompts"]
    assert "closed/SVAMP.json" in refusal(tmp_path, written)


def test_trackers_that_are_not_installed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import integrations

    for name, check in {"wandb": "wandb", "comet_ml": "comet"}.items():
        monkeypatch.setattr(integrations, f"is_{check}_available", lambda: False)
        text = refusal(tmp_path, changed(f"training.trackers=[{name}]"))
        assert re.search(rf"  - training\.trackers\.0: .*{name!r}", text)
        monkeypatch.setattr(integrations, f"is_{check}_available", lambda: True)
        assert prepare_recipe(saved(tmp_path, changed(f"training.trackers=[{name}]"))).training.trackers == (name,)


@pytest.mark.parametrize("name", ["all", "none"])
def test_trackers_can_be_all_or_none(name: str, tmp_path: Path) -> None:
    assert prepare_recipe(saved(tmp_path, changed(f"training.trackers=[{name}]"))).training.trackers == (name,)


def test_every_tracker_has_a_check_in_transformers() -> None:
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
def test_tiny_limits_the_rationales_of_any_recipe(settings: list[str], limit: int, aside: int, tmp_path: Path) -> None:
    served = changed(SERVED, *settings)
    data = prepare_recipe(saved(tmp_path, served), tiny=True).data
    assert (data.train.limit, data.validation_rows) == (limit, aside)


def test_tiny_limits_a_resolved_recipe(tmp_path: Path) -> None:
    served = changed(SERVED)
    resolved = prepare_recipe(saved(tmp_path, served)).model_dump(mode="json")
    assert resolved["data"]["train"]["limit"] is None
    assert prepare_recipe(saved(tmp_path, resolved), tiny=True).data.train.limit == 32


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
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
    assert "8 problems" in text


@pytest.mark.parametrize("missing", ["name", "data", "student", "methods"])
def test_a_missing_section_does_not_hide_other_errors(missing: str, tmp_path: Path) -> None:
    written = changed("typo=1", "teacher.writer.name=pocket:tutor")
    del written[missing]
    text = refusal(tmp_path, written)
    for key in (missing, "typo", "teacher.writer.name"):
        assert f"  - {key}: " in text


@pytest.mark.parametrize("part", ["data", "data.train", "data.tests", "training", "rationales", "methods", "teacher"])
@pytest.mark.parametrize("value", ["5", "[1]", "text", "null"])
@pytest.mark.parametrize("tiny", [False, True])
def test_a_section_of_another_type_is_refused(part: str, value: str, tiny: bool, tmp_path: Path) -> None:
    written = changed(f"{part}={value}")
    if tiny and value == "null" and part in ("training", "rationales"):
        assert prepare_recipe(saved(tmp_path, written), tiny=True).tiny, "--tiny replaces these sections"
    else:
        assert part in refusal(tmp_path, written, tiny=tiny, data=str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["training.steps"], "--set training.steps: "),
        (["=5"], "--set =5: "),
        (["name.first=x"], "'name' is of type str"),
        (["methods.9=dss"], "--set methods.9=dss: "),
        (["methods.first=dss"], "--set methods.first=dss: "),
        (["methods.-1.name=dss"], "an entry of 'methods', from 0 to 2; got '-1'"),
        (["methods.3.name=dss"], "an entry of 'methods', from 0 to 2; got '3'"),
        (["name.a.b=1"], "'name' is of type str, which has no keys"),
        (["seeds=[1"], "--set seeds=[1: "),
        (["seeds=[1", "x"], "2 problems"),
        (["student=!!python/name:os.system"], "--set student=!!python/name:os.system: "),
    ],
)
def test_settings_that_cannot_be_applied_are_refused(settings: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in refusal(tmp_path, SMALL, settings=settings)


def test_settings_reach_every_depth_and_override_tiny(tmp_path: Path) -> None:
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
    assert recipe.training.batch_size == 4, "other values are those of --tiny"


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


def test_a_long_invalid_value_is_truncated(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, changed(f"training.steps={'x' * 100_000}"))) < 2000


def test_a_file_that_is_not_a_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"pocket-commonsense.*'pokcet'"):
        prepare_recipe("pokcet")
    with pytest.raises(RecipeError, match=str(tmp_path)):
        prepare_recipe(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.yaml"):
        prepare_recipe(str(tmp_path / "latin.yaml"))
    (tmp_path / "large.yaml").write_text("#" * (MAX_RECIPE_BYTES + 1), encoding="utf-8")
    with pytest.raises(RecipeError, match=str(MAX_RECIPE_BYTES)):
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


def test_relative_data_paths_start_from_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.jsonl").write_text('{"q": "1 + 1?", "a": "2"}\n', encoding="utf-8")
    written = changed("data.train={source: table, path: mine.jsonl, columns: {question: q, answer: a}}")
    assert prepare_recipe(saved(tmp_path, written), data=str(tmp_path)).data.root == str(tmp_path)
    monkeypatch.setenv("MOLSAKI_DATA", str(tmp_path))
    recipe = prepare_recipe(saved(tmp_path, written))
    assert recipe.data.root == str(tmp_path), "the resolved recipe names the data root"
    monkeypatch.delenv("MOLSAKI_DATA")
    assert parse_recipe(recipe.model_dump(mode="json")).data_path("mine.jsonl") == tmp_path / "mine.jsonl"


def test_a_recipe_cannot_be_changed_after_it_was_checked() -> None:
    recipe = parse_recipe(SMALL)
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.steps = 3  # type: ignore[misc]
    assert isinstance(recipe, Recipe)


def test_the_settings_of_a_preset_are_in_the_recipe_that_is_saved(tmp_path: Path) -> None:
    """A run directory that has the preset's name alone would mean something else when a preset changes."""
    setting = "methods=[{name: molsaki, preset: as-written, gate: shared}, dss]"
    first, second = prepare_recipe(saved(tmp_path, SMALL), settings=[setting]).methods
    assert {"kl_temperature": 1.0, "layer_change": "mean", "gate": "shared"}.items() <= first.settings.items()
    assert second.settings == {"alpha": 0.5}


def test_a_deprecated_method_is_warned_of_with_what_to_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prepare_recipe(saved(tmp_path, SMALL), settings=["methods=[dss, molsaki-words]"])
    (record,) = caplog.records
    assert re.search(r"methods\.1: molsaki-words .*attention-map", record.getMessage())


def test_an_oracle_for_data_that_do_not_know_their_sources_is_refused(tmp_path: Path) -> None:
    oracle = "methods=[dss, {name: molsaki, target: oracle}]"
    text = refusal(tmp_path, SMALL, settings=[oracle, "data.train={source: pocket-commonsense, split: train}"])
    assert re.search(r"  - methods\.1\.target: .*pocket-commonsense", text)
    assert prepare_recipe(saved(tmp_path, SMALL), settings=[oracle]).methods[1].settings["target"] == "oracle"


def test_a_weight_is_a_number_or_a_share_of_gradient(tmp_path: Path) -> None:
    def prepare(beta: str) -> Recipe:
        return prepare_recipe(saved(tmp_path, SMALL), settings=[f"methods=[{{name: molsaki, beta: {beta}}}]"])

    assert prepare("{gradient: 0.1}").methods[0].settings["beta"] == {"gradient": 0.1}
    assert prepare("0.5").methods[0].settings["beta"] == 0.5
    for wrong, key in (
        ("-1", "beta"),
        (".inf", "beta"),
        ("{gradient: 0}", "beta.gradient"),
        ("{gradient: 1}", "beta.gradient"),
        ("{share: 0.1}", "beta.gradient"),
        ("{gradient: 0.1, more: 1}", "beta.more"),
    ):
        with pytest.raises(RecipeError, match=rf"methods\.0\.{re.escape(key)}: "):
            prepare(wrong)


@pytest.mark.parametrize(
    ("method", "key", "stored"),
    [
        ("single-layer", "name", "'single-layer'"),
        ("attention-map", "name", "'attention-map'"),
        ("{name: molsaki, teacher_weights: uniform}", "teacher_weights", "'change'"),
        ("{name: molsaki-words, teacher_weights: learned}", "teacher_weights", "'change'"),
        ("{name: molsaki, step_pool: mean}", "step_pool", "'sum'"),
        ("{name: molsaki, heads: each}", "heads", "'mean'"),
        ("{name: molsaki, keys: question}", "keys", "'all'"),
        ("{name: molsaki, steps: rationale}", "steps", "'all'"),
        ("{name: molsaki, target: uniform}", "target", "'teacher'"),
        ("{name: molsaki, columns: all-but-keys}", "columns", "'all'"),
        ("{name: molsaki, rows: words}", "layer_change", "'sum'"),
        ("{name: molsaki, teacher_temperature: 1}", "teacher_temperature", "0.1"),
    ],
)
def test_a_method_that_needs_another_mixture_than_the_stored_one_is_refused(
    method: str, key: str, stored: str, tmp_path: Path
) -> None:
    text = refusal(tmp_path, SMALL, settings=[f"methods=[{method}]", "attention.layers=mixed"])
    assert re.search(rf"  - methods\.0\.{key}: .*{stored}", text)


def test_a_method_is_not_refused_for_the_columns_of_the_method_before_it(tmp_path: Path) -> None:
    methods = "methods=[{name: molsaki, label: others, columns: all-but-keys}, molsaki]"
    text = refusal(tmp_path, SMALL, settings=[methods, "attention.layers=mixed", "baseline=null"])
    assert "methods.0.columns" in text
    assert "methods.1" not in text


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("trainign.steps=2", "trainign: there is no such key; did you mean 'training'?"),
        ("training.learning_rates=1", "did you mean 'learning_rate'?"),
        ("training.epochs=2", "training.epochs: there is no such key; expected one of steps, batch_size, "),
        ("data.tests.easy={sorce: pocket-math}", "data.tests.easy.sorce: there is no such key; did you mean 'source'?"),
        ("methods=[{name: dss, alhpa: 0.1}]", "methods.0.alhpa: there is no such key; did you mean 'alpha'?"),
        ("methods=[{name: dss, training: {lr: 1}}]", "methods.0.training.lr: there is no such key; expected one of "),
        ("teacher.writer.nmae=x", "teacher.writer.nmae: there is no such key; look for a typo"),
    ],
)
def test_an_unknown_key_comes_with_those_that_may_stand_there(setting: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, changed(setting))


YAML_1_2 = {
    "on: [on, off, yes, no]": {"on": ["on", "off", "yes", "no"]},
    "[true, True, false, FALSE, null, ~, '']": [True, True, False, False, None, None, ""],
    "[1:30, 010, 0x1F, 2026-11-28, 1.5:30]": ["1:30", "010", "0x1F", "2026-11-28", "1.5:30"],
    "[0, -3, +4, .5, -1.5, 1.0e-4, 1e-4, 1.5e3, 2E+2]": [0, -3, 4, 0.5, -1.5, 1e-4, 1e-4, 1500.0, 200.0],
    "[1_000, e4, 1e, '1e-4', \"0.5\", 1.2.3]": ["1_000", "e4", "1e", "1e-4", "0.5", "1.2.3"],
}


@pytest.mark.parametrize("text", YAML_1_2)
def test_keys_labels_and_names_are_not_read_as_booleans_times_or_octal_numbers(text: str) -> None:
    assert parse_yaml(text) == YAML_1_2[text]
    assert parse_yaml(dump_yaml(YAML_1_2[text])) == YAML_1_2[text]


@pytest.mark.parametrize("value", ["evaluation={on: validation}", "evaluation.on=validation"])
def test_students_are_tested_on_validation_problems_either_way(value: str) -> None:
    values = override(read_recipe("pocket"), ["data.validation_rows=20", value])
    assert parse_recipe(values).evaluation.on == "validation"


@pytest.mark.parametrize(
    ("source", "value", "key"),
    [
        ("palm", "rationales.second_pass=true", "rationales.second_pass"),
        ("palm", "rationales={source: palm, samples: 4, temperature: 0.7}", "rationales.samples"),
        ("imported", "rationales.temperature=0.7", "rationales.temperature"),
        ("dataset", "rationales.keep=all", "rationales.keep"),
        ("palm", "keys=keywords", "rationales.keywords"),
    ],
)
def test_settings_of_a_teacher_that_is_not_asked_are_refused(source: str, value: str, key: str, tmp_path: Path) -> None:
    values = changed(f"rationales.source={source}", value)
    assert f"{key}: expected" in refusal(tmp_path, values)
    assert "where it has no effect" in refusal(tmp_path, values) or "no teacher is asked" in refusal(tmp_path, values)


def test_what_is_learned_of_exported_rationales_cannot_be_chosen(tmp_path: Path) -> None:
    values = changed("rationales={source: dataset, learn: both}", "data.train={source: signals}", "signals=here")
    assert "rationales.learn: expected none" in refusal(tmp_path, {**values, "teacher": {}})
