"""`molsaki doctor` reports what the stages will do, and all errors, and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import SMALL, Shown, files, molsaki, recipe, run

from molsaki.models.estimates import show_bytes, show_seconds
from molsaki.store.signal_reader import SignalStore

OWN = {
    **SMALL,
    "rationales": {"source": "dataset"},
    "teacher": {"reader": {"name": "pocket:teacher"}},
}


def test_a_recipe_with_a_local_teacher_is_checked_without_generating(tmp_path: Path) -> None:
    shown = molsaki("doctor", recipe(tmp_path))
    assert shown.code == 0, shown.error
    for part in ("train: 8 rows, 8 used", "pocket:teacher writes for 8 problems", "GFLOP/s"):
        assert part in shown.text
    for part in ("the store has about", "if rationales have 5 steps and 8 keys", "3 students of", "at least"):
        assert part in shown.text
    assert "No errors: this recipe can run." in shown.text
    assert set(files(tmp_path)) == {"recipe.yaml"}, "no file is written"


def test_the_counts_equal_those_of_the_stages(tmp_path: Path) -> None:
    rows = [
        {"q": "Ada has 3 pens. She buys 4 more. How many?", "a": 7, "why": "She has 3. 4 come."},
        {"q": "Ben has some nuts. He eats a few. How many are left?", "a": 2, "why": "He ate some."},
        {"q": "Cal has 5 hats. He loses 1 hat. How many?", "a": 4, "why": "There were 5. He lost 1. " * 30},
        {"q": "Dan has 8 maps. How many?", "a": 8, "why": " "},
        {"q": "Eva has maps. How many?", "a": "many", "why": "None."},
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = "{source: table, path: t.jsonl, columns: {question: q, answer: a, rationale: why}}"
    where = (f"data.train={table}", f"data.root={tmp_path}", "attention.max_length=100", "training.max_length=120")
    path = recipe(tmp_path, *where, "methods=[molsaki]", "baseline=null", "training.steps=1", base=OWN)
    shown = molsaki("doctor", path)
    assert shown.code == 0, shown.error
    for part in (
        "train: 5 rows, 4 used",
        "3 of 4 kept",
        "1 not kept: empty rationale",
        "pocket:teacher reads 2 texts",
        "1 are cut there (50.0 %)",
        "1 no key: takes no part in the attention loss",
        "3 examples",
        "1 rationale cut to the context length (33.3 %)",
    ):
        assert part in shown.text
    assert run(path, tmp_path / "run").code == 0
    read = json.loads((tmp_path / "run/stages/attend.json").read_text(encoding="utf-8"))["signals"]["steps"]
    assert (read["read"], read["kept"]) == (3, 2)
    store = SignalStore(tmp_path / "run/attention/steps").check()
    assert f"the store has {show_bytes(store.bytes)}, 4 layers" in shown.text


def diagnosed_and_read(folder: Path, *settings: str) -> Shown:
    """Run doctor on a recipe with one rationale, and read its attention into `folder / "run"`."""
    row = {"q": "Ada has 3 pens. She buys 4 more. How many?", "a": 7, "why": "She has 3. 4 come."}
    (folder / "t.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    table = "{source: table, path: t.jsonl, columns: {question: q, answer: a, rationale: why}}"
    path = recipe(folder, f"data.train={table}", f"data.root={folder}", *settings, "baseline=null", base=OWN)
    shown = molsaki("doctor", path)
    assert shown.code == 0, shown.error
    for stage in ("generate", "attend"):
        assert run(path, folder / "run", command=stage).code == 0
    return shown


def test_each_view_of_attention_has_its_size(tmp_path: Path) -> None:
    methods = "methods=[{name: molsaki, heads: each}, attention-map]"
    shown = diagnosed_and_read(tmp_path, methods)
    heads, words = (SignalStore(tmp_path / "run/attention" / name).check() for name in ("heads", "words"))
    assert not (tmp_path / "run/attention/steps").exists()
    assert f"the store has {show_bytes(heads.bytes)}, 16 heads of 4 layers" in shown.text
    assert f"the store has {show_bytes(words.bytes)}, 4 layers" in shown.text
    shown = molsaki("doctor", recipe(tmp_path / "written", methods, "baseline=null"))
    for part in ("if rationales have 5 steps and 8 keys", "if rationales have 60 words and questions 60"):
        assert part in shown.text


@pytest.mark.parametrize("top", [32, 4096])
def test_the_teachers_next_tokens_have_their_size(top: int, tmp_path: Path) -> None:
    settings = ("methods=[{name: logits, temperature: 2}]", f"logits.top={top}")
    shown = diagnosed_and_read(tmp_path, *settings)
    store = SignalStore(tmp_path / "run/attention/next-tokens")
    kept = store.get(*next(iter(store.text_hashes().items())))["ids"].shape[1]
    assert (kept == top) == (top == 32), "no more than there are tokens"
    assert f"the store has {show_bytes(store.check().bytes)}, the {kept} likeliest at each token" in shown.text
    shown = molsaki("doctor", recipe(tmp_path / "written", *settings, "baseline=null"))
    assert f"{kept} likeliest at each token, if rationales have " in shown.text


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    path = recipe(
        tmp_path, "student.name=./nowhere", "teacher.reader={name: ./nobody}", "teacher.writer=null", base=OWN
    )
    shown = molsaki("doctor", path)
    assert shown.code == 1
    assert "./nowhere" in shown.text
    assert "./nobody" in shown.text
    assert "0 of 8 kept" in shown.text, "pocket problems have no rationales"
    assert "3 errors" in shown.text


def test_a_server_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    writer = "teacher={writer: {base_url: 'http://127.0.0.1:9/v1', model: any}, reader: {name: pocket:teacher}}"
    shown = molsaki("doctor", recipe(tmp_path, writer))
    assert shown.code == 1
    assert "any at http://127.0.0.1:9/v1 writes for 8 problems" in shown.text
    assert "1 error: " in shown.text


@pytest.mark.parametrize(("seconds", "expected"), [(0.01, "1 s"), (99, "99 s"), (600, "10 min"), (36000, "10.0 h")])
def test_times_have_a_unit(seconds: float, expected: str) -> None:
    assert show_seconds(seconds) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (12, "12 bytes"),
        (3.2e6, "3.2 MB"),
        (999_400_000, "999 MB"),
        (999_900_000, "1 GB"),
        (999.9e9, "1 TB"),
        (1.5e15, "1,500 TB"),
        (1.5e10, "15 GB"),
    ],
)
def test_sizes_have_a_unit(size: float, expected: str) -> None:
    assert show_bytes(size) == expected
