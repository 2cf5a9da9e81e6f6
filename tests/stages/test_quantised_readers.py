"""Readers in GGUF files and in 4 bits: what they load as, and the error of their attention in the manifest."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from commands import SMALL, molsaki, recipe
from pocket_gguf import write_gguf

from molsaki.attention import ReadLayers
from molsaki.data.pocket import STUDENT, TEACHER
from molsaki.errors import InputError
from molsaki.models.gguf import find_gguf
from molsaki.models.load import model_at
from molsaki.stages.workspace import Workspace
from molsaki.teacher.attention_error import SampleReading, attention_error

ORIGINAL = "teacher.original={name: 'pocket:teacher'}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket teacher in float32 and in 8 bits."""
    folder = tmp_path_factory.mktemp("gguf")
    for kind in ("F32", "Q8_0"):
        write_gguf(folder / f"teacher-{kind}.gguf", kind=gguf.GGMLQuantizationType[kind])
    return folder


def base(folder: Path, reader: dict[str, Any]) -> dict[str, Any]:
    lines = [{"q": f"Ada has {i + 3} pens. She buys 4. How many?", "a": i + 7, "why": f"{i + 3}, 4."} for i in range(9)]
    (folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    columns = {"question": "q", "answer": "a", "rationale": "why"}
    train = {"source": "table", "path": str(folder / "t.jsonl"), "columns": columns}
    return {
        **SMALL,
        "data": {**SMALL["data"], "train": train, "root": str(folder)},
        "rationales": {"source": "dataset"},
        "teacher": {"reader": {"tokenizer": str(TEACHER), **reader}},
        "methods": ["molsaki"],
        "baseline": None,
    }


def read(folder: Path, reader: dict[str, Any], *settings: str) -> tuple[Any, str]:
    """What the manifest says of the reader's error, and what is shown."""
    path = recipe(folder, *settings, base=base(folder, reader))
    for command in ("generate", "attend"):
        shown = molsaki(command, path, "--out", folder / "run")
        assert shown.code == 0, shown.error
    return Workspace.open(folder / "run").stage("attend")["signals"]["steps"].get("attention_error"), shown.text


def test_a_gguf_file_has_the_weights_that_it_was_made_from(files: Path) -> None:
    model, original = model_at(str(files / "teacher-F32.gguf")), model_at(str(TEACHER))
    for name, weights in original.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weights, rtol=0, atol=0)
    assert model.weight_files == (files / "teacher-F32.gguf",)


def test_the_error_of_a_gguf_reader_stands_in_manifest_and_export(files: Path, tmp_path: Path) -> None:
    error, shown = read(tmp_path, {"name": str(files / "teacher-Q8_0.gguf")}, ORIGINAL)
    assert (error["original"], error["precision"]) == ("pocket:teacher", "float32")
    assert (error["texts"], error["same_tokens"]) == (8, 8)
    assert 0 < error["mean_error"] < error["max_error"] < 0.5
    assert error["mean_error"] < 0.05 * error["mean_attention"]
    assert f"{error['max_error']:.2g} at most" in shown
    exported = molsaki("signals", "export", tmp_path / "run", tmp_path / "signals")
    assert exported.code == 0, exported.error
    teacher = json.loads((tmp_path / "signals/signals.json").read_text(encoding="utf-8"))["teacher"]
    assert f"{error['max_error']:.2g} at most" in teacher["attention_error"]
    assert teacher["attention_error"] in (tmp_path / "signals/README.md").read_text(encoding="utf-8")


def test_a_file_that_quantises_nothing_has_no_error(files: Path, tmp_path: Path) -> None:
    error, _ = read(tmp_path, {"name": str(files / "teacher-F32.gguf")}, ORIGINAL)
    assert error["numbers"] > 0
    assert error["max_error"] == 0


def test_a_quantised_reader_without_an_original_says_that_nothing_was_measured(files: Path, tmp_path: Path) -> None:
    error, shown = read(tmp_path, {"name": str(files / "teacher-Q8_0.gguf")})
    assert error.startswith("not measured")
    assert "not measured" in shown


def test_an_original_is_added_to_a_run_without_reading_again(files: Path, tmp_path: Path) -> None:
    reader = {"name": str(files / "teacher-Q8_0.gguf")}
    read(tmp_path, reader)
    shards = {path: path.read_bytes() for path in (tmp_path / "run/attention/steps").glob("shard-*")}
    times = {path: path.stat().st_mtime_ns for path in shards}
    error, shown = read(tmp_path, reader, ORIGINAL)
    assert 0 < error["mean_error"] < 0.05 * error["mean_attention"]
    assert f"{error['max_error']:.2g} at most" in shown
    assert shards == {path: path.read_bytes() for path in shards}
    assert times == {path: path.stat().st_mtime_ns for path in shards}
    other, _ = read(tmp_path, reader, ORIGINAL.replace("}", ", dtype: bfloat16}"))
    assert (other["precision"], other["mean_error"] != error["mean_error"]) == ("bfloat16", True)
    assert read(tmp_path, reader)[0] == other


def test_an_original_is_not_compared_with_another_reader_than_was_read(files: Path, tmp_path: Path) -> None:
    copy = shutil.copy(files / "teacher-Q8_0.gguf", tmp_path / "reader.gguf")
    read(tmp_path, {"name": str(copy)})
    shutil.copy(files / "teacher-F32.gguf", copy)
    shown = molsaki(
        "attend", recipe(tmp_path, ORIGINAL, base=base(tmp_path, {"name": str(copy)})), "--out", tmp_path / "run"
    )
    assert shown.code != 0
    assert "weights" in shown.error


def test_models_of_other_layers_are_not_compared() -> None:
    reading = [SampleReading(ReadLayers(tuple(range(n)), n, ()), {}, {}) for n in (3, 4)]
    with pytest.raises(InputError, match=r"teacher\.original"):
        attention_error(*reading)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.gguf", None, "there is none"),
        ("text.gguf", b"PK\x03\x04", "does not begin as one"),
        ("big-00001-of-00003.gguf", b"GGUF", "one part of several"),
        ("Model.GGUF", b"GGUF\x03\x00\x00\x00", r"Model\.GGUF"),
    ],
)
def test_a_name_that_is_no_gguf_file_is_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        model_at(str(tmp_path / name))


def test_a_cut_gguf_file_is_refused(files: Path, tmp_path: Path) -> None:
    whole = (files / "teacher-Q8_0.gguf").read_bytes()
    for size in (len(whole) // 2, 40_000, 40):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"cut\.gguf"):
            model_at(str(tmp_path / "cut.gguf"))


def test_without_the_package_a_gguf_file_is_refused_with_what_to_install(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molsaki.models.gguf.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install gguf"):
        find_gguf(str(files / "teacher-F32.gguf"))
    assert importlib.util.find_spec("gguf") is not None


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["student.name=a.gguf"], "student.name"),
        (["teacher.reader={name: a.gguf, quantize: 4bit}"], "teacher.reader.quantize: expected none for a GGUF file"),
        ([ORIGINAL, "methods=[dss]"], "teacher.original: expected none, since no method"),
        (["teacher.original={name: a, chat_template_kwargs: {a: b}}"], "teacher.original.chat_template_kwargs"),
    ],
)
def test_settings_that_fit_no_gguf_file_are_refused(tmp_path: Path, settings: list[str], problem: str) -> None:
    shown = molsaki("doctor", recipe(tmp_path, *settings, base=base(tmp_path, {"name": str(STUDENT)})))
    assert shown.code != 0
    assert problem in shown.text + " ".join(shown.error.split())
