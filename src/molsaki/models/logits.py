"""Compute only the logits that are used: they are the largest output of a model by far."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def last_logits(model: PreTrainedModel, count: int) -> dict[str, Any]:
    """The keyword argument with which a model computes the logits of the last `count` positions only.

    Args:
        model: the model itself, not a wrapper such as DDP.
        count: the number of positions, at least 1.

    Returns:
        An empty dict if the model has no such argument. It then computes the logits of all positions.
    """
    known = "logits_to_keep" in inspect.signature(model.forward).parameters
    return {"logits_to_keep": count} if known else {}
