"""Loading the models that a recipe names, and making the small random ones of `--tiny`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.config.model_spec import ModelSpec
from molsaki.config.recipe import Recipe
from molsaki.data.pocket import STUDENT, TEACHER
from molsaki.errors import InputError
from molsaki.models.folder import find_model

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
"""Sizes of a `--tiny` model; the architecture and the vocabulary stay those of the model it stands for."""
_POCKET = {"pocket:teacher": TEACHER, "pocket:student": STUDENT}


def model_location(spec: ModelSpec) -> str:
    """The directory or hub name of a model."""
    return str(_POCKET.get(spec.name) or find_model(spec.name))


def load_tokenizer(recipe: Recipe, spec: ModelSpec) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer.

    Raises:
        InputError: there is none.
    """
    location, revision = find_model(spec.tokenizer) if spec.tokenizer else model_location(spec), spec.revision
    local = recipe.data_root() / (spec.tiny_tokenizer or "")
    if recipe.tiny and spec.tiny_tokenizer is not None and local.is_dir():
        location, revision = str(local), None
    return tokenizer_at(location, revision, spec.trust_remote_code)


def tokenizer_at(
    location: str, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a directory or hub name.

    Raises:
        InputError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            location, revision=revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"Expected a tokenizer at {location!r}, a directory or a name on the hub; it cannot be loaded: {error}. "
            "Check the name, the network and, for gated models, that you are logged in to the hub."
        ) from error
    return tokenizer


def load_model(recipe: Recipe, spec: ModelSpec, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> PreTrainedModel:
    """Load a model, or make the small random one that `--tiny` puts in its place.

    Raises:
        InputError: there is none, or it cannot be made.
    """
    if recipe.tiny and spec.name not in _POCKET:
        return make_tiny(spec, tokenizer, seed)
    return model_at(model_location(spec), spec.revision, spec.dtype, spec.trust_remote_code, spec.device_map)


def model_at(
    location: str,
    revision: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device_map: Any = None,
) -> PreTrainedModel:
    """Load the model of a directory or hub name.

    Raises:
        InputError: there is none, or its weights are cut or damaged.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            location,
            revision=revision,
            dtype=dtype,
            device_map=device_map,
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"Expected a causal language model at {location!r}, a directory or a name on the hub; it cannot be "
            f"loaded: {error}. Check the name and the network, or try the recipe with --tiny first."
        ) from error
    except SafetensorError as error:
        raise InputError(
            f"Expected a causal language model with whole weights at {location!r}; their file is cut or damaged: "
            f"{error}. It cannot be loaded; put the file back from a copy or download it again, or, if it is a "
            "student, delete its directory and train it again."
        ) from error
    return model


def load_placed_model(
    recipe: Recipe, spec: ModelSpec, tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> PreTrainedModel:
    """As `load_model`, on this process's device, or spread over all where the recipe says so (`device_map`)."""
    model = load_model(recipe, spec, tokenizer, seed)
    spread = getattr(model, "hf_device_map", None) is not None
    return model if spread else model.to(pick_device())


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a model without loading its weights.

    Attributes:
        config: its configuration.
        parameters: how many parameters it has.
    """

    config: Any
    parameters: int

    @property
    def text(self) -> Any:
        """The configuration of the part that reads and writes text."""
        return self.config.get_text_config()


def outline_model(recipe: Recipe, spec: ModelSpec, tokenizer: PreTrainedTokenizerBase) -> Outline:
    """Say what a model is, without loading its weights.

    Raises:
        InputError: there is none, or it is no causal language model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if recipe.tiny and spec.name not in _POCKET:
        tiny = make_tiny(spec, tokenizer)
        return Outline(tiny.config, tiny.num_parameters())
    location = model_location(spec)
    try:
        config = AutoConfig.from_pretrained(location, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=spec.trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Expected a causal language model at {location!r}, a directory or a name on the hub; its configuration "
            f"cannot be used: {error}. Check the name and the network, or try the recipe with --tiny first."
        ) from error
    return Outline(config, model.num_parameters())


def make_tiny(spec: ModelSpec, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> PreTrainedModel:
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
    config.vocab_size = len(tokenizer)
    for name in ("bos_token_id", "eos_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def quiet_libraries() -> None:
    """Keep transformers' own progress bars and notices out of what a run shows."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def model_fingerprint(spec: ModelSpec, model: PreTrainedModel) -> str:
    """What tells one model's weights from another's: a hash of its parameters' names, shapes and a sample of values."""
    import torch

    from molsaki.records import hash_text

    parts = [spec.name, str(getattr(model.config, "_commit_hash", None))]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = f"{name} {list(parameter.shape)}"
            if parameter.is_meta:  # offloaded: its values come to a device only when they are needed
                parts.append(shape)
                continue
            flat = parameter.reshape(-1)
            sample = flat[:: max(1, flat.numel() // 16)].float().sum().item()
            parts.append(f"{shape} {sample:.6g}")
    return hash_text(*parts)


def pick_device() -> str:
    """The device that this machine computes on: CUDA or MPS if there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
