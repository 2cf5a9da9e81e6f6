"""One epoch of Distilling step-by-step beside TRL's SFTTrainer: the same sequences, batch, model and machine, in turn.

    pip install -c constraints.txt --no-deps trl==1.16.0
    python benchmarks/against_trl.py --data ../shared/data

800 SVAMP problems with PaLM's rationales are 1,600 sequences, tokenized once for both. A step takes 32 of them: here 16
problems in both tasks, there 32 rows. The student is GPT-2-shaped, 6 layers of width 384, random, float32. TRL runs as
it comes (without recomputing activations and without bfloat16, as here), and once more with rows of about one length
together.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase, set_seed

from molsaki.answers.parse import parse_answer
from molsaki.config.student_settings import TrainingSettings
from molsaki.data import load_palm_completions, load_problems
from molsaki.encoding.prompts import EXPLAIN, PREDICT, PromptTemplate
from molsaki.methods import METHODS
from molsaki.models.load import quiet_libraries
from molsaki.spans.text import Text
from molsaki.store.whole_files import write_json
from molsaki.training import DistillationTrainer, Example, encode_examples, make_method
from molsaki.training.arguments import training_arguments
from molsaki_benchmarks.runner import describe_machine

CONTEXT, BATCH = 512, 16


def read_examples(data: Path, tokenizer: PreTrainedTokenizerBase, rows: int) -> list[Example]:
    """The problems in both tasks."""
    problems = list(load_problems("svamp-dss", path=data / "svamp/dss", split="train").problems)[:rows]
    raw = load_palm_completions("svamp-dss", data / "svamp/dss", "train")
    texts = {}
    for problem in problems:
        rationale = parse_answer(raw[problem.id], problem.choices).rationale or raw[problem.id].split("\n\n")[0]
        texts[problem.id] = Text(problem.id, problem.text, rationale.strip() or "None.", "numbers")
    templates = {"predict": PromptTemplate.parse(PREDICT), "explain": PromptTemplate.parse(EXPLAIN)}
    examples, _ = encode_examples(tokenizer, problems, texts, templates, CONTEXT)  # type: ignore[arg-type]
    return examples


def make_student(tokenizer: PreTrainedTokenizerBase) -> GPT2LMHeadModel:
    """The student, the same every time."""
    set_seed(0)
    sizes = {"n_embd": 384, "n_layer": 6, "n_head": 6, "n_positions": CONTEXT}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes))


def with_molsaki(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, steps: int, folder: str) -> Any:
    """Our trainer, ready to train."""
    student = make_student(tokenizer)
    settings = TrainingSettings(steps=steps, batch_size=BATCH, learning_rate=1e-4, log_every=10)
    arguments = training_arguments(settings, Path(folder), seed=0, show_progress=False, validating=False)
    method = make_method(METHODS["dss"], METHODS["dss"].Settings(), student)
    return DistillationTrainer(student, method, arguments, examples, tokenizer)


def with_trl(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, steps: int, folder: str, grouped: bool
) -> Any:
    """TRL's trainer on the same sequences, ready to train."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    rows = [text for example in examples for text in example.sequences.values()]
    dataset = datasets.Dataset.from_dict(
        {
            "input_ids": [list(text.input_ids) for text in rows],
            "completion_mask": [[int(i >= text.completion_token) for i in range(len(text.input_ids))] for text in rows],
        }
    )
    arguments = SFTConfig(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=2 * BATCH,
        learning_rate=1e-4,
        max_length=CONTEXT,
        completion_only_loss=True,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
        train_sampling_strategy="group_by_length" if grouped else "random",
    )
    tokenizer.pad_token = tokenizer.eos_token
    return SFTTrainer(make_student(tokenizer), args=arguments, train_dataset=dataset, processing_class=tokenizer)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of svamp/ and tokenizers/")
    parser.add_argument("--rows", type=int, default=800, help="problems in the epoch (default: 800)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--not-grouped", action="store_true", help="leave out TRL with rows grouped by length")
    parser.add_argument("--output", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.data / "tokenizers/gpt2")
    examples = read_examples(options.data, tokenizer, options.rows)
    sequences = 2 * len(examples)
    steps = sequences // (2 * BATCH)
    ways: dict[str, Callable[[str], Any]] = {
        "molsaki": lambda folder: with_molsaki(examples, tokenizer, steps, folder),
        "TRL": lambda folder: with_trl(examples, tokenizer, steps, folder, grouped=False),
        "TRL, grouped by length": lambda folder: with_trl(examples, tokenizer, steps, folder, grouped=True),
    }
    if options.not_grouped:
        del ways["TRL, grouped by length"]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.repeats):
        for way, make in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                trainer = make(folder)
                started = time.perf_counter()
                trainer.train()
                seconds[way].append(time.perf_counter() - started)
            print(f"{way}: {seconds[way][-1]:.1f} s", flush=True)
    ours = statistics.median(seconds["molsaki"])
    print("\n| trainer | seconds | sequences a second | molsaki is faster by |\n| --- | --- | --- | --- |")
    for way, taken in seconds.items():
        median = statistics.median(taken)
        print(f"| {way} | {median:.1f} | {sequences / median:.1f} | {median / ours:.2f} |")
    machine = describe_machine(options.threads)
    print(f"\n{sequences} sequences, {steps} steps, median of {options.repeats}. {json.dumps(machine)}")
    if options.output:
        write_json(options.output, {"machine": machine, "sequences": sequences, "steps": steps, "seconds": seconds})


if __name__ == "__main__":
    main()
