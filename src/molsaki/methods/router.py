"""The student's side of the mixture of layers: a small router that reads value states (Eq. 5), and its collapse.

Legend: B batch, T tokens, L layers (or the heads of all of them), H heads of a layer, D width of a layer's value
states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from molsaki.errors import InputError
from molsaki.methods.tensor_checks import require_choice, require_positive

Gate = Literal["concatenated", "per-layer", "shared"]


class LayerRouter(nn.Module):
    """Weights the student's layers by their value states; trained with the student.

    Eq. 5 as run (the default): h_l = RMSNorm(Σ_i V_l[i, :]), p_l ∝ exp(W·h_l / τ2) over layers. As written:
    h_l = Σ_i RMSNorm(V_l)[i, :], H = [h_1; …; h_L], p = softmax((H·W + b) / τ2). V_l is [T, D_l], all value heads of
    layer l side by side. The sum is over real tokens, so that the weights of an example do not depend on its batch.

    The norm has no gain of its own, which W would absorb. W and b start at zero, so training starts from uniform
    weights whatever the scale of H. As written that scale matters: a sum over T rows of unit root mean square has
    entries between √T and T, so one step of Adam with learning rate η moves a logit by up to η·Σ|H| / τ2, which for
    the sum over hundreds of tokens and a concatenated gate is large enough to pick one layer for good within the
    first steps.

    As run has one gate for all layers, RMSNorm after the sum over tokens, and detached values. The equation as
    written, with one W over the concatenation of all layers, is `gate="concatenated",
    norm="before", detach_values=False`; give such a router a smaller learning rate, or `pool="mean"`.

    Example:
        >>> import molsaki, torch
        >>> router = molsaki.LayerRouter([4, 4])
        >>> values = [torch.ones(1, 3, 4), torch.zeros(1, 3, 4)]  # of two layers, for one example of three tokens
        >>> router(values, torch.ones(1, 3)).tolist()
        [[0.5, 0.5]]

    Args:
        value_sizes: D_l of every layer in order.
        temperature: τ2; the paper's 0.5.
        gate: "shared": one W [D] for all layers and no b, which softmax cancels; "concatenated": every logit reads
            every layer, W [Σ D_l, L] and b [L]; "per-layer": logit l reads h_l alone, W_l [D_l] and b [L]. With heads
            L is Σ H_l; W_l is [D_l, H_l]; the shared W is [D, H], and b [H].
        norm: "after": the sum, then RMSNorm; "before": RMSNorm of every token's values, then the sum.
        pool: "sum", or "mean" over the real tokens, so that H's scale does not depend on the text's length.
        detach_values: no gradient goes from the router to the student's value states.
        heads: H_l, the number of heads of each layer, to weight heads one by one; None weights whole layers, as the
            paper does.
        eps: inside the root of RMSNorm.

    Raises:
        InputError: an argument is impossible, or the layers of a shared gate differ in width or number of heads.
    """

    def __init__(
        self,
        value_sizes: Sequence[int],
        temperature: float = 0.5,
        *,
        gate: Gate = "shared",
        norm: Literal["before", "after"] = "after",
        pool: Literal["sum", "mean"] = "sum",
        detach_values: bool = True,
        heads: Sequence[int] | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        require_positive(temperature, "temperature")
        require_choice("gate", gate, ("concatenated", "per-layer", "shared"))
        require_choice("norm", norm, ("before", "after"))
        require_choice("pool", pool, ("sum", "mean"))
        sizes = tuple(int(size) for size in value_sizes)
        if not sizes or min(sizes) < 1:
            raise InputError(f"Expected the width of every layer's value states, each at least 1; got {sizes}.")
        counts = (1,) * len(sizes) if heads is None else tuple(int(count) for count in heads)
        if len(counts) != len(sizes) or min(counts) < 1:
            raise InputError(
                f"Expected a number of heads of at least 1 for each of the {len(sizes)} layers; got {counts}."
            )
        if gate == "shared" and (len(set(sizes)) > 1 or len(set(counts)) > 1):
            what, found = ("width", sizes) if len(set(sizes)) > 1 else ("number of heads", counts)
            raise InputError(
                f"Expected layers of one {what} for a shared gate; got {sorted(set(found))}. One W cannot "
                "serve them all; use the gate `per-layer` or `concatenated` (in a recipe: `gate: per-layer`, or "
                "`preset: as-written`)."
            )
        self.value_sizes, self.temperature, self.eps = sizes, temperature, eps
        self.gate, self.norm, self.pool, self.detach_values = gate, norm, pool, detach_values
        self.heads = None if heads is None else counts
        self._counts = counts
        shape: dict[Gate, tuple[int, ...]] = {
            "concatenated": (sum(sizes), sum(counts)),
            "per-layer": (sum(size * count for size, count in zip(sizes, counts, strict=True)),),
            "shared": (sizes[0],) if heads is None else (sizes[0], counts[0]),
        }
        self.weight = nn.Parameter(torch.zeros(shape[gate]))
        # Without heads the shared b would be one number for all, which softmax cancels.
        biases = {"shared": 0 if heads is None else counts[0]}.get(gate, sum(counts))
        self.bias = nn.Parameter(torch.zeros(biases)) if biases else None

    def forward(self, values: Sequence[Tensor], token_mask_BT: Tensor, *, check: bool = True) -> Tensor:
        """The layers' weights for a batch.

        Args:
            values: value states [B, T, D_l] of every layer in order, finite at padding too.
            token_mask_BT: True (or 1) at real tokens.
            check: check that every example has a token; a device sync on an accelerator.

        Returns:
            Weights [B, L] that sum to 1, in the router's precision; [B, Σ H_l] with heads.

        Raises:
            InputError: the layers or their widths are not the router's, or an example has no token.
        """
        self._check(values, token_mask_BT, look=check)
        token_mask_BT = token_mask_BT.bool()
        with torch.autocast(token_mask_BT.device.type, enabled=False):
            # h_l [B, D_l] of each layer, then one logit for each layer (or head).
            pooled = [self._pool(values_BTD, token_mask_BT) for values_BTD in values]
            if self.gate == "concatenated":
                logits_BL = torch.cat(pooled, dim=1) @ self.weight
            elif self.gate == "per-layer":
                shapes = list(zip(self.value_sizes, self._counts, strict=True))
                parts = zip(pooled, torch.split(self.weight, [D * H for D, H in shapes]), shapes, strict=True)
                logits_BL = torch.cat([h_BD @ weight.view(shape) for h_BD, weight, shape in parts], dim=1)
            else:
                logits_BL = torch.stack(pooled, dim=1) @ self.weight
            if self.bias is not None:
                logits_BL = logits_BL + self.bias
            return torch.softmax(logits_BL.flatten(1) / self.temperature, dim=1)

    def by_layer(self, weights_BI: Tensor) -> Tensor:
        """The weight of each layer [B, L], summed over its heads, from the output of `forward`."""
        if self.heads is None:
            return weights_BI
        return torch.stack([layer_BH.sum(1) for layer_BH in torch.split(weights_BI, list(self.heads), dim=1)], dim=1)

    def extra_repr(self) -> str:
        """The router's arguments, for `print(model)`."""
        return (
            f"layers={len(self.value_sizes)}, temperature={self.temperature}, gate={self.gate}, "
            f"norm={self.norm}, pool={self.pool}, detach_values={self.detach_values}, heads={self.heads}"
        )

    def _pool(self, values_BTD: Tensor, token_mask_BT: Tensor) -> Tensor:
        values_BTD = (values_BTD.detach() if self.detach_values else values_BTD).to(self.weight.dtype)
        # Norm, mask and mean are one factor for each token, so that no second [B, T, D] is held.
        share_BT = token_mask_BT.to(values_BTD.dtype)
        if self.norm == "before":
            share_BT = share_BT * self._inverse_rms(values_BTD)
        if self.pool == "mean":
            share_BT = share_BT / token_mask_BT.sum(1, keepdim=True)
        h_BD = torch.einsum("bt,btd->bd", share_BT, values_BTD)
        return h_BD if self.norm == "before" else h_BD * self._inverse_rms(h_BD)[:, None]

    def _inverse_rms(self, x: Tensor) -> Tensor:
        return torch.rsqrt(x.square().mean(-1) + self.eps)

    def _check(self, values: Sequence[Tensor], token_mask_BT: Tensor, *, look: bool) -> None:
        got = tuple(layer.shape[-1] for layer in values)
        if got != self.value_sizes:
            raise InputError(
                f"Expected value states of {len(self.value_sizes)} layers of widths {self.value_sizes}; got "
                f"{len(got)} of widths {got}. The router belongs to another model; create one for this model."
            )
        if any(layer.shape[:-1] != token_mask_BT.shape for layer in values):
            raise InputError(
                f"Expected value states [B, T, D] that fit the token mask {list(token_mask_BT.shape)}; got "
                f"{[list(layer.shape) for layer in values]}. Select the same examples of both."
            )
        if look and not bool(token_mask_BT.bool().any(1).all()):
            empty = int((~token_mask_BT.bool().any(1)).nonzero()[0])
            raise InputError(f"Expected a real token in every example; example {empty} of the batch has none.")


COLLAPSED = 0.95
"""A router that gives one layer more than this share of the weight, on average, does not mix layers any more."""


def router_collapsed_at(history: Iterable[Mapping[str, Any]]) -> int | None:
    """The step at which a router collapsed onto one layer; None if it did not.

    Args:
        history: the lines of a training log, such as `history` in a student's `metrics.json`, with the mean layer
            weights since the line before as `layer_weight_0`, `layer_weight_1`, ….

    Returns:
        The step of the first line at which one of several layers has more than `COLLAPSED` of the weight.
    """
    for line in history:
        weights = [weight for name, weight in line.items() if name.startswith("layer_weight_")]
        if len(weights) > 1 and max(weights) > COLLAPSED:
            return int(line["step"])
    return None
