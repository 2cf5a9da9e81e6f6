"""The files of a model: whether they are what they say, and which adapter or weights they are.

transformers fills tensors that a checkpoint lacks with random values, and drops those that it has too many of. Here
both are errors, with the names of the tensors. Weights are read from safetensors only, since a pickle runs code.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from molsaki.errors import InputError, MolsakiError
from molsaki.models.gguf import find_gguf
from molsaki.models.hub import require_hub
from molsaki.store.whole_files import open_regular

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SHOWN_NAMES = 5
SHOWN_CHARACTERS = 300
"""How many names of tensors, and how much of a library's message, an error shows."""
MAX_BYTES = {"*config.json": 1 << 22, "*.index.json": 1 << 25, "*.jinja": 1 << 20, "*": 1 << 26}
"""The largest files of text that are read, by the first pattern that fits; the largest known tokenizers have 35 MB."""
MAX_HEADER_BYTES = 1 << 25
"""The longest header of a file of weights: it has about a hundred bytes for each tensor."""
MAX_COUNTS = re.compile(r"(?:n|num)_(?:\w+_)?(?:layers?|experts|heads)"), 10_000
"""Names of counts in a configuration for which modules are made one by one, and the largest of them."""
MAX_PARAMETERS_PER_BYTE = 4
"""Parameters for each byte of weights; 4-bit weights have two."""
ALWAYS_ALLOWED_PARAMETERS = 100_000_000
"""Parameters that are made whatever the files of weights have, so that a cut file is what the error names."""
_READ = frozenset({".json", ".jinja", ".model", ".safetensors", ".txt"})
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A directory that holds an adapter of peft instead of a model.

    Attributes:
        folder: the directory.
        base: directory or hub name of the model that it changes.
        base_revision: the base's revision on the hub, or None.
    """

    folder: Path
    base: str
    base_revision: str | None


@contextmanager
def one_message(expected: str, location: str, way_out: str) -> Iterator[None]:
    """Turn whatever a library raises for broken files into one `InputError`.

    Args:
        expected: what should be there (`"a tokenizer"`).
        location: directory or hub name.
        way_out: what to do.
    """
    try:
        yield
    except MolsakiError:
        raise
    except Exception as error:  # tokenizers raises plain Exceptions, transformers almost anything
        raise InputError(
            f"Expected {expected} at {location!r}, a directory or a name on the hub; it cannot be loaded: "
            f"{_short(error)}. Nothing was done with it. {way_out}"
        ) from error


def find_adapter(location: str, revision: str | None = None) -> Adapter | None:
    """The adapter in a directory or under a hub name, or None if there is none.

    Raises:
        InputError: the location is a path without a directory, or a name that cannot be looked up; the adapter's
            configuration names no base, its weights are not safetensors, or a model is beside it.
    """
    from transformers.utils.hub import cached_file

    if find_gguf(location) is not None:
        return None
    if Path(location).is_dir():
        _require_regular_files(Path(location))
        config = Path(location) / ADAPTER_CONFIG
        if not config.is_file():
            return None
    elif Path(location).exists() or Path(location).is_absolute() or location.startswith((".", "~")):
        _refuse(location, "a model", "no directory", "Check the path.")
    else:
        require_hub(location, revision)
        files = [
            cached_file(
                location,
                name,
                revision=revision,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
            for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
        ]
        if files[0] is None:
            return None
        config = Path(files[0])
    return _read_adapter(config.parent, location)


def _require_regular_files(folder: Path) -> None:
    """Refuse a directory with a file of a model that is a pipe or a device, or that would fill the memory."""
    way_out = "Put the file back from a copy, or download it again."
    for path in sorted(folder.iterdir()):
        if path.suffix not in _READ or path.is_dir():
            continue
        try:
            found = path.stat()
        except OSError:  # a link to nowhere is missing, which is said where the file is needed
            continue
        if not stat.S_ISREG(found.st_mode):
            _refuse(str(folder), "regular files", f"{path.name}, a pipe or a device", way_out)
        is_weights = path.suffix == ".safetensors"
        most = MAX_HEADER_BYTES if is_weights else next(n for name, n in MAX_BYTES.items() if path.match(name))
        size = _header_bytes(path) if is_weights else found.st_size
        if size > most:
            what = "header" if is_weights else "text"
            _refuse(str(folder), f"{path.name} with a {what} of at most {most} bytes", f"one of {size}", way_out)
    if (folder / CONFIG).is_file():
        _require_counts(folder)


def _header_bytes(path: Path) -> int:
    """The length of the header that a file of safetensors says it has."""
    with open_regular(path) as file:
        return int.from_bytes(file.read(8), "little")


def _require_counts(folder: Path) -> None:
    """Refuse a configuration with more layers, experts or heads than can be made in reasonable time."""
    names, most = MAX_COUNTS
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (ValueError, RecursionError):  # what is broken is said by the library that reads it
        return
    parts = [config, *config.values()] if isinstance(config, dict) else []
    for name, value in (pair for part in parts if isinstance(part, dict) for pair in part.items()):
        if names.fullmatch(name) and isinstance(value, int) and value > most:
            way_out = "Put the file back from a copy, or download it again."
            _refuse(str(folder), f"{name} of at most {most} in {CONFIG}", f"{value:.3g}", way_out)


def require_size(location: str, parameters: int) -> None:
    """Refuse a directory whose configuration has many more parameters than its files of weights can hold.

    transformers would allocate them before it finds that they are missing.

    Args:
        location: the model's directory or hub name.
        parameters: the number of parameters that the configuration makes.

    Raises:
        InputError: the files of weights are too small.
    """
    files = [path for path in weight_files(location) if path.is_file()]
    held = sum(path.stat().st_size for path in files)
    if files and parameters > max(MAX_PARAMETERS_PER_BYTE * held, ALWAYS_ALLOWED_PARAMETERS):
        _refuse(
            location,
            f"a configuration that belongs to weights of {held} bytes",
            f"one of {parameters} parameters",
            "Check that the configuration belongs to the weights, or save the model again.",
        )


def _read_adapter(folder: Path, location: str) -> Adapter:
    if list(folder.glob("model*.safetensors")):
        _refuse(location, "either a model or an adapter", "both", "Move one of them to another directory.")
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_bytes())
        base, revision = config["base_model_name_or_path"], config.get("revision")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        base = revision = None
    if not isinstance(base, str) or not base:
        way_out = "Set base_model_name_or_path in it to the base's directory or hub name."
        _refuse(location, f"an {ADAPTER_CONFIG} that names the adapter's base", "none", way_out)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        way_out = f"Save the adapter again with peft, which writes {ADAPTER_WEIGHTS}."
        _refuse(location, f"an adapter with weights in {ADAPTER_WEIGHTS}", "none", way_out)
    return Adapter(folder, base, revision if isinstance(revision, str) else None)


def require_safetensors(location: str) -> None:
    """Refuse a directory that has its weights as pickles only, or none.

    Raises:
        InputError: it has no weights in safetensors.
    """
    folder = Path(location)
    if not folder.is_dir() or (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    got = f"only {', '.join(pickles[:SHOWN_NAMES])}, which would run code when loaded" if pickles else "no weights"
    way_out = f"Save the model again with save_pretrained, which writes {WEIGHTS}."
    _refuse(location, f"weights in {WEIGHTS} or in parts listed by {INDEX}", got, way_out)


def require_whole(location: str, model: PreTrainedModel, info: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of the architecture.

    Tied weights that are stored once, and buffers that are computed (such as `rotary_emb.inv_freq`), may be absent or
    present.

    Args:
        location: the model's directory or hub name.
        model: the model with what could be loaded.
        info: the loading info of `from_pretrained`.

    Raises:
        InputError: tensors are missing, surplus or of another shape.
    """
    buffers = {name for name, _ in model.named_buffers()}
    buffers |= {name.removeprefix(f"{model.base_model_prefix}.") for name in buffers}
    missing = set(info["missing_keys"])
    surplus = set(info["unexpected_keys"]) - buffers
    misshapen = [f"{name} {list(got)} instead of {list(want)}" for name, got, want in sorted(info["mismatched_keys"])]
    require_same_tensors(location, f"the tensors of {type(model).__name__}", missing, surplus, misshapen)


