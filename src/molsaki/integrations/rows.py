"""Which tokens of a sequence that another library tokenized belong to the steps and keys of its text.

Only the token ids of a row are left then, and the id of its text in the signals. The bytes of the tokens give the text
back, whatever template it was rendered with; question and rationale are found in it, and their steps and keys aligned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.utils.data import get_worker_info

from molsaki.encoding.token_bytes import text_of_tokens, token_bytes
from molsaki.errors import InputError
from molsaki.records import RowReport
from molsaki.spans.align import align_spans
from molsaki.spans.text import Text
from molsaki.training.batches import AttentionTargets, RowTargets, attention_targets
from molsaki.training.loop import Signals
from molsaki.training.span_collator import NO_TEXT, row_targets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

ID = "id"
"""The column of a data set with the id of a row in the signals."""
NO_QUESTION = "the sequence does not hold the question exactly once before its rationale: no attention loss"
NO_RATIONALE = "the sequence does not hold the rationale exactly once: no attention loss"


class RowCollator:
    """A collator of another library, whose batches get the tokens of steps and keys and the teacher's attention.

    Args:
        collate: the other collator. It takes rows with `input_ids`, keeps their order, and pads on the right.
        tokenizer: the student's.
        signals: the teacher's attention.

    Attributes:
        report: counts of the rows of all batches (`kept`), and of those that take no part in the attention loss, or
            only in part (`notes`, by reason).
        with_attention: number of rows of all batches with the teacher's attention.

    Raises:
        TokenizerError: the bytes of the tokenizer's tokens are not known.
    """

    def __init__(
        self,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        signals: Signals,
    ) -> None:
        self.collate = collate
        self.signals = signals
        self.report = RowReport()
        self._bytes_of = token_bytes(tokenizer)
        self.with_attention = 0
        self._warned = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The other collator's batch, and `attention` if a row has the teacher's attention.

        Raises:
            InputError: a row has no id, or the batch is not padded on the right.
            ArtefactError: the teacher's attention on a row is damaged, or was read on another text.
        """
        if not self._warned and get_worker_info() is not None:
            self._warned = True
            logger.warning("Rows that a DataLoader's workers leave out are not in this trainer's attention_report.")
        batch = self.without_attention(rows)
        targets = [self._target(index, row) for index, row in enumerate(rows)]
        lengths = [len(row["input_ids"]) for row in rows]
        attention = attention_targets(
            lengths, [target for target in targets if target is not None], width=batch["input_ids"].shape[1]
        )
        if attention is not None:
            self.with_attention += len(attention.teacher_BLSK)
            _require_order(batch, rows)
            batch["attention"] = attention
        return batch

    def without_attention(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The other collator's batch alone. Rows need no id."""
        return self.collate([{name: value for name, value in row.items() if name != ID} for row in rows])

    def _target(self, index: int, row: Mapping[str, Any]) -> RowTargets | None:
        if not isinstance(row.get(ID), str):
            columns = {name: type(value).__name__ for name, value in sorted(row.items())}
            raise InputError(
                f"Expected the column `{ID}` with the id of each row in the signals, a text; a row has the columns "
                f"{columns}. Its attention cannot be found; add the column to the data set, or make it a text."
            )
        if "input_ids" not in row:
            raise InputError(
                f"Expected `input_ids` in each row after the trainer's preparation; a row has {sorted(row)}. Steps and "
                "keys are found in one sequence; use a trainer whose rows are one prompt with one completion."
            )
        self.report.keep()
        text = self.signals.texts.get(row[ID])
        if text is None:
            self.report.note(NO_TEXT)
            return None
        return self._align(index, text, row["input_ids"])

    def _align(self, index: int, text: Text, ids: Sequence[int]) -> RowTargets | None:
        written, offsets = text_of_tokens(ids, self._bytes_of)
        rationale = _find_once(written, text.rationale)
        # A rationale may repeat its question.
        question = _find_once(written[:rationale], text.question)
        if question is None:
            self.report.note(NO_QUESTION)
            return None
        behind = question + len(text.question)
        rationale = _find_once(written[behind:], text.rationale)
        cut = rationale is None
        if rationale is None:
            rationale = _find_cut(written[behind:], text.rationale)
        if rationale is None:
            self.report.note(NO_RATIONALE)
            return None
        align = partial(
            align_spans, offsets=offsets, question_start=question, rationale_start=behind + rationale, truncated=cut
        )
        return row_targets(index, text, self.signals, align, self.report)


def _find_once(written: str, part: str) -> int | None:
    return written.index(part) if written.count(part) == 1 else None


def _find_cut(written: str, rationale: str) -> int | None:
    """Where a rationale begins that the sequence's end cuts off."""
    start = written.find(rationale[:1])
    while start >= 0:
        if rationale.startswith(written[start:].rstrip("\ufffd")):
            return start
        start = written.find(rationale[:1], start + 1)
    return None


def _require_order(batch: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    padded = batch["input_ids"].tolist()
    if len(padded) != len(rows) or any(
        some[: len(row["input_ids"])] != list(row["input_ids"]) for some, row in zip(padded, rows, strict=False)
    ):
        raise InputError(
            f"Expected batches of one sequence for each row, padded on the right; got {len(padded)} sequences for "
            f"{len(rows)} rows, or others. Steps and keys would be found at other tokens; use a collator that pads on "
            "the right, without packing."
        )


def count_attention(batches: Sequence[Mapping[str, Any]]) -> int:
    """The number of rows of some batches with the teacher's attention."""
    some = [batch.get("attention") for batch in batches]
    return sum(len(targets.teacher_BLSK) for targets in some if isinstance(targets, AttentionTargets))
