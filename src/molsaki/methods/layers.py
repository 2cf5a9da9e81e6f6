"""Mixture of Layers: the weight of each layer's attention in the comparison of teacher and student.

The teacher's layers are weighted by a rule without parameters (Eq. 4), the student's by a small router that reads
its value states and is trained with it (Eq. 5). Fixed pairs of layers do worse (the paper's ablation: 35.8
against 37.5 on average). Everything here is a function of tensors.

If heads are mixed one by one, the heads of all layers take the place of the layers, the first layer's heads first.

Legend: B batch, T tokens, L layers (or the heads of all of them), H heads of a layer, S steps, K keys, D width of a
layer's value states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from molsaki.errors import InputError

Gate = Literal["concatenated", "per-layer", "shared"]


def teacher_layer_weights(
    attention_BLSK: Tensor,
    step_mask_BS: Tensor,
    key_mask_BK: Tensor,
    temperature: float = 0.1,
    *,
    normalise: bool = False,
    check: bool = True,
) -> Tensor:
    """Weight the teacher's layers by how much their stepwise attention changes from key to key.

    Eq. 4: G_l = Σ_s Σ_k |A_l[s, k+1] − A_l[s, k]| / (|steps| · (|keys| − 1)), p = softmax(G / τ1) over layers. As
    run, G is divided by nothing.

    Example:
        >>> import molsaki, torch
        >>> attention_BLSK = torch.tensor([[[[0.9, 0.1]], [[0.5, 0.5]]]])  # only the first layer tells the keys apart
        >>> masks = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
        >>> molsaki.teacher_layer_weights(attention_BLSK, *masks).round(decimals=3).tolist()
        [[1.0, 0.0]]

    Args:
        attention_BLSK: stepwise attention of every layer, at least 0.
        step_mask_BS: True where a step is real; the others are ignored.
        key_mask_BK: True where a key is real; neighbours are the real keys in their order.
        temperature: τ1; the paper's 0.1. The larger, the more even the weights.
        normalise: divide by |steps| · (|keys| − 1), as the equation is written. Without that (as run) weights are
            sharper for long rationales with many keys.
        check: check the values too. On an accelerator that forces a device sync, so False if they are checked already.

    Returns:
        Weights [B, L] that sum to 1. With a single key there is no change, and the weights are uniform.

    Raises:
        InputError: shapes disagree, an example has no step or no key, the attention has a NaN, or the
            temperature is not positive.
    """
    _require_positive(temperature, "temperature")
    if check:
        check_attention(attention_BLSK, step_mask_BS, key_mask_BK, "attention")
    step_mask_BS, key_mask_BK = step_mask_BS.bool(), key_mask_BK.bool()
    # Real keys to the front of the last axis, in their order, so that each has its real neighbour beside it.
    real_keys_first_BK = torch.argsort(~key_mask_BK, dim=1, stable=True)
    index_BLSK = real_keys_first_BK[:, None, None, :].expand(attention_BLSK.shape)
    # |A[s, k+1] − A[s, k]|, K − 1 of them for each step; of an example with n keys the first n − 1 count.
    change_BLSK = attention_BLSK.gather(3, index_BLSK).diff(dim=3).abs()
    key_count_B = key_mask_BK.sum(1)
    pair_mask_BK = torch.arange(change_BLSK.shape[3], device=key_mask_BK.device) < (key_count_B - 1)[:, None]
    counted_BLSK = step_mask_BS[:, None, :, None] & pair_mask_BK[:, None, None, :]
    change_BL = change_BLSK.masked_fill(~counted_BLSK, 0.0).sum((2, 3))
    if normalise:
        change_BL = change_BL / (step_mask_BS.sum(1) * (key_count_B - 1).clamp_min(1))[:, None]
    return torch.softmax(change_BL / temperature, dim=1)


def row_shares(attention_BLSK: Tensor) -> Tensor:
    """Each row of attention divided by its sum over keys; a row without attention stays 0.

    P_l[s, :] = A_l[s, :] / Σ_k A_l[s, k]. The change of P from key to key is between 0 and 2 a row, whatever the number
    of a row's tokens and keys; `teacher_layer_weights` of it compares layers by where they look alone.

    Args:
        attention_BLSK: stepwise attention of every layer, 0 at padding.
    """
    sums_BLS1 = attention_BLSK.sum(3, keepdim=True)
    return attention_BLSK / sums_BLS1.masked_fill(sums_BLS1 == 0, 1.0)


def mix_layers(attention_BLSK: Tensor, weights_BL: Tensor) -> Tensor:
    """Mix the stepwise attention of all layers by the layers' weights.

    A = Σ_l p_l · A_l, for the teacher and for the student alike (§3.3 of the paper).

    Example:
        >>> import molsaki, torch
        >>> attention_BLSK = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # one example, two layers, one step, two keys
        >>> molsaki.mix_layers(attention_BLSK, torch.tensor([[0.25, 0.75]])).tolist()
        [[[0.25, 0.75]]]

    Args:
        attention_BLSK: stepwise attention of every layer.
        weights_BL: a weight for each layer, from `teacher_layer_weights` or a `LayerRouter`.

    Returns:
        The mixture [B, S, K].

    Raises:
        InputError: the two disagree about the number of examples or layers.
    """
    if attention_BLSK.dim() != 4 or weights_BL.shape != attention_BLSK.shape[:2]:
        raise InputError(
            f"Expected attention [B, L, S, K] and one weight for each example and layer [B, L]; got "
            f"{list(attention_BLSK.shape)} and {list(weights_BL.shape)}. The layers cannot be mixed; take both "
            f"from the same model and batch."
        )
    return torch.einsum("blsk,bl->bsk", attention_BLSK, weights_BL.to(attention_BLSK.dtype))


class LayerRouter(nn.Module):
    """Weights the student's layers by their value states; trained with the student.

    Eq. 5: h_l = Σ_i RMSNorm(V_l)[i, :], H = [h_1; …; h_L], p = softmax((H·W + b) / τ2) over layers, where V_l is
    [T, D_l], all value heads of layer l side by side. The sum is over real tokens, so that the weights of an example
    do not depend on its batch.

    The norm has no gain of its own, which W would absorb. W and b start at zero, so training starts from uniform
    weights whatever the scale of H. That scale matters: a sum over T rows of unit root mean square has entries
    between √T and T, so one step of Adam with learning rate η moves a logit by up to η·Σ|H| / τ2, which for the
    sum over hundreds of tokens and a concatenated gate is large enough to pick one layer for good within the first
    steps.

    The defaults are the paper's as run: one gate for all layers, RMSNorm after the sum over tokens, values detached.
    The equation as written, with one W over the concatenation of all layers, is `gate="concatenated",
    normalise="before", detach_values=False`; give such a router a smaller learning rate, or `pool="mean"`.

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
        normalise: "after": the sum, then RMSNorm; "before": RMSNorm of every token's values, then the sum.
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
        normalise: Literal["before", "after"] = "after",
        pool: Literal["sum", "mean"] = "sum",
        detach_values: bool = True,
        heads: Sequence[int] | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        _require_positive(temperature, "temperature")
        _require_choice("gate", gate, ("concatenated", "per-layer", "shared"))
        _require_choice("normalise", normalise, ("before", "after"))
        _require_choice("pool", pool, ("sum", "mean"))
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
        self.gate, self.normalise, self.pool, self.detach_values = gate, normalise, pool, detach_values
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
            values: value states [B, T, D_l] of every layer in order.
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
            f"normalise={self.normalise}, pool={self.pool}, detach_values={self.detach_values}, heads={self.heads}"
        )

    def _pool(self, values_BTD: Tensor, token_mask_BT: Tensor) -> Tensor:
        values_BTD = (values_BTD.detach() if self.detach_values else values_BTD).to(self.weight.dtype)
        # Norm, mask and mean are one factor for each token, so that no second [B, T, D] is held.
        share_BT = token_mask_BT.to(values_BTD.dtype)
        if self.normalise == "before":
            share_BT = share_BT * self._inverse_rms(values_BTD)
        if self.pool == "mean":
            share_BT = share_BT / token_mask_BT.sum(1, keepdim=True)
        h_BD = torch.einsum("bt,btd->bd", share_BT, values_BTD)
        return h_BD if self.normalise == "before" else h_BD * self._inverse_rms(h_BD)[:, None]

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


