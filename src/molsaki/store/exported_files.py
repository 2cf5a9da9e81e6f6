"""The files of exported signals: which there may be, how large, and the list of their hashes.

An export may come from the internet, so nothing in it is trusted. Only files with the names of an export are opened,
they must be regular files inside the folder, and their sizes are bounded before they are read.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from molsaki.errors import ArtefactError
from molsaki.store.schema import Schema
from molsaki.store.whole_files import encode_json, parse_json, write_whole

CARD, MANIFEST, ROWS, FILES, TOKENIZER = "README.md", "signals.json", "rows.jsonl", "files.json", "tokenizer"
"""The card, the manifest, the texts and spans, the list of files, and the folder of the teacher's tokenizer."""
STORES = "attention"
"""The folder of the stores, one folder for each signal."""

_MB = 1 << 20
_LIMITS: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern), most)
    for pattern, most in (
        (re.escape(CARD), _MB),
        (re.escape(MANIFEST), _MB),
        (re.escape(FILES), 16 * _MB),
        (re.escape(ROWS), 1024 * _MB),
        (rf"{STORES}/[a-z][a-z-]{{0,63}}/store\.json", _MB),
        (rf"{STORES}/[a-z][a-z-]{{0,63}}/shard-\d{{5,9}}\.jsonl", 256 * _MB),
        (rf"{STORES}/[a-z][a-z-]{{0,63}}/shard-\d{{5,9}}\.safetensors", 1 << 36),
        (rf"{TOKENIZER}/[A-Za-z0-9_]{{1,64}}\.(?:json|txt|model|jinja)", 64 * _MB),
    )
)
"""The names of an export's files as patterns, and the most bytes of each."""
MAX_FILES = 100_000
MAX_DEPTH = 3
"""The folders and the name in the longest path of a file of an export."""
MAX_HEADER_BYTES = _MB
"""The largest header of a file of tensors that is read."""
MAX_FIXED_SIZE = 1 << 16
"""The largest size that all rows of a store may share, such as the number of layers or of likeliest tokens."""


def most_bytes(name: str) -> int | None:
    """The most bytes that the file of this name may have; None if it is not a file of an export."""
    return next((most for pattern, most in _LIMITS if pattern.fullmatch(name)), None)


def list_files(folder: Path) -> tuple[dict[str, int], list[str]]:
    """The files of an export with their sizes in bytes, and what else is in its folder.

    Hidden files and folders (such as `.gitattributes` and `.cache`) are passed over.

    Raises:
        ArtefactError: there is no such folder, it has more than `MAX_FILES` files, or a file is too large.
    """
    found: dict[str, int] = {}
    others: list[str] = []
    for count, (name, info) in enumerate(_walk(folder)):
        if count >= MAX_FILES:
            refuse(folder, f"at most {MAX_FILES} files", "more")
        most = most_bytes(name)
        if most is None or info is None:
            others.append(name)
        elif info.st_size > most:
            refuse(folder, f"at most {most} bytes in {name}", str(info.st_size))
        else:
            found[name] = info.st_size
    return dict(sorted(found.items())), sorted(others)


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """The names of files relative to `root`, with None in place of the size of what is not a regular file.

    A folder that is deeper than those of an export is not looked into: its name is one of what is not a file.
    """
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as found:
                entries = [(entry.name, Path(entry.path), entry.stat(follow_symlinks=False)) for entry in found]
        except (OSError, ValueError) as error:
            refuse(root, "a folder of exported signals that can be read", str(error))
        for name, path, info in sorted(entries, key=lambda entry: entry[0]):
            if name.startswith("."):
                continue
            relative = path.relative_to(root)
            if stat.S_ISDIR(info.st_mode) and len(relative.parts) < MAX_DEPTH:
                folders.append(path)
            else:
                yield relative.as_posix(), info if stat.S_ISREG(info.st_mode) else None


