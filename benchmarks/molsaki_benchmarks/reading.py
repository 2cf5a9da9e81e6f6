"""What `attend` costs beside a plain forward pass of the same batches.

No gradients, no cache, and only the last position's logits, as `attend` reads. `molsaki bench --reading` measures it;
`python -m molsaki_benchmarks.reading TxB:K --peak-of WAY` prints the memory of one way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from molsaki_benchmarks.models import ModelSize, Shape, make_batch, make_model, read_whole
from molsaki_benchmarks.runner import PLAIN, WHOLE, Kind, print_peak


def make_reader(shape: Shape, size: ModelSize, threads: int) -> Callable[[str], Any]:
    """One model, one batch; the function reads it in the way it is given and gives A [B, L, S, K] (plain: None)."""
    import torch

    from molsaki.attention import read_attention

    model = make_model(shape, size, threads).eval()
    batch = make_batch(shape, size)

    def read(way: str) -> Any:
        with torch.inference_mode():
            if way == PLAIN:
                model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False, logits_to_keep=1)
                return None
            if way == WHOLE:
                return read_whole(model, batch, logits_to_keep=1)[0]
            spans = batch.step_of_token, batch.key_of_token
            return read_attention(model, batch.input_ids, batch.attention_mask, *spans, logits_to_keep=1).attention

    return read


READING = Kind(
    module="molsaki_benchmarks.reading",
    ways={
        PLAIN: "forward pass on SDPA",
        "stepwise": "+ stepwise attention",
        WHOLE: "+ stepwise attention by output_attentions",
    },
    shapes=("512x4:24", "2048x1:40"),
    once="One forward pass without gradients",
    matrices=1,
    make=make_reader,
)


if __name__ == "__main__":
    print_peak(READING)
