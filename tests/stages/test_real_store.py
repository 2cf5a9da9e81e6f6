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
from molsaki.stages.attend import row_misfits
from molsaki.store.signal_reader import AttentionStore
from molsaki.store.signal_writer import AttentionStoreWriter
from molsaki.store.verify import verify_store
from molsaki.teacher.read_attention import extract_attention, prepare_texts

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
    with AttentionStoreWriter(tmp_path / "store", {"teacher": "random"}) as writer:
        model = LlamaForCausalLM(config)
        report = extract_attention(model, tokenizer, texts, template, writer, max_length=2048)
    items = {item.text.id: item for item in prepare_texts(tokenizer, texts, template, 2048)[0]}
    found = verify_store(tmp_path / "store", lambda row, values: row_misfits(row, values, items[row.id], LAYERS))
    assert found.ok, found.problems[:3]
    assert (report.read, found.rows) == (800, report.kept)
    size = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    with capsys.disabled():
        print(f"\n{found.rows} rows of {report.read}, {LAYERS} layers, float32: {size / 1e6:.1f} MB")
    assert size < LIMIT
    assert len(AttentionStore(tmp_path / "store")) == report.kept
