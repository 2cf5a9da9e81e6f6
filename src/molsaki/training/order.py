"""The order of examples, and which of their rows run together, so that there is little padding.

The examples of a step are a random sample. Steps of examples of similar length would have less padding, but such
examples are of one kind, and students learn less from them: 11 points less on the demo's problems
(docs/experiments/order.md). Only within a step are examples sorted by length, so that accumulated batches have little
padding. The order differs from epoch to epoch and depends on seed and epoch alone, as resuming from a checkpoint needs.
A step has the same examples however it is divided into accumulated batches and processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

from molsaki.methods import Task
from molsaki.training.example import Example

PADDING_ALLOWED = 0.10
"""The share of a pass that may be padding which a pass for each task would not have."""


class ShuffledSteps(Sampler[int]):
    """Random steps, new ones for every epoch, with the examples of a step in the order of their length.

    Args:
        lengths: of every example, in tokens.
        step_size: examples of one optimizer step, over all accumulated batches and processes.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], step_size: int, seed: int) -> None:
        self.lengths = list(lengths)
        self.step_size = step_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next order; the data loader calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        shuffled = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(shuffled), self.step_size):
            yield from sorted(shuffled[start : start + self.step_size], key=self.lengths.__getitem__)


def example_lengths(examples: Sequence[Example]) -> list[int]:
    """The length of each example's longest sequence, in tokens, the same whatever the method's tasks are.

    All methods of a seed then have the same order of examples. `reason`, which only some examples have, does not count
    beside the other tasks.
    """
    lengths = []
    for example in examples:
        common = [text for task, text in example.sequences.items() if task != "reason"] or example.sequences.values()
        lengths.append(max(len(text.input_ids) for text in common))
    return lengths


@dataclass(frozen=True, slots=True)
class Passes:
    """How the rows of a batch run.

    Attributes:
        separate: the rows of each task run in a pass of their own; otherwise all rows run in one.
        padding: share of padding among all tokens that run, in the first epoch.
    """

    separate: bool
    padding: float


def plan_passes(examples: Sequence[Example], tasks: Sequence[Task], batch_size: int, order: Sequence[int]) -> Passes:
    """One pass for all tasks, or a pass for each if that saves more than a tenth of the tokens that run.

    This is decided once for all batches and processes: under FSDP a process that runs one pass more than the others
    would wait for them forever.

    Args:
        examples: the training examples.
        tasks: the method's tasks.
        batch_size: number of examples that run together.
        order: of the examples in the first epoch.
    """
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    together = _padding(examples, batches, [tuple(tasks)])
    apart = _padding(examples, batches, [(task,) for task in tasks])
    # Both run the same tokens of text, so the ratio of all tokens is that of the shares that are not padding.
    if (1 - together) >= (1 - PADDING_ALLOWED) * (1 - apart):
        return Passes(False, together)
    return Passes(True, apart)


def _padding(
    examples: Sequence[Example], batches: Sequence[Sequence[int]], passes: Sequence[tuple[Task, ...]]
) -> float:
    real = run = 0
    for batch in batches:
        for tasks in passes:
            lengths = [len(examples[index].sequences[task].input_ids) for index in batch for task in tasks]
            real += sum(lengths)
            run += len(lengths) * max(lengths)
    return 1 - real / run if run else 0.0
