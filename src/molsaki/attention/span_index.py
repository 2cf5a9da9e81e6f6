"""The tokens of each step and key as tensors, in the form that the sums over attention need.

Legend: B batch, R examples of the batch that take part, T tokens, J key tokens, S steps, K keys.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from molsaki.errors import InputError


@dataclass(frozen=True, eq=False)
class SpanIndex:
    """The steps and keys of the examples that are read. Compared and hashed by identity.

    The sums over steps and keys have S + 1 and K + 1 slots. The last one collects the tokens of no step and the
    padding of key tokens, and is dropped.

    Attributes:
        step_RT: the step of each token; S for a token of no step.
        key_position_RJ: the positions of the example's key tokens, in order; padded with 0.
        key_RJ: the key of each key token; padded with K.
        steps: S.
        keys: K.
        examples: B.
        rows: the indices of the examples within the batch; None for all.
        begins: begins[j] is the smallest position of a (j + 1)-th key token over all examples; on the CPU, so that
            blocks of tokens leave out later key tokens without a device sync.
    """

    step_RT: Tensor
    key_position_RJ: Tensor
    key_RJ: Tensor
    steps: int
    keys: int
    examples: int
    rows: slice | Tensor | None
    begins: tuple[int, ...]

    @cached_property
    def in_a_step(self) -> Tensor:
        """[R, T, 1], 1 at tokens of some step, else 0."""
        return (self.step_RT < self.steps).float()[:, :, None]

    @cached_property
    def seen_causally(self) -> Tensor:
        """[R, T, J], 1 where a token of some step is the key token or a later token, else 0."""
        position_T = torch.arange(self.step_RT.shape[1], device=self.step_RT.device)
        attends_RTJ = position_T[None, :, None] >= self.key_position_RJ[:, None, :]
        return attends_RTJ * self.in_a_step

    def to(self, device: torch.device) -> SpanIndex:
        """Copy the spans to a device, for the layers there."""
        if self.step_RT.device == device:
            return self
        tensors = {name: getattr(self, name).to(device) for name in ("step_RT", "key_position_RJ", "key_RJ")}
        rows = self.rows.to(device) if isinstance(self.rows, Tensor) else self.rows
        return replace(self, rows=rows, **tensors)

    def part(self, first: int, end: int) -> tuple[SpanIndex, int]:
        """The steps of the tokens from `first` to `end` on the keys before `end`, the only ones that they see.

        Returns:
            The part, whose steps and keys are those from the first to the last that it has, and its first step.
        """
        step_RT = self.step_RT[:, first:end]
        none = step_RT == self.steps
        first_step = min(int(step_RT.min()), self.steps - 1)
        steps = max(1, int(step_RT.masked_fill(none, -1).max()) + 1 - first_step)
        # Positions are in order, and their padding of 0 has the key K; so the key tokens before `end` come first.
        before_RJ = (self.key_position_RJ < end) & (self.key_RJ < self.keys)
        most = max(1, int(before_RJ.sum(1).max()))
        keys = max(1, int(self.key_RJ.masked_fill(~before_RJ, -1).max()) + 1)
        part = replace(
            self,
            step_RT=(step_RT - first_step).masked_fill(none, steps),
            key_position_RJ=self.key_position_RJ.masked_fill(~before_RJ, 0)[:, :most],
            key_RJ=self.key_RJ.masked_fill(~before_RJ, keys)[:, :most],
            steps=steps,
            keys=keys,
            begins=self.begins[:most],
        )
        return part, first_step

    def key_tokens_before(self, end: int) -> int:
        """The largest number of key tokens that an example has before a position; at least 1."""
        return max(1, bisect.bisect_left(self.begins, end))

    def first_step_after(self, position: int) -> int:
        """The first step with a token at or after a position; S if there is none."""
        return int(self.step_RT[:, position:].min()) if position < self.step_RT.shape[1] else self.steps

    def take(self, batch: Tensor) -> Tensor:
        """Select the examples: [B, ...] to [R, ...]. A tensor of one row that all examples share stays as it is."""
        if self.rows is None or (batch.shape[0] == 1 and self.examples != 1):
            return batch
        return batch[self.rows]


@dataclass(frozen=True)
class SpanRequest:
    """A request for every layer's attention, summed over the tokens of steps and keys.

    Attributes:
        spans: the steps and keys.
        heads: return each head, not the mean over a layer's heads.
    """

    spans: SpanIndex
    heads: bool = False

    def to(self, device: torch.device) -> SpanRequest:
        """Copy the request to a device, for the layers there."""
        return replace(self, spans=self.spans.to(device))


def make_span_index(
    step_of_token_BT: Tensor,
    key_of_token_BT: Tensor,
    attention_mask_BT: Tensor | None,
    rows: Tensor | None = None,
    steps: int | None = None,
    keys: int | None = None,
) -> SpanIndex:
    """Check the spans of a batch and convert them to a `SpanIndex`.

    Args:
        step_of_token_BT: LongTensor, the step of each token, −1 for none.
        key_of_token_BT: LongTensor, the key of each token, −1 for none.
        attention_mask_BT: 1 at real tokens; None if all tokens are real.
        rows: the examples to read, as indices or as a bool mask [B]; None for all.
        steps: S; the largest index + 1 by default.
        keys: K; the largest index + 1 by default.

    Raises:
        InputError: shapes or types are wrong, an index is below −1 or above S − 1 or K − 1, no token has a step, no
            token has a key, or a span covers padding. The message names the example.
    """
    shape = step_of_token_BT.shape
    for name, spans in (("step_of_token", step_of_token_BT), ("key_of_token", key_of_token_BT)):
        if spans.dim() != 2 or spans.shape != shape or spans.dtype != torch.long:
            raise InputError(
                f"Expected step_of_token and key_of_token as LongTensors of one shape [B, T]; {name} is "
                f"{spans.dtype} {list(spans.shape)}. The tokens' attention could not be summed."
            )
    if attention_mask_BT is not None and (attention_mask_BT.dim() != 2 or attention_mask_BT.shape != shape):
        raise InputError(
            f"Expected an attention mask [B, T] = {list(shape)} like the spans; got "
            f"{list(attention_mask_BT.shape)}. Pad spans (with −1) and mask together."
        )
    selected = None if rows is None else _as_rows(rows, shape[0])
    step_RT, key_RT = _select(step_of_token_BT, selected), _select(key_of_token_BT, selected)
    real_RT = None if attention_mask_BT is None else _select(attention_mask_BT, selected).bool()
    steps, keys, most = _check_indices(step_RT, key_RT, real_RT, steps, keys)
    # J, here `most`, is the largest number of key tokens in an example. A stable sort of "is not a key token" puts the
    # key tokens first, in their order.
    position_RJ = torch.argsort((key_RT < 0).int(), dim=1, stable=True)[:, :most]
    key_RJ = key_RT.gather(1, position_RJ)
    # Every example's positions are in order, so the smallest of each column are too.
    begins = position_RJ.masked_fill(key_RJ < 0, step_RT.shape[1]).amin(0).tolist()
    position_RJ = position_RJ.masked_fill(key_RJ < 0, 0)
    return SpanIndex(
        step_RT=step_RT.masked_fill(step_RT < 0, steps),
        key_position_RJ=position_RJ,
        key_RJ=key_RJ.masked_fill(key_RJ < 0, keys),
        steps=steps,
        keys=keys,
        examples=shape[0],
        rows=selected,
        begins=tuple(begins),
    )


def _as_rows(rows: Tensor, batch_size: int) -> slice | Tensor:
    index = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
    wrong_mask = rows.dtype == torch.bool and rows.shape != (batch_size,)
    if wrong_mask or index.dim() != 1 or index.is_floating_point() or index.numel() == 0:
        raise InputError(
            f"Expected rows as a bool mask [{batch_size}] or as indices of at least one example; got {rows.dtype} "
            f"{list(rows.shape)} with {index.numel()} examples."
        )
    listed = index.tolist()
    if min(listed) < 0 or max(listed) >= batch_size or len(set(listed)) != len(listed):
        raise InputError(f"Expected rows to be different examples from 0 to {batch_size - 1}; got {listed}.")
    if listed == list(range(listed[0], listed[0] + len(listed))):
        return slice(listed[0], listed[0] + len(listed))
    return index


def _select(batch: Tensor, rows: slice | Tensor | None) -> Tensor:
    return batch if rows is None else batch[rows]


def _check_indices(
    step_RT: Tensor, key_RT: Tensor, real_RT: Tensor | None, steps: int | None, keys: int | None
) -> tuple[int, int, int]:
    """S, K and J, the largest number of key tokens in an example, of spans that pass the checks."""
    on_padding_R = torch.zeros(step_RT.shape[0], dtype=torch.bool, device=step_RT.device)
    if real_RT is not None:
        on_padding_R = (((step_RT >= 0) | (key_RT >= 0)) & ~real_RT).any(1)
    # One device sync for all checks, instead of one for each.
    facts = torch.stack(
        [
            step_RT.min(),
            key_RT.min(),
            step_RT.max(),
            key_RT.max(),
            (key_RT >= 0).sum(1).max(),
            on_padding_R.any(),
        ]
    ).tolist()
    lowest, last_step, last_key, most, padded = min(facts[:2]), *facts[2:]
    if lowest < -1:
        raise InputError(f"Expected step and key indices of at least −1 (for none); got {lowest}.")
    if last_step < 0 or last_key < 0:
        raise InputError(
            f"Expected a token with a step and a token with a key in the batch; none has a "
            f"{'step' if last_step < 0 else 'key'}. There is no stepwise attention to read; check the spans."
        )
    if padded:
        raise InputError(
            f"Expected steps and keys on real tokens; example {int(on_padding_R.nonzero()[0])} has them on padding. "
            f"Spans and tokens were padded on different sides, or belong to different texts."
        )
    if (steps is not None and steps <= last_step) or (keys is not None and keys <= last_key):
        raise InputError(
            f"Expected at least {last_step + 1} steps and {last_key + 1} keys for the indices that the tokens have; "
            f"got {steps} and {keys}."
        )
    return last_step + 1 if steps is None else steps, last_key + 1 if keys is None else keys, most
