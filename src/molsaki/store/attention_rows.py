"""Stepwise attention of a teacher as rows of a store.

A row has one of two forms. The full form has all L × S × K numbers. The compact form has, for each layer and step, the
N keys with the most attention and the sum of the rest, which reading divides equally among the other keys that the step
can see. A key that starts after a step ends has exactly 0 there, so it costs nothing. A row that is not exact carries
its error against the full row in float32, measured when it is written.

Legend: L layers (or the heads of all of them), S steps, K keys, N kept keys of a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
TOP_KEYS, REST, FIRST_STEP = "top_keys", "rest", "first_step"
"""The further tensors of a compact row: the keys of `attention` [L, S, N], the sums of all others [L, S], and for each
key the first step that can see it [K]; S for none."""
ERROR = "error"
"""The tensor of a row that is not exact: its largest and its mean absolute error."""
STEPS, KEYS, KEPT = "steps", "keys", "kept"
"""The sizes S, K and N of a row; beside them are the numbers of missing steps and keys."""
MAX_KEY = (1 << 15) - 1
"""The largest index of a key in a compact row, which stores it in 16 bits."""


ERROR_SCHEMA = {ERROR: TensorSpec("float32", (2,))}
"""The part of a schema with the error of a row."""


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


def mixture_rule(temperature: float, change: str) -> str:
    """What the fingerprint of a store has as its layers, if it holds their mixture by Eq. 4.

    Args:
        temperature: τ1.
        change: G, see `molsaki.teacher_layer_weights`.
    """
    return f"mixed by Eq. 4, temperature {temperature:g}, {change} change"


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


def compact_schema(layers: int, dtype: str) -> dict[str, TensorSpec]:
    """The schema of a compact row; arguments as in `attention_schema`."""
    return {
        **attention_schema(layers, dtype),
        ATTENTION: TensorSpec(dtype, (layers, STEPS, KEPT)),
        TOP_KEYS: TensorSpec("int16", (layers, STEPS, KEPT), below=KEYS),
        REST: TensorSpec(dtype, (layers, STEPS)),
        FIRST_STEP: TensorSpec("int32", (KEYS,), below=1 << 31),
        **ERROR_SCHEMA,
    }


def pack_attention(
    attention_LSK: Tensor,
    step_tokens: Sequence[int],
    missing_steps: Sequence[int] = (),
    missing_keys: Sequence[int] = (),
) -> dict[str, Tensor]:
    """A row's tensors; see `AttentionRow`."""
    return {ATTENTION: attention_LSK, **pack_numbers(step_tokens, missing_steps, missing_keys)}


def pack_numbers(
    step_tokens: Sequence[int], missing_steps: Sequence[int] = (), missing_keys: Sequence[int] = ()
) -> dict[str, Tensor]:
    """A row's tensors without its attention."""
    numbers = {MISSING_STEPS: missing_steps, MISSING_KEYS: missing_keys, STEP_TOKENS: step_tokens}
    return {name: torch.tensor(tuple(values), dtype=torch.int32) for name, values in numbers.items()}


