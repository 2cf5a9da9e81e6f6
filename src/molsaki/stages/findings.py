"""What `molsaki doctor` reports: findings, and estimates of memory and time from a model's configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from molsaki.attention import ReadLayers
from molsaki.config.model_spec import ModelSpec
from molsaki.config.recipe import Recipe
from molsaki.encoding.encode import context_length
from molsaki.models.estimates import Machine, show_bytes, show_seconds
from molsaki.models.load import load_tokenizer
from molsaki.models.outline import Outline, outline_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Level = Literal["plain", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report.

    Attributes:
        about: the stage or the section of the recipe.
        text: the finding.
        level: an "error" prevents the run; a "warning" may be a mistake.
    """

    about: str
    text: str
    level: Level = "plain"


@dataclass(frozen=True, slots=True)
class ModelOutline:
    """A model of the recipe: its tokenizer and configuration, without weights."""

    spec: ModelSpec
    tokenizer: PreTrainedTokenizerBase
    outline: Outline

    @classmethod
    def load(cls, recipe: Recipe, spec: ModelSpec) -> ModelOutline:
        """Load the tokenizer and the configuration of a model."""
        tokenizer = load_tokenizer(recipe, spec)
        return cls(spec, tokenizer, outline_model(recipe, spec, tokenizer))

    def context(self, max_length: int | None) -> int:
        """The context length of the model, or `max_length` if it is smaller."""
        return context_length(self.tokenizer, self.outline.config, max_length)


def estimate_cost(
    about: str, machine: Machine, memory: int, seconds: Callable[[Machine], float], unit: str = ""
) -> Iterator[Finding]:
    """The memory and time of a stage, with a warning if it needs more memory than there is.

    Args:
        about: the stage.
        machine: this machine.
        memory: bytes; 0 to report the time only.
        seconds: the time on a machine.
        unit: what the estimate is for, such as `per student`.
    """
    suffix = f" {unit}" if unit else ""
    time = f"at least {show_seconds(seconds(machine))}{suffix}"
    if not memory:
        yield Finding(about, time)
        return
    text = f"about {show_bytes(memory)} of memory{suffix}, {time}"
    if machine.memory and memory > machine.memory:
        yield Finding(about, f"{text}; this machine has {show_bytes(machine.memory)}", "warning")
    else:
        yield Finding(about, text)


def count_tokens(tokenizer: Any, texts: list[str], special_tokens: bool = True) -> list[int]:
    """The number of tokens of each text."""
    if not texts:
        return []
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=special_tokens, verbose=False)["input_ids"]]


def describe_lengths(lengths: list[int]) -> str:
    """The mean, the 95th percentile and the maximum of numbers of tokens."""
    if not lengths:
        return "no tokens"
    ordered = sorted(lengths)
    percentile = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return f"{sum(ordered) / len(ordered):.0f} tokens (95 % up to {percentile}, the longest {ordered[-1]})"


def describe_layers(about: str, recipe: Recipe, layers: ReadLayers) -> Iterator[Finding]:
    """The layers without attention of a hybrid model, by its configuration; nothing for other models."""
    if layers.is_whole:
        return
    refused = recipe.attention.layers == "every" or not layers.numbers
    text = f"attention is read in {layers}; {', '.join(layers.others)} have no softmax attention"
    yield Finding(about, text, "error" if refused else "warning")
