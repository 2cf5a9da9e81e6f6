"""What `attend` costs compared with a plain forward pass of the same batch.

As in `attend`: no gradients, no cache, and logits of the last position only. `molsaki bench --reading` runs this;
`python -m molsaki_benchmarks.reading TxB:K --peak-of WAY` prints the peak memory of one way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from molsaki_benchmarks.models import Conditions, ModelSize, Shape, make_batch, make_model, read_output_attentions
from molsaki_benchmarks.runner import OUTPUT_ATTENTIONS, PLAIN, Benchmark, print_peak


def make_reader(shape: Shape, size: ModelSize, conditions: Conditions) -> Callable[[str], Any]:
    """Build a model and a batch; the function reads them in a given way and returns A [B, L, S, K] (plain: None)."""
    import torch

    from molsaki.attention import read_attention

    model = make_model(shape, size, conditions).eval()
    model = model.to(torch.bfloat16) if conditions.precision == "bf16" else model
    batch = make_batch(shape, size)

    def read(way: str) -> Any:
        with torch.inference_mode():
            if way == PLAIN:
                model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False, logits_to_keep=1)
                return None
            if way == OUTPUT_ATTENTIONS:
                return read_output_attentions(model, batch, logits_to_keep=1)[0]
            spans = batch.step_of_token, batch.key_of_token
            return read_attention(model, batch.input_ids, batch.attention_mask, *spans, logits_to_keep=1).attention

    return read


READING = Benchmark(
    module="molsaki_benchmarks.reading",
    ways={
        PLAIN: "forward pass on SDPA",
        "stepwise": "+ stepwise attention",
        OUTPUT_ATTENTIONS: "+ stepwise attention by output_attentions",
    },
    shapes=("512x4:24", "2048x1:40"),
    once="One forward pass without gradients",
    matrices=1,
    make=make_reader,
)


if __name__ == "__main__":
    print_peak(READING)
