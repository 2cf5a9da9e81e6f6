"""A study from its file to its tables: extended, in parts, and interrupted, without repeated work."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import SMALL, Shown, files, molsaki, start, stop_when

from molsaki.study.running import part_of

SEEDS, SIZES, METHODS, TESTS = (1, 2), (4, 8), ("dss", "molsaki"), ("in-domain", "chains")
LABELS = tuple(f"{method}-n{size}" for size in SIZES for method in METHODS)
STUDY: dict[str, Any] = {
    "name": "little",
    "description": "Two methods at two sizes.",
    "recipes": {"main": "small.yaml"},
    "set": ["training.steps=3", "training.log_every=3"],
    "seeds": list(SEEDS),
    "sizes": list(SIZES),
    "methods": list(METHODS),
    "baseline": "dss",
    "published": {"main": {"molsaki": {"chains": 12.5}}},
    "attention_rows": 2,
}


def study_file(folder: Path, **changes: Any) -> Path:
    """Write a study file and the recipe that it names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL, sort_keys=False), encoding="utf-8")
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes, sort_keys=False), encoding="utf-8")
    return path


def run(path: Path, out: Path, *more: str | Path) -> Shown:
    """Run a study, one student at a time."""
    return molsaki("study", path, "--out", out, "--workers", "1", *more)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Shown]:
    """A finished study: its file, its directory and its output."""
    folder = tmp_path_factory.mktemp("study")
    path = study_file(folder)
    shown = run(path, folder / "out")
    assert shown.code == 0, shown.error
    return path, folder / "out", shown


