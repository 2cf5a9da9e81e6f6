"""The cost of large teachers and many rows, by formula: operations, memory and bytes of stores.

    python -m molsaki_benchmarks.scale --rows 1000000 --tokens 8000 --steps 300 --keys 200

A multiply-add counts as two operations. Sizes of stores are those of the schemas with which rows are written.

Legend: T tokens of a text, J key tokens (one a key), L layers, W width, V vocabulary, S steps, K keys.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from molsaki.models.estimates import show_bytes
from molsaki.store import attention_rows as stored
from molsaki.store.next_tokens import TOKENS, next_token_schema, temperature_names
from molsaki.store.schema import row_bytes
from molsaki_benchmarks.models import ModelSize

TEACHERS = {
    "7B": ModelSize(28, 3584, 28, 4, 152064, 18944),
    "14B": ModelSize(48, 5120, 40, 8, 152064, 13824),
    "32B": ModelSize(64, 5120, 40, 8, 152064, 27648),
    "70B": ModelSize(80, 8192, 64, 8, 128256, 28672),
}
"""Shapes of Qwen2.5 7B, 14B and 32B, and of Llama 3 70B."""
BF16 = 2


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that a teacher reads.

    Attributes:
        count: how many there are.
        tokens: T.
        steps: S.
        keys: K, of one token each.
        words: words of a rationale; the words view has a row for each and a column for each one of the text.
    """

    count: int = 1_000_000
    tokens: int = 8000
    steps: int = 300
    keys: int = 200
    words: int = 5000


@dataclass(frozen=True, slots=True)
class TeacherCost:
    """What one teacher costs.

    Attributes:
        parameters: of the layers, the embedding and the head.
        pass_operations: of a forward pass over one row: 2·T for each parameter of the layers, and 2·T²·W for the causal
            attention of each.
        attention_operations: what reading the attention adds: 2·T·J·W a layer.
        logit_operations: what next tokens add: 2·T·V·W.
        weight_bytes: in bfloat16.
        cache_bytes: keys and values of one row in bfloat16, which a reading in chunks holds.
        stores: bytes of a row by the form in which it is stored.
    """

    parameters: int
    pass_operations: int
    attention_operations: int
    logit_operations: int
    weight_bytes: int
    cache_bytes: int
    stores: dict[str, int]

    @property
    def operations(self) -> int:
        """Of all signals of a row, read in one pass."""
        return self.pass_operations + self.attention_operations + self.logit_operations


def teacher_cost(model: ModelSize, rows: Rows) -> TeacherCost:
    """Count what reading one row costs."""
    layer, L, T, W = model.layer, model.layers, rows.tokens, model.width
    matrices = L * (2 * W**2 + 2 * W * layer.key_value_width + 3 * W * layer.feed_forward)
    parameters = matrices + 2 * model.vocabulary * W
    return TeacherCost(
        parameters=parameters,
        pass_operations=2 * T * matrices + 2 * T**2 * W * L,
        attention_operations=2 * T * rows.keys * W * L,
        logit_operations=2 * T * model.vocabulary * W,
        weight_bytes=BF16 * parameters,
        cache_bytes=BF16 * 2 * T * layer.key_value_width * L,
        stores=_store_bytes(model, rows),
    )


def _store_bytes(model: ModelSize, rows: Rows) -> dict[str, int]:
    """Bytes of a row by the form in which it is stored."""

    def attention(steps: int, keys: int, layers: int, top: int | None = None, dtype: str = "float16") -> int:
        sizes = {stored.STEPS: steps, stored.KEYS: keys, stored.MISSING_STEPS: 0, stored.MISSING_KEYS: 0}
        if top is None:
            error = {} if dtype == "float32" else stored.ERROR_SCHEMA
            return row_bytes({**stored.attention_schema(layers, dtype), **error}, sizes)
        return row_bytes(stored.compact_schema(layers, dtype), {**sizes, stored.KEPT: min(top, keys)})

    next_tokens = next_token_schema(32, temperature_names([]), model.vocabulary)
    return {
        "steps × keys, float32": attention(rows.steps, rows.keys, model.layers, dtype="float32"),
        "float16, 24 largest": attention(rows.steps, rows.keys, model.layers, 24),
        "float16, mixed": attention(rows.steps, rows.keys, 1),
        "words, float16, mixed, 64 largest": attention(rows.words, rows.words, 1, 64),
        "next tokens, 32": row_bytes(next_tokens, {TOKENS: rows.tokens}),
    }


def to_markdown(rows: Rows, teraflops: float) -> str:
    """The tables for all teachers.

    Args:
        rows: the rows.
        teraflops: 10¹² operations a second that a GPU sustains.
    """
    costs = {name: teacher_cost(model, rows) for name, model in TEACHERS.items()}
    shape = f"{rows.tokens:,} tokens, {rows.steps} steps, {rows.keys} keys, {rows.words:,} words"
    columns = ("operations a row", "of them attention, next tokens", "GPU hours, all rows", "weights", "cache of a row")
    lines = [
        f"{rows.count:,} rows of {shape}; {teraflops:g}·10¹² operations a second.",
        "",
        f"| teacher | parameters | {' | '.join(columns)} |",
        f"| --- | --- |{' --- |' * len(columns)}",
    ]
    for name, cost in costs.items():
        hours = cost.operations * rows.count / (teraflops * 1e12) / 3600
        added = (100 * part / cost.operations for part in (cost.attention_operations, cost.logit_operations))
        shares = ", ".join(f"{share:.1f} %" for share in added)
        lines.append(
            f"| {name} | {cost.parameters / 1e9:.1f}·10⁹ | {cost.operations:.1e} | {shares} | {hours:,.0f} | "
            f"{show_bytes(cost.weight_bytes)} | {show_bytes(cost.cache_bytes)} |"
        )
    forms = list(next(iter(costs.values())).stores)
    lines += ["", f"| bytes of a row, of all | {' | '.join(forms)} |", f"| --- |{' --- |' * len(forms)}"]
    for name, cost in costs.items():
        each = [f"{show_bytes(size)}, {show_bytes(size * rows.count)}" for size in cost.stores.values()]
        lines.append(f"| {name} | {' | '.join(each)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="molsaki_benchmarks.scale", description=main.__doc__)
    default = Rows()
    for name in ("tokens", "steps", "keys", "words"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    parser.add_argument("--rows", type=int, default=default.count)
    parser.add_argument("--teraflops", type=float, default=400, help="10^12 operations a second that a GPU sustains")
    options = parser.parse_args(arguments)
    rows = Rows(options.rows, options.tokens, options.steps, options.keys, options.words)
    print(to_markdown(rows, options.teraflops), end="")


if __name__ == "__main__":
    main()
