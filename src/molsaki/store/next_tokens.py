"""What a teacher expected to write next, as rows of a store.

At each of P tokens of a rationale, its end among them, a row has the C likeliest tokens with their log-probabilities,
and the characters that the token covers. For each temperature τ other than 1 that was asked for it has
log Σ_v p(v)^(1/τ) over the whole vocabulary, so that the distribution at τ is exact though only C of it are kept:
log p_τ = log p / τ − that.

Legend: P tokens, C likeliest tokens of each, E temperatures other than 1, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from molsaki.encoding.token_map import NextTokens, Span
from molsaki.errors import ArtefactError
from molsaki.store.schema import TensorSpec
from molsaki.store.signal_reader import SignalStore

LOG_PROBS, IDS, CHARACTERS, LOG_SUMS = "log_probs", "ids", "characters", "log_sums"
"""The tensors of a row: [P, C], [P, C], [P, 2] and [P, E]."""
TOKENS = "tokens"
"""The size P of a row."""
TEMPERATURES = "temperatures"
"""The part of a store's fingerprint that says which temperatures it has."""

_LEAST = -1e4
"""The log-probability that stands for 0."""


def temperature_names(temperatures: Sequence[float]) -> tuple[str, ...]:
    """Temperatures as a fingerprint has them, 1 among them, from the lowest on; each once."""
    # Two that differ only in later digits are one.
    return tuple(dict.fromkeys(f"{temperature:.9g}" for temperature in sorted({1.0, *temperatures})))


def next_token_schema(top: int, temperatures: Sequence[str], vocabulary: int) -> dict[str, TensorSpec]:
    """The tensors of a row.

    Args:
        top: C, at most V.
        temperatures: see `temperature_names`.
        vocabulary: V.
    """
    return {
        LOG_PROBS: TensorSpec("float32", (TOKENS, top)),
        IDS: TensorSpec("int32", (TOKENS, top), below=vocabulary),
        CHARACTERS: TensorSpec("int32", (TOKENS, 2)),
        LOG_SUMS: TensorSpec("float32", (TOKENS, len(temperatures) - 1)),
    }


def pack_next_tokens(
    logits_PV: Tensor, spans: Sequence[Span], top: int, temperatures: Sequence[str]
) -> dict[str, Tensor]:
    """A row's tensors.

    Args:
        logits_PV: what predicts each token, on any device.
        spans: the characters of each token.
        top: C, at most V.
        temperatures: see `temperature_names`.
    """
    log_PV = logits_PV.float().log_softmax(1)
    best = log_PV.topk(top, dim=1)
    sums = [torch.logsumexp(log_PV / float(name), 1) for name in temperatures if name != "1"]
    return {
        LOG_PROBS: best.values.clamp(_LEAST, 0.0).cpu(),
        IDS: best.indices.int().cpu(),
        CHARACTERS: torch.tensor(spans, dtype=torch.int32),
        LOG_SUMS: (torch.stack(sums, 1) if sums else log_PV.new_zeros(len(spans), 0)).cpu(),
    }


def next_tokens(store: SignalStore, row_id: str, text_hash: str, temperature: float = 1.0) -> NextTokens:
    """What the teacher expected on one text.

    Args:
        store: the store.
        row_id: the row.
        text_hash: the hash of the text that it will be used with.
        temperature: τ of its distributions, one of those that the store was made with.

    Raises:
        MissingRowError: the store has no such row.
        ArtefactError: it was read on another text, its numbers are damaged, or the store lacks the temperature.
    """
    names, wanted = store.fingerprint.get(TEMPERATURES, "").split(), f"{temperature:.9g}"
    if wanted not in names:
        raise ArtefactError(
            f"Expected next tokens at the temperature {temperature:g}; the store {store.folder} has those at "
            f"{', '.join(names) or 'none'}. They cannot be computed from the likeliest tokens alone; read them into a "
            f"new run."
        )
    return unpack_next_tokens(store.get(row_id, text_hash), names, temperature)


def unpack_next_tokens(row: Mapping[str, Tensor], temperatures: Sequence[str], temperature: float) -> NextTokens:
    """A row's tensors at one of the store's temperatures."""
    log_probs_PC, wanted = row[LOG_PROBS], f"{temperature:.9g}"
    if wanted != "1":
        column = [name for name in temperatures if name != "1"].index(wanted)
        log_probs_PC = log_probs_PC / temperature - row[LOG_SUMS][:, column, None]
    spans = tuple((start, end) for start, end in row[CHARACTERS].tolist())
    return NextTokens(spans, row[IDS].long(), log_probs_PC)
