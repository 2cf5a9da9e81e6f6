"""Counts as text: numbers with their nouns, and the counts in the manifest of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plural(n: int, noun: str) -> str:
    """A number and its noun in the right form, such as `1 seed` or `3 seeds`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def format_counts(manifest: Mapping[str, Any]) -> str:
    """Why rows were left out and what happened to others, such as "3 no key; 1 cut to the context window".

    Args:
        manifest: the counts of a stage. `skipped` (`reasons` in the manifest of rationales) and `notes` map each
            reason to a count.
    """
    counts = manifest["skipped"] if "skipped" in manifest else manifest["reasons"]
    return "; ".join(f"{n} {reason}" for reason, n in [*counts.items(), *manifest["notes"].items()] if n)


def format_reading(manifest: Mapping[str, Any], detail: str = "") -> str:
    """How many rationales the teacher read, and why others were left out."""
    left_out = format_counts(manifest)
    read = f"{manifest['kept']} of {manifest['read']} rationales read{detail}"
    return f"{read}; {left_out}" if left_out else read