@pytest.fixture
def finished(world: tuple[Path, Path, Shown], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the finished study."""
    shutil.copytree(world[1], tmp_path / "out")
    return world[0], tmp_path / "out"


def figures(out: Path) -> Any:
    """The figures of a study, without the times of its trainings."""
    facts = json.loads((out / "study.json").read_text(encoding="utf-8"))
    return [{key: value for key, value in found.items() if key != "seconds"} for found in facts["comparisons"]] + [
        facts["reach"],
        facts["attention"],
        facts["missing_students"],
    ]


def made(out: Path, *parts: str) -> dict[str, bytes]:
    """The bytes of the students' weights and predictions."""
    kinds = parts or ("/students/", "/predictions/")
    return {
        name: data
        for name, data in files(out).items()
        if any(kind in name for kind in kinds) and name.endswith((".safetensors", ".jsonl"))
    }


def trained(shown: Shown) -> set[str]:
    """The students that a command trained, such as `dss-n4, seed 1`."""
    return {line.split(": trained in")[0].strip() for line in shown.out.splitlines() if ": trained in" in line}


# ---- files and tables ----


def test_every_student_is_trained_and_every_file_written(world: tuple[Path, Path, Shown]) -> None:
    _, out, shown = world
    assert trained(shown) == {f"{label}, seed {seed}" for label in LABELS for seed in SEEDS}
    assert "study little: 8 students" in shown.text
    names = {path.name for path in out.iterdir()}
    assert names == {"main", "tables.md", "tables.tex", "study.json", "curve-main.svg", "curve-main.png"}
    for name in names - {"main"}:
        assert f"written: {out / name}" in shown.text


def test_the_figures_of_the_tables_equal_the_results(world: tuple[Path, Path, Shown]) -> None:
    facts = json.loads((world[1] / "study.json").read_text(encoding="utf-8"))
    compared = {found["examples"]: found for found in facts["comparisons"]}
    assert list(compared) == list(SIZES)
    results = json.loads((world[1] / "main/results.json").read_text(encoding="utf-8"))
    share = {(row["method"], row["seed"], row["split"]): row["accuracy"] for row in results}
    assert len(share) == len(LABELS) * len(SEEDS) * len(TESTS)
    for size, found in compared.items():
        differences = {one["on"]: one["paired"] for one in found["differences"]}
        for test in TESTS:
            for method in METHODS:
                mean = sum(share[f"{method}-n{size}", seed, test] for seed in SEEDS) / len(SEEDS)
                assert found["accuracy"][method][test]["mean"] == pytest.approx(mean)
            left, right = (found["accuracy"][method][test]["mean"] for method in ("molsaki", "dss"))
            assert differences[test]["difference"] == pytest.approx(left - right)
            assert (differences[test]["seeds"], differences[test]["problems"]) == (2, 8)
        assert all(tokens > 0 for tokens in found["tokens"].values())
    assert facts["missing_students"] == 0
    assert facts["study"]["name"] == "little"
    assert "torch" in facts["versions"]


def test_the_tables_are_printed_and_written(world: tuple[Path, Path, Shown]) -> None:
    text = (world[1] / "tables.md").read_text(encoding="utf-8")
    assert text.startswith("# little\n\nTwo methods at two sizes.\n\n**main, 4 training problems: mean of 2 seeds")
    assert "| molsaki, published | – | 12.5 | – | – | – |" in text
    assert "molsaki − dss" in text
    assert "student before training" in text
    latex = (world[1] / "tables.tex").read_text(encoding="utf-8")
    assert latex.count(r"\begin{table}") == text.count("\n| --- |")
    for heading in ("accuracy, %", "molsaki − dss", "set: model"):
        assert heading in world[2].text


def test_rows_that_are_left_out_are_counted_with_a_reason(tmp_path: Path) -> None:
    rows = [
        {"q": "Ada has 3 pens. She buys 4 more. How many?", "a": 7, "why": "She has 3. 4 come."},
        {"q": "Ben has some nuts. He eats a few. How many are left?", "a": 2, "why": "He ate some."},
        {"q": "Dan has 8 maps. How many?", "a": 8, "why": " "},
        {"q": "Eva has maps. How many?", "a": "many", "why": "None."},
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    changes = [
        "data.train={source: table, path: t.jsonl, columns: {question: q, answer: a, rationale: why}}",
        "rationales={source: dataset}",
        "teacher={reader: {name: 'pocket:teacher'}}",
    ]
    path = study_file(tmp_path, set=[*STUDY["set"], *changes], sizes=[], methods=["dss", "molsaki", "logits"])
    shown = run(path, tmp_path / "out", "--prepare", "--data", tmp_path)
    assert shown.code == 0, shown.error
    assert "main: train: 3 of 4 problems used; 1 the answer is not a number" in shown.text
    assert "main: 2 of 3 rationales kept; 2 given; 1 empty rationale" in shown.text
    assert "main: attention: 1 of 2 rationales read; 1 no key" in shown.text
    assert "main: next tokens: 2 of 2 rationales read" in shown.text


def test_a_tiny_study_has_one_seed(tmp_path: Path) -> None:
    shown = run(study_file(tmp_path), tmp_path / "out", "--tiny", "--prepare")
    assert shown.code == 0, shown.error
    assert "study little: 4 students" in shown.text


# ---- again, and extended ----


def test_a_finished_study_trains_nothing(finished: tuple[Path, Path]) -> None:
    path, out = finished
    before = files(out)
    shown = run(path, out)
    assert shown.code == 0, shown.error
    assert trained(shown) == set()
    assert "students: 8 already trained and tested" in shown.text
    after = files(out)
    assert {name for name in before if after[name] != before[name]} == set()
    assert set(after) == set(before)


def test_only_missing_students_and_predictions_are_made(finished: tuple[Path, Path]) -> None:
    path, out = finished
    before, wanted = made(out), figures(out)
    shutil.rmtree(out / "main/predictions/molsaki-n4-2")
    shown = run(path, out)
    assert shown.code == 0, shown.error
    assert trained(shown) == set()
    assert "molsaki-n4, seed 2: trained earlier" in shown.text
    assert "students: 7 already" in shown.text
    shutil.rmtree(out / "main/students/dss-n8-1")
    shutil.rmtree(out / "main/predictions/dss-n8-1")
    assert trained(run(path, out)) == {"dss-n8, seed 1"}
    assert made(out) == before
    assert figures(out) == wanted


def test_methods_and_seeds_can_be_added(finished: tuple[Path, Path], tmp_path: Path) -> None:
    _, out = finished
    before = made(out)
    path = study_file(tmp_path, methods=[*METHODS, "label-only"], seeds=[*SEEDS, 3], sizes=[8], attention_rows=0)
    shown = run(path, out)
    assert shown.code == 0, shown.error
    new = {f"label-only-n8, seed {seed}" for seed in (1, 2, 3)} | {f"{method}-n8, seed 3" for method in METHODS}
    assert trained(shown) == new
    assert made(out).items() >= before.items()
    facts = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert [found["examples"] for found in facts["comparisons"]] == [8]
    cells = [cell for sets in facts["comparisons"][0]["accuracy"].values() for cell in sets.values()]
    assert {cell["seeds"] for cell in cells} == {3}
    assert (out / "main/students/molsaki-n4-2").is_dir(), "students that the study does not name stay"


def test_a_new_recipe_has_no_figures_yet(finished: tuple[Path, Path], tmp_path: Path) -> None:
    _, out = finished
    path = study_file(tmp_path, recipes={"main": "small.yaml", "other": "small.yaml"}, attention_rows=0)
    shown = run(path, out, "--tables")
    assert shown.code == 0, shown.error
    facts = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert facts["missing_students"] == 8
    assert [found["recipe"] for found in facts["comparisons"]] == ["main", "main"]


def test_students_that_the_study_no_longer_names_stay(finished: tuple[Path, Path], tmp_path: Path) -> None:
    _, out = finished
    shutil.rmtree(out / "main/students/molsaki-n8-2")
    shutil.rmtree(out / "main/predictions/molsaki-n8-2")
    before = made(out)
    shown = run(study_file(tmp_path), out, "--set", "seeds=[1]", "--set", "attention_rows=0")
    assert shown.code == 0, shown.error
    assert trained(shown) == set(), "seed 2 is not in this study"
    assert made(out) == before
    facts = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert facts["missing_students"] == 0
    assert {cell["seeds"] for cell in facts["comparisons"][0]["accuracy"]["dss"].values()} == {1}
    results = json.loads((out / "main/results.json").read_text(encoding="utf-8"))
    assert {row["seed"] for row in results} == {1, 2}, "the results of the run have all its students"


def test_another_value_in_a_recipe_is_refused(finished: tuple[Path, Path]) -> None:
    path, out = finished
    before = files(out)
    shown = run(path, out, "--set", "recipe.training.steps=4")
    assert shown.code == 2
    assert "training.steps: found 3, requested 4" in shown.error
    assert files(out) == before


# ---- in parts ----


@pytest.mark.parametrize("machines", [1, 2, 3, 4, 7])
def test_parts_cover_all_jobs_and_every_machine_gets_all_methods(machines: int) -> None:
    jobs: Any = [(seed, method) for seed in range(8) for method in "abcd"]
    parts = [part_of(jobs, f"{number}/{machines}", per_seed=4) for number in range(1, machines + 1)]
    assert sorted(job for part in parts for job in part) == sorted(jobs)
    assert all({method for _, method in part} == set("abcd") for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 2


def test_merged_parts_equal_the_whole_study(world: tuple[Path, Path, Shown], tmp_path: Path) -> None:
    path, out, _ = world
    prepared = tmp_path / "prepared"
    shown = run(path, prepared, "--prepare")
    assert shown.code == 0, shown.error
    assert made(prepared, "/students/", "/predictions/") == {}
    assert not (prepared / "tables.md").exists()
    assert (prepared / "main/stages/attend.json").is_file()
    by_part: list[set[str]] = []
    for part in ("1/2", "2/2"):
        copy = tmp_path / part[0]
        shutil.copytree(prepared, copy)
        shown = run(path, copy, "--part", part)
        assert shown.code == 0, shown.error
        assert not (copy / "tables.md").exists()
        by_part.append(trained(shown))
        for kind in ("students", "predictions"):
            shutil.copytree(copy / "main" / kind, prepared / "main" / kind, dirs_exist_ok=True)
    assert [len(part) for part in by_part] == [4, 4]
    assert not by_part[0] & by_part[1]
    shown = run(path, prepared)
    assert trained(shown) == set()
    assert made(prepared) == made(out)
    assert figures(prepared) == figures(out)


def test_tables_count_missing_students(finished: tuple[Path, Path]) -> None:
    path, out = finished
    for label in ("dss-n8-2", "dss-n4-1", "dss-n4-2"):
        shutil.rmtree(out / "main/students" / label)
        shutil.rmtree(out / "main/predictions" / label)
    shown = run(path, out, "--tables", "--set", "attention_rows=0")
    assert shown.code == 0, shown.error
    assert trained(shown) == set()
    assert "3 students missing" in shown.text
    assert "3 of 8 students missing" in (out / "tables.md").read_text(encoding="utf-8")
    facts = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert facts["missing_students"] == 3
    small, large = facts["comparisons"]
    assert (list(small["accuracy"]), small["differences"]) == (["molsaki"], [])
    assert large["differences"][0]["paired"]["seeds"] == 1, "paired on the seeds of both methods"
    assert large["accuracy"]["molsaki"]["chains"]["seeds"] == 2
    assert facts["reach"][0]["methods"] == {}, "a method with one size has no curve"


def test_a_killed_study_continues_to_the_same_tables(world: tuple[Path, Path, Shown], tmp_path: Path) -> None:
    path, undisturbed, _ = world
    out = tmp_path / "out"
    process = start("study", path, "--out", out, "--workers", "1")
    stop_when(process, (out / "main/students/dss-n4-2/metrics.json").exists, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (out / "study.json").exists()
    shown = run(path, out)
    assert shown.code == 0, shown.error
    assert 0 < len(trained(shown)) < 5, "the first four students were finished"
    assert made(out) == made(undisturbed)
    assert figures(out) == figures(undisturbed)


# ---- options ----


@pytest.mark.parametrize(
    "both", [("--part", "1/2", "--prepare"), ("--part", "1/2", "--tables"), ("--prepare", "--tables")]
)
def test_options_that_exclude_each_other_are_refused(both: tuple[str, ...], tmp_path: Path) -> None:
    shown = run(study_file(tmp_path), tmp_path / "out", *both)
    assert shown.code == 2
    assert all(option in shown.error for option in ("--part", "--prepare", "--tables"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "1/", "/2", "1/2/3", "-1/2", "1.0/2", "a/b", ""])
def test_an_invalid_part_is_refused_before_anything_is_written(part: str, tmp_path: Path) -> None:
    shown = run(study_file(tmp_path), tmp_path / "out", f"--part={part}")
    assert shown.code == 2
    assert repr(part) in shown.error
    assert not (tmp_path / "out").exists()


def test_shipped_studies_are_listed_and_a_name_is_required() -> None:
    from molsaki.study.files import read_study, study_names

    shown = molsaki("study", "--list")
    assert shown.code == 0
    assert [line.split()[0] for line in shown.out.splitlines()] == study_names()
    for name in study_names():
        assert read_study(name)[0].description in shown.out
    none = molsaki("study")
    assert none.code == 2
    assert study_names()[0] in none.error


def test_missing_answers_are_reported_in_the_comparison_with_attention(finished: tuple[Path, Path]) -> None:
    path, out = finished
    (out / "main/predictions/molsaki-n8-2/chains.jsonl").unlink()
    shown = run(path, out, "--tables")
    assert shown.code == 0, shown.error
    assert "main: chains, molsaki: " in shown.text
    assert "molsaki-n8, seed 2" in shown.text
