"""Small random models of many architectures, batches with spans, and the slow reference for stepwise attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

VOCABULARY, WIDTH, HEADS, LAYERS, TOKENS = 61, 32, 4, 2, 20
LENGTHS = (20, 13, 17)

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_WINDOW = {"sliding_window": 6}
_OPT = {"ffn_dim": 48, "word_embed_proj_dim": WIDTH, "dropout": 0.0}
_GPT2 = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
_MIXED = {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", _GPT2),
    "llama": ("LlamaConfig", {}),
    "mistral": ("MistralConfig", _WINDOW),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 16}),
    "gemma2": ("Gemma2Config", {**_WINDOW, "head_dim": 16, "attn_logit_softcapping": 3.0}),
    "gemma3": ("Gemma3TextConfig", {**_WINDOW, **_MIXED, "head_dim": 16}),
    "phi3": ("Phi3Config", {}),
    "gpt_neox": ("GPTNeoXConfig", {}),
    "opt": ("OPTConfig", _OPT),
    "olmo2": ("Olmo2Config", {}),
    "gpt_oss": ("GptOssConfig", {**_WINDOW, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "stablelm": ("StableLmConfig", {}),
    "granite": ("GraniteConfig", {}),
    "smollm3": ("SmolLM3Config", {}),
}


def make_model(architecture: str, **changes: Any) -> Any:
    """A random model whose attention is far from even, so that mistakes show."""
    name, settings = ARCHITECTURES[architecture]
    config = getattr(transformers, name)(**{**_SIZES, **settings, **changes})
    if architecture == "gpt_oss":
        config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    torch.manual_seed(0)
    eager_only = architecture in ("gemma2", "gpt_oss")
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager" if eager_only else "sdpa")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
            if "sinks" in name:
                parameter.normal_()
    return model.eval()


_LINEAR = {
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_dim": 8,
}
_EXPERTS = {"moe_intermediate_size": 16, "num_experts": 2, "num_experts_per_tok": 1}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 4, "mamba_expand": 2, "mamba_n_groups": 1}
_NEMOTRON = {
    "layers_block_type": ["mamba", "attention", "moe"],
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "ssm_state_size": 4,
    "n_groups": 1,
    "head_dim": 8,
    "n_routed_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
}
_JAMBA = {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4}
_GRANITE = {
    "num_hidden_layers": 3,
    "layer_types": ["mamba", "attention", "mamba"],
    "num_local_experts": 0,
    "shared_intermediate_size": 48,
    **_MAMBA,
}
_ZAMBA = {
    "num_hidden_layers": 4,
    "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
    "mamba_d_state": 4,
    "n_mamba_heads": 4,
    "mamba_ngroups": 1,
    "mamba_expand": 2,
    "num_mem_blocks": 1,
}
_CONV = {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]}
HYBRIDS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_next": ("Qwen3NextConfig", {**_LINEAR, **_EXPERTS, "shared_expert_intermediate_size": 16}),
    "qwen3_5": ("Qwen3_5TextConfig", _LINEAR),
    "jamba": ("JambaConfig", {**_JAMBA, "num_experts": 2, "num_experts_per_tok": 1}),
    "granitemoehybrid": ("GraniteMoeHybridConfig", _GRANITE),
    "falcon_h1": ("FalconH1Config", {**_MAMBA, "mamba_d_ssm": 64}),
    "lfm2": ("Lfm2Config", _CONV),
    "nemotron_h": ("NemotronHConfig", _NEMOTRON),
    "zamba2": ("Zamba2Config", _ZAMBA),
    "zamba": ("ZambaConfig", {**_ZAMBA, "n_mamba_heads": 2}),
    "bamba": ("BambaConfig", {"num_hidden_layers": 3, "attn_layer_indices": [1], **_MAMBA}),
    "olmo_hybrid": ("OlmoHybridConfig", _LINEAR),
    "qwen3_5_moe": ("Qwen3_5MoeTextConfig", {**_LINEAR, **_EXPERTS, "shared_expert_intermediate_size": 16}),
    "lfm2_moe": ("Lfm2MoeConfig", {**_CONV, **_EXPERTS, "num_dense_layers": 1}),
    "recurrent_gemma": ("RecurrentGemmaConfig", {"num_hidden_layers": 3, "attention_window_size": 8, "lru_width": 32}),
    "minimax": ("MiniMaxConfig", {"layer_types": ["linear_attention", "full_attention"], "num_local_experts": 2}),
    "mamba": ("MambaConfig", {"state_size": 4}),
    "mamba2": ("Mamba2Config", {"state_size": 4, "num_heads": 4, "head_dim": 16, "n_groups": 1}),
    "falcon_mamba": ("FalconMambaConfig", {"state_size": 4}),
    "rwkv": ("RwkvConfig", {"attention_hidden_size": WIDTH}),
    "xlstm": ("xLSTMConfig", {"num_heads": 4, "num_blocks": LAYERS}),
}
"""Models in which not every layer has softmax attention, or none has, or which have more beside it (Falcon H1)."""


def make_hybrid(architecture: str, **changes: Any) -> Any:
    """A random model of `HYBRIDS`."""
    name, settings = HYBRIDS[architecture]
    torch.manual_seed(0)
    config = getattr(transformers, name)(**{**_SIZES, **settings, **changes})
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def enable_checkpointing(model: Any, use_reentrant: bool = False) -> None:
    """Under the method's name in each transformers version."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": use_reentrant})
    model.train()


