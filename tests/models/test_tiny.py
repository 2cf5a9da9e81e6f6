"""The small random models of `--tiny` can be trained, saved and asked like those that they replace."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import molsaki, recipe
from small_world import make_tokenizer
from transformers import AutoModelForCausalLM

from molsaki.config.model_spec import StudentSpec
from molsaki.models.tiny import make_tiny_model


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "qwen3", "gemma3_text", "mistral", "phi3"])
def test_one_can_be_saved_and_loaded(architecture: str, tmp_path: Path) -> None:
    model = make_tiny_model(StudentSpec(name="small", architecture=architecture), make_tokenizer())
    model.save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters() == model.num_parameters()


def test_a_tokenizer_without_a_chat_template_gets_one_where_prompts_are_chats(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path / "student")
    path = recipe(
        tmp_path,
        f"student={{name: {tmp_path / 'student'}, architecture: qwen2, lora: {{r: 2}}}}",
        "prompts={predict: chat, explain: chat, reason: chat}",
        "methods=[{name: molsaki, sequences: one}]",
        "baseline=null",
    )
    shown = molsaki("run", path, "--tiny", "--out", tmp_path / "run")
    assert shown.code == 0, shown.error
