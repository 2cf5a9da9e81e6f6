"""Exported signals: they stand by themselves, what was changed is found, and what is hostile is refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Shown, molsaki, recipe, run
from small_world import make_tokenizer

import molsaki as package
from molsaki.data.pocket import TEACHER
from molsaki.errors import ArtefactError, InputError
from molsaki.models.load import tokenizer_at
from molsaki.records import hash_text
from molsaki.spans.align import Alignment
from molsaki.spans.find import SPAN_RULES
from molsaki.spans.text import Text
from molsaki.stages.export_signals import ExportForm, export_signals
from molsaki.stages.load_signals import NOT_BROUGHT, NOT_EXPORTED
from molsaki.stages.signals_card import read_card, signals_card
from molsaki.stages.verify_signals import OTHER_TOKENS, verify_signals
from molsaki.store import exported_files
from molsaki.store.attention_rows import attention_row, stored_error
from molsaki.store.exported_files import write_file_list
from molsaki.store.exported_rows import CHANGED, DAMAGED, OTHER_RULES, OTHER_SPANS, Export
from molsaki.store.locks import LOCK_NAME
from molsaki.store.signal_reader import SignalStore
from molsaki.store.signal_writer import SignalWriter
from molsaki.teacher.collect_attention import LayerMix


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher was read: steps and keys, and next tokens."""
    folder = tmp_path_factory.mktemp("read")
    path = recipe(folder, "methods=[molsaki, logits]", "baseline=null")
    for command in ("generate", "attend"):
        shown = run(path, folder / "run", command=command)
        assert shown.code == 0, shown.error
    return folder / "run"