def read_file(folder: Path, name: str) -> bytes:
    """The content of a file of an export.

    Raises:
        ArtefactError: it is missing, too large, or no regular file.
    """
    path, most = folder / name, most_bytes(name)
    assert most is not None, name
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > most:
            refuse(folder, f"{name} to be a file of at most {most} bytes", f"one of {info.st_size} bytes, or a link")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        refuse(folder, f"a file {name}", str(error))
    if len(data) > most:
        refuse(folder, f"at most {most} bytes in {name}", "more")
    return data


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of an export.

    Raises:
        ArtefactError: as `read_file`, or it is not a JSON object.
    """
    try:
        value = parse_json(read_file(folder, name))
    except ValueError as error:
        if isinstance(error, ArtefactError):
            raise
        refuse(folder, f"JSON in {name}", str(error)[:200])
    if not isinstance(value, dict):
        refuse(folder, f"a JSON object in {name}", type(value).__name__)
    return value


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_file_list(folder: Path) -> None:
    """Write the list of all files of an export, with their sizes and hashes."""
    files, _ = list_files(folder)
    listed = {name: {"bytes": size, "sha256": hash_file(folder / name)} for name, size in files.items()}
    listed.pop(FILES, None)
    write_whole(folder / FILES, encode_json({"files": listed}, "the list of files", indent=1) + b"\n")


def read_file_list(folder: Path) -> dict[str, tuple[int, str]]:
    """The size and hash of every file of an export, as its list has them.

    Raises:
        ArtefactError: the list is missing or malformed, or names something that is not a file of an export.
    """
    listed = read_object(folder, FILES).get("files")
    if not isinstance(listed, Mapping) or len(listed) > MAX_FILES:
        refuse(folder, f"files by name in {FILES}", str(listed)[:100])
    found = {}
    for name, entry in listed.items():
        size, digest = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, Mapping) else (None, None)
        if most_bytes(name) is None or type(size) is not int or not isinstance(digest, str):
            refuse(folder, f"names of an export's files with bytes and sha256 in {FILES}", f"{name[:100]!r}")
        found[name] = (size, digest)
    return found


def file_problems(folder: Path) -> list[str]:
    """What is wrong with an export's files by its list, after reading every byte of them.

    Raises:
        ArtefactError: as `list_files` and `read_file_list`.
    """
    there, others = list_files(folder)
    there.pop(FILES, None)
    listed = read_file_list(folder)
    problems = [f"{name}: is missing" for name in sorted(listed.keys() - there.keys())]
    problems += [f"{name}: is not in {FILES}" for name in sorted(there.keys() - listed.keys())]
    problems += [f"{name!r}: is not a file of an export, and is not opened" for name in others]
    for name in sorted(listed.keys() & there.keys()):
        size, digest = listed[name]
        if there[name] != size:
            problems.append(f"{name}: has {there[name]} bytes, {FILES} has {size}")
        elif hash_file(folder / name) != digest:
            problems.append(f"{name}: its bytes are not those that were exported (their SHA-256 differs)")
    return problems


def is_export(folder: Path) -> bool:
    """Whether a folder is an export, or what a partial copy of one has."""
    return any((folder / name).exists() for name in (MANIFEST, ROWS, FILES))


def require_listed(folder: Path) -> None:
    """Refuse an export with a file that is not in the list of files, or without one that is listed or always needed.

    Raises:
        ArtefactError: there is such a file.
    """
    there, _ = list_files(folder)
    if lacking := [name for name in (MANIFEST, ROWS, FILES) if name not in there]:
        refuse(folder, f"the files {MANIFEST}, {ROWS} and {FILES}", f"no {' and no '.join(lacking)}")
    listed = read_file_list(folder)
    if missing := sorted(listed.keys() - there.keys()):
        refuse(folder, f"all files of {FILES}", f"{len(missing)} missing, for example {missing[0]}")
    if more := [name for name in there if name not in listed and name != FILES]:
        refuse(folder, f"only files of {FILES}", f"{len(more)} more, for example {more[0]}")


def require_bounded(folder: Path, schema: Schema) -> None:
    """Refuse a store whose rows have a fixed size that no model has.

    Raises:
        ArtefactError: there is such a size.
    """
    largest = max((size for spec in schema.values() for size in spec.shape if isinstance(size, int)), default=0)
    if largest > MAX_FIXED_SIZE:
        refuse(folder, f"rows with at most {MAX_FIXED_SIZE} layers", str(largest))


def require_plain_tensors(path: Path) -> None:
    """Refuse a file of tensors whose header is too long to be one of ours, before it is parsed.

    Raises:
        ArtefactError: the header's length is impossible.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, path.stat().st_size - 8):
        refuse(path, f"a header of at most {MAX_HEADER_BYTES} bytes", f"one of {length}")


def repair_advice(store: Path, otherwise: str) -> str:
    """What to do about a store with damage: an export has no stage that could be run again.

    Args:
        store: the folder of the store.
        otherwise: what to do if it is of a run.
    """
    export = store.absolute().parent.parent
    if not (export / MANIFEST).is_file():
        return otherwise
    return f"see `molsaki signals verify {export}`, and copy, download or export the signals again."


def refuse(path: Path, expected: str, got: str) -> NoReturn:
    """Raise the `ArtefactError` for an export that cannot be used."""
    raise ArtefactError(
        f"Expected {expected} in the exported signals {path}; got {got}. Nothing of it is used; check the path, "
        "copy, download or export it again, and see `molsaki signals verify`."
    )
