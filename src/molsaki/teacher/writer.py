"""What generation asks of a teacher, whatever it is."""

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
        prompt: what is asked.
        sample: which of several samples of this prompt it is, from 0.
    """

    prompt: Prompt
    sample: int = 0

    @property
    def seed(self) -> int:
        """What a sample is drawn with: the same for the same prompt and sample, in any order."""
        return int(hash_text(self.prompt.hash, str(self.sample)), 16) % 2**31


class Writer(Protocol):
    """A teacher that completes prompts.

    Attributes:
        notes: what happened on the way, with counts, such as requests that were repeated.
    """

    notes: Counter[str]

    def require(self, template: PromptTemplate) -> None:
        """Raise an `InputError` for a template that this teacher cannot be asked with."""

    def show(self, prompt: Prompt) -> str:
        """What the model gets, as far as it is known here: the text, or the turns that a server renders."""

    def complete(
        self, requests: Sequence[Request], *, max_new_tokens: int, temperature: float = 0.0
    ) -> Iterator[list[Completion]]:
        """Yield completions, each with its request's place, as they are there; each request has one.

        Args:
            requests: what to complete.
            max_new_tokens: the bound on what is written.
            temperature: of sampling; 0 takes the likeliest token.
        """