@pytest.fixture(scope="module")
def exported(read: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "all"
    export_signals(read, folder, ExportForm())
    return folder


@pytest.fixture
def spoilt(exported: Path, tmp_path: Path) -> Path:
    """A copy of the export, to spoil."""
    return shutil.copytree(exported, tmp_path / "copy")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Change the rows as somebody would who also mends the list of files."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_file_list(folder)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def share_a_text(folder: Path) -> list[str]:
    """Give the second row of an export the text of the first, and half of its attention; returns the ids of all."""
    rows, store = rows_of(folder), folder / "attention/steps"
    rows[1] = {**rows[0], "id": rows[1]["id"]}
    old = SignalStore(shutil.move(store, folder.parent / "old"))
    with SignalWriter(store, old.fingerprint, old.schema) as writer:
        for row in rows:
            tensors = old.get(rows[0]["id"] if row is rows[1] else row["id"], row["text_hash"])
            half = {"attention": tensors["attention"] / 2} if row is rows[1] else {}
            writer.add(row["id"], row["text_hash"], {**tensors, **half})
    (store / LOCK_NAME).unlink()
    write_rows(folder, rows)
    return [row["id"] for row in rows]


# ---- an export is self-contained ----


def test_an_export_has_what_the_run_has(read: Path, exported: Path) -> None:
    ours, theirs = package.load_signals(read), package.load_signals(exported)
    assert theirs.texts == ours.texts
    assert len(theirs) == theirs.report.kept > 3
    for row_id, text in theirs.texts.items():
        assert theirs.problems[row_id].label == ours.problems[row_id].label
        assert theirs.problems[row_id].rationale == text.rationale
        one, other = (attention_row(signals.attention, row_id, text.text_hash) for signals in (ours, theirs))
        assert torch.equal(one.attention_LSK, other.attention_LSK)
    assert verify_signals(exported, tokenizer_at(str(TEACHER))).ok


def test_the_manifest_names_teacher_prompt_and_rules(read: Path, exported: Path) -> None:
    manifest = Export(exported).manifest
    stored = package.load_signals(read).attention.fingerprint
    assert manifest.teacher == {
        "name": "pocket:teacher",
        **{name: stored[name] for name in ("revision", "weights", "precision", "tokenizer")},
    }
    assert manifest.prompt == stored["prompt"]
    assert (manifest.keys, manifest.steps, manifest.span_rules) == ("numbers", "sentences", SPAN_RULES)
    assert not manifest.hashed


def test_spans_are_characters_of_the_texts(exported: Path) -> None:
    for row in rows_of(exported):
        keys = [row[name][start:end] for name, start, end in row["keys"]]
        assert keys
        assert all(re.fullmatch(r"[\d.,]+", key) for key in keys)
        assert row["steps"][0][0] == "question"


def test_mixed_layers_are_those_of_equation_4_and_halves_are_close(read: Path, tmp_path: Path) -> None:
    whole = package.load_signals(read)
    export_signals(read, tmp_path / "mixed", ExportForm(signals=("steps",), mixed=True))
    export_signals(read, tmp_path / "half", ExportForm(signals=("steps",), half=True))
    mixed, half = package.load_signals(tmp_path / "mixed"), package.load_signals(tmp_path / "half")
    assert (mixed.teacher_layers, half.teacher_layers) == (1, whole.teacher_layers)
    for row_id, text in whole.texts.items():
        row, *others = (attention_row(one.attention, row_id, text.text_hash) for one in (whole, mixed, half))
        _, steps, keys = row.attention_LSK.shape
        expected = LayerMix(0.1).mix(row.attention_LSK, Alignment((), (), steps, keys))
        torch.testing.assert_close(others[0].attention_LSK, expected)
        torch.testing.assert_close(others[1].attention_LSK, row.attention_LSK, rtol=1e-3, atol=1e-6)
    assert all(verify_signals(tmp_path / name).ok for name in ("mixed", "half"))


@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_half_of_compact_rows_is_float16_with_a_bound_of_its_error(read: Path, tmp_path: Path, stored: str) -> None:
    path, out = read.parent / "recipe.yaml", tmp_path / "run"
    shutil.copytree(read, out)
    shutil.rmtree(out / "attention")
    (out / "stages/attend.json").unlink()
    shown = run(path, out, "--set", "attention.top=1", "--set", f"attention.dtype={stored}", command="attend")
    assert shown.code == 0, shown.error
    report = export_signals(out, tmp_path / "half", ExportForm(signals=("steps",), half=True))
    full, compact, half = (package.load_signals(folder) for folder in (read, out, tmp_path / "half"))
    assert {half.attention.schema[name].dtype for name in ("attention", "rest")} == {"float16"}
    for row_id, text in full.texts.items():
        exact, before, after = (
            attention_row(one.attention, row_id, text.text_hash).attention_LSK for one in (full, compact, half)
        )
        bound = half.attention.get(row_id, text.text_hash)["error"]
        assert bool((bound >= compact.attention.get(row_id, text.text_hash)["error"]).all())
        for apart, most in zip(((exact - after).abs().max(), (exact - after).abs().mean()), bound, strict=True):
            assert float(apart) <= float(most) + 1e-6
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-6)
    assert report.errors == {"steps": stored_error(half.attention)}
    assert report.errors["steps"][0] > 0
    assert verify_signals(tmp_path / "half").ok
    mixed = export_signals(out, tmp_path / "mixed", ExportForm(signals=("steps",), half=True, mixed=True))
    assert 0 < mixed.errors["steps"][0] < 0.01


def test_half_of_rows_in_float16_keeps_their_error(read: Path, tmp_path: Path) -> None:
    path, out = read.parent / "recipe.yaml", tmp_path / "run"
    shutil.copytree(read, out)
    shutil.rmtree(out / "attention")
    (out / "stages/attend.json").unlink()
    assert run(path, out, "--set", "attention.dtype=float16", command="attend").code == 0
    report = export_signals(out, tmp_path / "half", ExportForm(signals=("steps",), half=True))
    assert report.errors == {"steps": stored_error(package.load_signals(out).attention)}
    assert report.errors["steps"][0] > 0


def test_rows_that_are_not_exported_are_counted(read: Path, tmp_path: Path) -> None:
    report = export_signals(read, tmp_path / "few", ExportForm(signals=("steps",), rows=2))
    assert report.rows.kept == 2
    assert sum(report.rows.skipped.values()) == len(package.load_signals(read)) - 2
    assert Export(tmp_path / "few").manifest.left_out == dict(report.rows.skipped)


