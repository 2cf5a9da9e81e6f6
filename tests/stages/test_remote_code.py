"""A student whose model comes with code: run where the recipe asks for it, and with others' runs only on request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Shown, molsaki, recipe, run
from transformers import AutoModelForCausalLM, AutoTokenizer

from molsaki.data.pocket import STUDENT

CODE = {
    "configuration_mine.py": "from transformers import LlamaConfig\n\n\nclass MineConfig(LlamaConfig):\n"
    "    model_type = 'mine'\n",
    "modeling_mine.py": "from transformers import LlamaForCausalLM\n\nfrom .configuration_mine import MineConfig\n\n\n"
    "class MineForCausalLM(LlamaForCausalLM):\n    config_class = MineConfig\n",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("custom") / "base"
    AutoModelForCausalLM.from_pretrained(STUDENT).save_pretrained(folder)
    AutoTokenizer.from_pretrained(STUDENT).save_pretrained(folder)
    for name, text in CODE.items():
        (folder / name).write_text(text, encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "model_type": "mine",
        "architectures": ["MineForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_mine.MineConfig",
            "AutoModelForCausalLM": "modeling_mine.MineForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def run_with(base: Path, folder: Path, *settings: str) -> Shown:
    student = f"student={{name: {base}, trust_remote_code: true}}"
    return run(recipe(folder, student, "methods=[dss]", "training.steps=1", *settings), folder / "run")


@pytest.mark.parametrize("lora", [(), ("student.lora={r: 2}",)], ids=["whole", "lora"])
def test_a_student_with_code_is_trained_tested_and_on_request_exported(
    base: Path, tmp_path: Path, lora: tuple[str, ...]
) -> None:
    shown = run_with(base, tmp_path, *lora)
    assert shown.code == 0, shown.error
    assert (tmp_path / "run/predictions/dss-1/in-domain.jsonl").is_file()
    student = tmp_path / "run/students/dss-1"
    (tmp_path / "again").mkdir()
    again = run_with(student, tmp_path / "again")  # an adapter's base with its code, in the checks and in training
    assert again.code == 0, again.error
    refused = molsaki("export", student, tmp_path / "out")
    assert refused.code != 0
    assert "--trust-remote-code" in refused.error
    assert not (tmp_path / "out").exists()
    assert molsaki("export", student, tmp_path / "out", "--trust-remote-code").code == 0
    assert (tmp_path / "out/modeling_mine.py").is_file()


def test_the_report_of_a_run_loads_no_code_unless_asked(base: Path, tmp_path: Path) -> None:
    assert run_with(base, tmp_path).code == 0
    refused = molsaki("report", tmp_path / "run")
    assert refused.code != 0
    assert "student" in refused.error
    assert molsaki("report", tmp_path / "run", "--rows", "0").code == 0
    assert molsaki("report", tmp_path / "run", "--rows", "2", "--trust-remote-code").code == 0


def test_code_is_not_run_unless_the_recipe_asks(base: Path, tmp_path: Path) -> None:
    shown = run(recipe(tmp_path, f"student={{name: {base}}}", "methods=[dss]"), tmp_path / "run")
    assert shown.code != 0
    assert "code" in shown.error
