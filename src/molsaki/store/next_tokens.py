"""A teacher's next-token distributions as rows of a store.

For each of the P tokens of a rationale, its end included, a row has the C likeliest tokens with their
log-probabilities, and the characters that the token covers. For each requested temperature τ other than 1 it also has
log Σ_v p(v)^(1/τ) over the whole vocabulary. With it, the C kept probabilities are exact at τ:
log p_τ(v) = log p(v) / τ − log Σ_v p(v)^(1/τ).

Legend: P tokens, C likeliest tokens at each, E temperatures other than 1, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from molsaki.encoding.token_map import Characters, LikelyTokens
from molsaki.errors import ArtefactError
from molsaki.store.schema import TensorSpec
from molsaki.store.signal_reader import SignalStore

LOG_PROBS, IDS, CHARACTERS, LOG_SUMS = "log_probs", "ids", "characters", "log_sums"
"""The tensors of a row: [P, C], [P, C], [P, 2] and [P, E]."""
TOKENS = "tokens"
"""The size P of a row."""
TEMPERATURES = "temperatures"
"""The key of a store's fingerprint that lists its temperatures."""

_MAX_LOGITS = 1 << 24
"""How many logits are computed with at a time."""
_LEAST = -1e4
"""The log-probability that replaces −inf, which a store does not accept."""


def temperature_names(temperatures: Sequence[float]) -> tuple[str, ...]:
    """Temperatures as a fingerprint lists them: in ascending order, without duplicates, 1 included."""
    # Nine digits: two temperatures that differ only in later digits are the same.
    return tuple(dict.fromkeys(f"{temperature:.9g}" for temperature in sorted({1.0, *temperatures})))


def next_token_schema(top: int, temperatures: Sequence[str], vocabulary: int) -> dict[str, TensorSpec]:
    """The schema of a row.

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


def join_next_tokens(parts: Sequence[Mapping[str, Tensor]], spans: Sequence[Characters]) -> dict[str, Tensor]:
    """A row's tensors from those of its tokens, part by part, and the characters of each token."""
    log_probs, ids, log_sums = (torch.cat([part[name] for part in parts]) for name in (LOG_PROBS, IDS, LOG_SUMS))
    return {LOG_PROBS: log_probs, IDS: ids, CHARACTERS: torch.tensor(spans, dtype=torch.int32), LOG_SUMS: log_sums}


def likeliest_tokens(logits_PV: Tensor, top: int, temperatures: Sequence[str]) -> dict[str, Tensor]:
    """The part of a row that some of its tokens have, without their characters.

    Args:
        logits_PV: the logits that predict each of these tokens, on any device.
        top: C, at most V.
        temperatures: see `temperature_names`.
    """
    # A few tokens at a time, since a float32 copy of all logits would be the largest tensor of a reading.
    some = max(1, _MAX_LOGITS // logits_PV.shape[1])
    parts = [_likeliest(few_PV, top, temperatures) for few_PV in torch.split(logits_PV, some)]
    return {name: torch.cat([part[name] for part in parts]) for name in (LOG_PROBS, IDS, LOG_SUMS)}


def _likeliest(logits_PV: Tensor, top: int, temperatures: Sequence[str]) -> dict[str, Tensor]:
    log_PV = logits_PV.float().log_softmax(1)
    best = log_PV.topk(top, dim=1)
    # log Σ_v p(v)^(1/τ), [P] for each temperature, over all V tokens before the top C are taken.
    sums = [torch.logsumexp(log_PV / float(name), 1) for name in temperatures if name != "1"]
    return {
        LOG_PROBS: best.values.clamp(_LEAST, 0.0).cpu(),
        IDS: best.indices.int().cpu(),
        LOG_SUMS: (torch.stack(sums, 1) if sums else log_PV.new_zeros(len(log_PV), 0)).cpu(),
    }


def next_tokens(store: SignalStore, row_id: str, text_hash: str, temperature: float = 1.0) -> LikelyTokens:
    """Read the teacher's next-token distributions on one text.

    Args:
        store: the store.
        row_id: the id of the row.
        text_hash: the hash of the text that the row will be used with.
        temperature: τ of the distributions, one of the store's temperatures.

    Raises:
        MissingRowError: the store has no row of this id.
        ArtefactError: the row belongs to another text, its numbers are damaged, or the store lacks the temperature.
    """
    names, wanted = store.fingerprint.get(TEMPERATURES, "").split(), f"{temperature:.9g}"
    if wanted not in names:
        raise ArtefactError(
            f"Expected next tokens at the temperature {temperature:g}; the store {store.folder} has those at "
            f"{', '.join(names) or 'none'}. They cannot be computed from the likeliest tokens alone; read them into a "
            f"new run."
        )
    return unpack_next_tokens(store.get(row_id, text_hash), names, temperature)


def unpack_next_tokens(row: Mapping[str, Tensor], temperatures: Sequence[str], temperature: float) -> LikelyTokens:
    """Convert a row's tensors to distributions at one of the store's temperatures."""
    log_probs_PC, wanted = row[LOG_PROBS], f"{temperature:.9g}"
    if wanted != "1":
        column = [name for name in temperatures if name != "1"].index(wanted)
        log_probs_PC = log_probs_PC / temperature - row[LOG_SUMS][:, column, None]
    spans = tuple((start, end) for start, end in row[CHARACTERS].tolist())
    return LikelyTokens(spans, row[IDS].long(), log_probs_PC)
