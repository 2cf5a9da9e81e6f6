"""What reading attention costs, counted beforehand: operations and bytes of the extra work beside the layer's own.

Everything is per layer and per example, in multiply-adds taken as two operations, forward and backward together.
A processor's time follows these counts only roughly (exponentials and memory traffic are not in them); `molsaki bench`
prints the counted share beside the measured one.

Legend: T tokens, J key tokens, S steps, H heads, D head dimension, W = H·D width, W_kv width of all key-value heads,
F width of the feed-forward part.
"""

from __future__ import annotations

from dataclasses import dataclass

BYTES = 4
"""Of a number in float32, in which attention is summed."""


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
    """What one layer does for one example in one training step.

    Attributes:
        own_operations: the layer's own: its matrices, 6·T·(2·W² + 2·W·W_kv + 3·W·F), and causal attention, 7·T²·W
            (2·T²·W forward, and 2.5 times that backward, where fused attention computes its scores again).
        extra_operations: the key tokens' scores forward, again backward, and their two gradients: 8·T·J·W.
        whole_bytes: the T × T weights of all heads, which `output_attentions` holds for the backward pass.
        extra_bytes: what the extra work holds while it runs: T × J weights of all heads, H·T·J numbers.
        kept_bytes: what it keeps between forward and backward beside what attention keeps anyway: which token sees
            which key token, T·J numbers, once for all layers.
    """

    own_operations: int
    extra_operations: int
    whole_bytes: int
    extra_bytes: int
    kept_bytes: int

    @property
    def share(self) -> float:
        """The extra operations as a share of the layer's own."""
        return self.extra_operations / self.own_operations


def reading_cost(layer: LayerShape, tokens: int, key_tokens: int) -> Cost:
    """Count what reading the stepwise attention of one layer adds to a training step.

    Args:
        layer: the layer.
        tokens: T.
        key_tokens: J. Steps cost nothing: rows are added up as they come.
    """
    matrices = 2 * layer.width**2 + 2 * layer.width * layer.key_value_width + 3 * layer.width * layer.feed_forward
    return Cost(
        own_operations=6 * tokens * matrices + 7 * tokens**2 * layer.width,
        extra_operations=8 * tokens * key_tokens * layer.width,
        whole_bytes=BYTES * layer.heads * tokens**2,
        extra_bytes=BYTES * layer.heads * tokens * key_tokens,
        kept_bytes=BYTES * tokens * key_tokens,
    )
