"""Models in 4 or 8 bits, by bitsandbytes, for QLoRA (Dettmers et al., 2023) and for large teachers."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Quantization = Literal["4bit", "8bit"]


def quiet_bitsandbytes() -> None:
    """Keep it, where it is installed, from advising another package whenever this one's commands import it.

    The advice is about products in 4 bits on CPUs, which recipes refuse. Call it before transformers is imported.
    """
    logging.getLogger("bitsandbytes.backends.cpu").setLevel(logging.ERROR)


def quantization_refusal() -> str | None:
    """Why this machine cannot quantise a model while it loads; None if it can."""
    import torch

    if find_spec("bitsandbytes") is None:
        return "the package bitsandbytes is not installed; `pip install bitsandbytes`"
    if not torch.cuda.is_available():
        return "bitsandbytes needs a CUDA GPU, and there is none"
    return None


def quantization_config(quantize: Quantization, dtype: str) -> Any:
    """The configuration of a quantised model: NF4 with double quantisation, or LLM.int8().

    Args:
        quantize: the number of bits.
        dtype: the precision that matrices are multiplied in.
    """
    import torch
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        # It says for every product that the input is rounded to float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.float32 if dtype == "auto" else getattr(torch, dtype)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def bits_of(config: Any) -> Quantization | None:
    """The bits in which bitsandbytes has stored a model's files, by its configuration; None for whole weights."""
    found = getattr(config, "quantization_config", None)
    values = found if isinstance(found, dict) else {} if found is None else found.to_dict()
    return "4bit" if values.get("load_in_4bit") else "8bit" if values.get("load_in_8bit") else None


def quantized_parameters(model: PreTrainedModel) -> int:
    """The number of parameters of a whole model that are quantised: linear layers' matrices but the head's."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import HfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    kept = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    return sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, (Linear, Conv1D)) and should_convert_module(name, kept)
    )


def prepare_quantized(student: PreTrainedModel) -> PreTrainedModel:
    """Freeze a quantised base, and take all that is not quantised (norms, embeddings, head) to float32, as QLoRA does.

    A student that is tested beside quantised weights is prepared too, so that it computes what it learnt.

    Activation checkpointing needs nothing here: the Trainer's is not reentrant, so gradients reach the adapter though
    no input has one.
    """
    from peft import prepare_model_for_kbit_training

    prepare: Any = prepare_model_for_kbit_training  # peft has no types for it
    prepared: PreTrainedModel = prepare(student, use_gradient_checkpointing=False)
    return prepared
