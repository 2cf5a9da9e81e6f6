"""Collects a teacher's attention on a rationale chunk by chunk, in the form in which it is stored.

A compact row is built from steps that are complete, which are then forgotten: of a view of words, all words of all
layers together would take gigabytes.

Legend: R examples of a batch that have the signal, L layers (or the heads of all of them), S steps, K keys; n steps
and k keys of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from molsaki.methods.layers import mix_layers, teacher_layer_weights
from molsaki.methods.terms import LayerChange
from molsaki.spans.align import Alignment
from molsaki.store import attention_rows as rows
from molsaki.teacher.signals import Collector, PassOutput, Row


@dataclass(frozen=True, slots=True)
class LayerMix:
    """Stores the teacher's layers as their mixture by Eq. 4, with this temperature and this G.

    Attributes:
        temperature: τ1.
        change: G, see `molsaki.teacher_layer_weights`.
    """

    temperature: float = 0.1
    change: LayerChange = "sum"

    def mix(self, attention_LSK: Tensor, tokens: Alignment) -> Tensor:
        """The mixture [1, S, K]; steps and keys without a token of the teacher are left out of G."""
        step_mask = torch.ones(1, tokens.n_steps, dtype=torch.bool)
        key_mask = torch.ones(1, tokens.n_keys, dtype=torch.bool)
        step_mask[0, list(tokens.missing_steps)] = False
        key_mask[0, list(tokens.missing_keys)] = False
        whole = attention_LSK[None]
        weights = teacher_layer_weights(whole, step_mask, key_mask, self.temperature, change=self.change)
        return mix_layers(whole, weights)


@dataclass(frozen=True, slots=True)
class StoredForm:
    """How attention is stored.

    Attributes:
        dtype: of the numbers, `"float32"` or `"float16"`.
        mix: only the layers' mixture is stored; None for every layer.
        top: only this number of keys of each step, and the rest as one number; None for all keys.
    """

    dtype: str = "float32"
    mix: LayerMix | None = None
    top: int | None = None


class TextRow:
    """Collects the row of one text.

    Args:
        tokens: its steps and keys.
        form: how the row is stored.
    """

    def __init__(self, tokens: Alignment, form: StoredForm) -> None:
        self._tokens, self._form = tokens, form
        # [L, n, K], the sums so far of the steps from `_first` on; those before are in the compact row.
        self._first, self._sums_LSK = 0, torch.zeros(0, 0, tokens.n_keys)
        self._compact = None if form.top is None else rows.CompactRow(first_steps(tokens), form.top, form.dtype)

    def add(self, attention_LSK: Tensor, first_step: int, final_step: int) -> None:
        """Add a chunk's sums, as in `PassOutput`; steps and keys beyond those of the text are other texts'."""
        end = min(first_step + attention_LSK.shape[1], self._tokens.n_steps)
        keys = min(attention_LSK.shape[2], self._tokens.n_keys)
        self._reach(end, len(attention_LSK))
        if end > first_step:
            here = slice(first_step - self._first, end - self._first)
            self._sums_LSK[:, here, :keys] += attention_LSK[:, : end - first_step, :keys]
        # A mixture weighs its layers by all steps, so it is made at the end.
        if self._compact is not None and self._form.mix is None:
            self._complete(min(final_step, self._tokens.n_steps))

    def _reach(self, end: int, layers: int) -> None:
        """Make room for the steps before `end`; steps without a token stay 0."""
        more = end - self._first - self._sums_LSK.shape[1]
        if more > 0:
            room = torch.zeros(layers, more, self._tokens.n_keys)
            self._sums_LSK = torch.cat([self._sums_LSK, room], 1) if self._sums_LSK.numel() else room

    def _complete(self, final_step: int) -> None:
        self._reach(final_step, len(self._sums_LSK))
        complete = final_step - self._first
        if complete > 0:
            assert self._compact is not None
            self._compact.add(self._sums_LSK[:, :complete])
            self._first, self._sums_LSK = final_step, self._sums_LSK[:, complete:].clone()

    def row(self) -> Row:
        """The attention of the layers or their mixture, and the missing steps and keys."""
        tokens, form = self._tokens, self._form
        numbers = rows.pack_numbers(tokens.tokens_of_steps, tokens.missing_steps, tokens.missing_keys)
        if self._compact is None or form.mix is not None:
            self._reach(tokens.n_steps, len(self._sums_LSK))
        if form.mix is not None:
            self._sums_LSK = form.mix.mix(self._sums_LSK, tokens)
        if self._compact is not None:
            self._complete(tokens.n_steps)
            return self._compact.finish(numbers)
        row = {rows.ATTENTION: self._sums_LSK, **numbers}
        return row if form.dtype == "float32" else rows.with_error(row, form.dtype)


class AttentionRows(Collector):
    """Collects the rows of the texts of a batch.

    Args:
        texts: the row of each text; None for texts without the signal.
    """

    def __init__(self, texts: Sequence[TextRow | None]) -> None:
        self._texts = texts

    def add(self, output: PassOutput) -> None:
        """Add a chunk's sums to those of each text."""
        if output.attention is None:
            return
        each = iter(output.attention.float().cpu())  # [R, L, n, k], the texts that have the signal in their order
        for text in self._texts:
            if text is not None:
                text.add(next(each), output.first_step, output.final_step)

    def rows(self) -> list[Row | None]:
        """A row for each text."""
        return [None if text is None else text.row() for text in self._texts]


def first_steps(tokens: Alignment) -> Tensor:
    """For each key the first step that can see it, a LongTensor [K]; S for none.

    A step sees the keys that start at or before its last token, and those that the step before it sees; so does a step
    without a token.
    """
    ends_S = torch.full((tokens.n_steps,), -1)
    starts_K = torch.full((tokens.n_keys,), len(tokens.step_of_token))
    for position, step in enumerate(tokens.step_of_token):
        if step >= 0:
            ends_S[step] = position
    for position, key in reversed(list(enumerate(tokens.key_of_token))):
        if key >= 0:
            starts_K[key] = position
    return torch.searchsorted(ends_S.cummax(0).values, starts_K)
