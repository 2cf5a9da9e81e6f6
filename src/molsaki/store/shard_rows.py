"""What a row must be before it is stored; one that is not would make its whole shard unreadable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from molsaki.errors import ArtefactError, DataError
from molsaki.store.whole_files import encode_json


def require_texts(row_id: str, text_hash: str) -> None:
    """Raise `ArtefactError` unless a row's id and text hash can be written and read back."""
    try:
        encode_json([row_id, text_hash], "the id and the text hash")
    except DataError as error:
        refuse_row(row_id, "an id and a text hash in valid Unicode", str(error))
    if not (isinstance(row_id, str) and row_id and isinstance(text_hash, str)):
        refuse_row(row_id, "an id and a text hash that are texts", f"{row_id!r} and {text_hash!r}")


def values_to_store(row_id: str, attention_LSK: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of a row's values on the CPU in the store's dtype.

    Raises:
        ArtefactError: they are no attention [L, S, K], are not finite or overflow the dtype; the message names
            the row.
    """
    attention_LSK = attention_LSK.detach()
    shape = tuple(attention_LSK.shape)
    if len(shape) != 3 or 0 in shape or not attention_LSK.is_floating_point():
        refuse_row(
            row_id,
            "floating-point attention of at least one layer, step and key",
            f"the shape {shape} and {attention_LSK.dtype}",
        )
    if not bool(torch.isfinite(attention_LSK).all()):
        refuse_row(row_id, "finite attention", "NaN or infinity among its values")
    largest, bound = float(attention_LSK.abs().max()), torch.finfo(dtype).max
    if largest > bound:
        expected = f"values up to {bound:g}, as {str(dtype).removeprefix('torch.')} can hold"
        refuse_row(row_id, expected, f"{largest:g} (a store in float32 holds up to 3e38)")
    return attention_LSK.to(device="cpu", dtype=dtype, copy=True).contiguous()


def places_to_store(row_id: str, what: str, places: Sequence[int], size: int) -> tuple[int, ...]:
    """Indices below `size` in order, as plain integers; others are an `ArtefactError` that names the row."""
    try:
        plain = sorted({int(place) for place in places})
    except (TypeError, ValueError) as error:
        refuse_row(row_id, f"{what} as whole numbers", str(error))
    if plain and not 0 <= plain[0] <= plain[-1] < size:
        refuse_row(row_id, f"{what} between 0 and {size - 1}", f"{plain}")
    return tuple(plain)


def counts_to_store(row_id: str, counts: Sequence[int], size: int) -> tuple[int, ...]:
    """`size` numbers of tokens as plain integers, or none; others are an `ArtefactError` that names the row."""
    try:
        plain = tuple(int(count) for count in counts)
    except (TypeError, ValueError) as error:
        refuse_row(row_id, "numbers of tokens as whole numbers", str(error))
    if plain and (len(plain) != size or min(plain) < 0):
        refuse_row(row_id, f"a number of tokens for each of its {size} steps", f"{plain}")
    return plain


def refuse_row(row_id: str, expected: str, got: str) -> NoReturn:
    """Raise the `ArtefactError` for a row that cannot be stored."""
    raise ArtefactError(
        f"Expected {expected} for the row {row_id!r}; got {got}. This row was not stored, all others are kept; "
        f"mend what it was made from, or leave it out and count it."
    )
