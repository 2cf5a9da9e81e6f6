"""Where two tokenizers agree on a rationale, and the teacher's next tokens there as tokens of the student.

Two tokenizers agree at a position where both have a token of the same characters. Of the teacher's likeliest tokens
there, those with the same bytes as a token of the student are kept; all others, on either side, count as "the rest".
At the rationale's end, both may predict the end-of-text token, which has no characters.

A token's characters are counted backwards from its end, by its bytes. Tokenizers differ in whether a token's offsets
include the space in front of it; its bytes always do.

Legend: P tokens of the teacher's rationale and its end, C likeliest tokens of each, M positions where both agree,
K of the likeliest tokens that the student has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from molsaki.encoding.encode import EncodedText
from molsaki.encoding.token_bytes import same_bytes, token_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
NO_SPAN: Span = (-1, -1)
"""For a token without characters of its own: a special token, or some of the bytes of a letter."""


@dataclass(frozen=True, slots=True)
class NextTokens:
    """A teacher's likeliest tokens at each position of a rationale.

    Attributes:
        spans: the characters in the rationale of the token at each position; for the end of the text, twice the
            rationale's length.
        ids_PC: the likeliest tokens, the likeliest first.
        log_probs_PC: their log-probabilities, at the temperature that was asked for.
    """

    spans: tuple[Span, ...]
    ids_PC: Tensor
    log_probs_PC: Tensor


@dataclass(frozen=True, slots=True)
class AgreedTokens:
    """A teacher's likeliest tokens as tokens of the student, at the positions where both tokenizers agree.

    Attributes:
        places_M: index of the predicted token among the student's tokens of the rationale.
        ids_MK: token ids of the student; rows with fewer tokens repeat their first.
        log_probs_MK: the teacher's log-probabilities of them; −inf for repeated ones.
    """

    places_M: Tensor
    ids_MK: Tensor
    log_probs_MK: Tensor


class TokenMap:
    """The teacher's tokens in the student's vocabulary.

    Args:
        teacher: the teacher's tokenizer.
        student: the student's.

    Raises:
        TokenizerError: the bytes of one tokenizer's tokens are not known.
    """

    def __init__(self, teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> None:
        self.student_bytes = token_bytes(student)
        self._table = torch.tensor(same_bytes(token_bytes(teacher), self.student_bytes))
        self._ends = (teacher.eos_token_id, student.eos_token_id)

    def agree(self, theirs: NextTokens, explain: EncodedText, rationale: str) -> AgreedTokens | None:
        """The teacher's likeliest tokens at the positions where both tokenizers agree; None without such a position.

        A position where the student has none of these tokens is left out.

        Args:
            theirs: the teacher's likeliest tokens.
            explain: the student's sequence with the rationale.
            rationale: the text that both read.
        """
        row_of_span = {span: row for row, span in enumerate(theirs.spans) if span != NO_SPAN}
        mine = rationale_spans(explain, self.student_bytes, rationale)
        end = (len(rationale), len(rationale))
        if not explain.cut_tokens and explain.input_ids[-1] == self._ends[1]:
            mine[-1] = end
        pairs = [(place, row_of_span[span]) for place, span in enumerate(mine) if span in row_of_span]
        if pairs and mine[pairs[-1][0]] == end and int(theirs.ids_PC[pairs[-1][1], 0]) != self._ends[0]:
            # The teacher does not stop after its rationale; it goes on with its answer, for example.
            pairs.pop()
        if not pairs:
            return None
        places_M, rows_M = torch.tensor(pairs).unbind(1)
        # The student's token for each of the teacher's [M, C]; −1 for one that the student lacks.
        theirs_MC = theirs.ids_PC[rows_M]
        ids_MC = torch.full_like(theirs_MC, -1)
        known_MC = theirs_MC < len(self._table)
        ids_MC[known_MC] = self._table[theirs_MC[known_MC]]
        if mine[pairs[-1][0]] == end:
            ids_MC[-1][theirs_MC[-1] == self._ends[0]] = self._ends[1]
        ids_MC, log_probs_MC = _merge(ids_MC, theirs.log_probs_PC[rows_M])
        known_M = (ids_MC >= 0).any(1)
        if not bool(known_M.any()):
            return None
        places_M, ids_MC, log_probs_MC = places_M[known_M], ids_MC[known_M], log_probs_MC[known_M]
        # Known tokens move to the front, in the teacher's order. K is the most of them that a row has.
        mapped_MC = ids_MC >= 0
        order_MC = (~mapped_MC).int().argsort(dim=1, stable=True)[:, : int(mapped_MC.sum(1).max())]
        ids_MK, log_probs_MK = ids_MC.gather(1, order_MC), log_probs_MC.gather(1, order_MC)
        return AgreedTokens(places_M, torch.where(ids_MK < 0, ids_MK[:, :1], ids_MK), log_probs_MK)


def rationale_spans(encoded: EncodedText, bytes_of: Sequence[bytes | None], rationale: str) -> list[Span]:
    """The characters of each token of the rationale; `NO_SPAN` for one without characters of its own.

    The first token may start before the rationale, with the space in front of it.

    Args:
        encoded: the sequence that ends with the rationale.
        bytes_of: the bytes of every token of its vocabulary.
        rationale: the rationale's text.
    """
    spans = []
    completion = slice(encoded.completion_token, None)
    for token, (left, right) in zip(encoded.input_ids[completion], encoded.offsets[completion], strict=True):
        some = bytes_of[token] if token < len(bytes_of) else None
        end = right - encoded.completion_start
        span = NO_SPAN
        if some and left < right and 0 < end <= len(rationale):
            try:
                text = some.decode()
            except UnicodeDecodeError:
                text = ""
            start = end - len(text)
            before = text[: max(0, -start)]
            if text and not before.strip() and text[len(before) :] == rationale[max(0, start) : end]:
                span = (start, end)
        spans.append(span)
    return spans


def _merge(ids_MC: Tensor, log_probs_MC: Tensor) -> tuple[Tensor, Tensor]:
    """Add up the probabilities of equal tokens of a row.

    Several tokens of the teacher can be one token of the student. It stays at the first of their places, with the sum
    of their probabilities; the other places, and those of unknown tokens (−1), become −1 and −inf.
    """
    order_MC = ids_MC.argsort(dim=1, stable=True)
    sorted_MC, logs_MC = ids_MC.gather(1, order_MC), log_probs_MC.gather(1, order_MC)
    # Equal tokens are neighbours now, each group in order of place; a group's number is the count of starts before it.
    first_MC = torch.nn.functional.pad(sorted_MC.diff(dim=1) != 0, (1, 0), value=True)
    group_MC = first_MC.cumsum(1) - 1
    most_MC = torch.full_like(logs_MC, -torch.inf).scatter_reduce(1, group_MC, logs_MC, "amax").gather(1, group_MC)
    sums_MC = torch.zeros_like(logs_MC).scatter_add(1, group_MC, (logs_MC - most_MC).exp()).gather(1, group_MC)
    left_out_MC = ~first_MC | (sorted_MC < 0)
    summed_MC = (most_MC + sums_MC.log()).masked_fill(left_out_MC, -torch.inf)
    return (
        torch.empty_like(ids_MC).scatter(1, order_MC, sorted_MC.masked_fill(left_out_MC, -1)),
        torch.empty_like(summed_MC).scatter(1, order_MC, summed_MC),
    )
