"""Load the models that a recipe names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.config.model_spec import ModelSpec
from molsaki.config.recipe import Recipe
from molsaki.encoding.template_changes import adapt_chat_template, set_chat_defaults
from molsaki.errors import InputError
from molsaki.models.adapters import add_adapter, load_adapter, merge_adapter
from molsaki.models.checkpoint import (
    ADAPTER_WEIGHTS,
    Adapter,
    find_adapter,
    one_message,
    require_safetensors,
    require_size,
    require_whole,
    weight_files,
)
from molsaki.models.folder import model_location
from molsaki.models.gguf import find_gguf, gguf_arguments
from molsaki.models.quantization import Quantization, prepare_quantized, quantization_config
from molsaki.models.tiny import is_tiny, make_tiny_model

TINY_CHAT = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}"
    "{{ eos_token if message.role == 'assistant' else '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""The chat template of a small random model whose tokenizer has none."""

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def base_of(adapter: Adapter) -> str:
    """The directory or hub name of an adapter's base.

    Raises:
        InputError: there is no directory, or the base is an adapter itself.
    """
    base, of = model_location(adapter.base), f"of the adapter {adapter.folder}"
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise InputError(f"Expected the base {of}; got no directory at {base}. Check adapter_config.json.")
    if find_adapter(base, adapter.base_revision) is not None:
        raise InputError(f"Expected a model as the base {of}; {base} is an adapter itself. Merge it into its own base.")
    return base


def model_files(name: str) -> tuple[Path, ...]:
    """The files with the weights of a model, those of an adapter and of its base; none for a hub name.

    Args:
        name: as a recipe has it.
    """
    location = model_location(name)
    adapter = find_adapter(location) if Path(location).is_dir() else None
    if adapter is None:
        return weight_files(location)
    return (adapter.folder / ADAPTER_WEIGHTS, *weight_files(base_of(adapter)))


def load_tokenizer(recipe: Recipe, spec: ModelSpec) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer.

    Raises:
        InputError: there is none.
        TokenizerError: its chat template does not read one of the model's `chat_template_kwargs`.
    """
    location, revision = model_location(spec.tokenizer or spec.name), spec.revision
    local = recipe.data_root() / (spec.tiny_tokenizer or "")
    if recipe.tiny and spec.tiny_tokenizer is not None and local.is_dir():
        location, revision = str(local), None
    tokenizer = tokenizer_at(location, revision, spec.trust_remote_code)
    if is_tiny(recipe, spec) and not tokenizer.chat_template and recipe.prompts.has_chats:
        tokenizer.chat_template = TINY_CHAT
    set_chat_defaults(tokenizer, spec.chat_template_kwargs)
    adapt_chat_template(tokenizer)
    return tokenizer


def tokenizer_at(
    location: str, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a directory or hub name; an adapter without a tokenizer has that of its base.

    Raises:
        InputError: there is none, or it is broken.
    """
    from transformers import AutoTokenizer

    way_out = "Check the name, the network and, for gated models, that you are logged in to the hub."
    with one_message("a tokenizer", location, way_out):
        adapter = find_adapter(location, revision)
        if adapter is not None and not (adapter.folder / "tokenizer_config.json").is_file():
            location, revision = model_location(adapter.base), adapter.base_revision
        file = find_gguf(location)
        of_file = {} if file is None else {"gguf_file": file.name}
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            location if file is None else file.parent,
            revision=revision,
            trust_remote_code=trust_remote_code,
            **of_file,
        )
        ids = tokenizer("a word", add_special_tokens=False)["input_ids"]
    if not set(ids) - set(tokenizer.all_special_ids):
        raise InputError(
            f"Expected a tokenizer at {location!r} that turns text into tokens; got none for 'a word'. Nothing was "
            "done with it. Check that tokenizer.json, or the vocabulary, is in the directory."
        )
    return tokenizer


