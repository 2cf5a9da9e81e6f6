"""What `attend` costs compared with a plain forward pass of the same batch.

As in `attend`: no gradients, logits of the last position only, and a long text in chunks. `molsaki bench --reading`
runs this; `python -m molsaki_benchmarks.reading TxB:K --peak-of WAY` prints the peak memory of one way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from molsaki_benchmarks.figures import ON_FLASH, OUTPUT_ATTENTIONS, PLAIN, Benchmark, in_way
from molsaki_benchmarks.models import Conditions, ModelSize, Shape, make_batch, make_model, read_output_attentions
from molsaki_benchmarks.runner import print_peak


def make_reader(shape: Shape, size: ModelSize, conditions: Conditions) -> Callable[[str], Any]:
    """Build a model and a batch; the function reads them in a given way and returns A [B, L, S, K] (plain: None)."""
    import torch

    from molsaki.attention import SpanRequest
    from molsaki.attention.chunks import chunk_tokens, read_in_chunks
    from molsaki.attention.span_index import make_span_index

    model = make_model(shape, size, conditions, bf16_weights=conditions.precision != "float32").eval()
    batch = make_batch(shape, size, conditions.device)
    ids = batch.input_ids

    def attend() -> Any:
        request = SpanRequest(make_span_index(batch.step_of_token, batch.key_of_token, batch.attention_mask))
        chunk = chunk_tokens(model, shape.batch, shape.tokens, [request])
        attention = torch.zeros(shape.batch, size.layers, batch.steps, shape.keys, device=ids.device)
        for part in read_in_chunks(model, ids, batch.attention_mask, [request], chunk):
            (some,), (first,) = part.attention, part.first_steps
            attention[:, :, first : first + some.shape[2], : some.shape[3]] += some
        return attention

    def read(way: str) -> Any:
        with in_way(model, way) as read_by, torch.inference_mode():
            if read_by == PLAIN:
                model(input_ids=ids, attention_mask=batch.attention_mask, use_cache=False, logits_to_keep=1)
                return None
            if read_by == OUTPUT_ATTENTIONS:
                return read_output_attentions(model, batch, logits_to_keep=1)[0]
            return attend()

    return read


READING = Benchmark(
    module="molsaki_benchmarks.reading",
    ways={
        PLAIN: "forward pass on SDPA",
        "stepwise": "+ stepwise attention",
        PLAIN + ON_FLASH: "forward pass on FlashAttention",
        "stepwise" + ON_FLASH: "+ stepwise attention on FlashAttention",
        OUTPUT_ATTENTIONS: "+ stepwise attention by output_attentions",
    },
    shapes=("512x4:24", "2048x1:40"),
    once="One forward pass without gradients",
    matrices=1,
    make=make_reader,
    gpu_ways=(PLAIN + ON_FLASH, "stepwise" + ON_FLASH),
)


if __name__ == "__main__":
    print_peak(READING)
