"""`molsaki attend --check` opens every shard and says what is wrong and where; resumption loses and doubles nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
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
from molsaki.stages.signal_checks import check_signal
from molsaki.stages.workspace import Workspace
from molsaki.store.attention_rows import attention_schema, pack_attention
from molsaki.store.locks import LOCK_NAME
from molsaki.store.next_tokens import join_next_tokens, likeliest_tokens
from molsaki.store.run_directory import RunDirectory
from molsaki.store.schema import size_names
from molsaki.store.shard_rows import hash_tensors
from molsaki.store.shards import hash_bytes
from molsaki.store.signal_reader import SignalStore
from molsaki.teacher.read_attention import AttentionSignal, PreparedText
from molsaki.teacher.read_logits import NextTokenSignal
from molsaki.teacher.read_signals import prepare_texts

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


def change_rows(folder: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> None:
    """Change each row's line of the index and its tensors; hashes become those of the changed ones."""
    path = folder / "attention/steps/shard-00000.jsonl"
    first, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    store = SignalStore(path.parent)
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in store.schema}
    for line in lines:
        dtypes = {name: getattr(torch, spec.dtype) for name, spec in store.schema.items()}
        tensors = {name: tensor.to(dtypes[name]) for name, tensor in store.get(line["id"], line["text_hash"]).items()}
        change(line, tensors)
        line["hash"] = hash_tensors(tensors)
        for name, tensor in tensors.items():
            kept[name].append(tensor.flatten())
    values = path.with_suffix(".safetensors")
    safetensors.torch.save_file({name: torch.cat(parts) for name, parts in kept.items()}, values)
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    first |= {"bytes": values.stat().st_size, "index": hash_bytes([data])}
    path.write_bytes(json.dumps(first).encode() + b"\n" + data)


def check(path: Path, out: Path) -> tuple[int, str]:
    shown = run(path, out, "--check", command="attend")
    return shown.code, shown.text + shown.error


def test_a_sound_store_is_well(world: tuple[Path, Path]) -> None:
    before = SignalStore(world[1] / "attention/steps").check()
    code, text = check(*world)
    assert code == 0
    assert f"{before.rows} rows in 1 shard, {before.bytes} bytes" in text


