"""The attention store of real rows is as small as it is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from molsaki.answers.parse import parse_answer
from molsaki.data import load_palm_completions, load_problems
from molsaki.encoding.prompts import TEACHER, PromptTemplate
from molsaki.spans.text import Text
from molsaki.stages.signal_checks import row_check
from molsaki.store.signal_writer import SignalWriter
from molsaki.store.verify import verify_store
from molsaki.teacher.read_attention import AttentionSignal
from molsaki.teacher.read_signals import model_sizes, prepare_texts, read_signals

LAYERS = 32
LIMIT = 20e6


@pytest.mark.shared_data
def test_800_svamp_rows_of_a_teacher_of_32_layers_take_less_than_20_megabytes(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "svamp/dss"
    raw = load_palm_completions("svamp-dss", folder, "train")
    problems = load_problems("svamp-dss", path=folder, split="train").problems
    texts = [Text(p.id, p.text, parse_answer(raw[p.id]).rationale, "numbers") for p in problems]
    assert len(texts) == 800
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers/llama2")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=LAYERS,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=2048,
    )
    torch.manual_seed(0)
    template = PromptTemplate.parse(TEACHER)
    model, signal = LlamaForCausalLM(config), AttentionSignal()
    sizes = model_sizes(model, [signal])
    assert len(sizes.layers.numbers) == LAYERS
    with SignalWriter(tmp_path / "store", {"teacher": "random"}, signal.schema(sizes)) as writer:
        arguments = (model, tokenizer, texts, template, [signal], {signal.name: writer})
        report = read_signals(*arguments, sizes=sizes, max_length=2048)[signal.name]
    items = {item.text.id: item for item in prepare_texts(tokenizer, texts, template, 2048, [signal])[0]}
    found = verify_store(tmp_path / "store", row_check(signal, items, set()))
    assert found.ok, found.problems[:3]
    assert (report.read, found.rows) == (800, report.kept)
    size = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    with capsys.disabled():
        print(f"\n{found.rows} rows of {report.read}, {LAYERS} layers, float32: {size / 1e6:.1f} MB")
    assert size < LIMIT