def check_attention(attention: Tensor, step_mask_BS: Tensor, key_mask_BK: Tensor, name: str) -> None:
    """Check that every example has a step and a key, and finite attention on them.

    Args:
        attention: [B, …, S, K].
        step_mask_BS: True at real steps.
        key_mask_BK: True at real keys.
        name: of the attention, for the message.

    Raises:
        InputError: shapes disagree, an example has no step or no key, or a real entry is not finite.
    """
    B, S, K = attention.shape[0], attention.shape[-2], attention.shape[-1]
    if step_mask_BS.shape != (B, S) or key_mask_BK.shape != (B, K):
        raise InputError(
            f"Expected a step mask {[B, S]} and a key mask {[B, K]} for {name} {list(attention.shape)}; got "
            f"{list(step_mask_BS.shape)} and {list(key_mask_BK.shape)}. Steps and keys would be mixed up; "
            f"create the masks from the same spans."
        )
    steps_BS, keys_BK = step_mask_BS.bool(), key_mask_BK.bool()
    real = (steps_BS[:, :, None] & keys_BK[:, None, :]).view(B, *(1,) * (attention.dim() - 3), S, K)
    finite_B = attention.detach().masked_fill(~real, 0.0).isfinite().flatten(1).all(1)
    no_step_B, no_key_B = ~steps_BS.any(1), ~keys_BK.any(1)
    bad_B = no_step_B | no_key_B | ~finite_B
    if not bool(bad_B.any()):
        return
    example = int(bad_B.nonzero()[0])
    if no_step_B[example]:
        what = "no step: its loss would be a mean over nothing"
    elif no_key_B[example]:
        what = "no key: there is nothing to attend to"
    else:
        what = f"a NaN or an infinity in the {name}: it would spread to every parameter"
    raise InputError(
        f"Expected at least one step and one key with finite attention in every example; example {example} of the "
        f"batch has {what}. Leave that example out, and count it."
    )


def _require_positive(value: float, name: str) -> None:
    if not value > 0 or value == float("inf"):
        raise InputError(f"Expected a positive, finite {name}; got {value}.")


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"Expected {name} to be one of {', '.join(choices)}; got {value!r}.")
