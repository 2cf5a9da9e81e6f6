"""`--models FOLDER`: models that a recipe names as the hub does, from directories on this machine.

The folder is an environment variable, so that worker processes have it too. It is not part of a recipe: what a run
records is the hub's name, and the same recipe runs where there is no such folder.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from molsaki.config.model_spec import is_gguf
from molsaki.data.pocket import STUDENT, TEACHER

VARIABLE = "MOLSAKI_MODELS"

_POCKET = {"pocket:teacher": TEACHER, "pocket:student": STUDENT}
_HUB_NAME = re.compile(r"(?:[\w-][\w.-]*/)?([\w-][\w.-]*)", re.ASCII)

logger = logging.getLogger(__name__)


@contextmanager
def models_in(folder: Path | None) -> Iterator[None]:
    """Look for models in a folder first; None leaves the variable as it is."""
    earlier = os.environ.get(VARIABLE)
    if folder is not None:
        os.environ[VARIABLE] = str(folder.resolve())
    try:
        yield
    finally:
        if earlier is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = earlier


def find_in_folder(name: str) -> str:
    """The directory or file in the folder that has the last part of a model's name; without one, the name itself.

    A name that is a directory or file already is that one.
    """
    folder, match = os.environ.get(VARIABLE), _HUB_NAME.fullmatch(name)
    if not folder or match is None or Path(name).exists():
        return name
    found = Path(folder) / match[1]
    if found.is_dir() or (is_gguf(name) and found.is_file()):
        return str(found)
    _log_missing(name, folder)
    return name


def model_location(name: str) -> str:
    """The directory, file or hub name of a model or tokenizer, by the name that a recipe or an adapter has for it."""
    return str(_POCKET.get(name) or find_in_folder(name))


@cache
def _log_missing(name: str, folder: str) -> None:
    logger.warning("%s is not in %s; it is looked up on the hub", name, folder)
