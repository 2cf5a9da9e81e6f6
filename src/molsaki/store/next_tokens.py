"""What a teacher expected to write next, on disk: rows of an attention store with other things in their three places.

An attention store's row is float32 numbers [L, S, K] under an id and a text's hash, in shards that are whole or not
there, proved by a hash. A row of next tokens is [2, P, C + 1 + E]: for each of P tokens of the rationale

    [0]: C log-probabilities, the largest first | the token's first character | E logarithms
    [1]: the C tokens' ids                      | the character behind it     | E zeros

The E logarithms, one for each temperature τ other than 1 that was asked for, are log Σ_v p(v)^(1/τ) over the whole
vocabulary, so that the distribution at τ is exact though only C of it are kept: log p_τ = log p / τ − that. Ids and
characters are whole numbers below 2^24, which float32 has exactly.

Legend: P tokens, C likeliest tokens of each, E temperatures, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from molsaki.encoding.token_map import NextTokens, Span
from molsaki.errors import ArtefactError
from molsaki.store.signal_reader import AttentionStore

ROWS = "rows"
"""The mark of a store that says that its rows are of this kind."""
NEXT_TOKENS = "next tokens 1"
TEMPERATURES = "temperatures"
"""The mark that says which temperatures it has."""

_LEAST = -1e4
"""The log-probability that stands for 0."""
_ROUNDING = 1e-3
"""How far above 1 probabilities may add up, from logits in bfloat16."""
_EXACT = 1 << 24


def temperature_marks(temperatures: Sequence[float]) -> str:
    """The temperatures as a store's mark."""
    # Two that differ only in later digits are one.
    return " ".join(dict.fromkeys(f"{temperature:.9g}" for temperature in sorted({1.0, *temperatures})))


def row_shape(positions: int, top: int, marked: str) -> tuple[int, int, int]:
    """The shape of a row of so many tokens in a store with these temperatures."""
    return (2, positions, top + len(marked.split()))


def pack_next_tokens(logits_PV: Tensor, spans: Sequence[Span], top: int, marked: str) -> Tensor:
    """A row as it is stored.

    Args:
        logits_PV: what predicts each token, on any device.
        spans: the characters of each token.
        top: C, at most V.
        marked: the store's temperatures.
    """
    log_PV = logits_PV.float().log_softmax(1)
    best = log_PV.topk(top, dim=1)
    spans_P2 = torch.tensor(spans, dtype=torch.float32, device=log_PV.device)
    sums = [torch.logsumexp(log_PV / float(mark), 1) for mark in marked.split() if mark != "1"]
    first = [best.values.clamp(_LEAST, 0.0), spans_P2[:, :1], *(some[:, None] for some in sums)]
    second = [best.indices.float(), spans_P2[:, 1:], *(torch.zeros_like(some[:, None]) for some in sums)]
    return torch.stack([torch.cat(first, 1), torch.cat(second, 1)]).cpu()


def unpack_next_tokens(row: Tensor, marked: str, temperature: float) -> NextTokens:
    """A stored row at one of the store's temperatures."""
    marks = marked.split()
    top = row.shape[2] - len(marks)
    log_probs_PC = row[0, :, :top]
    if f"{temperature:.9g}" != "1":
        others = [mark for mark in marks if mark != "1"]
        column = top + 1 + others.index(f"{temperature:.9g}")
        log_probs_PC = log_probs_PC / temperature - row[0, :, column : column + 1]
    spans = row[:, :, top].long().T.tolist()
    return NextTokens(tuple((start, end) for start, end in spans), row[1, :, :top].long(), log_probs_PC)


def next_token_problems(row: Tensor, spans: Sequence[Span], top: int, vocabulary: int) -> list[str]:
    """What is wrong with a stored row of the right shape, given the characters of its tokens.

    Args:
        row: [2, P, C + 1 + E].
        spans: what it should say of the tokens' characters.
        top: C.
        vocabulary: how many tokens the teacher may choose among.
    """
    log_probs_PC, ids_PC, stored = row[0, :, :top], row[1, :, :top], row[:, :, top].T.tolist()
    wrong: list[str] = []
    if stored != [list(span) for span in spans]:
        wrong.append("its tokens cover other characters than those of its text")
    if float(log_probs_PC.max()) > 0 or bool((log_probs_PC.diff(dim=1) > 0).any()):
        wrong.append("its log-probabilities are not at most 0, the largest first")
    if float(log_probs_PC.exp().sum(1).max()) > 1 + _ROUNDING:
        wrong.append("its probabilities add up to more than 1")
    bound = min(vocabulary, _EXACT)
    if bool((ids_PC != ids_PC.round()).any()) or float(ids_PC.min()) < 0 or float(ids_PC.max()) >= bound:
        wrong.append(f"it has ids of tokens that are no whole numbers from 0 to {bound - 1}")
    elif any(len(set(ids)) < len(ids) for ids in ids_PC.tolist()):
        wrong.append("it has a token twice at one place")
    return wrong


class NextTokenStore:
    """A teacher's next tokens by row id.

    Args:
        folder: the store.

    Raises:
        ArtefactError: a shard is cut, changed or of another store, or the rows are something else.
        DataError: there is no store, or its header is cut or malformed.
    """

    def __init__(self, folder: Path) -> None:
        self._store = AttentionStore(folder)
        self.fingerprint = self._store.fingerprint
        if self.fingerprint.get(ROWS) != NEXT_TOKENS:
            raise ArtefactError(
                f"Expected a store of a teacher's {NEXT_TOKENS!r} in {folder}; got one of "
                f"{self.fingerprint.get(ROWS, 'attention')!r}. It cannot be used in its place; choose another folder."
            )

    def __len__(self) -> int:
        return len(self._store)

    def __contains__(self, row_id: object) -> bool:
        return row_id in self._store

    def get(self, row_id: str, text_hash: str, temperature: float = 1.0) -> NextTokens:
        """What the teacher expected on one text.

        Args:
            row_id: the row.
            text_hash: the hash of the text that it will be used with.
            temperature: τ of its distributions, one of those that the store was made with.

        Raises:
            MissingRowError: the store has no such row.
            ArtefactError: it was read on another text, its values are damaged, or the store lacks the temperature.
        """
        marked = self.fingerprint[TEMPERATURES]
        if f"{temperature:.9g}" not in marked.split():
            raise ArtefactError(
                f"Expected next tokens at the temperature {temperature:g}; the store {self._store.folder} has those at "
                f"{marked}. They cannot be computed from the likeliest tokens alone; read them into a new run."
            )
        return unpack_next_tokens(self._store.get(row_id, text_hash), marked, temperature)
