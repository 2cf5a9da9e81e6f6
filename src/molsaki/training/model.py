"""The student and its method as one module, which computes the loss of a batch and its terms.

Everything that needs the inside of the student (its attention, its value states) happens in `forward`, as data
parallelism, FSDP and mixed precision expect; a router's parameters are wrapped, clipped and synchronised with the
student's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from molsaki.attention import AttentionReading, find_model, padded_on_the_right, read_spans
from molsaki.methods import AttentionPair, Method, MethodInputs, NextTokenPair, OutputPair, Task
from molsaki.methods.terms import AttentionChoice, NextTokens, PooledOutputs
from molsaki.models.head import keep_hidden_states
from molsaki.models.logits import last_logits
from molsaki.training.batches import AttentionTargets, Batch, ForwardPass
from molsaki.training.next_tokens import next_token_pair
from molsaki.training.token_outputs import TokenOutputs, read_tokens

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

Share = float | Tensor
"""The number of a batch's items over that of the whole optimizer step."""


@dataclass
class _Parts:
    """What the passes over a batch have given so far."""

    losses: dict[Task, Tensor]
    pooled: dict[Task, Tensor] = field(default_factory=dict)
    attention: AttentionPair | None = None
    next_tokens: NextTokenPair | None = None


class DistillationModel(nn.Module):
    """A student together with its method.

    Args:
        student: any causal language model, bare or with an adapter of peft; its attention is read only if a term of the
            method needs it.
        method: computes the loss from what a forward pass gives.
    """

    def __init__(self, student: PreTrainedModel | PeftModel, method: Method[Any]) -> None:
        super().__init__()
        self.student = student
        self.method = method

    @property
    def config(self) -> Any:
        """The student's configuration, which the Trainer looks at."""
        return self.student.config

    def __getattr__(self, name: str) -> Any:
        """Forward the Trainer's questions about activation checkpointing, under its old and new names."""
        if "checkpointing" in name and "student" in self._modules:
            return getattr(self._modules["student"], name)
        return super().__getattr__(name)

    def forward(
        self, batch: Batch, totals: Tensor | None = None, progress: float = 0.0, term: str | None = None
    ) -> dict[str, Tensor]:
        """The loss of one batch and its terms.

        Args:
            batch: from a `Collator` with the terms of this method.
            totals: the counts of the whole optimizer step, if this is one of several accumulated batches. The losses
                are then this batch's shares of the step's means.
            progress: share of the training steps that are done.
            term: make `loss` this weighted term alone, for its gradient; passes without its tasks are not run.

        Returns:
            `loss`, and for each term of the method `<term>_loss` and `<term>_share` (scalars).
        """
        names = [term.name for term in self.method.terms]
        items = dict(zip(names, (batch.counts if totals is None else totals).clamp_min(1), strict=True))
        shares = {name: 1.0 if totals is None else batch.counts[i] / items[name] for i, name in enumerate(names)}
        share_of = {type(term.needs): shares[term.name] for term in self.method.terms}
        items_of_task = {term.tasks[0]: items[term.name] for term in self.method.terms if term.needs is None}
        zero = torch.zeros((), device=batch.counts.device)
        parts = _Parts(dict.fromkeys(items_of_task, zero))
        wanted = {task for one in self.method.terms if term in (None, one.name) for task in one.tasks}
        for one in batch.passes:
            if any(rows.task in wanted for rows in one.tasks):
                self._add(parts, one, items_of_task, share_of)
        outputs = None
        if "predict" in parts.pooled and "explain" in parts.pooled:
            outputs = OutputPair(parts.pooled["predict"], parts.pooled["explain"], share_of[PooledOutputs])
        # Attention and layer weights are read in float32; mixed precision would round them again.
        with torch.autocast(zero.device.type, enabled=False):
            losses = self.method(MethodInputs(parts.losses, parts.attention, outputs, parts.next_tokens, progress))
        given = {"loss": losses.total if term is None else losses.weighted[term]}
        for name in names:
            given[f"{name}_loss"] = losses.terms[name].detach()
            given[f"{name}_share"] = losses.shares[name]
        return given

    def _add(
        self, parts: _Parts, one: ForwardPass, items_of_task: dict[Task, Tensor], share_of: dict[type, Share]
    ) -> None:
        """Run a pass, and add what it gives."""
        reading, tokens = self._run(one)
        for rows in one.tasks:
            if rows.task in items_of_task:
                mean = tokens.losses_N[rows.tokens].sum() / items_of_task[rows.task]
                parts.losses[rows.task] = parts.losses[rows.task] + mean
            if tokens.pooled_RV is not None:
                parts.pooled[rows.task] = tokens.pooled_RV[rows.rows]
        if reading is not None:
            assert parts.attention is None, "the examples with attention run in one pass"
            assert one.attention is not None
            parts.attention = attention_pair(one.attention, reading, share_of[AttentionChoice])
        if one.next_tokens is not None and tokens.kept_NK is not None and tokens.rest_N is not None:
            assert parts.next_tokens is None, "the rationales run in one pass"
            parts.next_tokens = next_token_pair(tokens.kept_NK, tokens.rest_N, one.next_tokens, share_of[NextTokens])

    def _run(self, one: ForwardPass) -> tuple[AttentionReading | None, TokenOutputs]:
        """One forward pass: the student's attention if a term needs it, and what the tokens with a loss give."""
        model, terms = find_model(self.student), self.method.terms
        inputs = {
            "input_ids": one.input_ids_RT,
            "attention_mask": torch.ones_like(one.input_ids_RT),
            **last_logits(model, 1),
        }
        reading: AttentionReading | None = None
        with padded_on_the_right(model), keep_hidden_states(model) as states:
            if terms.attention is not None and one.attention is not None:
                reading = read_spans(
                    self.student,
                    spans=one.attention.spans,
                    values=terms.attention.values,
                    heads=terms.attention.view.heads,
                    **inputs,
                )
                outputs = reading.outputs
            else:
                outputs = self.student(use_cache=False, **inputs)
        return reading, read_tokens(
            states.logits,
            states.at(one.positions_N, one.input_ids_RT.shape[1]),
            one,
            vocabulary=outputs.logits.shape[-1],
            pool=terms.pooled_outputs is not None,
            temperature=None if terms.next_tokens is None else terms.next_tokens.temperature,
        )


def attention_pair(targets: AttentionTargets, reading: AttentionReading, share: Share) -> AttentionPair:
    """The teacher's targets beside what a forward pass of the student gave on the same steps and keys."""
    return AttentionPair(
        teacher_BLSK=targets.teacher_BLSK,
        student_BLSK=reading.attention,
        values=tuple(reading.values or ()),
        token_mask_BT=targets.token_mask_BT,
        step_mask_BS=targets.step_mask_BS,
        key_mask_BK=targets.key_mask_BK,
        visible_BSK=targets.visible_BSK,
        step_tokens_BS=targets.step_tokens_BS,
        share=share,
    )
