"""Which weights a model has, by a hash of all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molsaki.records import hash_text

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

_hashes: dict[tuple[Path, int, int], str] = {}
"""Hashes of files that this process has read, by path, size and time of change."""


def model_fingerprint(name: str, model: PreTrainedModel | PeftModel) -> str:
    """A hash that tells the weights of models apart, before they are trained.

    It covers the files that the weights were loaded from; for a model of the hub, its name and commit; for a model that
    was made in memory, its parameters.

    Args:
        name: the model's name on the hub, if it comes from there.
        model: the model.
    """
    files: tuple[Path, ...] = getattr(model, "weight_files", ())
    commit = getattr(model.config, "_commit_hash", None)
    if files:
        return hash_files(files)
    return hash_text(name, commit) if commit else hash_parameters(model)


def hash_files(files: Sequence[Path]) -> str:
    """A hash of the content of files; a file that has not changed is read once in a process."""
    return hash_text(*map(_hash_file, files))


def hash_parameters(model: PreTrainedModel | PeftModel) -> str:
    """A hash of the names, shapes and values of a model's parameters; of those on no device, of names and shapes."""
    parts = []
    for name, parameter in model.named_parameters():
        value = "" if parameter.is_meta else hashlib.sha256(_bytes(parameter)).hexdigest()
        parts.append(f"{name} {list(parameter.shape)} {value}")
    return hash_text(*parts)


def _hash_file(path: Path) -> str:
    state = path.stat()
    key = (path.resolve(), state.st_size, state.st_mtime_ns)
    if key not in _hashes:
        with path.open("rb") as file:
            _hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[key]


def _bytes(tensor: Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
