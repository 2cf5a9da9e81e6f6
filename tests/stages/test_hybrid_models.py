"""A run with a teacher and a student that have attention in one layer of three says so wherever layers are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import SMALL, molsaki, recipe, run
from tiny_models import make_hybrid
from transformers import AutoTokenizer

from molsaki.data.pocket import STUDENT
from molsaki.stages.workspace import Workspace
from molsaki.store.shards import read_header

OTHERS = ["model.layers.0 (conv)", "model.layers.2 (conv)"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("hybrid")
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    model = make_hybrid("lfm2", vocab_size=len(tokenizer), max_position_embeddings=512)
    for part in (model, tokenizer):
        part.save_pretrained(folder / "model")
    lines = [{"q": f"Ada has {i + 3} pens. She buys 4. How many?", "a": i + 7, "why": "4 come."} for i in range(6)]
    (folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    columns = {"question": "q", "answer": "a", "rationale": "why"}
    train = {"source": "table", "path": str(folder / "t.jsonl"), "columns": columns}
    return {
        **SMALL,
        "data": {**SMALL["data"], "train": train, "root": str(folder)},
        "rationales": {"source": "dataset"},
        "teacher": {"reader": {"name": str(folder / "model")}},
        "student": {"name": str(folder / "model")},
        "methods": ["molsaki", {"name": "single-layer", "teacher_layers": [1], "student_layers": [1]}],
        "baseline": None,
        "training": {**SMALL["training"], "steps": 2, "log_every": 1},
    }


def test_the_departure_stands_in_manifest_store_log_card_and_report(base: dict[str, Any], tmp_path: Path) -> None:
    shown = run(recipe(tmp_path, base=base), tmp_path / "run")
    assert shown.code == 0, shown.error
    assert "not read: model.layers.0 (conv), model.layers.2 (conv)" in shown.text
    signal = Workspace.open(tmp_path / "run").stage("attend")["signals"]["steps"]
    assert (signal["row"], signal["layers_left_out"]) == ("1 of 3 layers", OTHERS)
    assert read_header(tmp_path / "run/attention/steps").fingerprint["layers with attention"] == "1 of 3"
    student = next((tmp_path / "run/students").glob("molsaki-*"))
    card = (student / "README.md").read_text(encoding="utf-8")
    assert card.count("1 of 3 layers, without model.layers.0 (conv), model.layers.2 (conv)") == 2
    history = json.loads((student / "metrics.json").read_text(encoding="utf-8"))["history"]
    assert {key for line in history for key in line if key.startswith("layer_weight_")} == {"layer_weight_1"}
    written = molsaki("report", tmp_path / "run")
    assert written.code == 0, written.error
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "layers without attention, not read: model.layers.0 (conv)" in page
    assert "The attention of the teacher is that of its layers 2;" in page


def test_a_hybrid_is_refused_where_every_layer_is_asked_for(base: dict[str, Any], tmp_path: Path) -> None:
    path = recipe(tmp_path, "attention.layers=every", base=base)
    shown = run(path, tmp_path / "run")
    assert shown.code != 0
    assert "1 of 3 have" in shown.error
    checked = molsaki("doctor", path)
    assert checked.code != 0
    assert "attention is read in 1 of 3 layers; layer 0 (conv), layer 2 (conv) have no softmax" in checked.text


def test_a_layer_without_attention_cannot_be_chosen(base: dict[str, Any], tmp_path: Path) -> None:
    method = "methods=[{name: single-layer, teacher_layers: [0], student_layers: [1]}]"
    shown = run(recipe(tmp_path, method, base=base), tmp_path / "run")
    assert shown.code == 2
    assert "teacher_layers to be different layers among [1]" in " ".join(shown.error.split())
