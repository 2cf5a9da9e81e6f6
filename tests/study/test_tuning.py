"""Settings are chosen on validation problems with one budget, and confirmed on problems that nothing was chosen on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import SMALL, Shown, molsaki
from run_answers import make_answers

from molsaki.config.load import override
from molsaki.errors import RecipeError
from molsaki.store.row_log import RowLog
from molsaki.store.shards import count_rows
from molsaki.study.files import Study, read_study
from molsaki.study.fresh import require_fresh_seeds
from molsaki.study.tables import find_pairs
from molsaki.study.tuning import choose, chosen_settings, confirming_study, find_trials, tuning_study, tuning_table
from molsaki.teacher import read_signals
from molsaki.teacher.local import LocalWriter

STUDY: dict[str, Any] = {
    "name": "tuned",
    "recipes": {"main": "small.yaml"},
    "set": [
        "training.steps=1",
        "training.log_every=1",
        "evaluation.max_new_tokens=2",
        "data.draws=independent",
        "data.validation={source: pocket-math, split: validation, limit: 4}",
        "data.train.limit=4",
        "data.tests={in-domain: {source: pocket-math, split: test, limit: 4}}",
    ],
    "seeds": [1, 2],
    "methods": ["label-only", {"name": "dss", "label": "half", "alpha": 0.25}],
    "baseline": "label-only",
    "tune": {
        "budget": 2,
        "seeds": [7],
        "methods": {"label-only": {"training.learning_rate": [1e-3, 1e-2]}, "half": {"alpha": [0.25, 0.75]}},
    },
}


def study_file(folder: Path, *settings: str, name: str = "study.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    path = folder / name
    path.write_text(yaml.safe_dump(override(STUDY, settings), sort_keys=False), encoding="utf-8")
    return path


def run(path: Path, out: Path, *more: str) -> Shown:
    return molsaki("study", path, "--out", out, "--workers", "1", *more)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Shown]:
    folder = tmp_path_factory.mktemp("tuning")
    path = study_file(folder)
    shown = run(path, folder / "out")
    assert shown.code == 0, shown.error
    return path, folder / "out", shown


def test_a_study_chooses_and_reports_both_settings(world: tuple[Path, Path, Shown]) -> None:
    _, out, shown = world
    labels = sorted(path.name for path in (out / "main/students").iterdir())
    assert labels == sorted(
        f"{name}-{seed}" for name in ("label-only", "half", "label-only-tuned", "half-tuned") for seed in (1, 2)
    )
    facts = json.loads((out / "study.json").read_text(encoding="utf-8"))
    (tuning,) = facts["tuning"]
    assert [(one["method"], one["settings"]) for one in tuning["tried"]] == [
        ("label-only", {"training.learning_rate": 1e-3}),
        ("label-only", {"training.learning_rate": 1e-2}),
        ("half", {"alpha": 0.25}),
        ("half", {"alpha": 0.75}),
    ]
    chosen = {one["method"]: one["settings"] for one in tuning["tried"] if one["chosen"]}
    recipe = yaml.safe_load((out / "main/recipe.yaml").read_text(encoding="utf-8"))
    methods = {entry["label"]: entry for entry in recipe["methods"]}
    assert methods["half"]["alpha"] == 0.25
    assert methods["half-tuned"]["alpha"] == chosen["half"]["alpha"]
    assert methods["label-only-tuned"]["training"] == {"learning_rate": chosen["label-only"]["training.learning_rate"]}
    pairs = {(one["method"], one["to"]) for one in facts["comparisons"][0]["differences"]}
    assert {("half-tuned", "half"), ("half-tuned", "label-only-tuned"), ("half", "label-only")} <= pairs
    assert "2 combinations for each method" in shown.text


def test_nothing_is_chosen_on_a_test_problem(world: tuple[Path, Path, Shown]) -> None:
    names = {path.name for path in (world[1] / "tuning/main/predictions").rglob("*.jsonl")}
    assert names == {"validation.jsonl"}
    assert {path.name for path in (world[1] / "main/predictions").rglob("*.jsonl")} == {"in-domain.jsonl"}


def test_a_finished_study_trains_nothing_again(world: tuple[Path, Path, Shown]) -> None:
    again = run(world[0], world[1])
    assert again.code == 0, again.error
    assert ": trained in" not in again.out
    tables = run(world[0], world[1], "--tables")
    assert tables.code == 0, tables.error
    assert "half-tuned" in tables.text


def test_a_part_of_the_choice_confirms_nothing_yet(tmp_path: Path) -> None:
    shown = run(study_file(tmp_path), tmp_path / "out", "--part", "1/4")
    assert shown.code == 0, shown.error
    assert "not chosen yet" in shown.text
    assert not (tmp_path / "out/main").exists()


def test_a_teacher_writes_and_is_read_once_for_both_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of the trials and of the report have the same training problems, unless each seed draws its own."""
    asked, read = [], []
    complete, rows = LocalWriter.complete, read_signals.read_rows

    def counting_complete(self: LocalWriter, requests: Sequence[Any], **more: Any) -> Any:
        asked.append(len(requests))
        return complete(self, requests, **more)

    def counting_rows(*args: Any, **more: Any) -> Any:
        read.append(len(args[2]))
        return rows(*args, **more)

    monkeypatch.setattr(LocalWriter, "complete", counting_complete)
    monkeypatch.setattr(read_signals, "read_rows", counting_rows)
    path = study_file(tmp_path, "methods=[label-only, {name: molsaki, label: half, alpha: 0.25}]")
    settings = ("--set", "recipe.data.draws=shared")
    shown = run(path, tmp_path / "out", "--prepare", *settings)
    assert shown.code == 0, shown.error
    ours, theirs = tmp_path / "out/main", tmp_path / "out/tuning/main"
    assert sum(asked) == RowLog(theirs / "completions.jsonl").count() > 0
    assert sum(read) == count_rows(theirs / "attention/steps") > 0
    for name in ("completions.jsonl", "rationales.jsonl"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert count_rows(ours / "attention/steps") == sum(read)


def test_a_prepared_study_takes_the_settings_that_are_chosen_later(tmp_path: Path) -> None:
    """Without the untuned students the settings that a run was prepared with are replaced by the chosen ones."""
    path, out = study_file(tmp_path, "tune.untuned=false"), tmp_path / "out"
    shown = run(path, out, "--prepare")
    assert shown.code == 0, shown.error
    shown = run(path, out)
    assert shown.code == 0, shown.error
    facts = json.loads((out / "study.json").read_text(encoding="utf-8"))
    chosen = {one["method"]: one["settings"] for one in facts["tuning"][0]["tried"] if one["chosen"]}
    methods = {one["label"]: one for one in yaml.safe_load((out / "main/recipe.yaml").read_text())["methods"]}
    assert methods["half"]["alpha"] == chosen["half"]["alpha"]
    assert methods["label-only"]["training"] == {"learning_rate": chosen["label-only"]["training.learning_rate"]}


# ---- the choice ----


def answers_of(*correct: str):
    labels = ("label-only-try1", "label-only-try2", "half-try1", "half-try2")
    return make_answers({(label, 7): [one] for label, one in zip(labels, correct, strict=True) if one}, ["validation"])


def test_the_best_is_chosen_and_the_first_of_equal_ones() -> None:
    study = Study.model_validate(STUDY)
    (choice,) = choose(study, [answers_of("1100", "1010", "1000", "1110")])
    assert [choice.chosen[label].number for label in ("label-only", "half")] == [1, 2]
    assert chosen_settings(study, choice.chosen) == {
        "label-only-tuned": {"training.learning_rate": 1e-3},
        "half-tuned": {"alpha": 0.75},
    }
    assert [row[2] for row in tuning_table(choice).rows] == ["chosen", "", "", "chosen"]


def test_a_control_has_the_settings_chosen_for_its_method() -> None:
    methods = [*STUDY["methods"], {"name": "dss", "label": "control", "alpha": 0.25}]
    tune = {**STUDY["tune"], "follow": {"control": "half"}}
    study = Study.model_validate({**STUDY, "methods": methods, "tune": tune})
    (choice,) = choose(study, [answers_of("1100", "1010", "1000", "1110")])
    assert chosen_settings(study, choice.chosen)["control-tuned"] == {"alpha": 0.75}
    assert [cell.label for cell in confirming_study(study).cells][-1] == "control-tuned"
    alone = Study.model_validate({**study.model_dump(), "tune": {**tune, "untuned": False}})
    assert chosen_settings(alone, choice.chosen)["control"] == {"alpha": 0.75}
    assert confirming_study(alone).cells == study.cells


def test_only_the_chosen_settings_are_reported_on_request(tmp_path: Path) -> None:
    path = study_file(tmp_path, "tune.untuned=false", "methods=[label-only, {name: dss, label: half, alpha: 0.1}]")
    shown = run(path, tmp_path / "out", "--set", "recipe.evaluation.keep_weights=false")
    assert shown.code == 0, shown.error
    recipe = yaml.safe_load((tmp_path / "out/main/recipe.yaml").read_text(encoding="utf-8"))
    assert [(entry["label"], entry.get("alpha") in {0.25, 0.75}) for entry in recipe["methods"]] == [
        ("label-only", False),
        ("half", True),
    ]
    folders = list((tmp_path / "out").rglob("students/*"))
    assert len(folders) == 8
    assert not list((tmp_path / "out").rglob("*.safetensors"))  # neither of these nor of those to choose by
    tables = run(path, tmp_path / "out", "--tables")
    assert "missing" not in tables.text
    (tmp_path / "out/main/predictions/half-1/in-domain.jsonl").unlink()
    again = run(path, tmp_path / "out", "--set", "recipe.evaluation.keep_weights=false")
    assert again.code != 0
    assert "Delete the directory" in again.error


def test_nothing_is_chosen_while_a_student_is_missing() -> None:
    study = Study.model_validate(STUDY)
    assert choose(study, [answers_of("1100", "1010", "1000", "")]) is None
    first_seed_alone = replace(answers_of("1100", "1010", "1000", "1110"), planned=(7, 8))
    assert choose(study, [first_seed_alone]) is None


def test_all_combinations_are_tried_at_the_largest_size() -> None:
    methods = {
        "label-only": {"training.learning_rate": [1, 2, 3, 4]},
        "half": {"alpha": [0.1, 0.2], "training.steps": [3, 4]},
    }
    study = Study.model_validate({**STUDY, "sizes": [2, 4], "tune": {"budget": 4, "seeds": [7], "methods": methods}})
    assert [dict(trial.settings) for trial in find_trials(study)[4:]] == [
        {"alpha": alpha, "training.steps": steps} for alpha in (0.1, 0.2) for steps in (3, 4)
    ]
    trials = tuning_study(study)
    assert [cell.label for cell in trials.cells][-1] == "half-try4-n4"
    assert trials.seeds == (7,)
    assert len(confirming_study(study).cells) == 8


# ---- what is refused ----


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["tune.budget=3"], "label-only has 2"),
        (["tune.methods.half.alpha=[0.1]"], "half has 1"),
        (["tune.methods={half: {alpha: [0.1, 0.2]}}"], "'label-only' in tune.methods"),
        (["tune.methods.cot={alpha: [0.1, 0.2]}"], "cot"),
        (["tune.seeds=[2]"], "[2]"),
        (["tune.follow={half: label-only}"], "tune.follow"),
        (["tune.follow={cot: half}"], "cot"),
        (["settings={short: {steps: 3}}"], "`settings`"),
        (["tune.seeds=[7, 7]"], "different tune.seeds"),
        (["tune.methods.half={alpha: [0.25, 0.25]}"], "['alpha']"),
        (["tune.methods.half={label: [a, b]}"], "['label']"),
        (["tune.methods.half={examples: [2, 3]}"], "['examples']"),
        (["recipes={tuning: small.yaml}"], "folder of trials"),
    ],
    ids=str,
)
def test_an_unfair_choice_is_refused(settings: list[str], named: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read_study(str(study_file(tmp_path)), settings)
    assert named in str(caught.value)


def test_a_method_with_more_steps_to_try_is_refused(tmp_path: Path) -> None:
    path = study_file(tmp_path, "tune.methods.half={training.steps: [1, 2]}")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values["tune"]["methods"]["half"] = {"training.steps": [1, 2]}
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    shown = run(path, tmp_path / "out")
    assert shown.code == 2
    assert "label-only 2, half 3" in " ".join(shown.error.split())
    assert not list((tmp_path / "out").rglob("students"))


def test_an_unknown_setting_to_try_is_refused_before_training(tmp_path: Path) -> None:
    shown = run(study_file(tmp_path, "tune.methods.half={alpah: [1, 2]}"), tmp_path / "out")
    assert shown.code == 2
    assert "alpah" in shown.error


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            [
                "methods.2={name: mmi, label: other}",
                "tune.follow={other: half}",
                "tune.methods.half={beta: [0.1, 0.2]}",
            ],
            "beta",
        ),
        (["methods.2={name: dss, label: half-tuned}"], "half-tuned"),
    ],
    ids=["a setting that the follower lacks", "the label of a tuned method"],
)
def test_a_choice_that_could_not_be_confirmed_is_refused_before_training(
    settings: list[str], named: str, tmp_path: Path
) -> None:
    more = {"name": "dss", "label": "third"}
    path = study_file(tmp_path, f"methods={json.dumps([*STUDY['methods'], more])}", *settings)
    shown = run(path, tmp_path / "out")
    assert shown.code == 2
    assert named in shown.error
    assert not (tmp_path / "out").exists()


