"""What a stage's manifest says of rows: nothing is left out without a count and a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def reasons(manifest: Mapping[str, Any]) -> str:
    """Why rows were left out and what happened to others, such as "3 no key; 1 cut to the context window".

    Args:
        manifest: with `skipped` (of rationales `reasons`, what is kept among them) and `notes`, each reason to a count.
    """
    counts = manifest["skipped"] if "skipped" in manifest else manifest["reasons"]
    return "; ".join(f"{n} {reason}" for reason, n in [*counts.items(), *manifest["notes"].items()] if n)
