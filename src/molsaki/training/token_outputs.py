"""What the student gives to each token with a loss, computed so that the logits of all tokens are never held.

A vocabulary is a hundred times as wide as a hidden state. So logits are computed for a block of tokens at a time and
again in the backward pass; what is kept of a token is its loss, and for some methods a few numbers more.

Legend: R rows, T tokens, N tokens with a loss, D width of a hidden state, V vocabulary, K tokens whose probability is
compared with the teacher's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from molsaki.models.estimates import LOGITS_HELD
from molsaki.training.batches import ForwardPass
from molsaki.training.next_tokens import compared_ids, kept_and_rest

LOGITS_HELD_ON_GPU = 1 << 27
"""The largest number of logits that a step on a GPU holds at a time; 512 MB in float32. A small product would read all
weights of the head too."""


@dataclass(frozen=True, slots=True)
class TokenOutputs:
    """What a forward pass of the student gives to its N tokens with a loss, with gradient.

    Attributes:
        losses_N: the cross-entropy of each.
        pooled_RV: each row's largest log-probabilities over its tokens; None if they were not asked for.
        kept_NK: log-probabilities of the tokens of `compared_ids`; None without next tokens.
        rest_N: the log-probability of all other tokens together; likewise.
    """

    losses_N: Tensor
    pooled_RV: Tensor | None = None
    kept_NK: Tensor | None = None
    rest_N: Tensor | None = None


class _Block(NamedTuple):
    """The same of some consecutive tokens; `pooled_PV` has a line for each of the P rows that they are of."""

    losses_N: Tensor
    pooled_PV: Tensor | None
    kept_NK: Tensor | None
    rest_N: Tensor | None


def read_tokens(
    head: Callable[[Tensor], Tensor],
    hidden_ND: Tensor,
    one: ForwardPass,
    vocabulary: int,
    *,
    pool: bool = False,
    temperature: float | None = None,
) -> TokenOutputs:
    """Compute the loss of every token, and what else a method needs of its logits.

    Args:
        head: logits [N, V] of hidden states.
        hidden_ND: the hidden states that predict the tokens.
        one: the forward pass, for the tokens.
        vocabulary: V.
        pool: each row's largest log-probabilities too.
        temperature: τ of the student's next-token distribution, if it is compared with the teacher's.
    """
    ids_NK = None if temperature is None or one.next_tokens is None else compared_ids(one.targets_N, one.next_tokens)
    row_of_N = [row for row, count in enumerate(one.tokens_of_rows) for _ in range(count)]
    held = LOGITS_HELD if hidden_ND.device.type == "cpu" else LOGITS_HELD_ON_GPU
    size = max(1, held // vocabulary)
    blocks: list[_Block] = []
    rows_P: list[int] = []
    for start in range(0, len(row_of_N), size):
        here = slice(start, start + size)
        rows = {row: len(list(same)) for row, same in itertools.groupby(row_of_N[here])}
        rows_P += rows
        ids = None if ids_NK is None else ids_NK[here]
        lengths = tuple(rows.values()) if pool else None
        inputs = (head, hidden_ND[here], one.targets_N[here], ids, lengths, temperature or 1.0)
        alone = len(row_of_N) <= size
        blocks.append(_read_block(*inputs) if alone else checkpoint(_read_block, *inputs, use_reentrant=False))
    return TokenOutputs(
        losses_N=torch.cat([block.losses_N for block in blocks]),
        pooled_RV=_largest_of_rows([block.pooled_PV for block in blocks], rows_P),
        kept_NK=_joined([block.kept_NK for block in blocks]),
        rest_N=_joined([block.rest_N for block in blocks]),
    )


def _read_block(
    head: Callable[[Tensor], Tensor],
    hidden_ND: Tensor,
    targets_N: Tensor,
    ids_NK: Tensor | None,
    lengths: tuple[int, ...] | None,
    temperature: float,
) -> _Block:
    """What some tokens give; `lengths` are the numbers of tokens of the rows to pool."""
    logits_NV = head(hidden_ND).float()
    kept_NK, rest_N = (None, None) if ids_NK is None else kept_and_rest(logits_NV, ids_NK, temperature)
    if lengths is None:
        return _Block(nn.functional.cross_entropy(logits_NV, targets_N, reduction="none"), None, kept_NK, rest_N)
    log_NV = logits_NV.log_softmax(1)
    losses_N = -log_NV.gather(1, targets_N[:, None]).squeeze(1)
    return _Block(losses_N, _largest(log_NV, lengths), kept_NK, rest_N)


def _largest(values_NV: Tensor, lengths: Sequence[int]) -> Tensor:
    """The largest values [P, V] of stretches of these lengths."""
    return torch.stack([some_NV.amax(0) for some_NV in torch.split(values_NV, list(lengths))])


def _largest_of_rows(parts: Sequence[Tensor | None], rows_P: Sequence[int]) -> Tensor | None:
    """The largest values [R, V] of each row; a row may have parts in several blocks."""
    pooled_PV = _joined(parts)
    return (
        None if pooled_PV is None else _largest(pooled_PV, [len(list(same)) for _, same in itertools.groupby(rows_P)])
    )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.cat(given) if given else None
