"""The layers of a loaded model that are read, with their heads and widths."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from molsaki.attention import ReadLayers, find_model, read_attention
from molsaki.models.inputs import input_device
from molsaki.models.modes import eval_mode

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class LayerShapes(NamedTuple):
    """The layers of a model that are read: the width of the value states and the number of heads of each.

    Attributes:
        values: the width D_l of each layer's value states, all value heads side by side.
        heads: the number of heads H_l of each layer.
        layers: which layers these are.
    """

    values: tuple[int, ...]
    heads: tuple[int, ...]
    layers: ReadLayers


def shapes_of(model: PreTrainedModel | PeftModel) -> LayerShapes:
    """The layers of a model that are read, from a forward pass over two tokens.

    Configurations name heads and widths in many ways, and some have layers of different widths.

    Raises:
        UnreadableModelError: no layer of the model can be read.
    """
    tokens = torch.zeros(1, 2, dtype=torch.long, device=input_device(find_model(model)))
    with eval_mode(model), torch.no_grad():
        reading = read_attention(model, tokens, torch.ones_like(tokens), tokens, tokens, values=True, heads=True)
    assert reading.values is not None
    assert reading.heads is not None
    return LayerShapes(tuple(values.shape[-1] for values in reading.values), reading.heads, reading.layers)
