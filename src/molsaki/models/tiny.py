"""The small random models of `--tiny`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molsaki.config.model_spec import POCKET_MODELS, ModelSpec
from molsaki.config.recipe import Recipe
from molsaki.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
}
"""Sizes of a `--tiny` model. Its architecture and vocabulary are those of the model that it replaces."""


def is_tiny(recipe: Recipe, spec: ModelSpec) -> bool:
    """Whether `--tiny` replaces a model by a small random one. The pocket models are small."""
    return recipe.tiny and spec.name not in POCKET_MODELS


def make_tiny_model(spec: ModelSpec, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> PreTrainedModel:
    """Make a small random model of the architecture that a spec names; the same seed gives the same weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config: Any = AutoConfig.for_model(spec.architecture)
    except ValueError as error:
        raise InputError(
            f"Expected `architecture` to be a model type of transformers, such as gpt2 or llama; got "
            f"{spec.architecture!r} for {spec.name}. --tiny has nothing to build."
        ) from error
    for name, size in TINY.items():
        if hasattr(config, name):
            setattr(config, name, size)
    if getattr(config, "layer_types", None):  # of as many layers as there were; transformers saves no other number
        config.layer_types = config.layer_types[: TINY["num_hidden_layers"]]
    config.vocab_size = len(tokenizer)
    for name in ("bos_token_id", "eos_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model