def test_a_tuned_method_is_compared_with_the_tuned_baseline_and_with_itself() -> None:
    study = Study.model_validate(STUDY)
    assert find_pairs(confirming_study(study)) == [
        ("half", "label-only"),
        ("label-only-tuned", "label-only"),
        ("half-tuned", "label-only-tuned"),
        ("half-tuned", "half"),
    ]


def test_a_tuned_method_with_a_baseline_of_its_own_is_compared_with_that_one_tuned() -> None:
    methods = [*STUDY["methods"], {"name": "dss", "label": "control", "alpha": 0.25}]
    tune = {**STUDY["tune"], "follow": {"control": "half"}}
    study = Study.model_validate({**STUDY, "methods": methods, "tune": tune, "baselines": {"control": "half"}})
    pairs = find_pairs(confirming_study(study))
    assert ("control", "half") in pairs
    assert ("control-tuned", "half-tuned") in pairs
    assert ("half-tuned", "label-only-tuned") in pairs


def test_validation_problems_that_are_left_out_for_being_test_problems_leave_the_tests_fresh(tmp_path: Path) -> None:
    """Of twelve validation problems six are test problems, on which no trial is scored."""
    same = [item for item in STUDY["set"] if "draws" not in item and "validation" not in item and "tests" not in item]
    same += ["data.validation={source: pocket-math, split: test, limit: 12}"]
    same += ["data.tests={in-domain: {source: pocket-math, split: test, limit: 6}}"]
    shown = run(study_file(tmp_path, f"set={json.dumps(same)}"), tmp_path / "out", "--prepare")
    assert shown.code == 0, shown.error
    shown = run(tmp_path / "study.yaml", tmp_path / "out")
    assert shown.code == 0, shown.error


