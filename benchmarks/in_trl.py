"""One batch in three trainers, and what the attention loss costs in TRL's.

    python benchmarks/in_trl.py --run runs/pocket --student pocket:student
    python benchmarks/in_trl.py --run signals/svamp-palm --student HuggingFaceTB/SmolLM2-135M-Instruct

`--run` is a run whose teacher was read, or an export of its signals. First the losses of one batch of rationales in a
loop of one's own, in `AttentionSFTTrainer` and in molsaki's trainer, from the same student and router. Then the time
of TRL's trainer with and without attention over the same rows, in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

import molsaki
from molsaki.data.pocket import STUDENT
from molsaki.encoding.prompts import EXPLAIN, PREDICT
from molsaki.integrations.trl import AttentionSFTTrainer
from molsaki.methods import METHODS, Task
from molsaki.models.load import quiet_libraries
from molsaki.store.whole_files import write_json
from molsaki.training import Collator
from molsaki.training.model import DistillationModel
from molsaki_benchmarks.runner import describe_machine

TEMPLATES: dict[Task, molsaki.PromptTemplate] = {
    "predict": molsaki.PromptTemplate.parse(PREDICT),
    "explain": molsaki.PromptTemplate.parse(EXPLAIN),
}


class Setup:
    """A student, its tokenizer, the teacher's signals, and rows of rationales."""

    def __init__(self, run: str, student: str, rows: int) -> None:
        self.name = STUDENT if student == "pocket:student" else student
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.name)
        self.signals = molsaki.load_signals(run)
        texts = [text for text in self.signals.texts.values() if text.id in self.signals.attention][:rows]
        explain = TEMPLATES["explain"]
        self.rows = [
            {"id": text.id, "prompt": explain.prompt(text.question), "completion": explain.gap + text.rationale}
            for text in texts
        ]

    def student(self) -> PreTrainedModel:
        """The student, in float32, the same every time."""
        set_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.name, dtype=torch.float32)
        return model

    def trl(self, folder: str, rows: Sequence[dict[str, str]], batch: int, steps: int, attention: bool) -> Any:
        """TRL's trainer, with or without attention."""
        args = SFTConfig(
            folder,
            max_steps=steps,
            per_device_train_batch_size=batch,
            max_length=None,
            gradient_checkpointing=None,
            activation_checkpointing=False,
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        common = {"args": args, "train_dataset": Dataset.from_list(list(rows)), "processing_class": self.tokenizer}
        if attention:
            trainer = AttentionSFTTrainer(self.student(), signals=self.signals, beta=1.0, **common)
        else:
            trainer = SFTTrainer(self.student(), **common)
        trainer.remove_callback(PrinterCallback)
        return trainer


def in_a_loop(setup: Setup, rows: Sequence[dict[str, str]], seed: int) -> tuple[float, float]:
    """Cross-entropy and attention loss of a batch, by `StepwiseAttentionLoss`."""
    student = setup.student()
    torch.manual_seed(seed)
    stepwise = molsaki.StepwiseAttentionLoss(student, setup.signals)
    outputs, attention = stepwise(student, **molsaki.SpanCollator(setup.tokenizer, setup.signals)(rows))
    return outputs.loss.item(), attention.item()


def in_trl(setup: Setup, rows: Sequence[dict[str, str]]) -> tuple[float, float, int]:
    """The same by `AttentionSFTTrainer`, and the seed of its router."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = setup.trl(folder, rows, len(rows), 1, attention=True)
        trainer.train()
        (log,) = [entry for entry in trainer.state.log_history if "loss" in entry]
        return log["loss"] - log["attention_loss"], log["attention_loss"], trainer.args.seed


def in_molsaki(setup: Setup, rows: Sequence[dict[str, str]], seed: int) -> tuple[float, float]:
    """The same by the model that `DistillationTrainer` and `molsaki train` train."""
    texts = {row["id"]: setup.signals.texts[row["id"]] for row in rows}
    problems = [molsaki.Problem(text.id, text.question, answer="0", label="0") for text in texts.values()]
    method, student = METHODS["molsaki"], setup.student()
    torch.manual_seed(seed)
    made = molsaki.make_method(method, method.Settings(), student, setup.signals.teacher_layers)
    longest = int(setup.tokenizer.model_max_length)
    choice = method.terms_of(method.Settings()).attention
    examples, _ = molsaki.encode_examples(
        setup.tokenizer, problems, texts, TEMPLATES, longest, setup.signals.attention, choice
    )
    found = DistillationModel(student, made)(**Collator(setup.tokenizer, made.terms)(examples))
    return found["rationale_loss"].item(), found["attention_loss"].item()


def measure(setup: Setup, batch: int, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of both trainers over the rows, in turn: on the wall clock, and of the processor."""
    taken: dict[str, dict[str, list[float]]] = {
        way: {"wall": [], "processor": []} for way in ("SFTTrainer", "AttentionSFTTrainer")
    }
    for _ in range(repeats):
        for way, times in taken.items():
            with tempfile.TemporaryDirectory() as folder:
                steps = max(1, len(setup.rows) // batch)
                trainer = setup.trl(folder, setup.rows, batch, steps, way != "SFTTrainer")
                clocks = {"wall": time.perf_counter, "processor": time.process_time}
                started = {kind: clock() for kind, clock in clocks.items()}
                trainer.train()
                for kind, clock in clocks.items():
                    times[kind].append(clock() - started[kind])
            print(f"{way}: {times['wall'][-1]:.1f} s, of the processor {times['processor'][-1]:.1f} s", flush=True)
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/pocket")
    parser.add_argument("--student", default="pocket:student")
    parser.add_argument("--rows", type=int, default=128, help="rows of an epoch (default: 128)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(options.threads)
    setup = Setup(options.run, options.student, options.rows)
    batch = setup.rows[: options.batch]
    *trl, seed = in_trl(setup, batch)
    losses = {
        "a loop of 15 lines": in_a_loop(setup, batch, seed),
        "AttentionSFTTrainer": tuple(trl),
        "molsaki train": in_molsaki(setup, batch, seed),
    }
    print("| trainer | cross-entropy of the rationale | attention loss |\n| --- | --- | --- |")
    for way, (rationale, attention) in losses.items():
        print(f"| {way} | {rationale:.7f} | {attention:.7f} |")
    taken = measure(setup, options.batch, options.repeats)
    print(f"\n| trainer | seconds for {len(setup.rows)} rows | processor seconds |\n| --- | --- | --- |")
    for way, times in taken.items():
        print(f"| {way} | {statistics.median(times['wall']):.2f} | {statistics.median(times['processor']):.2f} |")
    ratios = {
        kind: statistics.median(b / a for a, b in zip(*(times[kind] for times in taken.values()), strict=True))
        for kind in ("wall", "processor")
    }
    machine = describe_machine(options.threads)
    print(
        f"\nRatio: {ratios['wall']:.3f}, of processor time {ratios['processor']:.3f} (medians of {options.repeats} "
        f"pairs). {json.dumps(machine)}"
    )
    if options.output:
        write_json(options.output, {"machine": machine, "losses": losses, "seconds": taken, "ratios": ratios})


if __name__ == "__main__":
    main()
