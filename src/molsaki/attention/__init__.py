"""Stepwise attention: how much each reasoning step attends to each key, in every layer, at almost no extra cost.

`reading` has the public functions; `capture` intercepts the layers; `kernels` computes their attention, by the kernel
that `kernel_choice` picks, with `fused` or `flex` for the output and log-sum-exp, and `columns` and `segments` for the
sums, on GPUs by `triton_kernels`; `span_index` holds the tokens of steps and keys; `rules` and `masks` hold the
attention masks; `layers` finds the layers that can be read; `chunks` reads long texts in parts.
"""

import warnings
from typing import Any

from molsaki.attention.capture import padded_on_the_right
from molsaki.attention.kernel_choice import Kernel
from molsaki.attention.layers import ReadLayers, expected_layers, find_model, layer_count, layer_list
from molsaki.attention.reading import (
    AttentionReading,
    read_attention,
    read_many_spans,
    read_spans,
    stepwise_attention,
)
from molsaki.attention.span_index import SpanRequest

__all__ = [
    "AttentionReading",
    "Kernel",
    "ReadLayers",
    "SpanRequest",
    "expected_layers",
    "find_model",
    "layer_count",
    "layer_list",
    "padded_on_the_right",
    "read_attention",
    "read_many_spans",
    "read_spans",
    "stepwise_attention",
]


def __getattr__(name: str) -> Any:
    if name == "Reading":
        warnings.warn("molsaki.attention.Reading is now AttentionReading", FutureWarning, stacklevel=2)
        return AttentionReading
    raise AttributeError(f"module 'molsaki.attention' has no attribute {name!r}")