def require_same_tensors(
    location: str, expected: str, missing: Iterable[str], surplus: Iterable[str], misshapen: Iterable[str] = ()
) -> None:
    """Raise an `InputError` with the names of tensors that are missing, surplus or misshapen, if there are any."""
    kinds = {"missing": missing, "surplus": surplus, "of another shape": misshapen}
    found = [f"{len(names)} {kind} ({_listed(names)})" for kind, given in kinds.items() if (names := sorted(given))]
    if found:
        way_out = (
            "Missing tensors would be random numbers, and surplus ones would be dropped. Check that the configuration "
            "belongs to the weights, or save the model again."
        )
        _refuse(location, expected, "; ".join(found), way_out)


def weight_files(location: str) -> tuple[Path, ...]:
    """The files that a model's weights are in, sorted; none for a hub name.

    Raises:
        InputError: the index of the files is malformed, or names one that is not in the folder.
    """
    folder, file = Path(location), find_gguf(location)
    if file is not None:
        return (file,)
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    if not (folder / INDEX).is_file():
        return ()
    try:
        names = set(json.loads((folder / INDEX).read_bytes())["weight_map"].values())
        files = tuple(folder / name for name in sorted(names))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _refuse(location, f"an index of weights in {INDEX}", _short(error), "Save the model again.")
    if missing := [str(name) for name, file in zip(sorted(names), files, strict=True) if not _is_in(file, folder)]:
        _refuse(location, f"the files that {INDEX} names", f"no {_listed(missing)}", "Copy or save the model again.")
    return files


def _is_in(file: Path, folder: Path) -> bool:
    return file.parent == folder and file.is_file()


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "")


def _short(error: Exception) -> str:
    words = str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
    text = " ".join("".join(c if c.isprintable() else " " for c in words).split()) or type(error).__name__
    return text[:SHOWN_CHARACTERS].rstrip(".") + ("…" if len(text) > SHOWN_CHARACTERS else "")


def _refuse(location: str, expected: str, got: str, way_out: str) -> NoReturn:
    raise InputError(f"Expected {expected} at {location!r}; got {got}. The model was not used. {way_out}")
