"""Captures the attention of a model during one forward pass, and restores the model afterwards.

transformers calls every attention through `AttentionInterface`. During the forward pass the model's configuration
names our function there. The function finds the capture in a context variable and not among the keyword arguments:
some models (stablelm) do not pass those on, and a context variable is local to a thread and can be nested.

Gradient checkpointing runs layers again during the backward pass, after the forward pass and its context have ended,
and the second run must compute what the first one did. So the checkpointing functions of the model's modules are
wrapped during the forward pass: each function that they run enters the capture again whenever it is repeated, as a
replay that records nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from molsaki.attention.kernel_choice import AttentionCall, Kernel
from molsaki.attention.kernels import attend, plain
from molsaki.attention.masks import MaskCache
from molsaki.attention.rules import read_rule
from molsaki.attention.span_index import SpanIndex, SpanRequest
from molsaki.errors import UnreadableModelError

NAME = "molsaki"
"""Our function's name in transformers' interfaces."""

# Arguments of an attention whose effect on the weights no kernel here computes.
_UNKNOWN_FORMULAS = {
    "position_bias": "a learned position bias",
    "indices": "sparse attention by an indexer",
    "block_indices": "sparse attention by blocks",
    "sinks": "sinks of its own kind",
}
_CHECKPOINT_FUNCTIONS = ("_gradient_checkpointing_func", "checkpoint_fn")


@dataclass
class LayerCapture:
    """One layer's attention for each request, [R, S, K] or [R, H, S, K], and on request its values [R, T, D]."""

    attention: tuple[Tensor, ...]
    values: Tensor | None


@dataclass
class Capture:
    """The requests and results of one forward pass of one model.

    Attributes:
        model: the model that is read.
        requests: the steps and keys, at least one request.
        kernel: the kernel that computes the attention.
        want_values: keep the value states too, of the examples of the first request.
        grad_enabled: whether gradients were enabled when the capture began.
        layers: the results by module. Emptied after the forward pass: replays refer to this object, and the graph
            refers to the replays, so results kept here would form a reference cycle with the graph.
        masks: the cached forms of the layers' masks.
        past: the number of tokens in the model's cache before the tokens of this pass.
    """

    model: PreTrainedModel
    requests: tuple[SpanRequest, ...]
    kernel: Kernel
    want_values: bool = False
    grad_enabled: bool = field(default_factory=torch.is_grad_enabled)
    layers: dict[nn.Module, LayerCapture] = field(default_factory=dict)
    masks: MaskCache = field(default_factory=MaskCache)
    past: int = 0

    def __post_init__(self) -> None:
        self.names = {module: name for name, module in self.model.named_modules()}
        self._requests = {self.requests[0].spans.step_RT.device: self.requests}

    def read(self, call: AttentionCall, replay: bool) -> Tensor:
        """Compute a layer's attention [B, T, H, D_v], and record its stepwise attention unless this is a replay."""
        name = self.names[call.module]
        # (B, T) of the queries and of the keys.
        tokens = tuple(call.query.shape[::2]), tuple(call.key.shape[::2])
        own = call.query.shape[0], call.query.shape[2] + self.past
        if getattr(call.module, "is_cross_attention", False) or tokens[1] != own:
            raise UnreadableModelError(
                f"Expected {name} to attend to its own input tokens; its queries and keys have "
                f"[examples, tokens] {tokens}: cross-attention or a cache. Steps and keys are spans of one text; "
                f"read decoder-only models, without past_key_values."
            )
        expected = self.requests[0].spans.step_RT.shape[1]
        if tokens[0][1] != expected:
            raise UnreadableModelError(
                f"Expected {name} to get the {expected} tokens that have steps and keys; it gets "
                f"{tokens[0][1]}. Something adds tokens (prompt tuning, for example), which would shift the spans; "
                f"read the model without it."
            )
        if not replay and self.grad_enabled and not torch.is_grad_enabled():
            raise UnreadableModelError(
                f"Expected {name} to run with gradients, which are enabled around the model; it runs without. Gradient "
                f"checkpointing with use_reentrant=True causes this, and the attention loss would not reach the "
                f'layer; use gradient_checkpointing_kwargs={{"use_reentrant": False}}, or read under '
                f"torch.no_grad()."
            )
        requests = self._requests_on(call.query.device)
        out, attention = attend(call, requests, self.kernel, self.masks)
        # A replay computes the values too, since checkpointing requires that it saves the same tensors.
        values = self._values(call, requests[0].spans) if self.want_values else None
        if not replay:
            self._record(name, call, LayerCapture(attention, values))
        return out

    def _requests_on(self, device: torch.device) -> tuple[SpanRequest, ...]:
        if device not in self._requests:
            self._requests[device] = tuple(request.to(device) for request in self.requests)
        return self._requests[device]

    def _values(self, call: AttentionCall, spans: SpanIndex) -> Tensor:
        """The value states of the examples that take part, each key-value head once, side by side."""
        return spans.take(call.value).transpose(1, 2).flatten(2)  # [B, G, T, D_v] to [R, T, G · D_v]

    def _record(self, name: str, call: AttentionCall, found: LayerCapture) -> None:
        if call.module in self.layers:
            raise UnreadableModelError(
                f"Expected every layer to attend once in a forward pass; {name} did so twice. It is not clear which "
                f"of the two is the layer's attention."
            )
        self.layers[call.module] = found


