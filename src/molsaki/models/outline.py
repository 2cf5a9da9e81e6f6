"""What a model is, read from its configuration without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.attention.layers import inner_units
from molsaki.config.model_spec import ModelSpec, StudentSpec
from molsaki.config.recipe import Recipe
from molsaki.models.adapters import add_adapter, trained_parameters
from molsaki.models.checkpoint import find_adapter, one_message, require_safetensors
from molsaki.models.folder import model_location
from molsaki.models.gguf import find_gguf
from molsaki.models.load import base_of, model_at, require_embeddings, require_no_adapter
from molsaki.models.quantization import bits_of, quantized_parameters
from molsaki.models.tiny import is_tiny, make_tiny_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHT_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "8bit": 1.0, "4bit": 0.516}
"""Bytes per parameter; in 4 bits with the scales of its blocks, one byte for each 64 and four for each 16,384."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The configuration and size of a model, without its weights.

    Attributes:
        config: its configuration.
        parameters: the number of its parameters, without an adapter that is trained.
        trained: the number of parameters that a training changes: all, or those of the adapter.
        weight_bytes: mean bytes per parameter in memory, without an adapter that is trained.
    """

    config: Any
    parameters: int
    trained: int
    weight_bytes: float

    @property
    def text(self) -> Any:
        """The configuration of the language model, if the model has other parts too."""
        return self.config.get_text_config()

    @property
    def inner(self) -> int:
        """The number of inner units of a layer; the largest, where layers differ."""
        return inner_units(self.text)


def outline_model(recipe: Recipe, spec: ModelSpec, tokenizer: PreTrainedTokenizerBase) -> Outline:
    """Read what a model is, without loading its weights.

    Of a directory, the names and shapes of the tensors in its files are read too, and compared with the configuration.

    Raises:
        InputError: there is none, it is not a causal language model, its files lack tensors or have others, the
            tokenizer has ids that it has no embedding for, it is an adapter and `lora` adds one, or it has no module
            that `lora` names.
    """
    if is_tiny(recipe, spec):
        model = make_tiny_model(spec, tokenizer)
    else:
        model = _on_meta_device(spec)
        require_embeddings(model, tokenizer, spec.name)
    parameters, mean_bytes = model.num_parameters(), _mean_bytes(model, spec)
    trained = parameters
    if isinstance(spec, StudentSpec) and spec.lora is not None:
        require_no_adapter(recipe, spec)
        trained, _ = trained_parameters(add_adapter(model, spec.lora, base=spec.name))
    return Outline(model.config, parameters, trained, mean_bytes)


def _mean_bytes(model: PreTrainedModel, spec: ModelSpec) -> float:
    """Bytes per parameter; only the matrices of linear layers are quantised, in a student all else is float32."""
    quantize = spec.quantize or bits_of(model.config)
    if quantize is None:
        return WEIGHT_BYTES[spec.dtype]
    rest = "float32" if isinstance(spec, StudentSpec) else spec.dtype
    share = quantized_parameters(model) / int(model.num_parameters())
    return share * WEIGHT_BYTES[quantize] + (1 - share) * WEIGHT_BYTES[rest]


def _on_meta_device(spec: ModelSpec) -> PreTrainedModel:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    location = model_location(spec.name)
    way_out = "Check the name and the network, or try the recipe with --tiny first."
    with one_message("the configuration of a causal language model", location, way_out):
        adapter = find_adapter(location, spec.revision)
        where, revision = location, spec.revision
        if adapter is not None:
            where, revision = base_of(adapter), adapter.base_revision
        require_safetensors(where)
        trusted = spec.trust_remote_code
        file = find_gguf(where)
        of_file = {} if file is None else {"gguf_file": file.name}
        folder = where if file is None else file.parent
        config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=trusted, **of_file)
        if Path(where).is_dir() and file is None and getattr(config, "quantization_config", None) is None:
            return model_at(location, spec.revision, spec.dtype, trusted, device_map={"": "meta"})
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
    return model
