"""Checks of a row before it is stored: one invalid row would make its whole shard unreadable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor

from molsaki.errors import ArtefactError, DataError
from molsaki.store.schema import Schema, TensorSpec
from molsaki.store.shards import StoredRow, hash_bytes
from molsaki.store.whole_files import encode_json


def row_to_store(
    row_id: str, text_hash: str, tensors: Mapping[str, Tensor], schema: Schema
) -> tuple[StoredRow, dict[str, Tensor]]:
    """Check a row, and return its line of the index and copies of its tensors on the CPU in the schema's types.

    Raises:
        ArtefactError: the id or the hash is not valid text, or the tensors are not those of the schema; the message
            names the row.
    """
    _require_texts(row_id, text_hash)
    if tensors.keys() != schema.keys():
        refuse_row(row_id, f"the tensors {', '.join(schema)}", ", ".join(tensors) or "none")
    sizes: dict[str, int] = {}
    for name, spec in schema.items():
        _add_sizes(row_id, name, spec, tensors[name], sizes)
    stored = {name: _to_store(row_id, name, spec, tensors[name], sizes) for name, spec in schema.items()}
    return StoredRow(row_id, text_hash, sizes, hash_tensors(stored)), stored


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The hash of a row's tensors, on the CPU, in the order of the schema."""
    return hash_bytes(tensor.reshape(-1).numpy().data for tensor in tensors.values())


def wrong_numbers(name: str, spec: TensorSpec, tensor: Tensor, sizes: Mapping[str, int]) -> str:
    """What is wrong with a tensor's numbers (NaN, infinity or out of the schema's bound); empty if they are valid."""
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        return f"NaN or infinity among the numbers of its {name}"
    bound = sizes[spec.below] if isinstance(spec.below, str) else spec.below
    if bound is not None and tensor.numel() and not 0 <= int(tensor.min()) <= int(tensor.max()) < bound:
        return f"numbers of its {name} that are not from 0 to {bound - 1}"
    return ""


def _require_texts(row_id: str, text_hash: str) -> None:
    """Raise `ArtefactError` unless a row's id and text hash can be written and read back."""
    try:
        encode_json([row_id, text_hash], "the id and the text hash")
    except DataError as error:
        refuse_row(row_id, "an id and a text hash in valid Unicode", str(error))
    if not (isinstance(row_id, str) and row_id and isinstance(text_hash, str)):
        refuse_row(row_id, "an id and a text hash that are texts", f"{row_id!r} and {text_hash!r}")


def _add_sizes(row_id: str, name: str, spec: TensorSpec, tensor: Tensor, sizes: dict[str, int]) -> None:
    """Add the sizes of the row that a tensor's shape determines, and check the shape against the schema."""
    for expected, size in zip(spec.shape, tensor.shape, strict=False):
        if isinstance(expected, str):
            sizes.setdefault(expected, size)
    if len(spec.shape) != tensor.dim() or spec.shape_in(sizes) != tuple(tensor.shape):
        refuse_row(row_id, f"{name} of the shape {list(spec.shape)} with {sizes}", f"the shape {list(tensor.shape)}")


def _to_store(row_id: str, name: str, spec: TensorSpec, tensor: Tensor, sizes: Mapping[str, int]) -> Tensor:
    dtype: torch.dtype = getattr(torch, spec.dtype)
    tensor = tensor.detach()
    if tensor.is_floating_point() != dtype.is_floating_point:
        kind = "floating-point" if dtype.is_floating_point else "whole"
        refuse_row(row_id, f"{kind} numbers in its {name}", str(tensor.dtype))
    if wrong := wrong_numbers(name, spec, tensor, sizes):
        refuse_row(row_id, "numbers that can be stored", wrong)
    info = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    if largest > info.max:
        refuse_row(row_id, f"{name} up to {info.max:g}, as {spec.dtype} can hold", f"{largest:g}")
    return tensor.to(device="cpu", dtype=dtype, copy=True).contiguous()


def refuse_row(row_id: str, expected: str, got: str) -> NoReturn:
    """Raise the `ArtefactError` for a row that cannot be stored."""
    raise ArtefactError(
        f"Expected {expected} for the row {row_id!r}; got {got}. This row was not stored, all others are kept; "
        f"fix its input, or leave it out and count it."
    )
