"""What a base model gets before its training: compiled layers, and the special tokens that its answers end with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig

from molsaki.attention import find_model, layer_count, layer_list
from molsaki.encoding.encode import NO_CHARACTERS
from molsaki.errors import InputError
from molsaki.training.example import Example

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def set_special_tokens(
    student: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    max_new_tokens: int,
) -> None:
    """Give a student the tokenizer's special tokens, and generation settings that decode greedily and stop.

    Args:
        student: the student; its config and its generation settings change.
        tokenizer: its tokenizer.
        examples: the training examples. The student also stops at the tokens that end them, such as the end of a
            chat's turn.
        max_new_tokens: of the generation settings.
    """
    end = tokenizer.eos_token_id
    tokens: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": end,
        "pad_token_id": tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end,
    }
    model = find_model(student)
    config: Any = model.config.get_text_config()
    for name, token in tokens.items():
        setattr(config, name, token)
    if more := sorted(_learned_ends(examples) - {end}):
        tokens["eos_token_id"] = [end, *more]
    model.generation_config = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens, **tokens)


def _learned_ends(examples: Sequence[Example]) -> set[int]:
    """The tokens that end the answers: the tokenizer's end-of-text token, or the end of a chat's turn."""
    texts = (text for example in examples for text in example.sequences.values())
    return {text.input_ids[-1] for text in texts if not text.cut_tokens and text.offsets[-1] == NO_CHARACTERS}


def compile_layers(student: PreTrainedModel | PeftModel) -> None:
    """Compile every layer in place, for batches of any length; parameter names stay the plain student's.

    Layer by layer, since the reading of attention runs between compiled code, and equal layers are compiled once.

    Raises:
        InputError: the student's layers are not where transformers' models have them.
    """
    model = find_model(student)
    layers = layer_list(model)
    if not layers:
        raise InputError(
            f"Expected a student whose {layer_count(model)} layers are in one list to compile them; "
            f"{type(model).__name__} has none. Nothing was trained; set training.compile to false."
        )
    for _, layer in layers:
        layer.compile(dynamic=True)
