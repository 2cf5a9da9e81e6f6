"""What can be read of a teacher on a question and its rationale: views of its attention, and its next tokens.

A `Signal` says what it needs of a forward pass and what its rows are. Reading, storing, going on after a kill,
verification and estimates are written once over it (`read_signals`, `stages/attend`).

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

    from molsaki.attention import SpanRequest

CUT = "cut at the end of the teacher's context"

Item = TypeVar("Item")
"""What a signal's `prepare` finds of a text."""
Row = dict[str, "Tensor"]
"""A signal's tensors of one text."""


@dataclass(frozen=True, slots=True)
class PreparedSignals:
    """A text with its tokens under the teacher's tokenizer, and what each signal found to read on it.

    Attributes:
        text: the text.
        encoded: the whole prompt with question and rationale.
        items: what `Signal.prepare` gave, by the signal's name; signals without anything to read are left out.
    """

    text: Text
    encoded: EncodedText
    items: Mapping[str, Any]

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.encoded.input_ids)


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """The sizes of a teacher that rows depend on.

    Attributes:
        layers: how many layers it has.
        heads: how many attention heads all of them have together; 0 where no signal needs to know.
        vocabulary: how many tokens it chooses among.
    """

    layers: int
    heads: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class PassRequest:
    """What a signal needs of one forward pass over a batch.

    Attributes:
        spans: the steps and keys to sum attention over; None for none.
        first_logit: the first position whose logits are needed; None for none.
    """

    spans: SpanRequest | None = None
    first_logit: int | None = None


@dataclass(frozen=True, slots=True)
class PassOutput:
    """What one forward pass gave a signal.

    Attributes:
        attention: [R, L, S, K] for the requested spans; None if there were none.
        logits: [B, N, V] of the last N positions that were computed.
        first_logit: the position of the first of them.
    """

    attention: Tensor | None
    logits: Tensor
    first_logit: int


def folder_of(name: str) -> str:
    """The store of a signal of this name in a run's directory."""
    return f"attention/{name}"


class Signal(ABC, Generic[Item]):
    """One thing that can be read of a teacher.

    Attributes:
        name: as methods and manifests name it.
        title: how people read of it.
    """

    name: str
    title: str

    @property
    def folder(self) -> str:
        """Its store in a run's directory."""
        return folder_of(self.name)

    @abstractmethod
    def rules(self) -> dict[str, str]:
        """What decides its rows and is known without the teacher, for fingerprints."""

    @abstractmethod
    def schema(self, model: ModelSizes) -> Schema:
        """The tensors of a row."""

    @abstractmethod
    def describe(self, model: ModelSizes) -> str:
        """What a row has of the teacher, such as "32 layers"."""

    @abstractmethod
    def prepare(
        self, text: Text, encoded: EncodedText, tokenizer: PreTrainedTokenizerBase, report: RowReport
    ) -> Item | None:
        """What is needed to read the signal on a text; None, with the reason counted, where there is nothing to read.

        Args:
            text: question and rationale.
            encoded: its tokens in the teacher's prompt.
            tokenizer: the teacher's.
            report: gets the count, and a note of what is cut.
        """

    @abstractmethod
    def sizes(self, item: Item) -> dict[str, int]:
        """The sizes of the row of a prepared text, as the schema names them."""

    @abstractmethod
    def expected_sizes(self, tokens: int) -> tuple[dict[str, int], str]:
        """The sizes of a row of a rationale that is not written yet, and in words what they assume.

        Args:
            tokens: how long the rationale may get.
        """

    @abstractmethod
    def request(self, items: Sequence[Item | None], attention_mask_BT: Tensor) -> PassRequest:
        """What the forward pass over a batch has to give.

        Args:
            items: what `prepare` found of each text of the batch; None for those that lack this signal.
            attention_mask_BT: 1 at real tokens; all texts begin at position 0.
        """

    @abstractmethod
    def read(self, items: Sequence[Item | None], output: PassOutput) -> list[Tensor | None]:
        """What the forward pass gave for each text of the batch, without padding; None for those without the signal."""

    @abstractmethod
    def pack(self, item: Item, read: Tensor) -> Row:
        """The tensors of a text's row on the CPU, floating-point ones in float32, from what `read` gave for it."""

    @abstractmethod
    def check(self, item: Item, row: Mapping[str, Tensor]) -> list[str]:
        """What is wrong with a stored row of the right sizes and types, given what `prepare` found of its text."""
