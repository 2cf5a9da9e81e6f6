"""Which layers of a model have attention that can be read: all of most models, some of a hybrid.

A hybrid model (Qwen3-Next, Jamba, Nemotron-H and others) has softmax attention in some layers, and a linear attention,
a state space model or a convolution in the others. The layers with softmax attention are read; the others have no
attention weights, and are named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from molsaki.errors import UnreadableModelError

_WITHOUT_SOFTMAX = frozenset({"linear_attention", "conv", "moe", "mamba", "mlp", "recurrent"})
"""The names in a configuration's `layer_types` of layers that have no softmax attention."""


@dataclass(frozen=True, slots=True)
class ReadLayers:
    """Which of a model's layers are read.

    Attributes:
        numbers: the layers that are read, from 0, in the model's order.
        count: the number of all layers.
        others: the layers that have no attention to read, by name, with their kind if the model says it, such as
            "model.layers.0 (linear_attention)".
    """

    numbers: tuple[int, ...]
    count: int
    others: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every layer is read."""
        return len(self.numbers) == self.count

    def __str__(self) -> str:
        """Such as "4 layers" or "1 of 4 layers"."""
        return f"{self.count} layers" if self.is_whole else f"{len(self.numbers)} of {self.count} layers"

    def require_every(self, whose: str) -> None:
        """Refuse a model with layers that are not read.

        Args:
            whose: what the model is, for the message.

        Raises:
            UnreadableModelError: some are not read.
        """
        if not self.is_whole:
            raise UnreadableModelError(
                f"Expected every layer of the {whose} to have softmax attention, since attention.layers is every; "
                f"{len(self.numbers)} of {self.count} have. These have none: {', '.join(self.others)}. Nothing was "
                "read; use another model, or `layers: all`, which reads the layers that have attention."
            )


def find_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside whatever wraps it.

    Raises:
        UnreadableModelError: there is none, it is not decoder-only, or its wrapper runs it in other threads.
    """
    inside = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if inside is None:
        raise UnreadableModelError(
            f"Expected a transformers model, bare or wrapped; {type(model).__name__} holds none. Its attention does "
            f"not go through transformers' attention interface, where it is read."
        )
    if any(isinstance(module, nn.DataParallel) for module in model.modules()):
        raise UnreadableModelError(
            "Expected a model that runs in the calling thread; torch.nn.DataParallel runs copies of it in others. "
            "Use DistributedDataParallel (accelerate launch)."
        )
    if getattr(inside.config, "is_encoder_decoder", False):
        raise UnreadableModelError(
            f"Expected a decoder-only model; {type(inside).__name__} has an encoder and cross-attention, and steps "
            f"and keys would be in two texts. Use a decoder-only model."
        )
    return inside


def layer_count(model: PreTrainedModel) -> int:
    """How many layers a model's configuration has."""
    return _count(model.config.get_text_config(decoder=True))


def expected_layers(config: PretrainedConfig) -> ReadLayers:
    """The layers with softmax attention by a model's configuration alone; all if it does not name their kinds."""
    text = config.get_text_config(decoder=True)
    count = _count(text)
    kinds = _kinds(text, count)
    without = [number for number, kind in enumerate(kinds) if kind in _WITHOUT_SOFTMAX]
    numbers = tuple(number for number in range(count) if number not in without)
    return ReadLayers(numbers, count, tuple(f"layer {number} ({kinds[number]})" for number in without))