_active: ContextVar[tuple[tuple[Capture, bool], ...]] = ContextVar("molsaki_readings", default=())
_padded_on_the_right: ContextVar[bool] = ContextVar("molsaki_padded_on_the_right", default=False)


@contextlib.contextmanager
def capturing(capture: Capture) -> Iterator[None]:
    """Run a forward pass under a capture, and restore the model afterwards, also after an error."""
    with _entered(capture, replay=False):
        yield


@contextlib.contextmanager
def padded_on_the_right(model: PreTrainedModel) -> Iterator[None]:
    """Run a causal model on rows that are padded on the right and whose outputs at padding are not used.

    The attention mask may be all ones. No real token attends to the padding, so attention needs no mask. This context
    states that fact, since reading it off a mask would force a device sync. An implementation other than `sdpa` stays
    as it is, except under a capture.
    """
    token = _padded_on_the_right.set(True)
    try:
        with _switches.on(model) if model.config._attn_implementation == "sdpa" else contextlib.nullcontext():
            yield
    finally:
        _padded_on_the_right.reset(token)


@contextlib.contextmanager
def _entered(capture: Capture, replay: bool) -> Iterator[None]:
    with _switches.on(capture.model):
        token = _active.set((*_active.get(), (capture, replay)))
        try:
            yield
        finally:
            _active.reset(token)


