"""The interface of a teacher that writes rationales, local or served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.models.decode import Completion
from molsaki.records import hash_text


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to complete.

    Attributes:
        prompt: the prompt.
        sample: the index of the sample among several of the same prompt, from 0.
    """

    prompt: Prompt
    sample: int = 0

    @property
    def seed(self) -> int:
        """The seed of sampling, which depends on the prompt and the sample alone, not on the order of requests."""
        return int(hash_text(self.prompt.hash, str(self.sample)), 16) % 2**31


class Writer(Protocol):
    """A teacher that completes prompts.

    Attributes:
        notes: counts of events, such as repeated requests.
    """

    notes: Counter[str]

    def require(self, template: PromptTemplate) -> None:
        """Raise an `InputError` for a template that this teacher does not support."""

    def show(self, prompt: Prompt) -> str:
        """The model's input as far as it is known here: the text, or the turns that a server renders."""

    def complete(
        self, requests: Sequence[Request], *, max_new_tokens: int, temperature: float = 0.0
    ) -> Iterator[list[Completion]]:
        """Yield completions as they arrive, one for each request, with the index of the request.

        Args:
            requests: the prompts to complete.
            max_new_tokens: the largest number of new tokens.
            temperature: the temperature of sampling; 0 for greedy decoding.
        """
