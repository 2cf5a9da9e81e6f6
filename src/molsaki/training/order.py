"""The order of examples, and which of their rows run together, so that there is little padding.

The examples of a step are a random sample. Steps of examples of similar length would have less padding, but such
examples are of one kind, and students learn less from them: 11 points less on the demo's problems
(docs/experiments/order.md). Only within a step are examples sorted by length, so that accumulated batches have little
padding; in one process they also have about as many tokens each, since the largest decides how much memory a step
takes. The order differs from epoch to epoch and depends on seed and epoch alone, as resuming from a checkpoint needs.
A step has the same examples however it is divided into accumulated batches and processes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

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


class EvenBatches(Sampler[list[int]]):
    """The examples of each step in batches with about as many tokens each: few long examples, or many short ones.

    There are as many batches as of equal numbers of examples.

    Args:
        sampler: the order of the examples. accelerate sets its epoch by this name.
        batch_size: the mean number of examples of a batch, whose multiple a step is.
        lengths: the tokens of every example that run.
    """

    def __init__(self, sampler: ShuffledSteps, batch_size: int, lengths: Sequence[int]) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.lengths = list(lengths)

    def __len__(self) -> int:
        return math.ceil(len(self.sampler) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order, step_size = list(self.sampler), self.sampler.step_size
        for start in range(0, len(order), step_size):
            step = order[start : start + step_size]
            lengths = [self.lengths[index] for index in step]
            for first, end in pairwise(even_cuts(lengths, math.ceil(len(step) / self.batch_size))):
                yield step[first:end]


def even_cuts(lengths: Sequence[int], count: int) -> list[int]:
    """Where to cut examples into batches so that the batch with the most tokens has as few as possible.

    Args:
        lengths: of the examples in tokens. A batch is padded to its longest.
        count: of batches; at most the number of examples.

    Returns:
        `count` + 1 positions, from 0 to the number of examples.
    """
    # The fewest tokens of the largest batch with which all examples have a place.
    limits = range(max(lengths), len(lengths) * max(lengths) + 1)
    found = bisect_left(limits, True, key=lambda limit: _cuts_under(lengths, count, limit)[-1] == len(lengths))
    return _cuts_under(lengths, count, limits[found])


def _cuts_under(lengths: Sequence[int], count: int, limit: int) -> list[int]:
    """The cuts of batches of at most `limit` tokens, each as long as it can be if the others are to have one."""
    cuts = [0]
    for left in range(count - 1, -1, -1):
        start, end = cuts[-1], cuts[-1] + 1
        longest = lengths[start]
        while end < len(lengths) - left and (end + 1 - start) * max(longest, lengths[end]) <= limit:
            longest = max(longest, lengths[end])
            end += 1
        cuts.append(end)
    return cuts


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


def tokens_run(examples: Sequence[Example], tasks: Sequence[Task]) -> list[int]:
    """The tokens of each example in some tasks."""
    return [
        sum(len(text.input_ids) for task, text in example.sequences.items() if task in tasks) for example in examples
    ]


@dataclass(frozen=True, slots=True)
class Passes:
    """How the rows of a batch run.

    Attributes:
        separate: the rows of each task run in a pass of their own; otherwise all rows run in one.
        padding: share of padding among all tokens that run, in the first epoch.
    """

    separate: bool
    padding: float


def plan_passes(examples: Sequence[Example], tasks: Sequence[Task], batches: Sequence[Sequence[int]]) -> Passes:
    """One pass for all tasks, or a pass for each if that saves more than a tenth of the tokens that run.

    This is decided once for all batches and processes: under FSDP a process that runs one pass more than the others
    would wait for them forever.

    Args:
        examples: the training examples.
        tasks: the method's tasks.
        batches: the examples that run together in the first epoch.
    """
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
