"""The names that `DistillationTrainer`'s arguments had before it took those of transformers."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec

from molsaki.errors import InputError

P = ParamSpec("P")

_OLD_ARGUMENTS = {"student": "model", "tokenizer": "processing_class"}


def accept_old_arguments(init: Callable[P, None]) -> Callable[P, None]:
    """Let a function take arguments by their old names, with a warning."""

    @functools.wraps(init)
    def renamed(*args: P.args, **kwargs: P.kwargs) -> None:
        for old, new in _OLD_ARGUMENTS.items():
            if old not in kwargs:
                continue
            if new in kwargs:
                raise InputError(f"Expected one of {new} and {old}, its old name; got both. Leave {old} out.")
            warnings.warn(f"DistillationTrainer: {old} is now {new}", FutureWarning, stacklevel=2)
            kwargs[new] = kwargs.pop(old)
        init(*args, **kwargs)

    return renamed