class CompactRow:
    """Builds a compact row from a full one, some of its steps at a time: the full row need not be held in memory.

    Args:
        first_step_K: for each key the first step that can see it; S for none. Later steps see it too.
        top: N; all keys of a row that has fewer.
        dtype: of the stored attention.
    """

    def __init__(self, first_step_K: Tensor, top: int, dtype: str) -> None:
        self._first_step_K, self._top, self._dtype = first_step_K, top, dtype
        self._steps = 0
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self._largest, self._summed, self._count = torch.zeros(()), torch.zeros((), dtype=torch.float64), 0

    def add(self, attention_LSK: Tensor) -> None:
        """Add the next steps of the full row, on all keys."""
        top_LSN = attention_LSK.topk(min(self._top, attention_LSK.shape[2]), dim=2)
        rest_LS = (attention_LSK.sum(2) - top_LSN.values.sum(2)).clamp_min(0)
        end = self._steps + attention_LSK.shape[1]
        visible_SK = torch.arange(self._steps, end)[:, None] >= self._first_step_K
        self._steps = end
        self._parts.append((top_LSN.values, top_LSN.indices.int(), rest_LS))
        values_LSN, stored_LS = (round_to(x, self._dtype) for x in (top_LSN.values, rest_LS))
        for full_SK, values, keys, rest in zip(attention_LSK, values_LSN, top_LSN.indices, stored_LS, strict=True):
            apart_SK = (full_SK - _spread(values, keys, rest, visible_SK)).abs()
            self._largest = torch.maximum(self._largest, apart_SK.max())
            self._summed += apart_SK.sum(dtype=torch.float64)
            self._count += apart_SK.numel()

    def finish(self, others: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the row with its error; `others` are those of `pack_attention` beside the attention."""
        values, keys, rest = (torch.cat(parts, 1) for parts in zip(*self._parts, strict=True))
        error = torch.stack([self._largest, (self._summed / self._count).float()])
        first_step = self._first_step_K.int()
        return {ATTENTION: values, **others, TOP_KEYS: keys, REST: rest, FIRST_STEP: first_step, ERROR: error}


def with_error(row: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Add the error of a full row that is stored in `dtype`."""
    apart_LSK = (row[ATTENTION] - round_to(row[ATTENTION], dtype)).abs()
    return {**row, ERROR: torch.stack([apart_LSK.max(), apart_LSK.mean()])}


def round_compact(row: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """A compact row in another `dtype`. Its error is a bound: its error so far, and that of rounding, together.

    The full row is not there to measure against; |full − rounded| ≤ |full − compact| + |compact − rounded| at every
    number, and so for the largest and the mean.
    """
    rounded = {**row, **{name: round_to(row[name], dtype) for name in (ATTENTION, REST)}}
    largest, summed, count = torch.zeros(()), torch.zeros((), dtype=torch.float64), 0
    for now_SK, then_SK in zip(layers_of(row), layers_of(rounded), strict=True):
        apart_SK = (now_SK - then_SK).abs()
        largest = torch.maximum(largest, apart_SK.max())
        summed += apart_SK.sum(dtype=torch.float64)
        count += apart_SK.numel()
    return {**rounded, ERROR: row[ERROR] + torch.stack([largest, (summed / count).float()])}


def round_to(attention: Tensor, dtype: str) -> Tensor:
    """Numbers in float32 as they are read back from a store of `dtype`."""
    kind: torch.dtype = getattr(torch, dtype)
    return attention.to(kind).float()


def layers_of(row: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The attention [S, K] of each layer, from the tensors of a row in either form, one layer at a time."""
    if TOP_KEYS not in row:
        yield from row[ATTENTION].float()
        return
    steps_S1 = torch.arange(row[ATTENTION].shape[1])[:, None]
    visible_SK = steps_S1 >= row[FIRST_STEP][None, :]
    # One layer at a time: a view of words has billions of numbers in all layers together.
    for values_SN, keys_SN, rest_S in zip(row[ATTENTION].float(), row[TOP_KEYS].long(), row[REST].float(), strict=True):
        yield _spread(values_SN, keys_SN, rest_S, visible_SK)


def _spread(values_SN: Tensor, keys_SN: Tensor, rest_S: Tensor, visible_SK: Tensor) -> Tensor:
    """A layer's attention [S, K] from a compact row: the rest is divided among the other keys that a step can see."""
    others_SK = visible_SK.scatter(1, keys_SN, False)
    share_S = rest_S / others_SK.sum(1).clamp_min(1)
    return (others_SK * share_S[:, None]).scatter(1, keys_SN, values_SN)


def stored_error(store: SignalStore) -> tuple[float, float]:
    """The largest and the mean absolute error of a store's attention against the full rows; 0 and 0 if it is exact.

    Only the errors are read, which were measured when the rows were written.

    Raises:
        ArtefactError: an error is NaN, or a shard cannot be read.
    """
    largest = summed = numbers = 0.0
    for row_id, text_hash in store.text_hashes().items() if ERROR in store.schema else ():
        most, mean = store.get(row_id, text_hash, [ERROR])[ERROR].tolist()
        sizes = store.sizes(row_id)
        count = sizes[STEPS] * sizes[KEYS]
        largest, summed, numbers = max(largest, most), summed + mean * count, numbers + count
    return largest, summed / max(1.0, numbers)


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
    attention_LSK = torch.stack(list(layers_of(row))) if TOP_KEYS in row else row[ATTENTION]
    return AttentionRow(attention_LSK, *_numbers(row))


@dataclass(frozen=True, slots=True)
class RowSpans:
    """The steps and keys of a row, without its attention.

    Attributes:
        steps: S.
        keys: K.
        missing_steps, missing_keys, step_tokens: as in `AttentionRow`.
        hash: the hash of the row's tensors.
    """

    steps: int
    keys: int
    missing_steps: tuple[int, ...]
    missing_keys: tuple[int, ...]
    step_tokens: tuple[int, ...]
    hash: str


def row_spans(store: SignalStore, row_id: str, text_hash: str) -> RowSpans:
    """Read the steps and keys of a row and not its attention, which stays on the disk.

    Raises:
        MissingRowError: the store has no row of this id.
        ArtefactError: the row belongs to another text, or these numbers are out of bounds.
    """
    row = store.get(row_id, text_hash, [MISSING_STEPS, MISSING_KEYS, STEP_TOKENS])
    sizes = store.sizes(row_id)
    return RowSpans(sizes[STEPS], sizes[KEYS], *_numbers(row), store.row_hash(row_id))


def _numbers(row: Mapping[str, Tensor]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    steps, keys, tokens = (tuple(row[name].tolist()) for name in (MISSING_STEPS, MISSING_KEYS, STEP_TOKENS))
    return steps, keys, tokens
