"""The layers of a loaded model that are read, with their heads and widths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molsaki.attention import LayerShapes, find_model, layer_shapes
from molsaki.models.inputs import input_device
from molsaki.models.modes import eval_mode

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def shapes_of(model: PreTrainedModel | PeftModel) -> LayerShapes:
    """The layers of a model that are read, with heads and widths, from a forward pass over two tokens.

    Raises:
        UnreadableModelError: no layer of the model can be read.
    """
    with eval_mode(model):
        return layer_shapes(model, input_device(find_model(model)))