PLAIN = ("tune=null", "methods=[label-only]", "baseline=label-only")


def test_seeds_that_were_chosen_by_are_refused(tmp_path: Path) -> None:
    study_file(tmp_path, *PLAIN, "seeds=[2, 3]", "name=first", name="first.yaml")
    study, path = read_study(str(study_file(tmp_path, *PLAIN, "chosen_by=[first.yaml]")))
    with pytest.raises(RecipeError, match=r"\[2\] are also those of 'first.yaml'"):
        require_fresh_seeds(study, path)


def test_problems_that_were_chosen_on_are_refused_before_a_student_trains(tmp_path: Path) -> None:
    shared = [item for item in STUDY["set"] if "draws" not in item]
    study_file(tmp_path, *PLAIN, "seeds=[5]", f"set={json.dumps(shared)}", name="first.yaml")
    path = study_file(tmp_path, *PLAIN, f"set={json.dumps(shared)}", "chosen_by=[first.yaml]")
    shown = run(path, tmp_path / "out")
    assert shown.code == 2
    assert "4 of the 4 problems of main: in-domain" in " ".join(shown.error.split())
    assert not (tmp_path / "out/main/students").exists()
    assert run(path, tmp_path / "tiny", "--tiny", "--prepare").code == 0, "confirms nothing, and draws a few problems"
    fresh = study_file(tmp_path, *PLAIN, "chosen_by=[first.yaml]")
    assert run(fresh, tmp_path / "fresh").code == 0


def test_a_choice_on_validation_problems_leaves_the_tests_fresh(tmp_path: Path) -> None:
    shared = [item for item in STUDY["set"] if "draws" not in item]
    on_validation = [*shared, "evaluation.on=validation"]
    study_file(tmp_path, *PLAIN, "seeds=[5]", f"set={json.dumps(on_validation)}", name="first.yaml")
    path = study_file(tmp_path, *PLAIN, f"set={json.dumps(shared)}", "chosen_by=[first.yaml]")
    assert run(path, tmp_path / "out").code == 0