def load_model(recipe: Recipe, spec: ModelSpec, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> PreTrainedModel:
    """Load a model, or make the small random model of `--tiny`.

    Raises:
        InputError: there is none, it is broken, or the tokenizer has ids that it has no embedding for.
    """
    if is_tiny(recipe, spec):
        return make_tiny_model(spec, tokenizer, seed)
    model = model_at(
        model_location(spec.name), spec.revision, spec.dtype, spec.trust_remote_code, spec.device_map, spec.quantize
    )
    require_embeddings(model, tokenizer, spec.name)
    return model


def require_embeddings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer with tokens that a model cannot read; added tokens without an embedding are never written.

    Raises:
        InputError: the tokenizer has ids that the model has no embedding for.
    """
    rows = len(model.get_input_embeddings().weight)
    added = tokenizer.added_tokens_decoder
    largest = max((i for i in tokenizer.get_vocab().values() if i not in added), default=0)
    if largest >= rows:
        raise InputError(
            f"Expected a tokenizer of {name} with ids below its {rows} embeddings; got ids up to {largest}. The "
            "model cannot read such tokens, so nothing was done; use the model's own tokenizer."
        )


def model_at(
    location: str,
    revision: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device_map: Any = None,
    quantize: Quantization | None = None,
) -> PreTrainedModel:
    """Load the model of a directory or hub name; an adapter is merged into its base.

    The base of an adapter is looked for as a recipe's models are, in the folder of `--models` too. If the base is
    quantised, by `quantize` or in its files, the adapter computes beside it.

    Raises:
        InputError: there is none, or its weights are pickles, cut, or not those of its architecture.
    """
    way_out = (
        "Check the name and the network; put a damaged file back from a copy, or download it again. If it is a "
        "student, delete its directory and train it again. The recipe can be tried with --tiny first."
    )
    with one_message("a causal language model", location, way_out):
        adapter = find_adapter(location, revision)
        if adapter is None:
            return _load_whole(location, revision, dtype, trust_remote_code, device_map, quantize)
        base = base_of(adapter)
        with one_message(f"the base of the adapter {location}", base, way_out):
            model = _load_whole(base, adapter.base_revision, dtype, trust_remote_code, device_map, quantize)
        adapted = load_adapter(model, adapter)
        # A low-rank update that is added to quantised weights would be rounded to 4 or 8 bits.
        return adapted.get_base_model() if getattr(model, "is_quantized", False) else merge_adapter(adapted)


def _load_whole(
    location: str,
    revision: str | None,
    dtype: str,
    trust_remote_code: bool,
    device_map: Any,
    quantize: Quantization | None,
) -> PreTrainedModel:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    require_safetensors(location)
    file, more = find_gguf(location), {}
    if file is None and Path(location).is_dir():
        config = AutoConfig.from_pretrained(location, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            outline = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        require_size(location, outline.num_parameters())
    if file is not None:
        more = gguf_arguments(file)
    elif quantize is not None:
        more = {"quantization_config": quantization_config(quantize, dtype)}
    model: PreTrainedModel
    model, info = AutoModelForCausalLM.from_pretrained(
        location if file is None else file.parent,
        revision=revision,
        dtype=dtype,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # so that all of them can be named
        output_loading_info=True,
        **more,
    )
    if quantize is not None and model.hf_quantizer.pre_quantized:
        raise ValueError(f"its files are quantised already, so it cannot be loaded in {quantize}; leave `quantize` out")
    require_whole(location, model, info)
    model.weight_files = weight_files(location)
    return model


def load_student(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> PreTrainedModel | PeftModel:
    """The student of a recipe as it is before training, with the adapter that is trained if it has `lora`.

    Args:
        recipe: the recipe.
        tokenizer: the student's.
        seed: of the student: of its base model, if each seed has its own, and of the adapter's initial values.

    Raises:
        InputError: as `load_model`; its files are quantised; an adapter is to be added to what is an adapter already;
            or there is no module of a name in `target_modules`.
    """
    spec = recipe.student_of(seed)
    if spec.lora is not None:
        require_no_adapter(recipe, spec)
    model = load_placed_model(recipe, spec, tokenizer)
    if spec.quantize is None and getattr(model, "is_quantized", False):
        raise InputError(
            f"Expected a student whose files have whole weights; those of {spec.name} are quantised, so nothing that "
            "it learns could be added to them. Nothing was trained; name the model that it was made from, with "
            "`quantize: 4bit` and `lora`."
        )
    if spec.lora is None:
        return model
    if spec.quantize is not None:
        model = prepare_quantized(model)
    # The adapter names its base as the recipe does, and a directory by its whole path.
    base = str(Path(spec.name).resolve()) if Path(spec.name).is_dir() else spec.name
    return add_adapter(model, spec.lora, base=base, revision=spec.revision, seed=seed)


def require_no_adapter(recipe: Recipe, spec: ModelSpec) -> None:
    """Refuse to add an adapter to what is one already.

    Raises:
        InputError: the model is an adapter.
    """
    if not is_tiny(recipe, spec) and find_adapter(model_location(spec.name), spec.revision) is not None:
        raise InputError(
            f"Expected a whole model as student, since student.lora adds an adapter; {spec.name} is an adapter itself, "
            "and its base would be lost. Nothing was trained; write it as a whole model with `molsaki export` first, "
            "or leave lora out, which merges it and trains all weights."
        )


def student_at(recipe: Recipe, folder: Path) -> PreTrainedModel:
    """A trained student of a recipe, from its directory, on this process's device.

    Raises:
        InputError: as `model_at`.
    """
    adapted, spec = find_adapter(str(folder)) is not None, recipe.student
    # A whole student is in its own precision; of an adapter, that of its base decides.
    dtype, quantize = (spec.dtype, spec.quantize) if adapted else ("auto", None)
    model = model_at(str(folder), dtype=dtype, trust_remote_code=spec.trust_remote_code, quantize=quantize)
    return place(prepare_quantized(model) if adapted and spec.quantize is not None else model)


def load_placed_model(
    recipe: Recipe, spec: ModelSpec, tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> PreTrainedModel:
    """As `load_model`, on this process's device, or over all devices if the recipe has a `device_map`."""
    return place(load_model(recipe, spec, tokenizer, seed))


def place(model: PreTrainedModel) -> PreTrainedModel:
    """Move a model to this process's device, unless it was spread or quantised on its devices while it loaded."""
    return model if getattr(model, "hf_device_map", None) is not None else model.to(pick_device())


def quiet_libraries() -> None:
    """Turn transformers' progress bars and notices off."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def pick_device() -> str:
    """The device to compute on: CUDA or MPS if there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