def test_a_folder_with_files_is_left_alone(read: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ArtefactError, match="empty"):
        export_signals(read, tmp_path, ExportForm())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("form", [{"signals": ("stepz",)}, {"signals": ("steps", "heads")}])
def test_a_signal_that_was_not_read_is_refused_by_name(read: Path, tmp_path: Path, form: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError, match=form["signals"][-1]):
        export_signals(read, tmp_path / "out", ExportForm(**form))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["MIT", "", "mit\nx: y"])
def test_a_license_that_the_hub_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="license"):
        ExportForm(license=name)


def test_the_hub_reads_the_card(exported: Path) -> None:
    card = read_card((exported / "README.md").read_text(encoding="utf-8"))
    assert card.data.license == "unknown"
    assert card.data.configs == [{"config_name": "rows", "data_files": "rows.jsonl"}]


def test_a_hostile_name_stays_inside_its_place_on_the_card(exported: Path) -> None:
    manifest = Export(exported).manifest
    name = "a\n---\nlicense: mit\n# |x|`<b>"
    hostile = replace(manifest, task=name, teacher={**manifest.teacher, "name": name}, prompt="```\n# no")
    text = signals_card(hostile, {"steps": name}, "cc-by-4.0")
    card = read_card(text)
    assert card.data.license == "cc-by-4.0"
    assert [line for line in text.splitlines() if line.startswith("# ")] == [
        "# Where a teacher looks: a --- license: mit # ¦x¦'<b>"
    ]
    assert text.count("\n```\n") == 2


# ---- hashes in place of texts ----


def test_with_hashes_no_text_leaves_and_the_users_texts_are_joined(read: Path, tmp_path: Path) -> None:
    export_signals(read, tmp_path / "hashed", ExportForm(signals=("steps",), hashed=True))
    whole = package.load_signals(read)
    content = b"".join(path.read_bytes() for path in (tmp_path / "hashed").rglob("*") if path.is_file())
    for row_id, text in whole.texts.items():
        for secret in (text.question, text.rationale, whole.problems[row_id].label):
            assert json.dumps(secret).encode() not in content
            assert secret.encode() not in content
    assert verify_signals(tmp_path / "hashed").ok
    with pytest.raises(InputError, match="tokenizer"):
        verify_signals(tmp_path / "hashed", tokenizer_at(str(TEACHER)))
    with pytest.raises(InputError, match="only their hashes"):
        package.load_signals(tmp_path / "hashed")
    mine = [Text(f"mine-{i}", text.question, text.rationale, "numbers") for i, text in enumerate(whole.texts.values())]
    other = Text("x", "Who has 3 pens?", "Tom has 3.", "numbers")
    joined = package.load_signals(tmp_path / "hashed", [*mine[1:], other])
    assert (joined.report.kept, joined.report.skipped) == (len(mine) - 1, {NOT_BROUGHT: 1})
    assert joined.report.notes == {NOT_EXPORTED: 1}
    assert [text.question for text in joined.texts.values()] == [text.question for text in mine[1:]]
    assert all(row_id in joined.attention for row_id in joined.texts)


def test_a_text_that_two_rows_share_is_joined_to_both(exported: Path, read: Path, tmp_path: Path) -> None:
    export_signals(read, tmp_path / "hashed", ExportForm(signals=("steps",), hashed=True))
    first, second, *others = share_a_text(tmp_path / "hashed")
    text, other = package.load_signals(exported).texts[first], Text("x", "Who has 3 pens?", "Tom has 3.", "numbers")
    signals = package.load_signals(tmp_path / "hashed", [text, other, replace(other, id="y")])
    assert signals.texts == {first: text, second: replace(text, id=second)}
    assert signals.report.skipped == {NOT_BROUGHT: len(others)}
    assert signals.report.notes == {NOT_EXPORTED: 2}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: replace(text, rationale=text.rationale + " "),
        lambda text: replace(text, keys=("pens",)),
        lambda text: replace(text, steps="lines"),
    ],
)
def test_texts_that_match_no_row_are_refused_with_keys_and_steps_of_the_export(
    read: Path, tmp_path: Path, change: Any
) -> None:
    export_signals(read, tmp_path / "hashed", ExportForm(signals=("steps",), hashed=True))
    texts = package.load_signals(read).texts.values()
    with pytest.raises(ArtefactError, match="keys='numbers' and steps='sentences'"):
        package.load_signals(tmp_path / "hashed", [change(text) for text in texts])


