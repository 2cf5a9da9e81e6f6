"""The interface of a teacher's signals: views of its attention on a rationale, and its next tokens.

A `Signal` defines what it needs from a forward pass and what its rows contain. Reading, storing, resuming after a kill,
verification and estimates are written once for all signals (`read_signals`, `stages/attend`). A long text goes through
the model in chunks; a `Collector` keeps of each chunk what the rows need, so that nothing else grows with the text.

Legend: B batch, R examples of the batch that have the signal, T tokens, L layers, S steps, K keys, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from molsaki.encoding.encode import EncodedText
from molsaki.records import RowReport
from molsaki.spans.text import Text
from molsaki.store.schema import Schema

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from molsaki.attention import ReadLayers, SpanRequest

CUT = "cut at the end of the teacher's context"

Item = TypeVar("Item")
"""The result of a signal's `prepare` for a text."""
Row = dict[str, "Tensor"]
"""A signal's tensors of one text."""


@dataclass(frozen=True, slots=True)
class PreparedSignals:
    """A text with its tokens under the teacher's tokenizer, prepared for each signal.

    Attributes:
        text: the text.
        encoded: the whole prompt with question and rationale.
        items: the results of `Signal.prepare` by the signal's name, without those that are None.
    """

    text: Text
    encoded: EncodedText
    items: Mapping[str, Any]

    @property
    def length(self) -> int:
        """The number of tokens."""
        return len(self.encoded.input_ids)


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """The sizes of a teacher that rows depend on.

    Attributes:
        layers: the layers that are read.
        heads: the number of attention heads of all layers together; 0 if no signal needs it.
        vocabulary: the number of logits.
    """

    layers: ReadLayers
    heads: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class PassRequest:
    """What a signal needs from one forward pass over a batch.

    Attributes:
        spans: the steps and keys to sum attention over; None for none.
        first_logit: the first position whose logits are needed; None for none.
    """

    spans: SpanRequest | None = None
    first_logit: int | None = None


@dataclass(frozen=True, slots=True)
class PassOutput:
    """What a signal gets of one chunk of tokens of a batch.

    Attributes:
        end: the position after the chunk's last token.
        attention: [R, L, S_c, K_c] for the requested spans: the sums of the chunk's tokens for S_c steps and the first
            K_c keys; None if there were none.
        first_step: the first of these steps.
        final_step: the first step that has tokens in later chunks, in any of the texts.
        logits: [B, N, V], of the last N positions of the chunk; None if none of them is needed.
    """

    end: int
    attention: Tensor | None
    first_step: int
    final_step: int
    logits: Tensor | None


def folder_of(name: str) -> str:
    """The folder of a signal's store, relative to the run directory."""
    return f"attention/{name}"


class Collector(ABC):
    """Collects the rows of one signal for the texts of a batch, chunk by chunk."""

    @abstractmethod
    def add(self, output: PassOutput) -> None:
        """Take what the rows need of the next chunk."""

    @abstractmethod
    def rows(self) -> list[Row | None]:
        """The row of each text after the last chunk, on the CPU, its numbers in float32; None for texts without it."""


class Signal(ABC, Generic[Item]):
    """One kind of data that is read from a teacher.

    Attributes:
        name: its name in methods and manifests.
        title: its name in texts for users.
    """

    name: str
    title: str

    @property
    def folder(self) -> str:
        """The folder of its store, relative to the run directory."""
        return folder_of(self.name)

    @abstractmethod
    def rules(self) -> dict[str, str]:
        """The part of the fingerprint that does not depend on the teacher: the rules that its rows follow."""

    @abstractmethod
    def schema(self, model: ModelSizes) -> Schema:
        """The tensors of a row."""

    def read_from(self, model: ModelSizes) -> dict[str, str]:  # noqa: ARG002 - for signals that depend on it
        """The part of the fingerprint that says which parts of the teacher are read, if not all."""
        return {}

    @abstractmethod
    def describe(self, model: ModelSizes) -> str:
        """What a row contains, in words, such as "32 layers"."""

    @abstractmethod
    def prepare(
        self, text: Text, encoded: EncodedText, tokenizer: PreTrainedTokenizerBase, report: RowReport
    ) -> Item | None:
        """Prepare a text for reading; returns None, and counts the reason, if the text lacks this signal.

        Args:
            text: question and rationale.
            encoded: its tokens in the teacher's prompt.
            tokenizer: the teacher's tokenizer.
            report: counts the text, and notes whether it was cut.
        """

    @abstractmethod
    def sizes(self, item: Item) -> dict[str, int]:
        """The sizes of the row of a prepared text, by the schema's names."""

    @abstractmethod
    def expected_sizes(self, tokens: int) -> tuple[dict[str, int], str]:
        """The estimated sizes of a row before its rationale is written, and the assumption in words.

        Args:
            tokens: the limit on the rationale's tokens.
        """

    @abstractmethod
    def request(self, items: Sequence[Item | None], attention_mask_BT: Tensor) -> PassRequest:
        """What this signal needs from the forward pass over a batch.

        Args:
            items: the results of `prepare` for the texts of the batch; None for texts that lack this signal.
            attention_mask_BT: 1 at real tokens; all texts begin at position 0.
        """

    @abstractmethod
    def collect(self, items: Sequence[Item | None]) -> Collector:
        """A collector of the rows of a batch; `items` as for `request`."""

    @abstractmethod
    def check(self, item: Item, row: Mapping[str, Tensor]) -> list[str]:
        """What is wrong with a stored row of valid sizes and types, given the result of `prepare` for its text."""
