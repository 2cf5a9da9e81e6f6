"""A model on this machine as the writer of rationales."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from molsaki.encoding.chats import render_prompt, render_template
from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.models.decode import Completion, decode_batches
from molsaki.teacher.writer import Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LocalWriter:
    """A transformers model that completes prompts in batches of similar length.

    Args:
        model: a causal language model, on its device; None if prompts are only shown.
        tokenizer: its tokenizer, with a chat template if prompts are chats.
        batch_size: the number of prompts that are decoded together.
    """

    def __init__(self, model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.notes: Counter[str] = Counter()

    def require(self, template: PromptTemplate) -> None:
        """Raise a `TokenizerError` for a chat that the tokenizer's chat template cannot render."""
        render_template(self.tokenizer, template)

    def show(self, prompt: Prompt) -> str:
        """The text of the model's input, with the special tokens that the tokenizer adds at the beginning."""
        text = render_prompt(self.tokenizer, prompt)
        if prompt.messages:
            return text
        special = set(self.tokenizer.all_special_ids)
        before: list[int] = []
        for token in self.tokenizer(text, verbose=False)["input_ids"]:
            if token not in special:
                break
            before.append(token)
        return str(self.tokenizer.decode(before)) + text

    def complete(
        self, requests: Sequence[Request], *, max_new_tokens: int, temperature: float = 0.0
    ) -> Iterator[list[Completion]]:
        """Yield completions batch by batch, the longest prompts first; see `decode_batches`."""
        assert self.model is not None, "a writer without a model only shows prompts"
        # Prompts that are decoded together have the same stop strings, and are all texts or all rendered chats.
        groups: dict[tuple[bool, tuple[str, ...]], list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault((bool(request.prompt.messages), request.prompt.stop_strings), []).append(i)
        for (chat, stop_strings), places in groups.items():
            batches = decode_batches(
                self.model,
                self.tokenizer,
                [render_prompt(self.tokenizer, requests[i].prompt) for i in places],
                max_new_tokens=max_new_tokens,
                batch_size=self.batch_size,
                special_tokens=not chat,
                temperature=temperature,
                seeds=[requests[i].seed for i in places],
                stop_strings=stop_strings,
            )
            for batch in batches:
                yield [replace(completion, index=places[completion.index]) for completion in batch]
