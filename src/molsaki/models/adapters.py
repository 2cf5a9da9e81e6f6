"""Adapters of peft: added to a student, saved, loaded, and merged into their base.

LoRA (Hu et al., 2021) freezes a model's weights and trains a low-rank update of some of its matrices. peft puts the
update inside the model's own modules, so the queries, keys and values that attention is read from have it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.attention import find_model
from molsaki.config.model_spec import LoraSettings
from molsaki.errors import InputError
from molsaki.models.checkpoint import ADAPTER_WEIGHTS, Adapter, require_same_tensors

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

MERGED_FROM = "adapter"
"""The folder of a merged student with its adapter."""


def add_adapter(
    model: PreTrainedModel, lora: LoraSettings, *, base: str, revision: str | None = None, seed: int = 0
) -> PeftModel:
    """Freeze a model, and add an update of rank r to some of its matrices, 0 at first.

    Args:
        model: the base; its modules are replaced in place.
        lora: the settings.
        base: the directory or hub name of the base, which the adapter's configuration names.
        revision: the base's revision on the hub.
        seed: of the initial values of A. B is 0.

    Returns:
        The student. In float16 and bfloat16 bases, the update is float32.

    Raises:
        InputError: the model has no module of a name in `target_modules`.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    names = lora.target_modules
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names if isinstance(names, str) else list(names),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        revision=revision,
    )
    _require_targets(model, lora)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _without_notices():
        torch.manual_seed(seed)
        adapted: PeftModel = get_peft_model(model, config)
    adapted.active_peft_config.base_model_name_or_path = base  # peft puts the model's own path there
    return adapted


def _require_targets(model: PreTrainedModel, lora: LoraSettings) -> None:
    if isinstance(lora.target_modules, str):
        return
    known = {
        name.rpartition(".")[2] for name, module in model.named_modules() if getattr(module, "weight", None) is not None
    }
    paths = [name for name, _ in model.named_modules()]
    missing = [t for t in lora.target_modules if not any(p == t or p.endswith(f".{t}") for p in paths)]
    if missing:
        raise InputError(
            f"Expected modules of {type(model).__name__} in lora.target_modules; it has none whose name ends in "
            f"{', '.join(map(repr, missing))}. Nothing was trained; its matrices are {', '.join(sorted(known))}."
        )


def load_adapter(model: PreTrainedModel, adapter: Adapter) -> PeftModel:
    """A base with the adapter of a directory added to its modules.

    Raises:
        InputError: the adapter's tensors are not those that its configuration describes.
        ValueError: it does not change weights.
    """
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from safetensors import safe_open
    from transformers import GenerationConfig
    from transformers.utils import GENERATION_CONFIG_NAME

    config = PeftConfig.from_pretrained(str(adapter.folder))
    if config.is_prompt_learning:
        raise ValueError(f"a {config.peft_type} adapter has no weights that can be merged into its base")
    files = (*model.weight_files, adapter.folder / ADAPTER_WEIGHTS)
    on_meta = model.device.type == "meta"  # where safetensors reads nothing to
    with _without_notices():  # missing tensors are named below
        device = "cpu" if on_meta else str(model.device)
        adapted = PeftModel.from_pretrained(model, str(adapter.folder), torch_device=device)
    if on_meta:
        adapted.to("meta")
    with safe_open(adapter.folder / ADAPTER_WEIGHTS, framework="pt") as file:
        there = set(file.keys())
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    surplus = there - wanted - adapted.state_dict().keys()
    require_same_tensors(str(adapter.folder), "the tensors of the adapter", wanted - there, surplus)
    model.weight_files = files
    if (adapter.folder / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(adapter.folder)
    return adapted


def merge_adapter(adapted: PeftModel) -> PreTrainedModel:
    """The base with the update added to its weights, all of which can be trained.

    Of a model whose embeddings and head are one matrix, an update of either alone makes them two.
    """
    files = getattr(find_model(adapted), "weight_files", ())
    _untie_updated(adapted.get_base_model())
    merged: PreTrainedModel = adapted.merge_and_unload()
    merged.requires_grad_(True)
    merged.weight_files = files
    return merged


def _untie_updated(model: PreTrainedModel) -> None:
    """Give the head its own matrix if the one that it shares with the embeddings has an update on one side."""
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not any(isinstance(module, BaseTunerLayer) for module in (embeddings, head)):
        return
    bases = [getattr(module, "base_layer", module) for module in (embeddings, head)]
    if head is None or bases[0].weight is not bases[1].weight:
        return
    bases[1].weight = torch.nn.Parameter(bases[0].weight.detach().clone())
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = False


def save_adapter(folder: Path, student: PeftModel, state_dict: Mapping[str, Tensor]) -> None:
    """Save the update alone, in peft's layout, and the settings that its student generates with."""
    student.save_pretrained(str(folder), state_dict=dict(state_dict), save_embedding_layers=False)
    find_model(student).generation_config.save_pretrained(folder)


def restore_adapter(folder: Path, student: PeftModel) -> None:
    """Load what `save_adapter` wrote into a student with the same adapter.

    Raises:
        InputError: the tensors are not those of the student's adapter.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    name = student.active_adapter
    own = folder if name == "default" else folder / name
    weights = load_file(own / ADAPTER_WEIGHTS)
    wanted = get_peft_model_state_dict(student, adapter_name=name, save_embedding_layers=False)
    require_same_tensors(str(own), "the tensors of the adapter", wanted.keys() - weights, weights.keys() - wanted)
    set_peft_model_state_dict(student, weights, adapter_name=name)


def require_one_adapter(student: PeftModel) -> None:
    """Refuse a student whose update cannot be saved and merged as one adapter.

    Raises:
        InputError: it has several adapters, or one that adds tokens.
    """
    if len(student.peft_config) != 1:
        raise InputError(
            f"Expected a student with one adapter; got {', '.join(student.peft_config)}. It is not clear which one "
            "is trained and saved, so nothing was trained; delete the others with `delete_adapter`."
        )
    if student.active_peft_config.is_prompt_learning:
        raise InputError(
            f"Expected an adapter that changes weights, such as LoRA; got {student.active_peft_config.peft_type}, "
            "which adds tokens to every text. Steps and keys would be elsewhere, so nothing was trained; use another."
        )


def adapter_facts(student: Any) -> dict[str, Any]:
    """What the adapter of a student is, for fingerprints; empty for a student without one."""
    from peft import PeftModel

    if not isinstance(student, PeftModel):
        return {}
    facts: dict[str, Any] = student.active_peft_config.to_dict()
    return {name: sorted(value) if isinstance(value, set) else value for name, value in facts.items()}


def trained_parameters(student: Any) -> tuple[int, int]:
    """The number of parameters that are trained, and of all."""
    from peft import PeftModel

    if isinstance(student, PeftModel):
        trained, every = student.get_nb_trainable_parameters()  # counts 4-bit weights, two in a byte, as they are
        return int(trained), int(every)
    sizes = [(p.numel(), p.requires_grad) for p in student.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


@contextmanager
def _without_notices() -> Iterator[None]:
    """Hide the warnings of peft, which asks transformers for names that are going away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
