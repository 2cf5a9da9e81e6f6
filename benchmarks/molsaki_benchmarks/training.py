"""What the attention loss costs compared with plain cross-entropy: one optimizer step of a Llama-shaped model.

`molsaki bench` runs this; `python -m molsaki_benchmarks.training TxB:K --peak-of WAY` prints the peak memory of one
way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from molsaki_benchmarks.figures import ON_FLASH, OUTPUT_ATTENTIONS, PLAIN, Benchmark, in_way
from molsaki_benchmarks.models import Conditions, ModelSize, Shape, make_batch, make_model, read_output_attentions
from molsaki_benchmarks.runner import print_peak

if TYPE_CHECKING:
    from torch import Tensor

    from molsaki.attention import Kernel


def make_stepper(shape: Shape, size: ModelSize, conditions: Conditions) -> Callable[[str], None]:
    """Build a model, an optimizer and a batch; the function takes one optimizer step in a given way.

    With bf16 the step runs in mixed precision, as training does: weights and losses in float32. In every way the head
    runs as it does in training, on some tokens at a time.
    """
    import torch

    from molsaki.attention import read_spans
    from molsaki.attention.span_index import make_span_index
    from molsaki.methods.layers import mix_layers
    from molsaki.methods.losses import attention_loss_parts
    from molsaki.methods.router import LayerRouter
    from molsaki.models.head import keep_hidden_states
    from molsaki.training.batches import ForwardPass
    from molsaki.training.token_outputs import read_tokens

    model = make_model(shape, size, conditions).train()
    batch = make_batch(shape, size, conditions.device)
    spans = make_span_index(batch.step_of_token, batch.key_of_token, None)
    ids, (B, T) = batch.input_ids, batch.input_ids.shape
    with torch.device(conditions.device):
        router = LayerRouter([size.layer.key_value_width] * size.layers)
        # Every token but the last of a row predicts the next one.
        positions_N = torch.arange(B * T).view(B, T)[:, :-1].flatten()
        one = ForwardPass(ids, positions_N, ids[:, 1:].flatten(), (T - 1,) * B, ())
        token_mask = torch.ones(B, T, dtype=torch.bool)
        masks = torch.ones(B, batch.steps, dtype=torch.bool), torch.ones(B, shape.keys, dtype=torch.bool)
        teacher = torch.rand(B, batch.steps, shape.keys)
    parameters = [*model.parameters(), *router.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=conditions.device == "cuda")

    def read(way: str) -> tuple[Tensor, list[Tensor]] | None:
        """A pass in one way, and the stepwise attention and values that it gives."""
        if way == PLAIN:
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
            return None
        if way == OUTPUT_ATTENTIONS:
            return read_output_attentions(model, batch, logits_to_keep=1)[0].float(), []
        kernel: Kernel = "auto" if way == "stepwise" else way  # type: ignore[assignment]
        reading = read_spans(model, ids, None, spans, values=True, kernel=kernel, logits_to_keep=1)
        return reading.attention, reading.values or []

    def total_loss(way: str) -> Tensor:
        mixed = torch.autocast(conditions.device, torch.bfloat16, enabled=conditions.precision == "bf16")
        with keep_hidden_states(model) as states, mixed:
            found = read(way)
            tokens = read_tokens(states.logits, states.at(positions_N, T), one, size.vocabulary)
        loss = tokens.losses_N.mean()
        if found is None:
            return loss
        attention, values = found
        mixture = mix_layers(attention, router(values, token_mask, check=False)) if values else attention.mean(1)
        # Unchecked, as in training, where a check would wait for the device.
        return loss + attention_loss_parts(teacher, mixture, *masks, check=False).loss

    def step(way: str) -> None:
        with in_way(model, way) as read_by:
            total_loss(read_by).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


TRAINING = Benchmark(
    module="molsaki_benchmarks.training",
    ways={
        PLAIN: "cross-entropy on SDPA",
        "stepwise": "+ attention loss",
        "second-pass": "+ attention loss, second pass",
        PLAIN + ON_FLASH: "cross-entropy on FlashAttention",
        "stepwise" + ON_FLASH: "+ attention loss on FlashAttention",
        "flex": "+ attention loss, FlexAttention",
        OUTPUT_ATTENTIONS: "+ attention loss by output_attentions",
    },
    shapes=("256x8:24", "2048x1:40", "4096x1:60"),
    once="One optimizer step (forward, backward, AdamW)",
    matrices=2,  # before and after the softmax
    make=make_stepper,
    gpu_ways=("flex", PLAIN + ON_FLASH, "stepwise" + ON_FLASH),
)


if __name__ == "__main__":
    print_peak(TRAINING)
