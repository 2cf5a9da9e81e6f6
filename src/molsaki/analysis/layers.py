"""Layer by layer: who looks at the keys, and who weighs in the mixture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from molsaki.analysis.looks import Floats, Look
from molsaki.analysis.shift import Estimate, estimate, layer_change


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """One layer's part.

    Attributes:
        layer: from 0, the first after the embeddings.
        above: the share of its attention that lies on keys above shuffled keys, mean over the rationale's sentences.
        change: how that changes from the first sentence to the last; None where no rationale has two.
    """

    layer: int
    above: Estimate
    change: Estimate | None


def layer_profile(*runs: Mapping[str, Look]) -> list[LayerProfile]:
    """What `progressive_shift` measures, for every layer by itself.

    It can show in which layers attention lies on keys, such as whether the middle ones have most of it. It cannot
    show which layers matter to the answer: a layer may attend to keys and its output be ignored. Layers are compared
    within one model; layer 2 of a student is not layer 2 of its teacher.

    Args:
        *runs: looks by problem id, one mapping for each trained model (seed); all of the same problems.

    Raises:
        EvaluationError: there are no looks, or the runs are not of the same problems.
    """
    profiles = []
    for layer in range(len(next(iter(runs[0].values())).share_LS) if runs and runs[0] else 1):
        change = layer_change(runs, layer)
        table = np.array([[_above(run[row_id], layer) for row_id in sorted(runs[0])] for run in runs])
        there = ~np.isnan(table).any(0)
        if there.any():
            profiles.append(LayerProfile(layer, estimate(table[:, there]), change))
    return profiles


def layer_weights(
    looks: Mapping[str, Look], temperature: float = 0.1, *, normalise: bool = True
) -> tuple[list[str], Floats]:
    """The weights that Eq. 4 of the paper gives a teacher's layers, for every text.

    They say which layers' attention changes most from key to key. A high weight is not importance to the answer, and
    at a low temperature small differences make large ones of weights.

    Args:
        looks: the teacher's, by id.
        temperature: τ1.
        normalise: as `teacher_layer_weights`.

    Returns:
        The ids and the weights [texts, L], each row summing to 1.
    """
    import torch

    from molsaki.methods.layers import teacher_layer_weights

    rows = []
    for look in looks.values():
        there_K = np.isin(np.arange(look.spans.n_keys), look.key_of_token_T)
        weights_BL = teacher_layer_weights(
            torch.from_numpy(look.keys_LSK)[None],
            torch.from_numpy(look.tokens_S > 0)[None],
            torch.from_numpy(there_K)[None],
            temperature,
            normalise=normalise,
        )
        rows.append(weights_BL[0].numpy())
    return list(looks), np.array(rows)


def _above(look: Look, layer: int) -> float:
    above = (look.share_LS[layer] - look.shuffled_LS[layer])[1:]
    there = above[~np.isnan(above)]
    return float(there.mean()) if there.size else float("nan")
