"""Operations and bytes that reading stepwise attention adds to a layer, by formula.

All counts are per layer and per example, forward and backward together; a multiply-add counts as two operations. Time
follows these counts only roughly, since they leave out exponentials and memory traffic; `molsaki bench` prints the
counted share beside the measured one.

Legend: T tokens, J key tokens, S steps, H heads, D head dimension, W = H·D width, W_kv width of all key-value heads,
F width of the feed-forward part.
"""

from __future__ import annotations

from dataclasses import dataclass

BYTES = 4
"""Per number: attention is summed in float32."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """A Llama-shaped decoder layer.

    Attributes:
        width: W.
        key_value_width: W_kv.
        feed_forward: F; three matrices of W × F.
        heads: H.
    """

    width: int
    key_value_width: int
    feed_forward: int
    heads: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one layer for one example in one training step.

    Attributes:
        own_operations: without reading: the matrices, 6·T·(2·W² + 2·W·W_kv + 3·W·F), and causal attention, 7·T²·W
            (2·T²·W forward, and 2.5 times that backward, where fused attention computes its scores again).
        extra_operations: added by reading: the key tokens' scores forward, again backward, and their two gradients,
            8·T·J·W. A layer with at most 2²⁰ weights H·T·J keeps them, and needs 6·T·J·W.
        full_attention_bytes: the T × T weights of all heads, which `output_attentions` keeps for the backward pass.
        extra_bytes: temporary memory of reading: T × J weights of all heads, H·T·J numbers.
        kept_bytes: memory that reading keeps between forward and backward: which token sees which key token, T·J
            numbers, once for all layers.
    """

    own_operations: int
    extra_operations: int
    full_attention_bytes: int
    extra_bytes: int
    kept_bytes: int

    @property
    def share(self) -> float:
        """`extra_operations` / `own_operations`."""
        return self.extra_operations / self.own_operations


def reading_cost(layer: LayerShape, tokens: int, key_tokens: int) -> Cost:
    """Count what reading the stepwise attention of one layer adds to a training step.

    Args:
        layer: the layer.
        tokens: T.
        key_tokens: J. The number of steps adds nothing: rows are summed as they are computed.
    """
    matrices = 2 * layer.width**2 + 2 * layer.width * layer.key_value_width + 3 * layer.width * layer.feed_forward
    return Cost(
        own_operations=6 * tokens * matrices + 7 * tokens**2 * layer.width,
        extra_operations=8 * tokens * key_tokens * layer.width,
        full_attention_bytes=BYTES * layer.heads * tokens**2,
        extra_bytes=BYTES * layer.heads * tokens * key_tokens,
        kept_bytes=BYTES * tokens * key_tokens,
    )
