"""Stepwise attention: how much each reasoning step looks at each key, for every layer, at next to no cost.

`reading` is the way in; `capture` gets at the layers; `kernels` has the ways to compute; `fused` and `columns` are
the fast one's two halves; `spans` says which token is whose.
"""

from molsaki.attention.capture import padded_on_the_right
from molsaki.attention.kernels import Kernel
from molsaki.attention.reading import (
    AttentionReading,
    find_model,
    layer_count,
    layer_shapes,
    read_attention,
    read_many_spans,
    read_spans,
    stepwise_attention,
)
from molsaki.attention.span_index import SpanRequest

__all__ = [
    "AttentionReading",
    "Kernel",
    "SpanRequest",
    "find_model",
    "layer_count",
    "layer_shapes",
    "padded_on_the_right",
    "read_attention",
    "read_many_spans",
    "read_spans",
    "stepwise_attention",
]
