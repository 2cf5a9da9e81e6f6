"""`molsaki attend --check` opens every shard and says what is wrong and where; resumption loses and doubles nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from commands import SMALL, molsaki, recipe, run
from transformers import AutoTokenizer

from molsaki.data.pocket import TEACHER as FOLDER
from molsaki.encoding.prompts import TEACHER, PromptTemplate
from molsaki.spans.text import Text
from molsaki.stages.attend import check_attention, row_misfits
from molsaki.stages.workspace import Workspace
from molsaki.store.run_directory import RunDirectory
from molsaki.store.shards import StoredRow, hash_values
from molsaki.store.signal_reader import AttentionStore
from molsaki.teacher.read_attention import PreparedText, prepare_texts

OWN: dict[str, Any] = {
    **SMALL,
    "rationales": {"source": "dataset"},
    "teacher": {"reader": {"name": "pocket:teacher"}},
    "methods": ["molsaki"],
    "baseline": None,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe, and a run whose attention has been read."""
    folder = tmp_path_factory.mktemp("attended")
    lines = [
        {"q": f"Ada has {i + 3} pens. She buys 4 more. How many?", "a": i + 7, "why": "She has some. 4 come." * (1 + i)}
        for i in range(5)
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    table = "{source: table, path: t.jsonl, columns: {question: q, answer: a, rationale: why}}"
    path = recipe(folder, f"data.train={table}", f"data.root={folder}", base=OWN)
    for stage in ("generate", "attend"):
        shown = run(path, folder / "run", command=stage)
        assert shown.code == 0, shown.error
    return path, folder / "run"


@pytest.fixture
def spoilt(world: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the run, to spoil."""
    shutil.copytree(world[1], tmp_path / "run")
    return world[0], tmp_path / "run"


def change_index(folder: Path, change: Any) -> None:
    path = folder / "attention/shard-00000.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def change_values(folder: Path, change: Any) -> None:
    """Change the stored values and make their hashes those of the changed ones."""
    path = folder / "attention/shard-00000.safetensors"
    values = safetensors.torch.load_file(path)["values"]

    def mend(lines: list[Any]) -> None:
        change(values, lines[1:])
        for line in lines[1:]:
            end = line["start"] + torch.Size(line["shape"]).numel()
            line["hash"] = hash_values(values[line["start"] : end].numpy().data)
        safetensors.torch.save_file({"values": values}, path, {"store": lines[0]["store"]})
        lines[0]["bytes"] = path.stat().st_size

    change_index(folder, mend)


def check(path: Path, out: Path) -> tuple[int, str]:
    shown = run(path, out, "--check", command="attend")
    return shown.code, shown.text + shown.error


def test_a_sound_store_is_proved(world: tuple[Path, Path]) -> None:
    before = AttentionStore(world[1] / "attention").check()
    code, text = check(*world)
    assert code == 0
    assert f"{before.rows} rows in 1 shard, {before.values} values" in text


def test_every_kind_of_damage_is_named_with_its_place(spoilt: tuple[Path, Path]) -> None:
    ids: list[str] = []

    def spoil(values: torch.Tensor, rows: list[Any]) -> None:
        ids.extend(row["id"] for row in rows)
        values[rows[0]["start"]] = -0.25
        values[rows[1]["start"]] = 1000.0
        rows[2]["text_hash"] = "0" * 16
        rows[3]["id"] = "a stranger"
        layers, steps, keys = rows[4]["shape"]
        rows[4]["shape"] = [layers, steps * keys, 1]
        rows[4]["step_tokens"] = []

    change_values(spoilt[1], spoil)
    code, text = check(*spoilt)
    assert code == 1
    for row_id, problem in zip(
        (*ids[:3], "a stranger", ids[4]),
        ("a negative weight, -0.25", "layer 0, step 0 has", "on other text", "of no rationale", "its text has"),
        strict=True,
    ):
        (line,) = [part for part in text.split(" - ") if f"row {row_id!r} in" in part]
        assert problem in line
        assert "shard-00000" in line


def test_a_shard_that_is_cut_is_named_and_the_others_are_read(spoilt: tuple[Path, Path]) -> None:
    path, out = spoilt
    values = out / "attention/shard-00000.safetensors"
    values.write_bytes(values.read_bytes()[:-8])
    code, text = check(path, out)
    assert code == 1
    assert "is cut or was changed" in text
    assert "0 rows in 0 shards" in text


def test_rows_that_are_missing_are_a_problem_once_the_stage_has_finished(spoilt: tuple[Path, Path]) -> None:
    path, out = spoilt
    for name in ("shard-00000.jsonl", "shard-00000.safetensors"):
        (out / "attention" / name).unlink()
    code, text = check(path, out)
    assert (code, "5 rows are missing though the stage has finished" in text) == (1, True)
    (out / "stages/attend.json").unlink()
    code, text = check(path, out)
    assert (code, "5 rationales not read" in text) == (0, True)


def test_attention_of_other_rules_is_a_problem(spoilt: tuple[Path, Path]) -> None:
    with RunDirectory(spoilt[1]).lock():
        workspace = Workspace.open(spoilt[1])
    prompt = workspace.recipe.prompts.model_copy(update={"teacher": "Now: {question}\nA: {rationale}"})
    workspace.recipe = workspace.recipe.model_copy(update={"prompts": prompt})
    found = check_attention(workspace)
    assert any("prompt" in problem for problem in found.problems)
    assert not found.ok


def test_attend_goes_on_where_a_kill_left_it_and_a_second_process_is_refused(spoilt: tuple[Path, Path]) -> None:
    path, out = spoilt
    whole = AttentionStore(out / "attention")
    expected = {row_id: whole.get(row_id, text) for row_id, text in whole.text_hashes().items()}
    (out / "stages/attend.json").unlink()
    (out / "attention/shard-00000.jsonl").unlink()  # a kill between values and index
    with RunDirectory(out).lock():
        refused = run(path, out, command="attend")
    assert (refused.code, "is working in it" in refused.error) == (2, True)
    shown = run(path, out, command="attend")
    assert shown.code == 0, shown.error
    store = AttentionStore(out / "attention")
    assert sorted(store.ids()) == sorted(expected)
    for row_id, text in store.text_hashes().items():
        torch.testing.assert_close(store.get(row_id, text), expected[row_id])
    assert check(path, out)[0] == 0


def test_layers_stored_mixed_train_the_same_method_only(world: tuple[Path, Path], tmp_path: Path) -> None:
    source = json.loads((world[1] / "stages/attend.json").read_text(encoding="utf-8"))
    path = recipe(tmp_path, "attention={layers: mixed, dtype: float16}", "training.steps=2", base=_own_data(world))
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    store = AttentionStore(tmp_path / "run/attention")
    assert {store.shape(row_id)[0] for row_id in store.ids()} == {1}
    assert len(store) == source["kept"]
    assert check(path, tmp_path / "run")[0] == 0
    refused = molsaki("recipes", "check", path, "--set", "methods=[{name: molsaki, teacher_temperature: 0.5}]")
    assert refused.code == 2
    assert "methods.0.teacher_temperature: expected 0.1" in refused.error


def _own_data(world: tuple[Path, Path]) -> dict[str, Any]:
    given: dict[str, Any] = RunDirectory(world[1]).recipe
    return {**OWN, "data": given["data"]}


# ---- one row at a time ----


@pytest.fixture(scope="module")
def item() -> PreparedText:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    text = Text("t", "Tom has 5 pens. He buys 8. How many?", "He has 5. He buys 8 more. So it is 13.", "numbers")
    (prepared,), _ = prepare_texts(tokenizer, [text], PromptTemplate.parse(TEACHER), 200)
    return prepared


def stored(item: PreparedText, values: torch.Tensor, **changes: Any) -> StoredRow:
    row = StoredRow("t", item.text.text_hash, tuple(values.shape), 0, "", (), ())  # type: ignore[arg-type]
    return replace(row, **changes)


def test_a_steps_weights_may_add_up_to_its_tokens_and_no_further(item: PreparedText) -> None:
    steps, keys = item.tokens.n_steps, item.tokens.n_keys
    counts = torch.tensor([item.tokens.step_of_token.count(step) for step in range(steps)])
    values = (counts / keys)[None, :, None].expand(2, steps, keys).contiguous()
    assert not row_misfits(stored(item, values), values, item, 2)
    (problem,) = row_misfits(stored(item, values), values * 1.02, item, 2)
    assert "more than its" in problem
    assert row_misfits(stored(item, values.half()), values.half(), item, 2) == []
    assert not row_misfits(stored(item, values, step_tokens=tuple(counts.tolist())), values, item, 2)
    (problem,) = row_misfits(stored(item, values, step_tokens=(1,) * steps), values, item, 2)
    assert "its steps have" in problem


def test_weights_where_the_teacher_had_no_token_are_noticed(item: PreparedText) -> None:
    values = torch.full((2, item.tokens.n_steps, item.tokens.n_keys), 0.01)
    lacking = replace(item, tokens=replace(item.tokens, missing_steps=(1,), missing_keys=(0,)))
    row = stored(item, values, missing_steps=(1,), missing_keys=(0,))
    (problem,) = row_misfits(row, values, lacking, 2)
    assert "had no token" in problem
    values[:, 1] = values[:, :, 0] = 0
    assert not row_misfits(row, values, lacking, 2)
    assert row_misfits(replace(row, missing_keys=()), values, lacking, 2)
