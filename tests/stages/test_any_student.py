"""One export trains students of three architectures, with tokenizers that cut the texts differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from small_world import make_gpt2, make_llama, make_problems, make_run
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

import molsaki
from molsaki.stages.export_signals import ExportForm, export_signals

END = "<|end|>"


def finish(backend: Tokenizer, trainer: Any, texts: Iterator[str]) -> PreTrainedTokenizerFast:
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, model_max_length=160)


def gpt2_tokens(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """Bytes that are merged, with the space in front of a word in its token."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    return finish(backend, trainer, texts)


def llama_tokens(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """Characters that are merged, every digit alone, with a mark for spaces."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Digits(True)])
    backend.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=[END, "<unk>"], show_progress=False)
    return finish(backend, trainer, texts)


def gemma_tokens(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """A unigram model over text whose spaces were replaced before it is cut."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Replace("▁", " ")
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=[END, "<unk>"], unk_token="<unk>", show_progress=False
    )
    return finish(backend, trainer, texts)


def make_gemma(vocab_size: int) -> Gemma3ForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 160, "sliding_window": 16}
    return Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=vocab_size, **sizes, **more))


STUDENTS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "gpt2": (gpt2_tokens, lambda size: make_gpt2(vocab_size=size)),
    "llama": (llama_tokens, lambda size: make_llama(vocab_size=size)),
    "gemma": (gemma_tokens, make_gemma),
}


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> molsaki.Signals:
    folder = tmp_path_factory.mktemp("exported")
    export_signals(make_run(folder / "run", make_problems(8)), folder / "out", ExportForm())
    return molsaki.load_signals(folder / "out")


def rows_of(signals: molsaki.Signals) -> list[dict[str, str]]:
    return [
        {"id": text.id, "prompt": f"Q: {text.question}\nA: ", "completion": text.rationale}
        for text in signals.texts.values()
    ]


@pytest.mark.parametrize("name", STUDENTS)
def test_one_export_trains_every_student(signals: molsaki.Signals, name: str) -> None:
    make_tokens, make_student = STUDENTS[name]
    tokenizer = make_tokens(f"{text.question} {text.rationale}" for text in signals.texts.values())
    student = make_student(len(tokenizer))
    collate = molsaki.SpanCollator(tokenizer, signals)
    loss = molsaki.StepwiseAttentionLoss(student, signals)
    optimizer = torch.optim.AdamW([*student.parameters(), *loss.parameters()], lr=3e-3)
    batch = collate(rows_of(signals))
    assert len(batch["attention"].teacher_BLSK) == len(signals) == 8
    losses = []
    for _ in range(12):
        outputs, attention_loss = loss(student, **batch)
        (outputs.loss + attention_loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(attention_loss.item())
    assert losses[-1] < losses[0]


def test_steps_and_keys_are_the_same_for_every_tokenizer(signals: molsaki.Signals) -> None:
    counts, lengths = set(), set()
    for make_tokens, _ in STUDENTS.values():
        tokenizer = make_tokens(f"{text.question} {text.rationale}" for text in signals.texts.values())
        batch = molsaki.SpanCollator(tokenizer, signals)(rows_of(signals)[:3])
        counts.add(tuple(batch["attention"].teacher_BLSK.shape))
        lengths.add(batch["input_ids"].shape[1])
    assert len(counts) == 1
    assert len(lengths) == 3