@dataclass(frozen=True)
class Batch:
    input_ids: Tensor
    attention_mask: Tensor
    step_of_token: Tensor
    key_of_token: Tensor

    def __iter__(self):
        return iter((self.input_ids, self.attention_mask, self.step_of_token, self.key_of_token))

    @property
    def labels(self) -> Tensor:
        """Of real tokens, without the first: what padding predicts is nobody's business."""
        first = self.attention_mask.cumsum(1) == 1
        return self.input_ids.masked_fill((self.attention_mask == 0) | first, -100)

    def example(self, index: int) -> Batch:
        """One example without its padding."""
        real = self.attention_mask[index].bool()
        return Batch(*(x[index, real][None] for x in self))


def make_batch(side: str = "right", lengths: tuple[int, ...] = LENGTHS, tokens: int = TOKENS) -> Batch:
    """Texts with four steps and five keys; keys of two tokens, key tokens in no step, step tokens between keys."""
    generator = torch.Generator().manual_seed(1)
    rows = []
    for length in lengths:
        ids = torch.randint(3, VOCABULARY, (length,), generator=generator)
        place = torch.arange(length)
        step = (place * 4 // length).masked_fill((place == 0) | (place == length // 2), -1)
        key = torch.full((length,), -1)
        for k, at in enumerate((1, 4, 6, length - 5, length - 2)):
            key[at] = k
        key[5], key[length - 1] = 1, 4
        room = tokens - length
        pad = (0, room) if side == "right" else (room, 0)
        fill = ((ids, 0), (torch.ones_like(ids), 0), (step, -1), (key, -1))
        rows.append([torch.nn.functional.pad(x, pad, value=value) for x, value in fill])
    return Batch(*(torch.stack(column) for column in zip(*rows, strict=True)))


def slow_stepwise_attention(model: Any, batch: Batch, heads: bool = False, **inputs: Any) -> tuple[Tensor, Any]:
    """Eq. 2, 3 as they are written, from the attention matrices of the models' own eager attention.

    With `heads`, of each head of every layer, the first layer's heads first.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    outputs = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        output_attentions=True,
        use_cache=False,
        **inputs,
    )
    model.set_attn_implementation(before)
    steps, keys = int(batch.step_of_token.max()) + 1, int(batch.key_of_token.max()) + 1
    layers = []
    # MiniMax returns the states of its linear layers beside the attention of the others.
    attentions = [layer for layer in outputs.attentions if layer.shape[2:] == 2 * (batch.input_ids.shape[1],)]
    maps = [layer[:, [h]] for layer in attentions for h in range(layer.shape[1])]
    for weights_BHTT in maps if heads else attentions:
        rows = []
        for weights_TT, step_T, key_T in zip(
            weights_BHTT.mean(1), batch.step_of_token, batch.key_of_token, strict=True
        ):
            sums = [weights_TT[step_T == s][:, key_T == k].sum() for s in range(steps) for k in range(keys)]
            rows.append(torch.stack(sums).view(steps, keys))
        layers.append(torch.stack(rows))
    return torch.stack(layers, dim=1), outputs


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter; every parameter has one."""
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(got: dict[str, Tensor], expected: dict[str, Tensor], relative: float = 1e-4) -> None:
    assert got.keys() == expected.keys()
    largest = max(float(x.abs().max()) for x in expected.values())
    for name, gradient in expected.items():
        # Some gradients are sums that cancel (a key bias has none at all); nothing is smaller than rounding.
        tolerance = relative * float(gradient.abs().max()) + 1e-6 * largest
        error = float((got[name] - gradient).abs().max())
        assert error <= tolerance, f"{name}: off by {error:.2e}, largest entry {float(gradient.abs().max()):.2e}"


def weighted(attention_BLSK: Tensor) -> Tensor:
    """A loss with a different gradient for each entry."""
    generator = torch.Generator().manual_seed(2)
    return (attention_BLSK * torch.randn(attention_BLSK.shape, generator=generator)).sum()
