"""Batches for a training loop of your own, with the tokens of steps and keys and the teacher's attention on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.utils.data import get_worker_info

from molsaki.encoding.encode import IGNORED, require_offsets
from molsaki.encoding.padding import pad, padding_id
from molsaki.errors import InputError
from molsaki.methods.terms import AttentionChoice
from molsaki.records import RowReport
from molsaki.spans.align import Alignment, align_spans
from molsaki.spans.find import Spans
from molsaki.spans.text import Text
from molsaki.training.batches import RowTargets, attention_targets
from molsaki.training.conversations import EncodedRow, encode_row
from molsaki.training.loop import Signals
from molsaki.training.shared_attention import shared_attention

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

CUT = "completion cut at the maximum length"
NO_ROOM = "the prompt leaves no room for the completion"
NO_TEXT = "an id that the signals do not have: takes no part in the attention loss"
PROMPT_CHANGED = "the chat template renders the end of the prompt otherwise if an answer follows"


class SpanCollator:
    r"""Collates prompts and completions into batches with the tokens of steps and keys.

    A row is a mapping with the `id` of its row in the signals, and the texts `prompt` and `completion`, the same as
    lists of messages, or a list of `messages`, all as in TRL. The prompt must contain the question of that row and the
    completion its rationale, exactly once and unchanged, with any text around them. Only the tokens of the completion
    have labels. A row whose id is not in the signals takes no part in the attention loss, and is counted in `report`.

    Texts are tokenized separately, and the completion ends with the end-of-text token. Messages are rendered with the
    tokenizer's chat template and have the tokens and labels of TRL's `SFTTrainer`; of `messages`, the last one is the
    completion.

    Example:
        >>> import molsaki
        >>> from transformers import AutoTokenizer
        >>> from molsaki.data.pocket import STUDENT
        >>> signals = molsaki.load_signals("runs/pocket")
        >>> collate = molsaki.SpanCollator(AutoTokenizer.from_pretrained(STUDENT), signals)
        >>> rows = [
        ...     {"id": text.id, "prompt": f"Q: {text.question}\nA:", "completion": f" {text.rationale}"}
        ...     for text in signals.texts.values()
        ... ]
        >>> batch = collate(rows[:4])
        >>> sorted(batch)
        ['attention', 'attention_mask', 'input_ids', 'labels']

    Args:
        tokenizer: the student's; a fast one, with an end-of-text token.
        signals: the teacher's attention.
        max_length: rows are cut after this many tokens; by default the tokenizer's limit. Steps and keys that are cut
            are left out on both sides.
        special_tokens: let the tokenizer add its special tokens to a prompt that is a text. False for a chat that you
            rendered, which has them already.

    Attributes:
        report: counts of the rows of all batches so far (`kept`), of those that were left out (`skipped`), and of those
            that were cut or have no attention (`notes`), by reason. Workers of a DataLoader have copies
            of their own, which a warning says; without workers, it counts every row.

    Raises:
        InputError: `max_length` is below 1.
        TokenizerError: the tokenizer is slow, or has no end-of-text token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        signals: Signals,
        max_length: int | None = None,
        *,
        special_tokens: bool = True,
    ) -> None:
        require_offsets(tokenizer)
        self.tokenizer = tokenizer
        self.signals = signals
        if max_length is not None and max_length < 1:
            raise InputError(f"Expected a max_length of at least 1 token; got {max_length}. No collator was made.")
        self.max_length = tokenizer.model_max_length if max_length is None else max_length
        self.special_tokens = special_tokens
        self.report = RowReport()
        self._padding = padding_id(tokenizer)
        self._warned = False
        self._warned_of_none = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of some rows, padded on the right.

        A row whose prompt alone is `max_length` tokens or longer is skipped, and counted in `report`.

        Returns:
            `input_ids`, `attention_mask` and `labels`, LongTensors [R, T], and `attention`, which
            `StepwiseAttentionLoss` takes; None if no row has the teacher's attention.

        Raises:
            InputError: there is no row, a row lacks a field, the chat template fails, prompt or completion does not
                hold the text of its id once, or no row has room for a token of its completion.
            ArtefactError: the teacher's attention on a row is damaged, or was read on another text.
        """
        if not self._warned and get_worker_info() is not None:
            self._warned = True
            logger.warning("Rows that a DataLoader's workers leave out or cut are not in this collator's report.")
        encoded = self._encode_all(rows)
        targets = [self._target(index, row, one) for index, (row, one) in enumerate(encoded)]
        ids = [one.input_ids[: self.max_length] for _, one in encoded]
        lengths = [len(some) for some in ids]
        found = [target for target in targets if target is not None]
        if not found and not self._warned_of_none:
            self._warned_of_none = True
            counts = "; ".join(f"{reason}: {n}" for reason, n in self.report.notes.items())
            logger.warning("No row of a batch takes part in the attention loss (rows so far: %s).", counts)
        return {
            "input_ids": pad(ids, self._padding),
            "attention_mask": pad([[1] * length for length in lengths], 0),
            "labels": pad([one.labels[: self.max_length] for _, one in encoded], IGNORED),
            "attention": attention_targets(lengths, found),
        }

    def _encode_all(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], EncodedRow]]:
        """The rows with a label, encoded; the others are counted."""
        if not rows:
            raise InputError("Expected at least one row; got none. No batch was built.")
        kept = []
        for row in rows:
            _require_id(row)
            encoded = encode_row(self.tokenizer, row, self.special_tokens)
            if all(label == IGNORED for label in encoded.labels[: self.max_length]):
                self.report.skip(row["id"], NO_ROOM)
                continue
            if len(encoded.input_ids) > self.max_length:
                self.report.note(CUT)
            if encoded.prompt_changed:
                self.report.note(PROMPT_CHANGED)
            self.report.keep()
            kept.append((row, encoded))
        if not kept:
            raise InputError(
                f"Expected a row whose prompt is shorter than {self.max_length} tokens; none of the {len(rows)} rows "
                "of this batch is. The loss of no token is not a number; leave such rows out, or raise max_length."
            )
        return kept

    def _target(self, index: int, row: Mapping[str, Any], encoded: EncodedRow) -> RowTargets | None:
        text = self.signals.texts.get(row["id"])
        if text is None:
            self.report.note(NO_TEXT)
            return None
        question = _find(encoded.prompt, text.question, row["id"], "prompt", "question")
        rationale = _find(encoded.completion, text.rationale, row["id"], "completion", "rationale")
        rationale += len(encoded.prompt)
        offsets, cut = encoded.offsets[: self.max_length], len(encoded.offsets) > self.max_length
        align = partial(align_spans, offsets=offsets, question_start=question, rationale_start=rationale, truncated=cut)
        return row_targets(index, text, self.signals, align, self.report)


def row_targets(
    index: int, text: Text, signals: Signals, align: Callable[[Spans], Alignment], report: RowReport
) -> RowTargets | None:
    """The targets of one row of a batch; None if no step or key of its text is left to compare.

    Args:
        index: the row's index in the batch.
        text: its text in the signals.
        signals: the teacher's attention.
        align: finds the student's tokens of spans.
        report: counts what is left out, with reasons.

    Raises:
        ArtefactError: the row was read on another text or other spans.
    """
    shared = shared_attention(signals.attention, text, align, AttentionChoice(), report)
    return None if shared is None else RowTargets(index, text.id, shared.tokens, shared.teacher_LSK)


def _require_id(row: Mapping[str, Any]) -> None:
    if not isinstance(row.get("id"), str):
        fields = {str(name): type(value).__name__ for name, value in row.items()}
        raise InputError(
            f"Expected a row with the text 'id', its id in the signals; the fields are {fields}. The batch was not "
            "built; add the field."
        )


def _find(text: str, part: str, row_id: str, where: str, what: str) -> int:
    """The position of a part that occurs exactly once in a text."""
    if text.count(part) != 1:
        raise InputError(
            f"Expected the {where} of row {row_id!r} to contain its {what} exactly once, unchanged; it contains it "
            f"{text.count(part)} times. Steps and keys would be found in another text; build the {where} from "
            "`signals.texts[id]`."
        )
    return text.index(part)