# ---- what was changed is found ----


@pytest.mark.parametrize("pattern", ["**/*.safetensors", "**/shard-*.jsonl", "rows.jsonl", "README.md", "signals.json"])
def test_a_flipped_bit_is_found(spoilt: Path, pattern: str) -> None:
    path = sorted(spoilt.glob(pattern))[0]
    flip(path)
    found = verify_signals(spoilt)
    assert not found.ok
    assert [problem for problem in found.problems if problem.startswith(path.relative_to(spoilt).as_posix())]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["store.json", "shard-00000.jsonl", "shard-00000.safetensors", "cut"])
def test_damage_in_an_export_is_not_to_be_mended_by_a_stage(spoilt: Path, file: str) -> None:
    path = spoilt / "attention/steps" / file.replace("cut", "shard-00000.safetensors")
    if file == "store.json":
        path.write_text("{}", encoding="utf-8")
    elif file == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    else:
        flip(path)
    with pytest.raises(ArtefactError, match=r"molsaki signals verify.*download") as caught:  # noqa: PT012
        signals = package.load_signals(spoilt)
        for text in signals.texts.values():
            signals.attention.get(text.id, text.text_hash)
    assert "stage" not in str(caught.value)
    assert "attend" not in str(caught.value)


def test_damage_in_a_run_is_mended_by_the_stage(read: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(read, tmp_path / "run")
    flip(copy / "attention/steps/shard-00000.jsonl")
    with pytest.raises(ArtefactError, match="run the stage again"):
        package.load_signals(copy)


def test_a_damaged_row_is_not_given_out(spoilt: Path) -> None:
    flip(next(spoilt.glob("attention/steps/*.safetensors")))
    signals = package.load_signals(spoilt)
    damaged = 0
    for text in signals.texts.values():
        try:
            signals.attention.get(text.id, text.text_hash)
        except ArtefactError:
            damaged += 1
    assert damaged == 1
    found = verify_signals(spoilt)
    assert len([problem for problem in found.stores["steps"].problems if "row" in problem]) == 1
    assert (found.rows["steps"].kept, found.rows["steps"].skipped) == (len(signals) - 1, {DAMAGED: 1})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda row: row.update(question=row["question"] + " Now?"), CHANGED),
        (lambda row: row.update(rationale=row["rationale"].replace(" ", "  ", 1)), CHANGED),
        (lambda row: row.update(keys=row["keys"][1:]), OTHER_SPANS),
        (lambda row: row.update(question="?"), CHANGED),
        (lambda row: row.update(label="999"), CHANGED),
        (lambda row: row.update(answer="999"), CHANGED),
        (lambda row: row.update(sources=[[[0, 1]]]), CHANGED),
    ],
)
def test_a_changed_row_is_refused_alone(spoilt: Path, change: Any, reason: str) -> None:
    rows = rows_of(spoilt)
    for row in rows[:2]:
        change(row)
    write_rows(spoilt, rows)
    signals = package.load_signals(spoilt)
    assert (signals.report.kept, signals.report.skipped) == (len(rows) - 2, {reason: 2})
    assert not {row["id"] for row in rows[:2]} & signals.texts.keys()
    found = verify_signals(spoilt)
    assert not found.ok
    assert found.rows["steps"].skipped == {reason: 2}


