"""Asking a model for no more logits than are used: they are its largest output by far."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def last_logits(model: PreTrainedModel, count: int) -> dict[str, Any]:
    """The model input that makes it compute the logits of the last `count` positions only.

    Args:
        model: the model itself, without what wraps it.
        count: how many positions, at least 1.

    Returns:
        Nothing for a model that knows no such input; it gives the logits of all positions.
    """
    known = "logits_to_keep" in inspect.signature(model.forward).parameters
    return {"logits_to_keep": count} if known else {}
