"""Fingerprints: the inputs and settings that an artefact depends on, and their comparison with the current ones."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import Any

from molsaki.errors import ArtefactError
from molsaki.records import hash_json
from molsaki.store.whole_files import encode_json

MAX_SHOWN_CHARACTERS = 200
"""A fingerprint holds the hash of a longer value, and a message shows the part that differs."""

ABSENT = "absent"

_PACKAGES = (
    "molsaki",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "accelerate",
    "datasets",
    "numpy",
    "pyarrow",
    "pydantic",
    "scipy",
    "peft",
)


def fingerprint(**parts: Any) -> dict[str, str]:
    """Build a fingerprint: the inputs of an artefact as short texts that can be compared and shown.

    Args:
        parts: named JSON values. Short text is kept as it is and other short values as JSON; anything longer than
            `MAX_SHOWN_CHARACTERS` is replaced by its hash.

    Raises:
        DataError: a part is not plain JSON; the message names it.
    """
    return {name: _short(name, value) for name, value in parts.items()}


def require_same(found: Mapping[str, object], wanted: Mapping[str, object], what: str) -> None:
    """Raise unless two fingerprints are equal.

    Args:
        found: the artefact's fingerprint.
        wanted: the requested fingerprint.
        what: the artefact, with its path, for the message.

    Raises:
        ArtefactError: they differ; every key that differs is named with both values.
    """
    lines = differences(found, wanted)
    if lines:
        verb = "differs" if len(lines) == 1 else "differ"
        raise ArtefactError(
            f"Expected {what} to have the requested fingerprint; {len(lines)} of its keys {verb}:\n"
            + "\n".join(lines)
            + "\nIt is not used, since it was created with other inputs or settings, and was not changed; go back to "
            "those values, or choose another folder and create it again."
        )


def differences(found: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """One line for each key whose values differ, with both; nested keys are joined by dots."""
    have, want = _flat(found), _flat(wanted)
    return [
        _difference(key, have.get(key, ABSENT), want.get(key, ABSENT))
        for key in sorted(have.keys() | want.keys())
        if have.get(key) != want.get(key)
    ]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on, without importing them."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _short(name: str, value: Any) -> str:
    encoded = encode_json(value, f"the part {name!r} of a fingerprint")
    if isinstance(value, str) and len(value) <= MAX_SHOWN_CHARACTERS:
        return value
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if not isinstance(value, str) and len(encoded) <= MAX_SHOWN_CHARACTERS:
        return canonical
    return f"sha256:{hash_json(value)}"


def _flat(value: object, name: str = "") -> dict[str, str]:
    """The leaves of nested mappings and lists: dotted name to JSON text (1, 1.0, true and "1" differ)."""
    if isinstance(value, Mapping) and value:
        pairs = [(f"{name}.{key}" if name else str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in value):
        # Entries with labels, such as methods, are compared by these: one more at the front changes no other.
        labels = [item.get("label") if isinstance(item, Mapping) else None for item in value]
        named = all(isinstance(label, str) for label in labels) and len(set(labels)) == len(labels)
        keys = labels if named else range(len(value))
        pairs = [(f"{name}[{key}]", item) for key, item in zip(keys, value, strict=True)]
    elif isinstance(value, Mapping) and not name:
        return {}
    else:
        return {name: json.dumps(value, ensure_ascii=False, default=str)}
    return {leaf: text for key, item in pairs for leaf, text in _flat(item, key).items()}


def _difference(key: str, have: str, want: str) -> str:
    if max(len(have), len(want)) > MAX_SHOWN_CHARACTERS:
        pairs = zip(have, want, strict=False)
        first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(have), len(want)))
        have, want = _around(have, first), _around(want, first)
    return f"  {key}: found {have}, requested {want}"


def _around(text: str, position: int) -> str:
    """The part of a long text around a position."""
    start, end = max(0, position - MAX_SHOWN_CHARACTERS // 4), position + MAX_SHOWN_CHARACTERS // 2
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
