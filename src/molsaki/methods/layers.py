"""Mixture of layers: the weight of each layer of the teacher, and the mixture on both sides.

The teacher's layers are weighted by a rule without parameters (Eq. 4), the student's by a small router (`router.py`,
Eq. 5). The paper reports 35.8 on average for fixed pairs of layers and 37.5 for the mixture; in
docs/experiments/pocket-pairs.md no pair was shown to be worse. Everything here is a function of tensors.

If heads are mixed one by one, the heads of all layers take the place of the layers, the first layer's heads first.

Legend: B batch, L layers (or the heads of all of them), S steps, K keys.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from molsaki.errors import InputError
from molsaki.methods.tensor_checks import check_attention, require_choice, require_positive
from molsaki.methods.terms import LayerChange


def teacher_layer_weights(
    attention_BLSK: Tensor,
    step_mask_BS: Tensor,
    key_mask_BK: Tensor,
    temperature: float = 0.1,
    *,
    change: LayerChange = "sum",
    check: bool = True,
) -> Tensor:
    """Weight the teacher's layers by how much their stepwise attention changes from key to key.

    Eq. 4: G_l = Σ_s Σ_k |A_l[s, k+1] − A_l[s, k]| / (|steps| · (|keys| − 1)), p = softmax(G / τ1) over layers. As
    run, G is divided by nothing (`change="sum"`).

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
        change: G, the change of a layer. "sum" over steps and keys, as run: weights are sharper for long rationales
            with many keys. "mean": divided by |steps| · (|keys| − 1), as the equation is written. "rows": each row of
            attention is first divided by its sum over keys, and G by |steps|, so that layers are compared by where
            they look alone.
        check: check the values too. On an accelerator that forces a device sync, so False if they are checked already.

    Returns:
        Weights [B, L] that sum to 1. With a single key there is no change, and the weights are uniform.

    Raises:
        InputError: shapes disagree, an example has no step or no key, the attention has a NaN, the temperature is not
            positive, or `change` is none of the three.
    """
    require_positive(temperature, "temperature")
    require_choice("change", change, get_args(LayerChange))
    if check:
        check_attention(attention_BLSK, step_mask_BS, key_mask_BK, "attention")
    step_mask_BS, key_mask_BK = step_mask_BS.bool(), key_mask_BK.bool()
    if change == "rows":  # a row without attention stays 0
        sums_BLS1 = attention_BLSK.masked_fill(~key_mask_BK[:, None, None, :], 0.0).sum(3, keepdim=True)
        attention_BLSK = attention_BLSK / sums_BLS1.masked_fill(sums_BLS1 == 0, 1.0)
    # Real keys to the front of the last axis, in their order, so that each has its real neighbour beside it.
    real_keys_first_BK = torch.argsort(~key_mask_BK, dim=1, stable=True)
    index_BLSK = real_keys_first_BK[:, None, None, :].expand(attention_BLSK.shape)
    # |A[s, k+1] − A[s, k]|, K − 1 of them for each step; of an example with n keys the first n − 1 count.
    change_BLSK = attention_BLSK.gather(3, index_BLSK).diff(dim=3).abs()
    key_count_B = key_mask_BK.sum(1)
    pair_mask_BK = torch.arange(change_BLSK.shape[3], device=key_mask_BK.device) < (key_count_B - 1)[:, None]
    counted_BLSK = step_mask_BS[:, None, :, None] & pair_mask_BK[:, None, None, :]
    change_BL = change_BLSK.masked_fill(~counted_BLSK, 0.0).sum((2, 3))
    if change == "mean":
        change_BL = change_BL / (step_mask_BS.sum(1) * (key_count_B - 1).clamp_min(1))[:, None]
    elif change == "rows":
        change_BL = change_BL / step_mask_BS.sum(1)[:, None]
    return torch.softmax(change_BL / temperature, dim=1)


def mix_layers(attention_BLSK: Tensor, weights_BL: Tensor) -> Tensor:
    """Mix the stepwise attention of all layers by the layers' weights.

    A = Σ_l p_l · A_l, for the teacher and for the student alike (§3.3 of the paper).

    Example:
        >>> import molsaki, torch
        >>> attention_BLSK = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # one example, two layers, one step, two keys
        >>> molsaki.mix_layers(attention_BLSK, torch.tensor([[0.25, 0.75]])).tolist()
        [[[0.25, 0.75]]]

    Args:
        attention_BLSK: stepwise attention of every layer, finite at missing steps and keys too.
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
