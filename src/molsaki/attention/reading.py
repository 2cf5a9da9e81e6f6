"""Reading the stepwise attention of a model's layers in one forward pass.

Legend: B batch, R examples that take part, T tokens, L layers (or the heads of all of them), H heads of a layer,
S steps, K keys, D width of a layer's value states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from molsaki.attention.capture import NAME, Capture, capturing
from molsaki.attention.kernel_choice import KERNELS, Kernel
from molsaki.attention.layers import ReadLayers, find_model, find_read_layers
from molsaki.attention.span_index import SpanIndex, SpanRequest, make_span_index
from molsaki.errors import InputError, UnreadableModelError


@dataclass(frozen=True)
class AttentionReading:
    """The results of one forward pass.

    Attributes:
        attention: [R, L, S, K], stepwise attention of every layer that is read, mean over heads, for the examples that
            are read; with `heads`, of every head, [R, Σ_l H_l, S, K], the first layer's heads first.
        values: value states [R, T, D_l] of every layer that is read, all value heads side by side, each head once; None
            if they were not requested.
        outputs: the model's own outputs for the whole batch.
        layers: which L layers of the model were read: all, or those of a hybrid with softmax attention.
        heads: the number of heads H_l of each layer; None if their mean was read.
    """

    attention: Tensor
    values: list[Tensor] | None
    outputs: Any
    layers: ReadLayers
    heads: tuple[int, ...] | None = None


@overload
def stepwise_attention(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    step_of_token: Tensor,
    key_of_token: Tensor,
    return_outputs: Literal[False] = False,
    *,
    kernel: Kernel = "auto",
    **model_inputs: Any,
) -> Tensor: ...
@overload
def stepwise_attention(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    step_of_token: Tensor,
    key_of_token: Tensor,
    return_outputs: Literal[True],
    *,
    kernel: Kernel = "auto",
    **model_inputs: Any,
) -> tuple[Tensor, Any]: ...
def stepwise_attention(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    step_of_token: Tensor,
    key_of_token: Tensor,
    return_outputs: bool = False,
    *,
    kernel: Kernel = "auto",
    **model_inputs: Any,
) -> Tensor | tuple[Tensor, Any]:
    """Compute how much each step attends to each key, for every layer, with gradients.

    A_l[s, k] = (1/H) Σ_h Σ_{i ∈ step s} Σ_{j ∈ key k} I_lh[i, j], I the softmax weights (Eq. 2, 3 of the paper).
    Attention dropout, if the model trains with it, is in the model's outputs and not in A.

    Example:
        >>> import molsaki, torch
        >>> from transformers import AutoModelForCausalLM
        >>> from molsaki.data.pocket import STUDENT
        >>> model = AutoModelForCausalLM.from_pretrained(STUDENT)
        >>> input_ids = torch.tensor([[5, 6, 7, 8]])
        >>> step_of_token, key_of_token = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, -1, -1, 1]])
        >>> molsaki.stepwise_attention(model, input_ids, None, step_of_token, key_of_token).shape  # [B, L, S, K]
        torch.Size([1, 2, 2, 2])

    Args:
        model: a decoder-only transformers model on the attention interface, bare or wrapped (PEFT, DDP, FSDP).
        input_ids: LongTensor [B, T].
        attention_mask: [B, T], 1 at real tokens; None when all are. Padding on the right is the fastest.
        step_of_token: LongTensor [B, T], the step of each token, −1 for none.
        key_of_token: LongTensor [B, T], the key of each token, −1 for none.
        return_outputs: return the pair (A, the model's own outputs), for loss and attention in one pass.
        kernel: "auto", or the name of a kernel of `molsaki.attention.kernels`.
        **model_inputs: passed to the model, such as `labels`.

    Returns:
        A [B, L, S, K] in float32 (float64 for such a model), S and K the largest index + 1; 0 for steps and keys
        that an example does not have. Of a hybrid model, L are the layers with softmax attention; `read_attention`
        names them.

    Raises:
        InputError: the spans are impossible (see `make_span_index`) or the kernel cannot serve.
        UnreadableModelError: no layer's attention can be read; the message names the layers and says why.
    """
    reading = read_attention(
        model, input_ids, attention_mask, step_of_token, key_of_token, kernel=kernel, **model_inputs
    )
    return (reading.attention, reading.outputs) if return_outputs else reading.attention


def read_attention(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    step_of_token: Tensor,
    key_of_token: Tensor,
    *,
    rows: Tensor | None = None,
    steps: int | None = None,
    keys: int | None = None,
    values: bool = False,
    heads: bool = False,
    kernel: Kernel = "auto",
    **model_inputs: Any,
) -> AttentionReading:
    """Read the stepwise attention of some examples of a batch, and the value states of every layer if wanted.

    As `stepwise_attention`, and with more to choose.

    Example:
        >>> import molsaki, torch
        >>> from transformers import AutoModelForCausalLM
        >>> from molsaki.data.pocket import STUDENT
        >>> model = AutoModelForCausalLM.from_pretrained(STUDENT)
        >>> input_ids = torch.tensor([[5, 6, 7, 8]])
        >>> step_of_token, key_of_token = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, -1, -1, 1]])
        >>> spans = step_of_token, key_of_token
        >>> reading = molsaki.read_attention(model, input_ids, None, *spans, values=True, heads=True)
        >>> reading.attention.shape, len(reading.values)
        (torch.Size([1, 4, 2, 2]), 2)

    Args:
        model: as in `stepwise_attention`.
        input_ids: as there.
        attention_mask: as there.
        step_of_token: as there, for the whole batch.
        key_of_token: as there, for the whole batch.
        rows: the examples that take part, as indices or a bool mask [B]; the others cost nothing extra.
        steps: S; the largest index + 1 by default.
        keys: K; likewise.
        values: keep every layer's value states, for a `LayerRouter`.
        heads: read each head of every layer instead of their mean.
        kernel: as there.
        **model_inputs: as there.

    Returns:
        The attention of the R examples that take part, [R, L, S, K], in float32 (float64 for such a model), with what
        was asked for; see `AttentionReading`.

    Raises:
        InputError: as there, or a model input that does not go with a reading.
        UnreadableModelError: as there.
    """
    _refuse_inputs(input_ids, model_inputs, kernel)
    spans = make_span_index(step_of_token, key_of_token, attention_mask, rows, steps, keys)
    if len(step_of_token) != len(input_ids):
        raise InputError(
            f"Expected steps and keys of as many examples as input_ids has, {len(input_ids)}; got "
            f"{len(step_of_token)}. One example's spans would be read on another's tokens; pass both as [B, T]."
        )
    return read_spans(
        model, input_ids, attention_mask, spans, values=values, heads=heads, kernel=kernel, **model_inputs
    )


def read_spans(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    spans: SpanIndex,
    *,
    values: bool = False,
    heads: bool = False,
    kernel: Kernel = "auto",
    **model_inputs: Any,
) -> AttentionReading:
    """Read the stepwise attention on spans that are already checked.

    As `read_attention`, for a training loop: checking the spans on an accelerator would force a device sync.

    Args:
        model: as in `read_attention`.
        input_ids: as there.
        attention_mask: as there; also None if all padding is on the right and the outputs there are not used.
        spans: from `make_span_index`.
        values: as there.
        heads: as there.
        kernel: as there.
        **model_inputs: as there.

    Raises:
        InputError: as there.
        UnreadableModelError: as there.
    """
    request = SpanRequest(spans, heads)
    (reading,) = _read(model, input_ids, attention_mask, (request,), values, kernel, model_inputs)
    return reading


def read_many_spans(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    requests: Sequence[SpanRequest],
    *,
    kernel: Kernel = "auto",
    **model_inputs: Any,
) -> list[AttentionReading]:
    """Read the stepwise attention on several sets of spans in one forward pass.

    Each reading equals that of `read_spans` for its spans, number for number; a layer's attention is computed once.

    Args:
        model: as for `read_attention`.
        input_ids: as there.
        attention_mask: as there.
        requests: the sets of spans, at least one, each with or without the mean over heads.
        kernel: as there.
        **model_inputs: as there.

    Returns:
        A reading for each request, in their order; all have the same outputs.

    Raises:
        InputError: as there.
        UnreadableModelError: as there.
    """
    return _read(model, input_ids, attention_mask, tuple(requests), False, kernel, model_inputs)


def _read(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    requests: tuple[SpanRequest, ...],
    values: bool,
    kernel: Kernel,
    model_inputs: dict[str, Any],
) -> list[AttentionReading]:
    _refuse_inputs(input_ids, model_inputs, kernel)
    return read_pass(
        model, input_ids, attention_mask, Capture(find_model(model), requests, kernel, values), model_inputs
    )


def read_pass(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, capture: Capture, model_inputs: dict[str, Any]
) -> list[AttentionReading]:
    """Run one forward pass under a capture; a reading for each of its requests."""
    readable = capture.model
    with capturing(capture):
        try:
            outputs = model(input_ids=input_ids, attention_mask=attention_mask, **{"use_cache": False, **model_inputs})
            read, modules = find_read_layers(readable, {module: capture.names[module] for module in capture.layers})
            captured = [capture.layers[module] for module in modules]
        except Exception as error:
            if capture.layers or isinstance(error, InputError) or not _is_off_the_interface(readable, error):
                raise
            raise UnreadableModelError(
                f"Expected a model that takes attention functions and masks from transformers' attention interface; "
                f"{type(readable).__name__} has code of its own for that, which failed ({error!r}). Its attention "
                f"cannot be read; use a model on the interface."
            ) from error
        finally:
            capture.layers.clear()
    kept = [layer.values for layer in captured if layer.values is not None] if capture.want_values else None
    readings = []
    for i, request in enumerate(capture.requests):
        layers = [layer.attention[i].to(captured[0].attention[i].device) for layer in captured]
        # [R, S, K] of each layer become [R, L, S, K]; [R, H_l, S, K] become [R, Σ_l H_l, S, K].
        attention_RLSK = torch.cat(layers, dim=1) if request.heads else torch.stack(layers, dim=1)
        counts = tuple(layer.shape[1] for layer in layers) if request.heads else None
        readings.append(AttentionReading(attention_RLSK, kept, outputs, read, counts))
    return readings


def _refuse_inputs(input_ids: Tensor | None, model_inputs: dict[str, Any], kernel: str) -> None:
    if input_ids is None or model_inputs.get("inputs_embeds") is not None:
        raise InputError(
            f"Expected token ids in input_ids, and no inputs_embeds; got "
            f"{'no input_ids' if input_ids is None else 'inputs_embeds'}. Steps and keys are spans of tokens; pass the "
            "ids of the tokens."
        )
    if kernel not in KERNELS:
        raise InputError(f"Expected a kernel of {', '.join(KERNELS)}; got {kernel!r}.")
    wrong = [name for name in ("use_cache", "output_attentions", "past_key_values") if model_inputs.get(name)]
    if wrong:
        raise InputError(
            f"Expected model inputs that go with a reading; got {', '.join(wrong)}. A reading is one forward pass "
            f"over whole texts, without a cache and without attention matrices; leave them out."
        )


def _is_off_the_interface(model: PreTrainedModel, error: Exception) -> bool:
    named = isinstance(error, KeyError) and NAME in str(error)
    return named or not model._can_set_attn_implementation()
