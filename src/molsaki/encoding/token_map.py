"""Where two tokenizers agree on a rationale, and the teacher's next tokens there as tokens of the student.

Two tokenizers agree at a position where both have a token of the same characters. Of the teacher's likeliest tokens
there, those with the same bytes as a token of the student are kept; all others, on either side, count as "the rest".
At the rationale's end, both may predict the end-of-text token, which has no characters.

Where both cut the same characters into different tokens, such as ` 73` and ` 7`, `3`, the probability of these
characters is compared: the product over the tokens of each side.

A token's characters are counted backwards from its end, by its bytes. Tokenizers differ in whether a token's offsets
include the space in front of it; its bytes always do.

Legend: P tokens of the teacher's rationale and its end, C likeliest tokens of each, M positions where both agree,
K of the likeliest tokens that the student has, W spans that are cut differently, of at most J tokens of the student.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from molsaki.encoding.encode import NO_CHARACTERS, EncodedText
from molsaki.encoding.padding import pad
from molsaki.encoding.token_bytes import same_bytes, token_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Characters = tuple[int, int]
Kind = Literal["numbers", "words", "other"]
"""What a token is part of: it has a digit, else a letter, else neither."""
_NOWHERE = torch.zeros(0, 1).long(), torch.zeros(0, 1)
NO_SPAN: Characters = (-1, -1)
"""For a token without characters of its own: a special token, or some of the bytes of a letter."""


@dataclass(frozen=True, slots=True)
class LikelyTokens:
    """A teacher's likeliest tokens at each position of a rationale.

    Attributes:
        spans: the characters in the rationale of the token at each position; for the end of the text, twice the
            rationale's length.
        ids_PC: the likeliest tokens, the likeliest first.
        log_probs_PC: their log-probabilities, at the temperature that was asked for.
    """

    spans: tuple[Characters, ...]
    ids_PC: Tensor
    log_probs_PC: Tensor


@dataclass(frozen=True, slots=True)
class AgreedTokens:
    """A teacher's likeliest tokens as tokens of the student, at the positions where both tokenizers agree.

    Attributes:
        positions_M: index of the predicted token among the student's tokens of the rationale.
        ids_MK: token ids of the student; rows with fewer tokens repeat their first.
        log_probs_MK: the teacher's log-probabilities of them; −inf for repeated ones.
        spans: where both cut the same characters differently; None if they do so nowhere.
    """

    positions_M: Tensor
    ids_MK: Tensor
    log_probs_MK: Tensor
    spans: AgreedSpans | None = None

    @property
    def count(self) -> int:
        """The number of positions and spans to compare."""
        return len(self.positions_M) + (0 if self.spans is None else len(self.spans.log_probs_W))

    @property
    def compared(self) -> set[int]:
        """The student's tokens of the rationale that are compared, by index."""
        of_spans = [] if self.spans is None else self.spans.positions_WJ.flatten().tolist()
        return {*self.positions_M.tolist(), *of_spans} - {-1}


@dataclass(frozen=True, slots=True)
class AgreedSpans:
    """A teacher's probabilities of spans of characters that the student cuts into other tokens.

    Attributes:
        positions_WJ: indices of a span's tokens among the student's tokens of the rationale; −1 after its last.
        log_probs_W: the log-probability of the span by the teacher, the sum over its own tokens of the span.
    """

    positions_WJ: Tensor
    log_probs_W: Tensor