def _find(module: nn.Module) -> tuple[Capture, bool] | None:
    return next(((c, replay) for c, replay in reversed(_active.get()) if module in c.names), None)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function in transformers' `AttentionInterface`, with its arguments."""
    for name, what in _UNKNOWN_FORMULAS.items():
        if kwargs.get(name) is not None:
            raise UnreadableModelError(
                f"Expected plain softmax attention; {type(module).__name__} has {what} ({name}), which molsaki does "
                f"not support. Its weights would be wrong; use another model."
            )
    if attention_mask is not None and (not isinstance(attention_mask, Tensor) or attention_mask.dim() != 4):
        raise UnreadableModelError(
            f"Expected {type(module).__name__} to get a mask [B, H, T, T] or none; got {type(attention_mask).__name__} "
            f"{list(attention_mask.shape)}. The model builds its masks itself, for another attention; load it with "
            f'attn_implementation="sdpa".'
        )
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    call = AttentionCall(
        module=module,
        query=query,
        key=key,
        value=value,
        mask=attention_mask,
        dropout=dropout,
        scale=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        is_causal=bool(causal) and attention_mask is None and query.shape[2] > 1,
        softcap=softcap,
        sinks=s_aux,
    )
    found = _find(module)
    # Without a capture: another thread runs the model while a capture in this one has switched it.
    return (plain(call) if found is None else found[0].read(call, found[1])), None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def attention_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The function in transformers' `AttentionMaskInterface`: masks as for `sdpa`.

    Under a capture, causal masks leave out padding on the right: no real token attends to it, and the fastest kernels
    take no mask. Windows and padding on the left become a `MaskRule`. The model's outputs at padding positions then
    differ from those without a capture.
    """
    known = _padded_on_the_right.get()
    if not args and (known or _active.get()):
        rule = read_rule(kwargs, known)
        if rule is not None:
            return None if rule.is_causal_rule else rule
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


class _Switches:
    """What is switched to our function, with the number of open contexts and how to undo the switch.

    Models may share a configuration, so configurations and models are counted on their own.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._undo: dict[int, tuple[int, Callable[[], None]]] = {}

    @contextlib.contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        configs = {id(config): config for config in (model.config, model.config.get_text_config(decoder=True))}
        with contextlib.ExitStack() as stack:
            for config in configs.values():
                stack.enter_context(self._held(config, partial(_name_our_function, config)))
            stack.enter_context(self._held(model, partial(_bind_checkpointing, model)))
            yield

    @contextlib.contextmanager
    def _held(self, held: object, switch: Callable[[], Callable[[], None]]) -> Iterator[None]:
        """Switch with the first of several contexts, and undo it with the last."""
        with self._lock:
            count, undo = self._undo.get(id(held)) or (0, switch())
            self._undo[id(held)] = count + 1, undo
        try:
            yield
        finally:
            with self._lock:
                count, undo = self._undo.pop(id(held))
                if count > 1:
                    self._undo[id(held)] = count - 1, undo
                else:
                    undo()


_switches = _Switches()


def _name_our_function(config: PretrainedConfig) -> Callable[[], None]:
    """Name our function in a configuration; returns a function that undoes it."""
    implementation = config._attn_implementation_internal
    config._attn_implementation_internal = NAME
    return partial(setattr, config, "_attn_implementation_internal", implementation)


def _bind_checkpointing(model: PreTrainedModel) -> Callable[[], None]:
    """Wrap the checkpointing of a model's layers; returns a function that undoes it."""
    functions = [
        (module, name, vars(module)[name])
        for module in model.modules()
        for name in _CHECKPOINT_FUNCTIONS
        if callable(vars(module).get(name))
    ]
    for module, name, function in functions:
        setattr(module, name, _bind_to_pass(model, function))

    def undo() -> None:
        for module, name, function in functions:
            setattr(module, name, function)

    return undo


def _bind_to_pass(model: PreTrainedModel, checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Checkpointing whose replays run as the pass did: with the model switched, and under the captures of the pass.

    Replays come in the backward pass, after the contexts have ended. Without the switch a pass that captures nothing
    would be replayed by another kernel, which saves other tensors.
    """

    @wraps(checkpoint)
    def bound_checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        captures = tuple(capture for capture, _ in _active.get())
        return checkpoint(_replaying(model, function, captures), *args, **kwargs)

    return bound_checkpoint


def _replaying(
    model: PreTrainedModel, function: Callable[..., Any], captures: tuple[Capture, ...]
) -> Callable[..., Any]:
    """Wrap a function so that its first call runs as it is and every later call replays under `captures`."""
    runs = 0

    def run(*args: Any, **kwargs: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs == 1:
            return function(*args, **kwargs)
        with _switches.on(model), contextlib.ExitStack() as stack:
            for capture in captures:
                stack.enter_context(_entered(capture, replay=True))
            return function(*args, **kwargs)

    return run


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, attention_mask)
