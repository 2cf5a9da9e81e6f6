"""What the attention loss costs compared with plain cross-entropy: one optimiser step of a Llama-shaped model.

`molsaki bench` runs this; `python -m molsaki_benchmarks.training TxB:K --peak-of WAY` prints the peak memory of one
way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from molsaki_benchmarks.models import Conditions, ModelSize, Shape, make_batch, make_model, read_output_attentions
from molsaki_benchmarks.runner import OUTPUT_ATTENTIONS, PLAIN, Benchmark, print_peak

if TYPE_CHECKING:
    from torch import Tensor


def make_stepper(shape: Shape, size: ModelSize, conditions: Conditions) -> Callable[[str], None]:
    """Build a model, an optimiser and a batch; the function takes one optimiser step in a given way.

    With bf16 the step runs in mixed precision, as training does: weights and losses in float32.
    """
    import torch

    from molsaki.attention import read_attention
    from molsaki.methods.layers import LayerRouter, mix_layers
    from molsaki.methods.losses import attention_loss

    model = make_model(shape, size, conditions).train()
    router = LayerRouter([size.layer.key_value_width] * size.layers)
    optimiser = torch.optim.AdamW([*model.parameters(), *router.parameters()], lr=1e-5)
    batch = make_batch(shape, size)
    ids, mask = batch.input_ids, batch.attention_mask
    masks = (
        torch.ones(shape.batch, batch.steps, dtype=torch.bool),
        torch.ones(shape.batch, shape.keys, dtype=torch.bool),
    )
    teacher = torch.rand(shape.batch, batch.steps, shape.keys)

    def total_loss(way: str) -> Tensor:
        mixed = torch.autocast("cpu", torch.bfloat16, enabled=conditions.precision == "bf16")
        if way == PLAIN:
            with mixed:
                outputs = model(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False)
            return cast("Tensor", outputs.loss)
        if way == OUTPUT_ATTENTIONS:
            with mixed:
                attention, outputs = read_output_attentions(model, batch, labels=ids)
            return cast("Tensor", outputs.loss + attention_loss(teacher, attention.float().mean(1), *masks))
        kernel = "second-pass" if way == "second-pass" else "auto"
        spans = batch.step_of_token, batch.key_of_token
        with mixed:
            reading = read_attention(model, ids, mask, *spans, values=True, kernel=kernel, labels=ids)  # type: ignore[arg-type]
        assert reading.values is not None
        student = mix_layers(reading.attention, router(reading.values, mask))
        return cast("Tensor", reading.outputs.loss + attention_loss(teacher, student, *masks))

    def step(way: str) -> None:
        total_loss(way).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()

    return step


TRAINING = Benchmark(
    module="molsaki_benchmarks.training",
    ways={
        PLAIN: "cross-entropy on SDPA",
        "stepwise": "+ attention loss",
        "second-pass": "+ attention loss, second pass",
        OUTPUT_ATTENTIONS: "+ attention loss by output_attentions",
    },
    shapes=("256x8:24", "2048x1:40", "4096x1:60"),
    once="One optimiser step (forward, backward, AdamW)",
    matrices=2,  # before and after the softmax
    make=make_stepper,
)


if __name__ == "__main__":
    print_peak(TRAINING)