def test_every_kind_of_damage_is_named_with_its_place(spoilt: tuple[Path, Path]) -> None:
    ids = SignalStore(spoilt[1] / "attention/steps").ids()

    def spoil(line: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        attention = tensors["attention"]
        which = ids.index(line["id"])
        if which == 0:
            attention.view(-1)[0] = -0.25
        elif which == 1:
            attention.view(-1)[0] = 1000.0
        elif which == 2:
            line["text_hash"] = "0" * 16
        elif which == 3:
            line["id"] = "a stranger"
        else:
            line["sizes"]["keys"] += line["sizes"]["keys"]
            tensors["attention"] = torch.cat([attention, attention], 2)

    change_rows(spoilt[1], spoil)
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
    values = out / "attention/steps/shard-00000.safetensors"
    values.write_bytes(values.read_bytes()[:-8])
    code, text = check(path, out)
    assert code == 1
    assert "is cut or was changed" in text
    assert "0 rows in 0 shards" in text


def test_rows_that_are_missing_are_a_problem_once_the_stage_has_finished(spoilt: tuple[Path, Path]) -> None:
    path, out = spoilt
    for name in ("shard-00000.jsonl", "shard-00000.safetensors"):
        (out / "attention/steps" / name).unlink()
    code, text = check(path, out)
    assert (code, "5 rows are missing though they were read" in text) == (1, True)
    (out / "stages/attend.json").unlink()
    code, text = check(path, out)
    assert (code, "5 rationales not read" in text) == (0, True)


def test_attention_of_other_rules_is_a_problem(spoilt: tuple[Path, Path]) -> None:
    with RunDirectory(spoilt[1]).lock():
        workspace = Workspace.open(spoilt[1])
    prompt = workspace.recipe.prompts.model_copy(update={"teacher": "Now: {question}\nA: {rationale}"})
    workspace.recipe = workspace.recipe.model_copy(update={"prompts": prompt})
    found = check_signal(workspace, "steps")
    assert any("prompt" in problem for problem in found.problems)
    assert not found.ok


def test_attend_goes_on_where_a_kill_left_it_and_a_second_process_is_refused(spoilt: tuple[Path, Path]) -> None:
    path, out = spoilt
    whole = SignalStore(out / "attention/steps")
    expected = {row_id: whole.get(row_id, text) for row_id, text in whole.text_hashes().items()}
    (out / "stages/attend.json").unlink()
    (out / "attention/steps/shard-00000.jsonl").unlink()  # a kill between tensors and index
    with RunDirectory(out).lock():
        refused = run(path, out, command="attend")
    assert (refused.code, "is working in it" in refused.error) == (2, True)
    shown = run(path, out, command="attend")
    assert shown.code == 0, shown.error
    store = SignalStore(out / "attention/steps")
    assert store.ids() == list(expected)
    for row_id, text in store.text_hashes().items():
        assert all(torch.equal(tensor, expected[row_id][part]) for part, tensor in store.get(row_id, text).items())
    assert check(path, out)[0] == 0


def test_layers_stored_mixed_train_the_same_method_only(world: tuple[Path, Path], tmp_path: Path) -> None:
    source = json.loads((world[1] / "stages/attend.json").read_text(encoding="utf-8"))["signals"]["steps"]
    path = recipe(tmp_path, "attention={layers: mixed, dtype: float16}", "training.steps=2", base=_own_data(world))
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    store = SignalStore(tmp_path / "run/attention/steps")
    assert store.schema["attention"].shape == (1, "steps", "keys")
    assert store.schema["attention"].dtype == "float16"
    assert len(store) == source["kept"]
    assert check(path, tmp_path / "run")[0] == 0
    refused = molsaki("recipes", "check", path, "--set", "methods=[{name: molsaki, teacher_temperature: 0.5}]")
    assert refused.code == 2
    assert "methods.0.teacher_temperature: expected 0.1" in refused.error


def _own_data(world: tuple[Path, Path]) -> dict[str, Any]:
    given: dict[str, Any] = RunDirectory(world[1]).recipe
    return {**OWN, "data": given["data"]}


# ---- one row at a time ----

TEXT = Text("t", "Tom has 5 pens. He buys 8. How many?", "He has 5. He buys 8 more. So it is 13.", "numbers")
SIGNAL = AttentionSignal()


@pytest.fixture(scope="module")
def item() -> PreparedText:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    (prepared,), _ = prepare_texts(tokenizer, [TEXT], PromptTemplate.parse(TEACHER), 200, [SIGNAL])
    found: PreparedText = prepared.items[SIGNAL.name]
    return found


def row(item: PreparedText, values: torch.Tensor, **changes: Any) -> dict[str, torch.Tensor]:
    given = {"step_tokens": item.tokens.tokens_of_steps, **changes}
    return pack_attention(values, **given)


def test_a_steps_weights_may_add_up_to_its_tokens_and_no_further(item: PreparedText) -> None:
    steps, keys = item.tokens.n_steps, item.tokens.n_keys
    counts = torch.tensor([item.tokens.step_of_token.count(step) for step in range(steps)])
    values = (counts / keys)[None, :, None].expand(2, steps, keys).contiguous()
    assert not SIGNAL.check(item, row(item, values))
    (problem,) = SIGNAL.check(item, row(item, values * 1.02))
    assert "more than its" in problem
    assert SIGNAL.check(item, row(item, values.half())) == []
    (problem,) = SIGNAL.check(item, row(item, values, step_tokens=(1,) * steps))
    assert "step_tokens" in problem


def test_weights_where_the_teacher_had_no_token_are_noticed(item: PreparedText) -> None:
    values = torch.full((2, item.tokens.n_steps, item.tokens.n_keys), 0.01)
    tokens = replace(item.tokens, missing_steps=(1,), missing_keys=(0,))
    lacking = replace(item, tokens=tokens)
    missing = {"missing_steps": (1,), "missing_keys": (0,)}
    (problem,) = SIGNAL.check(lacking, row(lacking, values, **missing))
    assert "no token" in problem
    values[:, 1] = values[:, :, 0] = 0
    assert not SIGNAL.check(lacking, row(lacking, values, **missing))
    assert SIGNAL.check(lacking, row(lacking, values, missing_steps=(1,), missing_keys=(2,)))
    assert SIGNAL.sizes(lacking)["missing_keys"] == 1
    assert set(SIGNAL.sizes(lacking)) == set(size_names(attention_schema(2)))


def test_next_tokens_that_cannot_be_are_noticed() -> None:
    tokenizer, signal = AutoTokenizer.from_pretrained(FOLDER), NextTokenSignal(4, ("1", "2"))
    (prepared,), _ = prepare_texts(tokenizer, [TEXT], PromptTemplate.parse(TEACHER), 200, [signal])
    item = prepared.items[signal.name]
    good = join_next_tokens([likeliest_tokens(torch.randn(len(item.spans), 40), 4, ("1", "2"))], item.spans)
    assert signal.check(item, good) == []
    assert signal.sizes(item) == {"tokens": len(item.spans)}
    changes = {
        "other characters": ("characters", (0, 0), 99),
        "the largest first": ("log_probs", (2, 3), 0.0),
        "more than 1": ("log_probs", (slice(None), slice(None)), 0.0),
        "twice": ("ids", (0, 1), int(good["ids"][0, 0])),
    }
    for problem, (name, place, value) in changes.items():
        changed = {**good, name: good[name].clone()}
        changed[name][place] = value
        assert any(problem in wrong for wrong in signal.check(item, changed)), problem


def test_a_refused_store_can_be_read_in_another_form_and_its_error_is_in_the_manifest(
    world: tuple[Path, Path], tmp_path: Path
) -> None:
    path, out = world[0], tmp_path / "run"
    shutil.copytree(world[1], out)
    shutil.rmtree(out / "attention")
    (out / "stages/attend.json").unlink()
    small = ("--set", "attention.max_row_mb=0.00001")
    refused = molsaki("attend", path, "--out", out, *small)
    assert refused.code == 2
    assert "attention.max_row_mb" in refused.error
    form = (*small[:1], "attention.max_row_mb=1", "--set", "attention.top=1", "--set", "attention.dtype=float16")
    read = molsaki("attend", path, "--out", out, *form)
    assert read.code == 0, read.error
    stored = json.loads((out / "stages/attend.json").read_text())["signals"]["steps"]["stored"]
    assert 0 < stored["mean_error"] <= stored["max_error"]
    assert stored["largest_row_bytes"] <= stored["bytes"]
    assert molsaki("attend", path, "--out", out, *form, "--check").code == 0
    other = molsaki("attend", path, "--out", out, "--set", "attention.max_row_mb=2")
    assert "attention.top" in other.error, "a form cannot change once rows are stored"


def test_a_store_on_a_read_only_file_system_is_checked(world: tuple[Path, Path], tmp_path: Path) -> None:
    run_there = shutil.copytree(world[1], tmp_path / "run")
    (run_there / LOCK_NAME).unlink(missing_ok=True)
    opened = os.open

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and Path(path).is_relative_to(run_there):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, flags, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refuse)
        code, text = check(world[0], run_there)
        assert (code, "all rows are intact" in text) == (0, True), text
        shown = run(world[0], run_there, command="train")
    assert shown.code == 2
    assert "Read-only file system" in shown.error
    assert not (run_there / LOCK_NAME).exists()
