"""Small random models of real architectures and a tokenizer of single bytes."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 96
END = "<|end|>"


@pytest.fixture
def tokenizer():
    """One token a byte, and an end-of-text token; no padding token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {END: 0, **{letter: index + 1 for index, letter in enumerate(letters)}}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, model_max_length=CONTEXT, clean_up_tokenization_spaces=False
    )


def llama():
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=257,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            initializer_range=0.4,
            bos_token_id=None,
            eos_token_id=2,
        )
    )


def gpt2():
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=257,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=CONTEXT,
            initializer_range=0.4,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


@pytest.fixture(params=[llama, gpt2])
def model(request):
    torch.manual_seed(3)
    return request.param().eval()
