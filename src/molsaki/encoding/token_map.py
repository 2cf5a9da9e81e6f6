"""Where two tokenizers agree on a rationale, and what the teacher expected there in the student's own tokens.

A position takes part where both sides have a token of the same characters. Of the teacher's likeliest tokens there,
those are kept that the student has as well, byte by byte; all others, on either side, are "all else". At the
rationale's end both may predict the end of the text, which has no characters.

A token's characters are counted back from where it ends, by its bytes: tokenizers differ in whether they count a
space in front, their bytes do not.

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
"""Of a token without characters of its own: a special one, or a part of a letter's bytes."""


@dataclass(frozen=True, slots=True)
class NextTokens:
    """What a teacher expected at each token of a rationale.

    Attributes:
        spans: for each token its characters in the rationale; the end is where both are the rationale's length.
        ids_PC: its likeliest tokens there, the likeliest first.
        log_probs_PC: their log-probabilities, at the temperature that was asked for.
    """

    spans: tuple[Span, ...]
    ids_PC: Tensor
    log_probs_PC: Tensor


@dataclass(frozen=True, slots=True)
class AgreedTokens:
    """What a teacher expected, in the student's tokens, where both cut the rationale alike.

    Attributes:
        places_M: which of the student's tokens of the rationale, from 0, is predicted.
        ids_MK: the student's tokens; behind the last one of a row the first is repeated.
        log_probs_MK: the teacher's log-probabilities of them; −inf behind the last one.
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
        TokenizerError: the bytes of the tokens of one of them are not known.
    """

    def __init__(self, teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> None:
        self.student_bytes = token_bytes(student)
        self._table = torch.tensor(same_bytes(token_bytes(teacher), self.student_bytes))
        self._ends = (teacher.eos_token_id, student.eos_token_id)

    def agree(self, theirs: NextTokens, explain: EncodedText, rationale: str) -> AgreedTokens | None:
        """What the teacher expected where both agree; None where they nowhere do.

        A position at which the student has none of the teacher's likeliest tokens says nothing, and is left out.

        Args:
            theirs: what the teacher expected.
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
            pairs.pop()  # the teacher goes on after its rationale, with its answer for example
        if not pairs:
            return None
        places_M, rows_M = torch.tensor(pairs).unbind(1)
        theirs_MC = theirs.ids_PC[rows_M]
        ids_MC = torch.full_like(theirs_MC, -1)
        known_MC = theirs_MC < len(self._table)
        ids_MC[known_MC] = self._table[theirs_MC[known_MC]]
        if mine[pairs[-1][0]] == end:
            ids_MC[-1][theirs_MC[-1] == self._ends[0]] = self._ends[1]
        ids_MC, log_probs_MC = _merge(ids_MC, theirs.log_probs_PC[rows_M])
        says_M = (ids_MC >= 0).any(1)
        if not bool(says_M.any()):
            return None
        places_M, ids_MC, log_probs_MC = places_M[says_M], ids_MC[says_M], log_probs_MC[says_M]
        # The student's tokens to the front, in the teacher's order, and no more columns than any row needs.
        mapped_MC = ids_MC >= 0
        order_MC = (~mapped_MC).int().argsort(dim=1, stable=True)[:, : int(mapped_MC.sum(1).max())]
        ids_MK, log_probs_MK = ids_MC.gather(1, order_MC), log_probs_MC.gather(1, order_MC)
        return AgreedTokens(places_M, torch.where(ids_MK < 0, ids_MK[:, :1], ids_MK), log_probs_MK)


def rationale_spans(encoded: EncodedText, bytes_of: Sequence[bytes | None], rationale: str) -> list[Span]:
    """The characters of the rationale that each token of it covers, `NO_SPAN` where they are not its own.

    The first may start before the rationale, by a space that it has in front.

    Args:
        encoded: the sequence that ends in the rationale.
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
    """Each token once, at its first place, with the probabilities of all its places added; −1 and −inf elsewhere."""
    order_MC = ids_MC.argsort(dim=1, stable=True)
    sorted_MC, logs_MC = ids_MC.gather(1, order_MC), log_probs_MC.gather(1, order_MC)
    # Equal tokens lie side by side now, the first place of each first.
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
