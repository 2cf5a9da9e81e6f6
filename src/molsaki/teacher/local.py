"""A model on this machine as the writer of rationales."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from molsaki.encoding.chats import render_template
from molsaki.encoding.control_tokens import data_parts, tokenize_chat
from molsaki.encoding.encode import appended_tokens
from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.models.decode import Completion, decode_batches
from molsaki.teacher.writer import Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONTROL = "questions with a control token of the chat that cannot be split"


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
        if prompt.template is not None:
            return render_template(self.tokenizer, prompt.template).prompt(prompt.question)
        text = prompt.text
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
        groups: dict[tuple[str, ...], list[int]] = {}  # prompts that are decoded together have the same stop strings
        for i, request in enumerate(requests):
            groups.setdefault(request.prompt.stop_strings, []).append(i)
        for stop_strings, places in groups.items():
            batches = decode_batches(
                self.model,
                self.tokenizer,
                [self._tokenize(requests[i].prompt) for i in places],
                max_new_tokens=max_new_tokens,
                batch_size=self.batch_size,
                temperature=temperature,
                seeds=[requests[i].seed for i in places],
                stop_strings=stop_strings,
            )
            for batch in batches:
                yield [replace(completion, index=places[completion.index]) for completion in batch]

    def _tokenize(self, prompt: Prompt) -> list[int]:
        """The tokens of a prompt. The data in a chat become no control tokens; where they do, that is counted."""
        if prompt.template is None:
            ids: list[int] = self.tokenizer(prompt.text, verbose=False)["input_ids"]
            return ids[: len(ids) - appended_tokens(self.tokenizer)]
        rendered = render_template(self.tokenizer, prompt.template)
        parts = data_parts(self.tokenizer, rendered, prompt.question)
        tokens = tokenize_chat(self.tokenizer, rendered.prompt(prompt.question), parts)
        if any(part.has_control(tokens) for part in parts):
            self.notes[CONTROL] += 1
        return tokens[0]
