"""When rows of a batch that is generated end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class StopAtStrings:
    """A stopping criterion of `generate`: a row is done once its generated text contains a stop string.

    Only the last tokens are decoded at each step. A stop string ends in the newest token, since the row would have
    been done before, and each of its UTF-8 bytes takes at most one token.

    Args:
        tokenizer: the tokenizer.
        strings: the stop strings.
        width: how many tokens the (padded) prompts have.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], width: int) -> None:
        self.tokenizer = tokenizer
        self.strings = strings
        self.width = width
        self._window = max((len(string.encode()) for string in strings), default=0)

    def __call__(self, input_ids: Tensor, *_: Any, **__: Any) -> Tensor:
        """Which rows of [B, T] token ids are done: [B] bools."""
        import torch

        tail = input_ids[:, max(self.width, input_ids.shape[1] - self._window) :]
        texts = self.tokenizer.batch_decode(tail, clean_up_tokenization_spaces=False)
        done = [any(string in text for string in self.strings) for text in texts]
        return torch.tensor(done, device=input_ids.device)

    def cut(self, text: str) -> str:
        """The text before the first stop string."""
        ends = [text.find(string) for string in self.strings if string in text]
        return text[: min(ends, default=len(text))]


class Ended:
    """A stopping criterion of `generate` that ends each row by itself, and the batch once enough rows have ended.

    Args:
        ends: the tokens that end a row, on the model's device.
        stop: the strings that end a row.
        enough: the number of rows with which the batch ends.
    """

    def __init__(self, ends: Tensor, stop: StopAtStrings, enough: int) -> None:
        self.ends = ends
        self.stop = stop
        self.enough = enough
        self.rows: Any = False
        """[B] bools: which rows have ended."""

    def __call__(self, input_ids: Tensor, *_: Any, **__: Any) -> Tensor:
        """Which rows of [B, T] token ids are done: [B] bools, all of them once enough have ended."""
        self.rows = self.rows | input_ids[:, -1:].eq(self.ends).any(1)
        if self.stop.strings:
            self.rows = self.rows | self.stop(input_ids)
        done: Tensor = self.rows | (self.rows.sum() >= self.enough)
        return done
