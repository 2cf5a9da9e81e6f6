"""The student and its method as one module, which computes the loss of a batch and its terms.

Everything that needs the inside of the student (its attention, its value states) happens in `forward`, as data
parallelism, FSDP and mixed precision expect; a router's parameters are wrapped, clipped and synchronised with the
student's.

Legend: R rows, T tokens, N tokens with a loss, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from molsaki.attention import AttentionReading, find_model, padded_on_the_right, read_spans
from molsaki.methods import AttentionPair, Method, MethodInputs, NextTokenPair, OutputPair, Task
from molsaki.models.logits import last_logits
from molsaki.training.batches import AttentionTargets, Batch, ForwardPass
from molsaki.training.next_tokens import next_token_pair

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

Share = float | Tensor
"""The number of a batch's items over that of the whole optimiser step."""


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
            totals: the counts of the whole optimiser step, if this is one of several accumulated batches. The losses
                are then this batch's shares of the step's means.
            progress: share of the training steps that are done.
            term: make `loss` this weighted term alone, for its gradient.

        Returns:
            `loss`, and for each term of the method `<term>_loss` and `<term>_share` (scalars).
        """
        names = [term.name for term in self.method.terms]
        items = dict(zip(names, (batch.counts if totals is None else totals).clamp_min(1), strict=True))
        shares = {name: 1.0 if totals is None else batch.counts[i] / items[name] for i, name in enumerate(names)}
        items_of_task = {term.tasks[0]: items[term.name] for term in self.method.terms if term.needs is None}
        zero = torch.zeros((), device=batch.counts.device)
        parts = _Parts(dict.fromkeys(items_of_task, zero))
        for one in batch.passes:
            self._add(parts, one, items_of_task, shares)
        outputs = None
        if "predict" in parts.pooled and "explain" in parts.pooled:
            outputs = OutputPair(parts.pooled["predict"], parts.pooled["explain"], shares["mutual"])
        # Attention and layer weights are read in float32; mixed precision would round them again.
        with torch.autocast(zero.device.type, enabled=False):
            losses = self.method(MethodInputs(parts.losses, parts.attention, outputs, parts.next_tokens, progress))
        given = {"loss": losses.total if term is None else losses.weighted[term]}
        for name in names:
            given[f"{name}_loss"] = losses.terms[name].detach()
            given[f"{name}_share"] = losses.shares[name]
        return given

    def _add(
        self, parts: _Parts, one: ForwardPass, items_of_task: dict[Task, Tensor], shares: dict[str, Share]
    ) -> None:
        """Run a pass, and add what it gives."""
        terms = self.method.terms
        reading, logits_NV = self._run(one)
        losses_N, pooled_RV = _token_losses(logits_NV, one, terms.pooled_outputs is not None)
        for rows in one.tasks:
            if rows.task in items_of_task:
                mean = losses_N[rows.tokens].sum() / items_of_task[rows.task]
                parts.losses[rows.task] = parts.losses[rows.task] + mean
            if pooled_RV is not None:
                parts.pooled[rows.task] = pooled_RV[rows.rows]
        if reading is not None:
            assert parts.attention is None, "the examples with attention run in one pass"
            assert one.attention is not None
            parts.attention = attention_pair(one.attention, reading, shares["attention"])
        if terms.next_tokens is not None and one.next_tokens is not None:
            assert parts.next_tokens is None, "the rationales run in one pass"
            temperature = terms.next_tokens.temperature
            parts.next_tokens = next_token_pair(
                logits_NV, one.targets_N, one.next_tokens, temperature, shares["logits"]
            )

    def _run(self, one: ForwardPass) -> tuple[AttentionReading | None, Tensor]:
        """One forward pass: the student's attention if a term needs it, and the logits [N, V] with a loss.

        Only the logits with a loss are copied, so that no second [R, T, V] is held.
        """
        model = find_model(self.student)
        inputs = {
            "input_ids": one.input_ids_RT,
            "attention_mask": torch.ones_like(one.input_ids_RT),
            **last_logits(model, one.logits_needed),
        }
        reading: AttentionReading | None = None
        choice = self.method.terms.attention
        with padded_on_the_right(model):
            if choice is not None and one.attention is not None:
                reading = read_spans(
                    self.student,
                    spans=one.attention.spans,
                    values=choice.values,
                    heads=choice.view.heads,
                    **inputs,
                )
                outputs = reading.outputs
            else:
                outputs = self.student(use_cache=False, **inputs)
        # A model without `logits_to_keep` gives those of all positions.
        logits = outputs.logits[:, -one.logits_needed :]
        return reading, logits.flatten(0, 1).index_select(0, one.positions_N).float()


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


def _token_losses(logits_NV: Tensor, one: ForwardPass, pool: bool) -> tuple[Tensor, Tensor | None]:
    """The cross-entropy of every token [N] and, if asked for, each row's largest log-probabilities [R, V].

    What is pooled is kept for the backward pass anyway.
    """
    if not pool:
        return nn.functional.cross_entropy(logits_NV, one.targets_N, reduction="none"), None
    log_NV = logits_NV.log_softmax(1)
    # The tokens of a row lie together: split N into rows, and take the maximum over each row's positions.
    pooled = [row_NV.amax(0) for row_NV in torch.split(log_NV, list(one.tokens_of_rows))]
    return -log_NV.gather(1, one.targets_N[:, None]).squeeze(1), torch.stack(pooled)
