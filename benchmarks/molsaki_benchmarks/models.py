"""The model and the batch of the benchmarks: random weights, and random token ids.

Legend: B batch, T tokens, L layers, S steps, K keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from molsaki.errors import InputError
from molsaki_benchmarks.costs import LayerShape

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

TOKENS_PER_STEP = 40
Precision = Literal["float32", "bf16", "bf16-weights"]
"""Of the arithmetic. In bf16 training is in mixed precision, and a model that is read has weights in bfloat16; with
bf16-weights, the weights that are trained are in bfloat16 too."""
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Conditions:
    """How a benchmark computes.

    Attributes:
        threads: CPU threads for PyTorch.
        precision: of the arithmetic.
        device: of model and batch.
        checkpointing: layers are computed again in the backward pass, in every way.
    """

    threads: int = 2
    precision: Precision = "float32"
    device: Device = "cpu"
    checkpointing: bool = False


@dataclass(frozen=True)
class Shape:
    """The shape of a batch: T tokens, B examples, K keys of one token each."""

    tokens: int
    batch: int
    keys: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read `TxB:K`, for example `2048x1:40`.

        Raises:
            InputError: the text has another form, or T is too small for the keys.
        """
        try:
            size, keys = text.split(":")
            tokens, batch = size.split("x")
            shape = cls(int(tokens), int(batch), int(keys))
        except ValueError as error:
            raise InputError(
                f"Expected a shape TxB:K such as 2048x1:40; got {text!r}. Nothing was measured."
            ) from error
        if min(shape.batch, shape.keys) < 1 or shape.tokens < shape.keys + TOKENS_PER_STEP:
            raise InputError(
                f"Expected at least one example, one key and {TOKENS_PER_STEP} tokens more than keys; got {text!r}. "
                "Nothing was measured; choose a longer text or fewer keys."
            )
        return shape

    def __str__(self) -> str:
        return f"{self.tokens}x{self.batch}:{self.keys}"


@dataclass(frozen=True)
class ModelSize:
    """A model with random weights; its feed-forward part is 2.75 times as wide unless it is given.

    Attributes:
        layers: L.
        width: of a hidden state.
        heads: query heads.
        key_value_heads: key-value heads.
        vocabulary: the number of tokens.
        feed_forward: the width of the feed-forward part.
        family: transformers' name of the architecture.
        tied: the head is the embedding.
    """

    layers: int = 8
    width: int = 512
    heads: int = 8
    key_value_heads: int = 4
    vocabulary: int = 8192
    feed_forward: int | None = None
    family: Literal["llama", "qwen2"] = "llama"
    tied: bool = False

    @property
    def layer(self) -> LayerShape:
        """The shape of one layer."""
        inner = self.feed_forward or self.width * 11 // 4
        return LayerShape(self.width, self.width * self.key_value_heads // self.heads, inner, self.heads)


MODELS = {
    "small": ModelSize(),
    "llama-1b": ModelSize(16, 2048, 32, 8, 128256, 8192, tied=True),
    "qwen2-1.5b": ModelSize(28, 1536, 12, 2, 151936, 8960, "qwen2", tied=True),
}
"""The shapes of a small model, of Llama 3.2 1B and of Qwen2.5 1.5B."""


@dataclass(frozen=True)
class Batch:
    """Random token ids with steps of `TOKENS_PER_STEP` tokens and evenly spaced keys; tensors are [B, T]."""

    input_ids: Tensor
    attention_mask: Tensor
    step_of_token: Tensor
    key_of_token: Tensor
    steps: int


def model_sizes(shape: Shape, size: ModelSize) -> dict[str, int]:
    """The sizes as keyword arguments of the configuration."""
    return {
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "intermediate_size": size.layer.feed_forward,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_value_heads,
        "max_position_embeddings": shape.tokens,
    }


def make_model(
    shape: Shape, size: ModelSize, conditions: Conditions, bf16_weights: bool | None = None
) -> PreTrainedModel:
    """A model with SDPA attention and fixed random weights, made on its device.

    Args:
        shape: the shape of the batch, for the number of positions.
        size: the model.
        conditions: the device, and whether layers are checkpointed.
        bf16_weights: weights in bfloat16, not float32; by default, if the precision says so.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(conditions.threads)
    torch.manual_seed(0)
    config: Any = AutoConfig.for_model(
        size.family, **model_sizes(shape, size), tie_word_embeddings=size.tied, bos_token_id=None, eos_token_id=None
    )
    bf16 = conditions.precision == "bf16-weights" if bf16_weights is None else bf16_weights
    with torch.device(conditions.device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, attn_implementation="sdpa", dtype=torch.bfloat16 if bf16 else torch.float32
        )
    if conditions.checkpointing:
        # transformers 5.23 renamed `gradient_checkpointing_enable`.
        newer = getattr(model, "activation_checkpointing_enable", None)
        (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
    return model


def make_batch(shape: Shape, size: ModelSize, device: Device) -> Batch:
    """A batch of the given shape."""
    import torch

    with torch.device(device):
        input_ids = torch.randint(size.vocabulary, (shape.batch, shape.tokens))
        step_of_token = (torch.arange(shape.tokens) // TOKENS_PER_STEP).expand(shape.batch, -1).contiguous()
        key_of_token = torch.full_like(input_ids, -1)
        key_of_token[:, torch.linspace(0, shape.tokens - 1, shape.keys).long()] = torch.arange(shape.keys)
    steps = (shape.tokens - 1) // TOKENS_PER_STEP + 1
    return Batch(input_ids, torch.ones_like(input_ids), step_of_token, key_of_token, steps)


def read_output_attentions(model: PreTrainedModel, batch: Batch, **inputs: Any) -> tuple[Tensor, Any]:
    """Stepwise attention [B, L, S, K] computed from the `output_attentions` of eager attention, and the outputs."""
    import torch

    outputs = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        use_cache=False,
        output_attentions=True,
        **inputs,
    )
    step_columns = torch.nn.functional.one_hot(batch.step_of_token, batch.steps).float().mT
    key_columns = torch.nn.functional.one_hot(batch.key_of_token + 1).float()[..., 1:]
    return torch.stack([step_columns @ w.mean(1).float() @ key_columns for w in outputs.attentions], dim=1), outputs
