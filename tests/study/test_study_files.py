"""Study files: their cells, the recipes that they stand for, and invalid values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import SMALL

from molsaki.config.load import override, parse_recipe, read_recipe, recipe_names
from molsaki.config.recipe import Recipe
from molsaki.config.tiny import TINY_GENERATED_ROWS, TINY_OVERRIDES
from molsaki.errors import RecipeError
from molsaki.study.files import STUDIES, Cell, Group, Study, find_study, read_study, study_names, study_recipe

NEEDS_NO_FILES = {
    f"pocket-{name}"
    for name in (
        "chains",
        "columns",
        "controls",
        "longer",
        "methods",
        "pairs",
        "peers",
        "replication",
        "tuned",
        "variants",
        "weights",
        "words",
    )
}
STUDY: dict[str, Any] = {
    "name": "little",
    "recipes": {"main": "small.yaml"},
    "seeds": [3, 1],
    "methods": ["dss", {"name": "molsaki", "label": "half", "beta": 0.5}],
    "baseline": "dss",
}


def study_file(folder: Path, *settings: str) -> Path:
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(override(STUDY, settings)), encoding="utf-8")
    return path


def recipe_of(folder: Path, *settings: str, name: str = "main", **options: Any) -> Recipe:
    study, path = read_study(str(study_file(folder, *settings)))
    return study_recipe(study, path, name, **options)


# ---- invalid values ----


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("sead=1", "sead", ""),
        ("name=a b", "name", "'a b'"),
        ("recipes={}", "recipes", ""),
        ("recipes=[]", "recipes", ""),
        ("recipes=5", "recipes", "got 5"),
        ("recipes={a b: pocket}", "recipes.a b.[key]", "'a b'"),
        ("recipes={main: {set: []}}", "recipes.main.recipe", ""),
        ("recipes={main: {recipe: pocket, steps: 5}}", "recipes.main.steps", ""),
        ("recipes=[{recipe: pocket}]", "recipes", ""),
        ("recipes=[pocket, pocket]", "recipes", ""),
        ("set=training.steps=5", "set", "'training.steps=5'"),
        ("seeds=[]", "seeds", ""),
        ("seeds=[-1]", "seeds.0", "got -1"),
        ("seeds=[1, 2, 1]", "study.yaml", "[1, 2, 1]"),
        ("sizes=[4, 4]", "study.yaml", "[4, 4]"),
        ("sizes=[0]", "sizes.0", "got 0"),
        ("methods=[]", "methods", ""),
        ("methods=[dss, {beta: 1}]", "methods.1.name", ""),
        ("methods=[dss, dss]", "study.yaml", "['dss', 'dss']"),
        ("methods=[{name: dss, examples: 3}]", "study.yaml", "`examples`"),
        ("baseline=molsaki", "study.yaml", "['molsaki']"),
        ("compare=[[half, cot]]", "study.yaml", "['cot']"),
        ("compare=[[half]]", "compare.0.1", ""),
        ("curve=[mmi]", "study.yaml", "['mmi']"),
        ("settings={a/b: {}}", "settings.a/b.[key]", "'a/b'"),
        ("settings={fast: 5}", "settings.fast", "got 5"),
        ("published={other: {dss: {test: 1}}}", "study.yaml", "`published`"),
        ("published={main: {cot: {test: 1}}}", "study.yaml", "`published`"),
        ("published={main: {dss: {test: .nan}}}", "published.main.dss.test", "nan"),
        ("attention_rows=-1", "attention_rows", "got -1"),
        ("compare=[[half, half]]", "study.yaml", "['half']"),
        ("baselines={half: half}", "study.yaml", "['half']"),
        ("baselines={half: cot}", "study.yaml", "['cot']"),
        ('set=["seeds=[3]"]', "study.yaml", "'seeds=[3]'"),
        ('recipes={main: {recipe: small.yaml, set: ["methods.0.alpha=1"]}}', "study.yaml", "'methods.0.alpha=1'"),
    ],
)
def test_an_invalid_value_is_refused_with_its_key(setting: str, key: str, value: str, tmp_path: Path) -> None:
    for in_file, settings in ((), [setting]), ((setting,), []):
        path = study_file(tmp_path, *in_file)
        with pytest.raises(RecipeError) as caught:
            read_study(str(path), settings)
        lines = str(caught.value).splitlines()
        assert any(line.startswith(f"  - {key}: ") and value in line for line in lines), caught.value


@pytest.mark.parametrize("key", ["name", "recipes", "seeds", "methods", "baseline"])
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in STUDY.items() if name != key}), encoding="utf-8")
    with pytest.raises(RecipeError, match=f"  - {key}: "):
        read_study(str(path))


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="3 problems") as caught:
        read_study(str(study_file(tmp_path)), ["seeds=[]", "sizes=[-1]", "what=1"])
    assert all(f"  - {place}: " in str(caught.value) for place in ("seeds", "sizes.0", "what"))


def test_a_file_that_is_not_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"paper-beta, .*'pokcet'"):
        read_study("pokcet")
    (tmp_path / "list.yaml").write_text("- dss", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"list\.yaml.*got list"):
        read_study(str(tmp_path / "list.yaml"))
    with pytest.raises(RecipeError, match="--set seeds: "):
        read_study(str(study_file(tmp_path)), ["seeds"])


# ---- cells ----


def test_a_label_names_method_size_and_setting() -> None:
    assert Cell("dss", Group()).label == "dss"
    assert Cell("dss", Group(300)).label == "dss-n300"
    assert Cell("dss", Group(None, "fast")).label == "dss-fast"
    assert Cell("dss", Group(300, "fast")).label == "dss-n300-fast"
    assert [str(Group()), str(Group(300)), str(Group(None, "fast")), str(Group(300, "fast"))] == [
        "",
        "300 training problems",
        "fast",
        "300 training problems, fast",
    ]


def test_the_largest_size_is_the_last_group(tmp_path: Path) -> None:
    study, _ = read_study(str(study_file(tmp_path)), ["sizes=[8, 2, 4]", "settings={slow: {}, fast: {}}"])
    assert study.groups == [Group(n, setting) for n in (2, 4, 8) for setting in ("slow", "fast")]
    assert [cell.label for cell in study.cells[:4]] == ["dss-n2-slow", "half-n2-slow", "dss-n2-fast", "half-n2-fast"]
    assert len(study.cells) == 12
    assert read_study(str(study_file(tmp_path)))[0].groups == [Group()]


def test_recipes_are_a_list_or_a_mapping() -> None:
    listed = Study.model_validate(STUDY | {"recipes": ["pocket", "pocket-commonsense"]})
    named = Study.model_validate(STUDY | {"recipes": {"pocket": "pocket", "pocket-commonsense": "pocket-commonsense"}})
    assert listed == named
    both = Study.model_validate(
        STUDY | {"recipes": {"a": "pocket", "b": {"recipe": "pocket", "set": ["keys=numbers"]}}}
    )
    assert [(name, one.recipe, one.set) for name, one in both.recipes.items()] == [
        ("a", "pocket", ()),
        ("b", "pocket", ("keys=numbers",)),
    ]


# ---- recipes ----


def test_a_recipe_has_an_entry_for_each_cell_and_the_problems_of_the_largest_size(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "sizes=[6, 3]", "settings={plain: {}, slow: {learning_rate: 0.01}}")
    assert [method.label for method in recipe.methods] == [
        f"{label}-n{n}-{setting}" for n in (3, 6) for setting in ("plain", "slow") for label in ("dss", "half")
    ]
    assert [method.examples for method in recipe.methods] == [3] * 4 + [6] * 4
    assert [method.training for method in recipe.methods[:3]] == [{}, {}, {"learning_rate": 0.01}]
    assert recipe.training_of(recipe.methods[2]).learning_rate == 0.01
    assert recipe.methods[1].settings["beta"] == 0.5
    assert recipe.seeds == (3, 1)
    assert recipe.data.train.limit == 6
    assert recipe.baseline is None, "the study has its own baseline"
    assert recipe.training.steps == 6, "other values are the recipe's"
    assert recipe.name == "small"


def test_without_sizes_and_settings_the_recipe_decides(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    assert [(m.label, m.examples, m.training) for m in recipe.methods] == [("dss", None, {}), ("half", None, {})]
    assert recipe.data.train.limit == 8


def test_later_settings_override_earlier_ones(tmp_path: Path) -> None:
    given = ("set=[training.steps=10, training.batch_size=10, training.log_every=10]",)
    of_recipe = "recipes={main: {recipe: small.yaml, set: [training.batch_size=11, training.log_every=11]}}"
    recipe = recipe_of(tmp_path, *given, of_recipe, settings=["training.log_every=12"])
    found = recipe.training
    assert (found.steps, found.batch_size, found.log_every) == (10, 11, 12)


@pytest.mark.parametrize(
    ("in_file", "given", "named"),
    [
        ("settings={short: {steps: 3}, plain: {}}", "training.steps=9", "settings.short.steps"),
        ("methods=[dss, {name: molsaki, training: {steps: 3}}]", "training.steps=9", "methods.1.training.steps"),
        ("curve=[]", "seeds=[9]", "--set seeds=[9]"),
    ],
)
def test_an_option_without_effect_is_refused(in_file: str, given: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=re.escape(named)):
        recipe_of(tmp_path, in_file, settings=[given])
    recipe_of(tmp_path, in_file, settings=["training.batch_size=9"])


def test_a_setting_of_the_grid_that_a_method_has_too_is_refused(tmp_path: Path) -> None:
    path = study_file(tmp_path, "settings={short: {steps: 3}}", "methods=[dss, {name: cot, training: {steps: 2}}]")
    with pytest.raises(RecipeError, match=r"in both: \{'cot': \['steps'\]\}"):
        read_study(str(path))


def test_attention_of_students_whose_weights_are_deleted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="keep_weights=true beside `attention_rows`"):
        recipe_of(tmp_path, "attention_rows=3", settings=["evaluation.keep_weights=false"])


def test_tiny_limits_problems_and_steps(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "sizes=[5, 900]", "settings={long: {steps: 5000, weight_decay: 0.1}}", tiny=True)
    assert recipe.tiny
    assert recipe.data.train.limit == TINY_GENERATED_ROWS
    assert recipe.seeds == (1,)
    assert [method.examples for method in recipe.methods] == [5, 5, 900, 900]
    steps = {recipe.training_of(method).steps for method in recipe.methods}
    assert steps == {TINY_OVERRIDES["training"]["steps"]}, "--tiny overrides the steps of a setting"
    assert {recipe.training_of(method).weight_decay for method in recipe.methods} == {0.1}
    assert recipe_of(tmp_path, tiny=True, settings=["training.steps=2", "seeds=[7]"]).seeds == (7,)


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("methods.1.bata=1", "methods.1.bata"),
        ("methods.1.name=magic", "methods.1.name"),
        ("settings={fast: {stepz: 1}}", "methods.0.training.stepz"),
        ("settings={fast: {steps: 0}}", "methods.1.training.steps"),
        ("settings={fast: {steps: 5, warmup_steps: 5}}", "methods.1.training"),
        ("set=[training.stepz=1]", "training.stepz"),
    ],
)
def test_an_error_in_a_recipe_names_the_study_and_the_recipe(setting: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(tmp_path, setting)
    assert "'little'" in str(caught.value)
    assert "'main'" in str(caught.value)
    assert f"  - {key}: " in str(caught.value)


def test_a_missing_recipe_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml") as caught:
        recipe_of(tmp_path, "recipes={main: none.yaml}")
    assert str(tmp_path) in str(caught.value)


# ---- studies that ship ----


@pytest.mark.parametrize("name", study_names())
@pytest.mark.parametrize("tiny", [False, True])
def test_every_shipped_study_has_valid_recipes(name: str, tiny: bool, request: pytest.FixtureRequest) -> None:
    data = None if name in NEEDS_NO_FILES else str(request.getfixturevalue("shared_data"))
    study, path = read_study(name)
    assert (study.name, path) == (name, STUDIES / f"{name}.yaml")
    assert find_study(name) == path
    assert 20 < len(study.description) < 140
    for own in study.recipes:
        recipe = study_recipe(study, path, own, tiny=tiny, data=data)
        assert study.recipes[own].recipe in recipe_names()
        assert [method.label for method in recipe.methods] == [cell.label for cell in study.cells]
        assert recipe.seeds == ((1,) if tiny else study.seeds)
        assert recipe.tiny == tiny
        if study.sizes:
            few = tiny and recipe.rationales.source == "teacher"  # existing rationales cost nothing
            rows = recipe.data.rows or recipe.data.train.limit
            assert rows == (TINY_GENERATED_ROWS if few else max(study.sizes))
        published = {test for tests in study.published.get(own, {}).values() for test in tests}
        assert published <= {*recipe.data.tests, "mean of sets"}, "other sets are in no table"


MAIN_TABLES = (
    "pocket-methods",
    "pocket-replication",
    "pocket-controls",
    "pocket-tuned",
    "smollm2-methods",
    "smollm2-tuned",
    "smollm2-svamp",
)


@pytest.mark.parametrize("name", [name for name in study_names() if name.startswith("paper-") or name in MAIN_TABLES])
def test_molsaki_stands_in_main_tables_as_run_and_as_written(name: str) -> None:
    methods = [method for method in read_study(name)[0].methods if method.name == "molsaki"]
    assert {method.settings.get("preset", "as-run") for method in methods} == {"as-run", "as-written"}


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("paper-")])
def test_the_papers_recipes_have_both_readings_and_choose_by_validation(name: str) -> None:
    recipe = parse_recipe(read_recipe(name))
    methods = [method for method in recipe.methods if method.name == "molsaki"]
    assert {method.settings.get("preset", "as-run") for method in methods} == {"as-run", "as-written"}
    assert (recipe.training.select, recipe.training.best_by) == ("best", "accuracy")
    assert recipe.has_validation
    assert recipe.training.save_every == recipe.training.evaluate_every > 0


def test_a_published_number_for_an_unknown_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"  - published\.main: .*'chain'"):
        recipe_of(tmp_path, "published={main: {dss: {chain: 1.0, mean of sets: 2.0}}}")


@pytest.mark.parametrize("name", sorted(set(study_names()) - NEEDS_NO_FILES))
def test_a_study_without_its_data_names_the_missing_files(name: str, tmp_path: Path) -> None:
    study, path = read_study(name)
    for own in study.recipes:
        with pytest.raises(RecipeError, match=rf"data\.train\.path: .*{tmp_path}") as caught:
            study_recipe(study, path, own, data=str(tmp_path))
        assert repr(name) in str(caught.value)
        assert repr(own) in str(caught.value)
