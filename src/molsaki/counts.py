"""Counts: of what a stage has done so far, and as text with their nouns and reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

MAX_SHOWN_ID = 80

Progress = Callable[[int, int], None]
"""Called with how many are done, and of how many."""


def plural(n: int, noun: str) -> str:
    """A number and its noun in the right form, such as `1 seed` or `3 seeds`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def show_number(value: float, digits: int = 3) -> str:
    """A number rounded to some digits, without an exponent, such as `0.0123`, `999` or `1,500`."""
    return f"{Decimal(f'{value:.{digits}g}'):,f}"


def format_counts(manifest: Mapping[str, Any]) -> str:
    """Why rows were left out and what happened to others, such as "3 no key; 1 cut to the context window".

    Args:
        manifest: the counts of a stage. `skipped` (`reasons` in the manifest of rationales) and `notes` map each
            reason to a count; the first of its `examples` is named.
    """
    counts = manifest["skipped"] if "skipped" in manifest else manifest["reasons"]
    reasons = [f"{n} {reason}{format_example(manifest, reason)}" for reason, n in counts.items() if n]
    return "; ".join([*reasons, *(f"{n} {note}" for note, n in manifest["notes"].items() if n)])


def format_example(manifest: Mapping[str, Any], reason: str) -> str:
    """The id of a row that was left out for a reason, in brackets; empty if the manifest has none."""
    ids = manifest.get("examples", {}).get(reason, [])
    return f" ({shorten(ids[0], MAX_SHOWN_ID)})" if ids and isinstance(ids[0], str) else ""


def shorten(text: str, most: int) -> str:
    """A text cut to so many characters, with … at its end if it had more."""
    return text if len(text) <= most else text[:most] + "…"


def format_reading(manifest: Mapping[str, Any], detail: str = "") -> str:
    """How many rationales the teacher read, and why others were left out."""
    left_out = format_counts(manifest)
    read = f"{manifest['kept']} of {manifest['read']} rationales read{detail}"
    return f"{read}; {left_out}" if left_out else read


def format_attention_error(error: Mapping[str, Any] | str) -> str:
    """The entry of the attend stage's manifest on a quantised reader's attention, as a sentence.

    Args:
        error: the result of `attention_error` with the original's name and precision, or a sentence already.
    """
    if isinstance(error, str):
        return f"error of the attention: {error}"
    against = f"attention against that of {error['original']} in {error['precision']}"
    if not error["numbers"]:
        return f"{against}: not measured, no text has keys"
    mean, most, of = (f"{error[name]:.2g}" for name in ("mean_error", "max_error", "mean_attention"))
    return (
        f"{against}, on {plural(error['texts'], 'text')}: absolute difference {mean} in the mean and {most} at most, "
        f"where the mean attention is {of}; the same tokens in {error['same_tokens']} of {error['texts']}"
    )