def find_read_layers(model: PreTrainedModel, names: Mapping[nn.Module, str]) -> tuple[ReadLayers, list[nn.Module]]:
    """The layers whose attention modules ran through the attention interface, and these modules in layer order.

    Args:
        model: the model.
        names: the name of each module that attended.

    Raises:
        UnreadableModelError: no layer can be read, it is not clear which layer a module belongs to, or a layer has the
            attention of those that are read and did not run it.
    """
    count = layer_count(model)
    layers = layer_list(model, names.values())
    modules = {_number(module, names[module], layers): module for module in names}
    if len(modules) == len(names) and modules.keys() == set(range(count)):
        return ReadLayers(tuple(range(count)), count), [modules[number] for number in range(count)]
    silent = {number: layers[number] for number in range(count) if number not in modules} if layers else {}
    mixers = {type(module) for module in names}
    by_index = len(modules) == len(names) and modules.keys() <= set(range(count))
    if names and by_index and silent and not any(type(m) in mixers for _, x in silent.values() for m in x.modules()):
        kinds = _kinds(model.config.get_text_config(decoder=True), count)
        others = tuple(f"{name} ({kinds[i]})" if kinds else name for i, (name, _) in silent.items())
        numbers = sorted(key for key in modules if key is not None)
        return ReadLayers(tuple(numbers), count, others), [modules[number] for number in numbers]
    raise _refusal(model, names, count, [name for name, _ in silent.values()], by_index)


def _refusal(
    model: PreTrainedModel, names: Mapping[nn.Module, str], count: int, silent: Sequence[str], by_index: bool
) -> UnreadableModelError:
    if not names:
        reason = (
            "they compute their attention by themselves and not through transformers' attention interface, or have none"
        )
    elif by_index:
        reason = "they have the attention of the others, and did not run it in this pass (layer dropout, for example)"
    else:
        reason = "their modules do not say which layer they are (layer_idx), or say it twice"
    known = ", ".join(silent) or f"of {count} layers only {', '.join(names.values()) or 'none'} are known by name"
    return UnreadableModelError(
        f"Expected the layers of {type(model).__name__} with softmax attention to run through "
        f"transformers' attention interface; {len(names)} did. These did not: {known}. Probably {reason}. Nothing was "
        "read; use a model that has attention through the interface."
    )


def layer_list(model: PreTrainedModel, attended: Collection[str] = ()) -> list[tuple[str, nn.Module]]:
    """Name and module of each layer of a model; empty if the layers are not in one list.

    Args:
        model: the model.
        attended: the names of attention modules that ran. Of several lists of the right length (a vision tower,
            experts), it is the one that has some of them; the first one if none has.
    """
    count = layer_count(model)
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count}
    inside = [name for name in lists if any(module.startswith(f"{name}.") for module in attended)]
    name = next(iter(inside or lists), None)
    return [] if name is None else [(f"{name}.{number}", layer) for number, layer in enumerate(lists[name])]


def _number(module: nn.Module, name: str, layers: Sequence[tuple[str, nn.Module]]) -> int | None:
    """The layer of an attention module: the one that it names, else (Zamba) the one that contains it."""
    said: Any = getattr(module, "layer_idx", None)
    if isinstance(said, int) and said >= 0:
        return said
    return next((i for i, (layer, _) in enumerate(layers) if name.startswith(f"{layer}.")), None)


def _count(text: PretrainedConfig) -> int:
    # Decoders of the BART family count their encoder's layers under the usual name.
    return int(getattr(text, "decoder_layers", None) or text.num_hidden_layers)


def _kinds(text: PretrainedConfig, count: int) -> list[str]:
    """The kind of every layer; empty if the configuration does not say it."""
    kinds = getattr(text, "layer_types", None)
    return [str(kind) for kind in kinds] if isinstance(kinds, list | tuple) and len(kinds) == count else []


def inner_units(config: Any) -> int:
    """The number of units of the feed-forward layer between two layers' attention; the largest, where layers differ.

    Args:
        config: of the language model.
    """
    names = ("intermediate_size", "ffn_dim", "n_inner")
    sizes = next(filter(None, (getattr(config, name, None) for name in names)), None)
    if sizes is None:
        return 4 * (getattr(config, "hidden_size", None) or 1)
    return max(sizes) if isinstance(sizes, (list, tuple)) else int(sizes)
