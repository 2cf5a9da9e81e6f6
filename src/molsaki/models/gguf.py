"""Models in one GGUF file, the format of llama.cpp. transformers dequantises the weights while it loads them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from molsaki.config.model_spec import is_gguf
from molsaki.errors import InputError

_MAGIC = b"GGUF"
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


def find_gguf(location: str) -> Path | None:
    """The GGUF file that a location names; None if it names a directory or a model of the hub.

    Raises:
        InputError: there is no such file, it is not a GGUF file or a part of one, or the package `gguf` is missing.
    """
    path = Path(location)
    if not is_gguf(location) or path.is_dir():
        return None
    if not path.is_file():
        _refuse(location, "there is none. Download the file, and give its path")
    if find_spec("gguf") is None:
        _refuse(location, "the package gguf, which reads it, is not installed. `pip install gguf`")
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            _refuse(location, "it does not begin as one. Download it again")
    if _PART.search(path.name):
        _refuse(location, "it is one part of several. Join them with `llama-gguf-split --merge`")
    return path


def gguf_arguments(path: Path) -> dict[str, Any]:
    """The arguments of `from_pretrained` for the model of a GGUF file, beside the name of its folder."""
    from transformers import GgufConfig

    return {"gguf_file": path.name, "quantization_config": GgufConfig(dequantize=True)}


def _refuse(location: str, got: str) -> None:
    raise InputError(f"Expected a GGUF file at {location!r}; {got}. The model was not used.")
