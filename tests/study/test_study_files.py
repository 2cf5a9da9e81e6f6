"""What a study file says: its cells, the recipes that it comes to, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import SMALL

from molsaki.config.load import override, recipe_names
from molsaki.config.recipe import Recipe
from molsaki.errors import RecipeError
from molsaki.stages.check import TINY_GENERATED_ROWS, TINY_OVERRIDES
from molsaki.study.files import STUDIES, Cell, Group, Study, find_study, read_study, study_names, study_recipe

NEEDS_NO_FILES = {
    f"pocket-{name}" for name in ("longer", "methods", "pairs", "peers", "replication", "variants", "words")
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


# ---- what is refused ----


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("sead=1", "sead: there is no such key; look for a typo"),
        ("name=a b", "name: String should match pattern"),
        ("recipes={}", "recipes: Dictionary should have at least 1 item"),
        ("recipes=[]", "recipes: Dictionary should have at least 1 item"),
        ("recipes=5", "recipes: Input should be a valid dictionary"),
        ("recipes={a b: pocket}", "String should match pattern"),
        ("recipes={main: {set: []}}", "recipes.main.recipe: expected a value, got none"),
        ("recipes={main: {recipe: pocket, steps: 5}}", "recipes.main.steps: there is no such key"),
        ("recipes=[{recipe: pocket}]", "recipes: Value error, expected a list of different names of recipes"),
        ("recipes=[pocket, pocket]", "recipes: Value error, expected a list of different names of recipes"),
        ("set=training.steps=5", "set: Input should be a valid tuple"),
        ("seeds=[]", "seeds: Tuple should have at least 1 item"),
        ("seeds=[-1]", "seeds.0: Input should be greater than or equal to 0; got -1"),
        ("seeds=[1, 2, 1]", "expected different seeds, got [1, 2, 1]"),
        ("sizes=[4, 4]", "expected different sizes, got [4, 4]"),
        ("sizes=[0]", "sizes.0: Input should be greater than or equal to 1; got 0"),
        ("methods=[]", "methods: Tuple should have at least 1 item"),
        ("methods=[dss, {beta: 1}]", "methods.1.name: expected a value, got none"),
        ("methods=[dss, dss]", "expected methods with labels of their own, got ['dss', 'dss']"),
        ("methods=[{name: dss, examples: 3}]", "expected `sizes` and `settings` of the study in the place of"),
        ("methods=[{name: dss, training: {steps: 3}}]", "expected `sizes` and `settings` of the study in the place"),
        ("baseline=molsaki", "compare and curve to name methods of ['dss', 'half'], got ['molsaki']"),
        ("compare=[[half, cot]]", "compare and curve to name methods of ['dss', 'half'], got ['cot']"),
        ("compare=[[half]]", "compare.0.1: expected a value, got none"),
        ("curve=[mmi]", "compare and curve to name methods of ['dss', 'half'], got ['mmi']"),
        ("settings={a/b: {}}", "String should match pattern"),
        ("settings={fast: 5}", "settings.fast: Input should be a valid dictionary"),
        ("published={other: {dss: {test: 1}}}", "expected `published` to name recipes and methods of this study"),
        ("published={main: {cot: {test: 1}}}", "expected `published` to name recipes and methods of this study"),
        ("published={main: {dss: {test: .nan}}}", "published.main.dss.test: Input should be a finite number"),
        ("attention_rows=-1", "attention_rows: Input should be greater than or equal to 0; got -1"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_place(setting: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read_study(str(study_file(tmp_path)), [setting])
    assert expected in str(caught.value)
    assert str(caught.value).startswith("The study has ")
    assert "; nothing was run" in str(caught.value)
    with pytest.raises(RecipeError) as caught:
        read_study(str(study_file(tmp_path, setting)))
    assert expected in str(caught.value), "the same, written in the file"


@pytest.mark.parametrize("key", ["name", "recipes", "seeds", "methods", "baseline"])
def test_what_no_study_can_do_without_is_named(key: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in STUDY.items() if name != key}), encoding="utf-8")
    with pytest.raises(RecipeError, match=f"  - {key}: expected a value, got none"):
        read_study(str(path))


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="The study has 3 problems") as caught:
        read_study(str(study_file(tmp_path)), ["seeds=[]", "sizes=[-1]", "what=1"])
    assert all(f"  - {place}: " in str(caught.value) for place in ("seeds", "sizes.0", "what"))


def test_a_file_that_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"a study's name \(paper-beta, .*or a YAML file; got 'pokcet'"):
        read_study("pokcet")
    (tmp_path / "list.yaml").write_text("- dss", encoding="utf-8")
    with pytest.raises(RecipeError, match="to hold keys and values; got list"):
        read_study(str(tmp_path / "list.yaml"))
    with pytest.raises(RecipeError, match="--set seeds: expected key=value"):
        read_study(str(study_file(tmp_path)), ["seeds"])


# ---- cells ----


def test_an_entrys_label_names_its_method_its_size_and_its_setting() -> None:
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


def test_groups_are_in_order_the_largest_size_last(tmp_path: Path) -> None:
    study, _ = read_study(str(study_file(tmp_path)), ["sizes=[8, 2, 4]", "settings={slow: {}, fast: {}}"])
    assert study.groups == [Group(n, setting) for n in (2, 4, 8) for setting in ("slow", "fast")]
    assert [cell.label for cell in study.cells[:4]] == ["dss-n2-slow", "half-n2-slow", "dss-n2-fast", "half-n2-fast"]
    assert len(study.cells) == 12
    assert read_study(str(study_file(tmp_path)))[0].groups == [Group()]


def test_recipes_are_a_list_of_names_or_a_mapping() -> None:
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
    assert recipe.methods[1].settings == {"beta": 0.5}
    assert recipe.seeds == (3, 1)
    assert recipe.data.train.limit == 6
    assert recipe.baseline is None, "that of the recipe's own methods means nothing here"
    assert recipe.training.steps == 6, "the rest is the recipe's"
    assert recipe.name == "small"


def test_without_sizes_and_settings_the_recipes_own_hold(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    assert [(m.label, m.examples, m.training) for m in recipe.methods] == [("dss", None, {}), ("half", None, {})]
    assert recipe.data.train.limit == 8


def test_later_settings_win_over_earlier_ones(tmp_path: Path) -> None:
    given = ("set=[training.steps=10, training.batch_size=10, training.log_every=10]",)
    of_recipe = "recipes={main: {recipe: small.yaml, set: [training.batch_size=11, training.log_every=11]}}"
    recipe = recipe_of(tmp_path, *given, of_recipe, settings=["training.log_every=12"])
    found = recipe.training
    assert (found.steps, found.batch_size, found.log_every) == (10, 11, 12)


def test_tiny_makes_few_problems_and_short_trainings_of_it(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "sizes=[5, 900]", "settings={long: {steps: 5000, weight_decay: 0.1}}", tiny=True)
    assert recipe.tiny
    assert recipe.data.train.limit == TINY_GENERATED_ROWS
    assert recipe.seeds == (1,)
    assert [method.examples for method in recipe.methods] == [5, 5, 900, 900]
    steps = {recipe.training_of(method).steps for method in recipe.methods}
    assert steps == {TINY_OVERRIDES["training"]["steps"]}, "a setting's own steps would make it long"
    assert {recipe.training_of(method).weight_decay for method in recipe.methods} == {0.1}
    assert recipe_of(tmp_path, tiny=True, settings=["training.steps=2", "seeds=[7]"]).seeds == (7,)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("methods.1.bata=1", "methods.1.bata: there is no such key"),
        ("methods.1.name=magic", "methods.1.name: expected one of label-only"),
        ("settings={fast: {stepz: 1}}", "methods.0.training.stepz: there is no such key"),
        ("settings={fast: {steps: 0}}", "methods.1.training.steps: Input should be greater than or equal to 1; got 0"),
        ("set=[training.stepz=1]", "training.stepz: there is no such key"),
    ],
)
def test_what_a_recipe_refuses_is_said_with_the_studys_and_the_recipes_name(
    setting: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(tmp_path, setting)
    assert "The study 'little', recipe 'main'. The recipe has" in str(caught.value)
    assert expected in str(caught.value)


def test_a_recipes_file_lies_beside_the_studys_and_is_named_where_it_does_not(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"or a YAML file; got '.*none\.yaml'") as caught:
        recipe_of(tmp_path, "recipes={main: none.yaml}")
    assert str(tmp_path) in str(caught.value)


# ---- studies that ship ----


@pytest.mark.parametrize("name", study_names())
@pytest.mark.parametrize("tiny", [False, True])
def test_every_shipped_study_comes_to_whole_recipes(name: str, tiny: bool, request: pytest.FixtureRequest) -> None:
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
            few = tiny and recipe.rationales.source == "teacher"  # what exists already costs nothing
            assert recipe.data.train.limit == (TINY_GENERATED_ROWS if few else max(study.sizes))
        beside = {test for tests in study.published.get(own, {}).values() for test in tests}
        assert beside <= {*recipe.data.tests, "mean of sets"}, "a number for another set would never be shown"


def test_a_published_number_for_a_set_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"published.main: expected test sets of .*'in-domain'.*got 'chain'"):
        recipe_of(tmp_path, "published={main: {dss: {chain: 1.0, mean of sets: 2.0}}}")


@pytest.mark.parametrize("name", sorted(set(study_names()) - NEEDS_NO_FILES))
def test_a_study_without_its_data_says_where_it_was_looked_for(name: str, tmp_path: Path) -> None:
    study, path = read_study(name)
    for own in study.recipes:
        with pytest.raises(RecipeError, match="expected a file or folder at") as caught:
            study_recipe(study, path, own, data=str(tmp_path))
        assert f"The study {name!r}, recipe {own!r}" in str(caught.value)
