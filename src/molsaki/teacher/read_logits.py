"""A teacher's next-token distributions along its rationale, as a signal; it does not depend on a student.

Legend: B batch, N positions whose logits are computed, P tokens of a rationale and its end, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from torch import Tensor

from molsaki.encoding.encode import EncodedText
from molsaki.encoding.token_bytes import token_bytes
from molsaki.encoding.token_map import Characters, rationale_spans
from molsaki.records import RowReport
from molsaki.spans.text import Text
from molsaki.store import next_tokens as rows
from molsaki.store.schema import TensorSpec
from molsaki.teacher.signals import CUT, Collector, ModelSizes, PassOutput, PassRequest, Row, Signal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEXT_TOKENS = "next-tokens"
RULES = "next tokens 1"
"""The version of the rules; changes when the same text would get other rows."""
NOTHING_LEFT = "no token of the rationale fits into the teacher's context: takes no part in the next tokens' loss"
_ROUNDING = 1e-3
"""The tolerance of a sum of probabilities above 1, from logits in bfloat16."""


@dataclass(frozen=True, slots=True)
class PreparedRationale:
    """The position of a rationale among a text's tokens.

    Attributes:
        first: the position whose logits predict its first token.
        spans: the characters of the rationale that each token covers; the last is its end, unless the text was cut.
    """

    first: int
    spans: tuple[Characters, ...]


class NextTokenSignal(Signal[PreparedRationale]):
    """The likeliest next tokens at each token of a rationale; see `molsaki.store.next_tokens`.

    Args:
        top: the number of tokens that are kept, at most the vocabulary's size.
        temperatures: the temperatures of the distributions; see `temperature_names`.
    """

    name = NEXT_TOKENS
    title = "next tokens"

    def __init__(self, top: int, temperatures: Sequence[str] = ("1",)) -> None:
        self._top = top
        self._temperatures = tuple(temperatures)

    def rules(self) -> dict[str, str]:
        """The number of kept tokens, and the temperatures."""
        return {"rules": RULES, "top": str(self._top), rows.TEMPERATURES: " ".join(self._temperatures)}

    def schema(self, model: ModelSizes) -> dict[str, TensorSpec]:
        """Log-probabilities, ids, characters, and a sum for each temperature."""
        return rows.next_token_schema(min(self._top, model.vocabulary), self._temperatures, model.vocabulary)

    def describe(self, model: ModelSizes) -> str:
        """The number of kept tokens."""
        return f"the {min(self._top, model.vocabulary)} likeliest at each token"

    def prepare(
        self, text: Text, encoded: EncodedText, tokenizer: PreTrainedTokenizerBase, report: RowReport
    ) -> PreparedRationale | None:
        """The characters of the rationale's tokens.

        Raises:
            TokenizerError: the bytes of the tokenizer's tokens are not known.
        """
        spans = rationale_spans(encoded, _bytes_of(tokenizer), text.rationale)
        if not spans or not encoded.completion_token:
            report.skip(text.id, NOTHING_LEFT)
            return None
        if encoded.cut_tokens:
            report.note(CUT)
        else:
            spans.append((len(text.rationale), len(text.rationale)))
        report.keep()
        return PreparedRationale(encoded.completion_token - 1, tuple(spans))

    def sizes(self, item: PreparedRationale) -> dict[str, int]:
        """The number of tokens, the end included."""
        return {rows.TOKENS: len(item.spans)}

    def expected_sizes(self, tokens: int) -> tuple[dict[str, int], str]:
        """One more than the rationale's tokens: its end."""
        return {rows.TOKENS: tokens + 1}, f"{tokens} tokens"

    def request(
        self,
        items: Sequence[PreparedRationale | None],
        attention_mask_BT: Tensor,  # noqa: ARG002 - for signals with spans
    ) -> PassRequest:
        """The logits from where the first rationale of the batch begins."""
        return PassRequest(first_logit=min((item.first for item in items if item is not None), default=None))

    def collect(self, items: Sequence[PreparedRationale | None]) -> NextTokenRows:
        """The likeliest tokens, from the logits of each chunk."""
        return NextTokenRows(items, self._top, self._temperatures)

    def check(self, item: PreparedRationale, row: Mapping[str, Tensor]) -> list[str]:
        """What is impossible for next tokens on this text: other characters, invalid probabilities, repeated tokens."""
        log_probs_PC = row[rows.LOG_PROBS]
        wrong: list[str] = []
        if row[rows.CHARACTERS].tolist() != [list(span) for span in item.spans]:
            wrong.append("its tokens cover other characters than those of its text")
        if float(log_probs_PC.max()) > 0 or bool((log_probs_PC.diff(dim=1) > 0).any()):
            wrong.append("its log-probabilities are not at most 0, the largest first")
        if float(log_probs_PC.exp().sum(1).max()) > 1 + _ROUNDING:
            wrong.append("its probabilities add up to more than 1")
        if any(len(set(ids)) < len(ids) for ids in row[rows.IDS].tolist()):
            wrong.append("it has a token twice at one place")
        return wrong


class NextTokenRows(Collector):
    """The likeliest next tokens of the rationales of a batch; arguments as for `NextTokenSignal`."""

    def __init__(self, items: Sequence[PreparedRationale | None], top: int, temperatures: Sequence[str]) -> None:
        self._items, self._top, self._temperatures = items, top, temperatures
        self._parts: list[list[dict[str, Tensor]]] = [[] for _ in items]

    def add(self, output: PassOutput) -> None:
        """The likeliest tokens of the positions of each rationale that the chunk has."""
        if output.logits is None:
            return
        begin = output.end - output.logits.shape[1]
        for item, parts, logits_NV in zip(self._items, self._parts, output.logits, strict=True):
            first, end = (0, 0) if item is None else (max(item.first, begin), item.first + len(item.spans))
            if first < min(end, output.end):
                some_PV = logits_NV[first - begin : end - begin]
                top = min(self._top, some_PV.shape[1])
                parts.append(rows.likeliest_tokens(some_PV, top, self._temperatures))

    def rows(self) -> list[Row | None]:
        """A row for each rationale."""
        return [
            None if item is None else rows.join_next_tokens(parts, item.spans)
            for item, parts in zip(self._items, self._parts, strict=True)
        ]


@lru_cache(maxsize=2)
def _bytes_of(tokenizer: PreTrainedTokenizerBase) -> list[bytes | None]:
    return token_bytes(tokenizer)
