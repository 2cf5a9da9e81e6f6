"""Layer by layer: attention on the keys, and weights in the mixture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from molsaki.analysis.shift import Estimate, estimate, shift_of_layer
from molsaki.analysis.text_attention import Floats, TextAttention
from molsaki.methods.terms import LayerChange


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """One layer's attention on keys.

    Attributes:
        layer: its number in the model, from 0, the first after the embeddings.
        above: the share of its attention on keys less the share on shuffled keys, mean over the rationale's sentences.
        change: how `above` changes from the first sentence to the last; None where no rationale has two.
    """

    layer: int
    above: Estimate
    change: Estimate | None


def layer_profile(*runs: Mapping[str, TextAttention]) -> list[LayerProfile]:
    """What `progressive_shift` measures, for each layer.

    It can show in which layers attention is on keys, such as whether the middle ones have most of it. It cannot show
    which layers matter to the answer: later layers may ignore what a layer reads. Layers are compared within one model;
    layer 2 of a student is not layer 2 of its teacher.

    Args:
        *runs: attention by problem id, one mapping for each trained model (seed); all of the same problems.

    Raises:
        EvaluationError: there is no attention, or the runs are not of the same problems.
    """
    profiles = []
    numbers = next(iter(runs[0].values())).layer_numbers if runs and runs[0] else (0,)
    for layer, number in enumerate(numbers):
        change = shift_of_layer(runs, layer)
        table = np.array([[_above(run[row_id], layer) for row_id in sorted(runs[0])] for run in runs])
        there = ~np.isnan(table).any(0)
        if there.any():
            profiles.append(LayerProfile(number, estimate(table[:, there]), change))
    return profiles


def layer_weights(
    attention: Mapping[str, TextAttention], temperature: float = 0.1, *, change: LayerChange = "sum"
) -> tuple[list[str], Floats]:
    """The weights that Eq. 4 of the paper gives a teacher's layers, for every text.

    They show which layers' attention changes most from key to key. A layer with a high weight need not matter to the
    answer, and at a low temperature small differences of attention give large differences of weights.

    Args:
        attention: the teacher's, by text id.
        temperature: τ1.
        change: G, see `molsaki.teacher_layer_weights`.

    Returns:
        The ids and the weights [texts, L], each row summing to 1.
    """
    import torch

    from molsaki.methods.layers import teacher_layer_weights

    rows = []
    for one in attention.values():
        has_tokens_K = np.isin(np.arange(one.spans.n_keys), one.key_of_token_T)
        weights_BL = teacher_layer_weights(
            torch.from_numpy(one.keys_LSK)[None],
            torch.from_numpy(one.tokens_S > 0)[None],
            torch.from_numpy(has_tokens_K)[None],
            temperature,
            change=change,
        )
        rows.append(weights_BL[0].numpy())
    return list(attention), np.array(rows)


def _above(attention: TextAttention, layer: int) -> float:
    above = (attention.share_LS[layer] - attention.shuffled_LS[layer])[1:]
    there = above[~np.isnan(above)]
    return float(there.mean()) if there.size else float("nan")
