"""The hidden states that a model's layers give, and the logits that its head makes of some of them.

The logits are the largest output of a model by far. Here a forward pass keeps the last hidden states, and the logits of
the positions that are used are computed from them afterwards, some at a time. They are the model's own: its forward
method runs on the given hidden states, with whatever it does before and after its head (scaling, soft caps).

Legend: R rows, T tokens, N positions, D width of a hidden state, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from molsaki.errors import UnreadableModelError


@dataclass
class HiddenStates:
    """The output of a model's layers in one forward pass; see `keep_hidden_states`."""

    model: PreTrainedModel
    _outputs: list[tuple[str, Any]] = field(default_factory=list)

    def at(self, positions_N: Tensor, width: int) -> Tensor:
        """The hidden states [N, D] at some positions.

        Args:
            positions_N: which of the R × T positions, row after row.
            width: T. Positions that an adapter puts before the tokens (prompt tuning) are not counted.
        """
        hidden_RTD: Tensor = self._last[1].last_hidden_state[:, -width:]
        return hidden_RTD.flatten(0, 1).index_select(0, positions_N)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """The model's logits [N, V] of some hidden states."""
        path, output = self._last
        parent, _, name = path.rpartition(".")
        holder = self.model.get_submodule(parent)
        layers = getattr(holder, name)
        setattr(holder, name, _Given(layers, replace(output, last_hidden_state=hidden_ND[None])))
        try:
            token = torch.zeros(1, 1, dtype=torch.long, device=hidden_ND.device)
            logits: Tensor = self.model(input_ids=token, use_cache=False).logits
        finally:
            setattr(holder, name, layers)
        return logits[0]

    @property
    def _last(self) -> tuple[str, Any]:
        """The path of the module with all layers, and its output. Of nested ones, the outermost ends last."""
        if not self._outputs:
            raise UnreadableModelError(
                f"Expected a model with its layers in a transformers model of its own; {type(self.model).__name__} "
                "called none. Its head cannot be computed apart; use a model of transformers."
            )
        return self._outputs[-1]


@contextmanager
def keep_hidden_states(model: PreTrainedModel) -> Iterator[HiddenStates]:
    """Keep the last hidden states of a forward pass in the block.

    Args:
        model: the model with a head, itself and not a wrapper.
    """
    states = HiddenStates(model)

    def keep(path: str) -> Any:
        return lambda _module, _inputs, output: states._outputs.append((path, output))

    inside = [(path, m) for path, m in model.named_modules() if m is not model and isinstance(m, PreTrainedModel)]
    hooks = [module.register_forward_hook(keep(path)) for path, module in inside]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


class _Given(nn.Module):
    """Gives an output, in place of the layers that have computed it; all else is asked of them."""

    def __init__(self, layers: nn.Module, output: Any) -> None:
        super().__init__()
        self.layers = (layers,)  # a tuple, so that they do not become a submodule
        self.output = output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layers[0], name)

    def forward(self, *_inputs: Any, **_named: Any) -> Any:
        return self.output