class TokenMap:
    """The teacher's tokens in the student's vocabulary.

    Args:
        teacher: the teacher's tokenizer.
        student: the student's.

    Raises:
        TokenizerError: the bytes of one tokenizer's tokens are not known.
    """

    def __init__(self, teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> None:
        self.student_bytes, self._teacher_bytes = token_bytes(student), token_bytes(teacher)
        self._table = torch.tensor(same_bytes(self._teacher_bytes, self.student_bytes))
        self._teacher_end = teacher.eos_token_id

    def agree(self, theirs: LikelyTokens, explain: EncodedText, rationale: str) -> AgreedTokens | None:
        """What can be compared of the teacher's likeliest tokens; None if nothing can.

        A position where the student has none of these tokens is left out, and so is a span with a token that is not
        among the teacher's likeliest ones, since its probability is not known.

        Args:
            theirs: the teacher's likeliest tokens.
            explain: the student's sequence with the rationale.
            rationale: the text that both read.
        """
        row_of_span = {span: row for row, span in enumerate(theirs.spans) if span != NO_SPAN}
        mine = rationale_spans(explain, self.student_bytes, rationale)
        end = (len(rationale), len(rationale))
        # A chat ends with the end of the turn, which need not be the tokenizer's end-of-text token.
        last = explain.input_ids[-1]
        if not explain.cut_tokens and explain.offsets[-1] == NO_CHARACTERS:
            mine[-1] = end
        pairs = [(place, row_of_span[span]) for place, span in enumerate(mine) if span in row_of_span]
        if pairs and mine[pairs[-1][0]] == end and int(theirs.ids_PC[pairs[-1][1], 0]) != self._teacher_end:
            # The teacher does not stop after its rationale; it continues with its answer, for example.
            pairs.pop()
        spans = self._agree_on_spans(theirs, mine, rationale)
        if not pairs:
            return None if spans is None else AgreedTokens(torch.zeros(0).long(), *_NOWHERE, spans)
        positions_M, rows_M = torch.tensor(pairs).unbind(1)
        # The student's token for each of the teacher's [M, C]; −1 for one that the student lacks.
        theirs_MC = theirs.ids_PC[rows_M]
        ids_MC = torch.full_like(theirs_MC, -1)
        known_MC = theirs_MC < len(self._table)
        ids_MC[known_MC] = self._table[theirs_MC[known_MC]]
        if mine[pairs[-1][0]] == end:
            ids_MC[-1][theirs_MC[-1] == self._teacher_end] = last
        ids_MC, log_probs_MC = _merge(ids_MC, theirs.log_probs_PC[rows_M])
        known_M = (ids_MC >= 0).any(1)
        if not bool(known_M.any()) and spans is None:
            return None
        positions_M, ids_MC, log_probs_MC = positions_M[known_M], ids_MC[known_M], log_probs_MC[known_M]
        # Known tokens move to the front, in the teacher's order. K is the most of them that a row has.
        mapped_MC = ids_MC >= 0
        most = max(mapped_MC.sum(1).tolist(), default=1)
        order_MC = (~mapped_MC).int().argsort(dim=1, stable=True)[:, :most]
        ids_MK, log_probs_MK = ids_MC.gather(1, order_MC), log_probs_MC.gather(1, order_MC)
        return AgreedTokens(positions_M, torch.where(ids_MK < 0, ids_MK[:, :1], ids_MK), log_probs_MK, spans)

    def kinds(self, explain: EncodedText, rationale: str) -> list[Kind]:
        """What each of the student's tokens of the rationale is part of, the end-of-text token included."""
        kinds: list[Kind] = []
        for start, end in rationale_spans(explain, self.student_bytes, rationale):
            text = rationale[max(0, start) : max(0, end)]
            is_number, is_word = any(map(str.isdigit, text)), any(map(str.isalpha, text))
            kinds.append("numbers" if is_number else "words" if is_word else "other")
        return kinds

    def _agree_on_spans(self, theirs: LikelyTokens, mine: Sequence[Characters], rationale: str) -> AgreedSpans | None:
        places, log_probs = [], []
        for own, other in differing_cuts(mine, theirs.spans):
            each = [self._log_prob(theirs, row, rationale) for row in other]
            if all(value is not None for value in each):
                places.append(list(own))
                log_probs.append(sum(value for value in each if value is not None))
        return AgreedSpans(pad(places, -1), torch.tensor(log_probs)) if places else None

    def _log_prob(self, theirs: LikelyTokens, row: int, rationale: str) -> float | None:
        """The teacher's log-probability of its own token at a row; None if that is not among its likeliest."""
        start, end = theirs.spans[row]
        written = rationale[max(0, start) : end]
        same = []
        for column, token in enumerate(theirs.ids_PC[row].tolist()):
            some = self._teacher_bytes[token] if token < len(self._teacher_bytes) else None
            text = "" if some is None else some.decode(errors="replace")
            # Its first token may start with the space in front of the rationale.
            if len(text) == end - start and text.endswith(written) and not text[: max(0, -start)].strip():
                same.append(column)
        return float(theirs.log_probs_PC[row, same].logsumexp(0)) if same else None


def differing_cuts(mine: Sequence[Characters], theirs: Sequence[Characters]) -> list[tuple[range, range]]:
    """The shortest stretches of characters that both cut from the same start to the same end, into different tokens.

    Example:
        >>> from molsaki.encoding.token_map import differing_cuts
        >>> differing_cuts([(0, 3), (3, 5), (5, 6)], [(0, 3), (3, 4), (4, 6)])
        [(range(1, 3), range(1, 3))]

    Args:
        mine: the characters of one tokenizer's tokens, in order. Tokens without characters belong to no stretch.
        theirs: those of the other tokenizer.

    Returns:
        The indices of the tokens of each stretch, on both sides.
    """
    row_of_start = {start: row for row, (start, end) in enumerate(theirs) if start < end}
    found, place = [], 0
    while place < len(mine):
        start, end = mine[place]
        row = row_of_start.get(start) if start < end else None
        places, rows = range(place, place + 1), range(row or 0, (row or 0) + 1)
        while row is not None and mine[places[-1]][1] != theirs[rows[-1]][1]:
            # The side that ends first continues, if its next token starts there.
            if mine[places[-1]][1] < theirs[rows[-1]][1]:
                places, follows = _longer(places, mine)
            else:
                rows, follows = _longer(rows, theirs)
            row = row if follows else None
        if row is not None and len(places) + len(rows) > 2:
            found.append((places, rows))
        place = places.stop if row is not None else place + 1
    return found


def _longer(some: range, spans: Sequence[Characters]) -> tuple[range, bool]:
    """A range of tokens with the next one, and whether that has characters and starts where the range ends."""
    following = spans[some.stop] if some.stop < len(spans) else NO_SPAN
    follows = following[0] == spans[some[-1]][1] and following[0] < following[1]
    return (range(some.start, some.stop + 1) if follows else some), follows


def rationale_spans(encoded: EncodedText, bytes_of: Sequence[bytes | None], rationale: str) -> list[Characters]:
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
