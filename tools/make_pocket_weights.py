"""Make the pocket weights: `python tools/make_pocket_weights.py teacher|student [--out DIR] [--steps N]`.

The teacher learns `lessons` (about half an hour on two cores), the base student `world_text` (a few minutes).
transformers' Trainer trains both from scratch on text that is generated on the fly, so there is no corpus to keep. The
same command with the same versions gives the same weights. The manifest beside the weights, `pocket.json`, says what
made them.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket_language import Writer, lessons, world_text
from pocket_vocabularies import CONTEXT, VOCABULARY_SIZE, student_tokenizer, teacher_tokenizer

from molsaki.data.pocket import WEIGHTS
from molsaki.records import hash_text

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerFast

SEED = 17
BATCH = 32
POOL_BATCHES = 32
"""Texts are generated for this many batches at a time and sorted by length, to keep padding small."""
READ_QUESTIONS = 0.25
"""The share of lessons where the question is part of the loss; in the others only the answer is."""
TEACHER_STEPS, TEACHER_RATE = 2800, 2e-3
STUDENT_STEPS, STUDENT_RATE = 3000, 3e-3


def teacher_config() -> LlamaConfig:
    """The teacher: Llama-shaped, 4 layers of width 128, 4 heads over 2 key-value heads, 0.87 M parameters."""
    return _config(layers=4, width=128, feed_forward=352, heads=4, key_value_heads=2, bos=1, eos=2)


def student_config() -> LlamaConfig:
    """The base student: Llama-shaped, 2 layers of width 64, 2 heads, 0.16 M parameters."""
    return _config(layers=2, width=64, feed_forward=170, heads=2, key_value_heads=2, bos=0, eos=0)


def _config(
    layers: int, width: int, feed_forward: int, heads: int, key_value_heads: int, bos: int, eos: int
) -> LlamaConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
    )


def batches(
    tokenizer: PreTrainedTokenizerFast, write: Writer, steps: int, seed: int = SEED
) -> Iterator[dict[str, Any]]:
    """Yield `steps` padded batches of texts from `write`, each text with the end-of-text token."""
    import torch

    rng = random.Random(seed)
    made = 0
    while made < steps:
        rows = [_row(tokenizer, write(rng), rng) for _ in range(BATCH * POOL_BATCHES)]
        rows.sort(key=lambda row: len(row[0]))
        pool = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        rng.shuffle(pool)
        for batch in pool[: steps - made]:
            length = max(len(ids) for ids, _ in batch)
            ids = torch.full((BATCH, length), tokenizer.pad_token_id)
            labels = torch.full((BATCH, length), -100)
            for i, (row, row_labels) in enumerate(batch):
                ids[i, : len(row)] = torch.tensor(row)
                labels[i, : len(row)] = torch.tensor(row_labels)
            made += 1
            yield {"input_ids": ids, "labels": labels}


def _row(tokenizer: PreTrainedTokenizerFast, text: str, rng: random.Random) -> tuple[list[int], list[int]]:
    ids = [*tokenizer(text).input_ids, tokenizer.eos_token_id]
    answer_at = max(text.find("\nA:"), text.find("\nKey words:"))
    if answer_at < 0 or rng.random() < READ_QUESTIONS:
        return ids, ids
    unread = len(tokenizer(text[:answer_at]).input_ids)
    return ids, [-100] * unread + ids[unread:]


def make_model(
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    config: LlamaConfig,
    write: Writer,
    steps: int,
    rate: float,
    out: Path,
    seed: int = SEED,
) -> None:
    """Train one model and save it with its tokenizer and manifest in `out/name`, with another seed `out/name-seed`."""
    import torch
    from torch.utils.data import IterableDataset
    from transformers import LlamaForCausalLM, Trainer, TrainingArguments, set_seed

    class Texts(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return batches(tokenizer, write, steps, seed)

    command = f"python tools/make_pocket_weights.py {name}" + (f" --seed {seed}" if seed != SEED else "")
    name += f"-{seed}" if seed != SEED else ""
    set_seed(seed)
    model = LlamaForCausalLM(config)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(out / f"{name}-training"),
            max_steps=steps,
            per_device_train_batch_size=1,
            learning_rate=rate,
            lr_scheduler_type="cosine",
            warmup_steps=100,
            weight_decay=0.1,
            adam_beta2=0.98,
            max_grad_norm=1.0,
            logging_steps=50,
            save_steps=400,
            save_only_model=True,
            save_total_limit=2,
            report_to="none",
            seed=seed,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=False,
        ),
        train_dataset=Texts(),
        data_collator=lambda rows: rows[0],
        processing_class=tokenizer,
    )
    trainer.train()
    target = out / name
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    manifest = {
        "made_by": command,
        "steps": steps,
        "batch": BATCH,
        "learning_rate": rate,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "last_loss": history[-1]["loss"] if history else None,
        "text_hash": text_hash(write),
    }
    (target / "pocket.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def text_hash(write: Writer) -> str:
    """Hash of the first 200 texts of a writer: it changes when the world's language changes."""
    rng = random.Random(SEED)
    return hash_text(*(write(rng) for _ in range(200)))


def main() -> None:
    """Make the model that the command line names."""
    parser = argparse.ArgumentParser(prog="python tools/make_pocket_weights.py", description=__doc__)
    parser.add_argument("what", choices=("teacher", "student"))
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where to write (default: in the package)")
    parser.add_argument("--steps", type=int, default=None, help="training steps (default: as for the shipped weights)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of weights and texts (default: {SEED}, as shipped)")
    given = parser.parse_args()
    if given.what == "teacher":
        steps = given.steps or TEACHER_STEPS
        make_model(
            "teacher", teacher_tokenizer(), teacher_config(), lessons, steps, TEACHER_RATE, given.out, given.seed
        )
    else:
        steps = given.steps or STUDENT_STEPS
        make_model(
            "student", student_tokenizer(), student_config(), world_text, steps, STUDENT_RATE, given.out, given.seed
        )


if __name__ == "__main__":
    main()
