"""A mistake in a recipe's models or prompts is found before the teacher writes, and a run without rationales stops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import molsaki, recipe, run
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from molsaki.data.pocket import TEACHER
from molsaki.errors import RecipeError
from molsaki.stages.check import prepare_recipe
from molsaki.stages.models_first import try_models

CHAT = "[user]\n{question}\n[assistant]\n{rationale}"
SERVER = "teacher.writer={base_url: 'http://localhost:9/v1', model: m, protocol: completions}"


def test_a_student_that_does_not_exist_is_found_before_the_teacher_writes(tmp_path: Path) -> None:
    path = recipe(tmp_path, "student.name=./nowhere", "teacher.reader={name: ./nobody}")
    for shown in (run(path, tmp_path / "run"), molsaki("recipes", "check", path)):
        assert shown.code == 2
        assert "student: " in shown.error
        assert "teacher.reader: " in shown.error
    assert not (tmp_path / "run/completions.jsonl").exists()
    assert not (tmp_path / "run/data").exists()


def test_a_finished_stage_needs_no_teacher(tmp_path: Path) -> None:
    teacher = shutil.copytree(TEACHER, tmp_path / "teacher")
    path = recipe(tmp_path, f"teacher.writer.name={teacher}", "methods=[molsaki]", "baseline=null", "training.steps=1")
    for stage in ("generate", "attend"):
        assert run(path, tmp_path / "run", command=stage).code == 0
    shutil.rmtree(teacher)
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    modes = {file.stat().st_mode for file in (tmp_path / "run/students/molsaki-1").glob("[cm]*.*")}
    assert len(modes) == 1, "weights are as readable as the other files"


def test_a_chat_is_refused_for_a_server_that_completes_text(tmp_path: Path) -> None:
    path = recipe(tmp_path, SERVER, "methods=[dss]", f"prompts.teacher={json.dumps(CHAT)}")
    (problem,), _ = try_models(prepare_recipe(str(path)))
    assert problem.startswith("teacher.writer: ")
    assert "protocol" in problem
    assert run(path, tmp_path / "run").code == 2
    assert not (tmp_path / "run/data").exists()


@pytest.mark.parametrize(("protocol", "noted"), [("chat", True), ("completions", False)])
def test_a_text_for_a_server_of_chats_is_noted(tmp_path: Path, protocol: str, noted: bool) -> None:
    path = recipe(tmp_path, SERVER, f"teacher.writer.protocol={protocol}", "methods=[dss]")
    problems, notes = try_models(prepare_recipe(str(path)))
    assert not problems
    assert bool(notes) is noted
    assert all("prompts.teacher" in note for note in notes)


def test_a_tokenizer_that_loses_digits_is_refused(tmp_path: Path) -> None:
    words = Tokenizer(WordLevel({"[UNK]": 0, "a": 1, "word": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="[UNK]")
    tokenizer.save_pretrained(tmp_path / "w")
    path = recipe(tmp_path, f"student.tokenizer={tmp_path / 'w'}", "methods=[dss]")
    (problem,), _ = try_models(prepare_recipe(str(path)))
    assert problem.startswith("student: ")
    assert "[UNK]" in problem


def test_a_student_is_not_trained_on_no_rationale(tmp_path: Path) -> None:
    path = recipe(tmp_path, "teacher.writer.name=pocket:student", "rationales.max_new_tokens=24")
    shown = run(path, tmp_path / "run")
    assert shown.code == 2
    assert "none of 8 texts" in shown.error
    assert [f"text {i}: " in shown.error for i in (1, 2, 3, 4)] == [True, True, True, False]
    assert "rationales.max_new_tokens" in shown.error or "prompts/math.txt" in shown.error
    assert not (tmp_path / "run/students").exists()
    assert run(path, tmp_path / "run").code == 2, "and not the second time either"


def test_a_recipe_without_kept_rationales_is_an_error_of_doctor(tmp_path: Path) -> None:
    shown = molsaki("doctor", recipe(tmp_path, "rationales.source=dataset", "methods=[dss]"))
    assert shown.code == 1
    assert "none of 8 texts" in shown.text


def test_all_problems_of_models_are_one_error(tmp_path: Path) -> None:
    from molsaki.stages.models_first import require_models

    prepared = prepare_recipe(str(recipe(tmp_path, "student.name=./nowhere", "teacher.writer.name=./nobody")))
    with pytest.raises(RecipeError, match=r"3 problems(?s:.*)nobody(?s:.*)nobody(?s:.*)nowhere"):
        require_models(prepared)
