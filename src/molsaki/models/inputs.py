"""Encoded texts as a model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from molsaki.encoding.encode import EncodedText
from molsaki.encoding.padding import pad, padding_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def pad_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[EncodedText]
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [B, T] of some texts, padded on the right, on the device that takes them."""
    input_ids = pad([encoded.input_ids for encoded in texts], padding_id(tokenizer))
    attention_mask = pad([[1] * len(encoded.input_ids) for encoded in texts], 0)
    device = input_device(model)
    return input_ids.to(device), attention_mask.to(device)


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model takes its tokens; one that is spread over devices moves them on by itself."""
    device: torch.device = model.get_input_embeddings().weight.device
    return torch.device("cpu") if device.type == "meta" else device
