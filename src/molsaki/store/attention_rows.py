"""Stepwise attention of a teacher as rows of a store.

Legend: L layers (or the heads of all of them), S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from molsaki.errors import ArtefactError
from molsaki.store.schema import TensorSpec
from molsaki.store.signal_reader import SignalStore

ATTENTION, MISSING_STEPS, MISSING_KEYS, STEP_TOKENS = "attention", "missing_steps", "missing_keys", "step_tokens"
"""The tensors of a row."""
LAYERS = "layers with attention"
"""The part of a store's fingerprint with the layers of its rows, if a model has others."""
STEPS, KEYS = "steps", "keys"
"""The sizes S and K of a row; beside them are the numbers of missing steps and keys."""


@dataclass(frozen=True, slots=True)
class AttentionRow:
    """A teacher's stepwise attention on one text.

    Attributes:
        attention_LSK: stepwise attention, float32.
        missing_steps: steps without a token of the teacher; their attention is 0 and must not be learned from.
        missing_keys: keys without a token of the teacher.
        step_tokens: the number of the teacher's tokens of each step; 0 for a missing one.
    """

    attention_LSK: Tensor
    missing_steps: tuple[int, ...]
    missing_keys: tuple[int, ...]
    step_tokens: tuple[int, ...]


def attention_schema(layers: int, dtype: str = "float32") -> dict[str, TensorSpec]:
    """The schema of a row.

    Args:
        layers: L.
        dtype: `"float32"`, or `"float16"` at half the size (about three digits; values below 6e-8 become 0).
    """
    return {
        ATTENTION: TensorSpec(dtype, (layers, STEPS, KEYS)),
        MISSING_STEPS: TensorSpec("int32", (MISSING_STEPS,), below=STEPS),
        MISSING_KEYS: TensorSpec("int32", (MISSING_KEYS,), below=KEYS),
        STEP_TOKENS: TensorSpec("int32", (STEPS,), below=1 << 31),
    }


def pack_layers(numbers: Sequence[int], count: int) -> dict[str, str]:
    """The part of a store's fingerprint that says which layers of a model its rows have; empty for all layers."""
    return {} if len(numbers) == count else {LAYERS: f"{' '.join(map(str, numbers))} of {count}"}


def layer_numbers(fingerprint: Mapping[str, str]) -> tuple[int, ...] | None:
    """The layers that the rows of a store have, from its fingerprint; None for all.

    Raises:
        ArtefactError: the fingerprint has something else in their place.
    """
    packed = fingerprint.get(LAYERS)
    if packed is None:
        return None
    numbers = packed.partition(" of ")[0].split()
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise ArtefactError(
            f"Expected the layers of a store's rows as numbers in its header ({LAYERS}); got {packed!r}. The file was "
            "changed, and nothing was read from it; delete the store and run `molsaki attend`."
        )
    return tuple(map(int, numbers))


def pack_attention(
    attention_LSK: Tensor,
    step_tokens: Sequence[int],
    missing_steps: Sequence[int] = (),
    missing_keys: Sequence[int] = (),
) -> dict[str, Tensor]:
    """A row's tensors; see `AttentionRow`."""
    numbers = {MISSING_STEPS: missing_steps, MISSING_KEYS: missing_keys, STEP_TOKENS: step_tokens}
    whole = {name: torch.tensor(tuple(values), dtype=torch.int32) for name, values in numbers.items()}
    return {ATTENTION: attention_LSK, **whole}


def attention_row(store: SignalStore, row_id: str, text_hash: str) -> AttentionRow:
    """Read one row of a store of attention.

    Args:
        store: the store.
        row_id: the id of the row.
        text_hash: the hash of the text that the row will be used with.

    Raises:
        MissingRowError: the store has no row of this id.
        ArtefactError: the row belongs to another text, or its numbers are damaged.
    """
    row = store.get(row_id, text_hash)
    steps, keys, tokens = (tuple(row[name].tolist()) for name in (MISSING_STEPS, MISSING_KEYS, STEP_TOKENS))
    return AttentionRow(row[ATTENTION], steps, keys, tokens)