def test_an_export_with_a_hash_of_the_label_only_is_read_and_its_labels_are_compared(spoilt: Path) -> None:
    rows = rows_of(spoilt)
    for row in rows:
        row["hashes"] = {**row["hashes"], "label": hash_text(row["label"])}
        del row["hashes"]["whole"]
    rows[0]["label"] = "999"
    write_rows(spoilt, rows)
    report = package.load_signals(spoilt).report
    assert (report.kept, report.skipped) == (len(rows) - 1, {CHANGED: 1})


def test_rows_of_other_span_rules_are_refused_with_that_reason(spoilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molsaki.spans.text.SPAN_RULES", "0")
    monkeypatch.setattr("molsaki.store.exported_rows.SPAN_RULES", "0")
    monkeypatch.setattr("molsaki.stages.load_signals.SPAN_RULES", "0")
    with pytest.raises(ArtefactError, match=re.escape(OTHER_RULES) + ".* use the version"):
        package.load_signals(spoilt)


def test_another_tokenizer_than_the_teachers_is_found_row_by_row(exported: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = 4096
    found = verify_signals(exported, tokenizer)
    assert not found.ok
    assert set(found.rows["steps"].skipped) == {OTHER_TOKENS}


# ---- partial copies ----


@pytest.mark.parametrize("mended", [False, True])
@pytest.mark.parametrize("cut", ["inside the last row", "after a row", "everything"])
def test_an_export_whose_rows_were_cut_is_refused(spoilt: Path, cut: str, mended: bool) -> None:
    path = spoilt / "rows.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    last = {"inside the last row": [lines[-1][:-20]], "after a row": [], "everything": None}[cut]
    path.write_bytes(b"" if last is None else b"".join([*lines[:-1], *last]))
    if mended:
        write_file_list(spoilt)
    with pytest.raises(ArtefactError, match=r"rows\.jsonl.*molsaki signals verify"):
        package.load_signals(spoilt)
    assert not verify_signals(spoilt).ok


def test_a_last_row_without_the_end_of_its_line_is_read(exported: Path, spoilt: Path) -> None:
    path = spoilt / "rows.jsonl"
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert package.load_signals(spoilt).texts == package.load_signals(exported).texts


def test_a_manifest_with_another_number_of_rows_is_refused(spoilt: Path) -> None:
    edit_json(spoilt / "signals.json", rows=99)
    write_file_list(spoilt)
    with pytest.raises(ArtefactError, match="99"):
        package.load_signals(spoilt)
    assert not verify_signals(spoilt).ok


@pytest.mark.parametrize("there", [("rows.jsonl",), ("files.json",), ("signals.json",), ("rows.jsonl", "files.json")])
def test_a_partial_copy_is_not_taken_for_a_run(spoilt: Path, there: tuple[str, ...]) -> None:
    needed = {"signals.json", "rows.jsonl", "files.json"}
    for name in needed - set(there):
        (spoilt / name).unlink()
    with pytest.raises(ArtefactError, match="copy") as caught:
        package.load_signals(spoilt)
    _, got = str(caught.value).split("; got ")
    assert {name for name in needed if name in got} == needed - set(there)
    assert "--overwrite" not in got


# ---- hostile folders ----


def add_symlink(folder: Path) -> None:
    (folder / "README.md").rename(folder.parent / "elsewhere.md")
    (folder / "README.md").symlink_to(folder.parent / "elsewhere.md")


def add_outside(folder: Path) -> None:
    files = json.loads((folder / "files.json").read_text(encoding="utf-8"))["files"]
    edit_json(folder / "files.json", files={**files, "attention/../../x.json": {"bytes": 1, "sha256": "0"}})


def add_shard(folder: Path) -> None:
    for name in ("jsonl", "safetensors"):
        shutil.copy(folder / f"attention/steps/shard-00000.{name}", folder / f"attention/steps/shard-00009.{name}")


def long_header(folder: Path) -> None:
    path = folder / "attention/steps/shard-00000.safetensors"
    path.write_bytes((1 << 40).to_bytes(8, "little") + path.read_bytes()[8:])
    write_file_list(folder)


def many_layers(folder: Path) -> None:
    path = folder / "attention/steps/store.json"
    tensors = json.loads(path.read_text(encoding="utf-8"))["tensors"]
    tensors["attention"]["shape"][0] = 1 << 31
    edit_json(path, tensors=tensors)
    write_file_list(folder)


def deep_row(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"a":' + "[" * 200_000 + "\n", encoding="utf-8")
    write_file_list(folder)


def repeated_row(folder: Path) -> None:
    rows = rows_of(folder)
    write_rows(folder, [*rows, rows[0]])


def lone_surrogate(folder: Path) -> None:
    rows = rows_of(folder)
    rows[0]["question"] = "\ud800 1"
    write_rows(folder, rows)


def no_object(folder: Path) -> None:
    (folder / "signals.json").write_text("[]", encoding="utf-8")


def other_format(folder: Path) -> None:
    edit_json(folder / "signals.json", format="molsaki signals 0")


def odd_manifest(folder: Path) -> None:
    edit_json(folder / "signals.json", keys="(a+)+$")


@pytest.mark.parametrize(
    "spoil",
    [
        add_symlink,
        add_outside,
        add_shard,
        long_header,
        many_layers,
        deep_row,
        repeated_row,
        lone_surrogate,
        no_object,
        other_format,
        odd_manifest,
    ],
)
def test_a_hostile_folder_is_refused(spoilt: Path, spoil: Any) -> None:
    spoil(spoilt)
    with pytest.raises(ArtefactError):
        package.load_signals(spoilt)
    with contextlib.suppress(ArtefactError):
        assert not verify_signals(spoilt).ok


def test_a_file_that_is_too_large_is_not_read(spoilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (spoilt / "rows.jsonl").stat().st_size
    limits = [(re.compile(r"rows\.jsonl"), size - 1), (re.compile(r".*"), 1 << 30)]
    monkeypatch.setattr(exported_files, "_LIMITS", limits)
    with pytest.raises(ArtefactError, match=r"rows\.jsonl"):
        package.load_signals(spoilt)


def test_a_folder_of_many_folders_is_named_and_not_looked_into(spoilt: Path) -> None:
    folder = os.open(spoilt, os.O_RDONLY)
    for _ in range(1200):  # a longer path than a call takes
        os.mkdir("a", dir_fd=folder)
        folder, outer = os.open("a", os.O_RDONLY, dir_fd=folder), folder
        os.close(outer)
    os.close(folder)
    try:
        problems = list(verify_signals(spoilt).problems)
    finally:
        subprocess.run(["rm", "-r", spoilt / "a"], check=True)  # too deep for shutil, by which pytest removes folders
    assert problems == ["'a/a/a': is not a file of an export, and is not opened"]


def test_a_stranger_file_is_named_and_not_opened(spoilt: Path) -> None:
    (spoilt / "evil.py").write_text("raise SystemExit", encoding="utf-8")
    (spoilt / ".gitattributes").write_text("", encoding="utf-8")
    assert len(package.load_signals(spoilt)) > 3
    assert list(verify_signals(spoilt).problems) == ["'evil.py': is not a file of an export, and is not opened"]


# ---- the commands ----


def test_the_commands_export_and_verify(read: Path, tmp_path: Path) -> None:
    shown = molsaki("signals", "export", read, tmp_path / "out", "--signal", "steps", "--license", "mit")
    assert shown.code == 0, shown.error
    assert "bytes a row" in shown.text
    assert "states no license" not in shown.text
    assert "states no license" in molsaki("signals", "export", read, tmp_path / "bare").text
    good: Shown = molsaki("signals", "verify", tmp_path / "out", "--tokenizer", "pocket:teacher")
    assert good.code == 0, good.error
    rows = rows_of(tmp_path / "out")
    rows[0]["id"] = "\x1b[2J[red]"
    write_rows(tmp_path / "out", rows)
    bad = molsaki("signals", "verify", tmp_path / "out")
    assert bad.code == 1
    assert "\x1b" not in bad.out
    assert molsaki("signals", "verify", tmp_path / "nothing").code == 2
