"""The two pocket tokenizers, which differ on purpose.

The teacher's is built like Llama 2's (word marks, one token per digit, byte fallback), the student's like GPT-2's (byte
level, digits merged), so that a number has a different number of tokens in the two models, as with real models.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pocket_language import Writer, facts_text, vocabulary_text, world_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY_SIZE = 1024
SAMPLE_TEXTS = 12_000
CONTEXT = 512


def _texts(plain: Writer) -> Iterator[str]:
    rng = random.Random("pocket vocabulary")
    write = vocabulary_text(plain)
    for _ in range(SAMPLE_TEXTS):
        yield write(rng)


def teacher_tokenizer() -> PreTrainedTokenizerFast:
    """Train the teacher's tokenizer; the result is deterministic."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    specials = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    learner = Tokenizer(BPE(unk_token="<unk>"))
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n| ?[^\s\w]"), behavior="isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(byte_tokens),
        special_tokens=specials,
        initial_alphabet=["\n", "▁"],
        show_progress=False,
    )
    learner.train_from_iterator(_texts(facts_text), trainer=trainer)

    # Byte tokens are added after training: a trainer takes them only as special tokens, which decoding drops.
    learned = json.loads(learner.to_str())["model"]
    by_rank = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    ordered = [*specials, *byte_tokens, *by_rank[len(specials) :]]
    tokenizer = Tokenizer(
        BPE(
            vocab={token: index for index, token in enumerate(ordered)},
            merges=[tuple(merge) for merge in learned["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = learner.pre_tokenizer
    tokenizer.add_special_tokens(specials)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", specials.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def student_tokenizer() -> PreTrainedTokenizerFast:
    """Train the student's tokenizer; the result is deterministic."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(world_text), trainer=trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
