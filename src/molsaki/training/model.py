"""The student and its method as one module, so that one forward pass gives the loss and its parts.

Everything that needs the student's inside (its attention, its value states) happens inside `forward`, where data
parallelism, FSDP and mixed precision expect it; a router's parameters are wrapped, clipped and synchronised with
the student's.

Legend: R rows, T tokens, B examples with attention, N tokens that a loss is taken of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from molsaki.attention import find_model, read_attention
from molsaki.encoding import IGNORED
from molsaki.logits import last_logits
from molsaki.methods import AttentionPair, Method, Seen
from molsaki.objectives import visible_keys

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREDICT_ROW, EXPLAIN_ROW = 0, 1


class DistillationModel(nn.Module):
    """A student together with its method.

    Args:
        student: any causal language model; its attention is read only if the method asks for it.
        method: how the loss is made of what a forward pass shows.
    """

    def __init__(self, student: PreTrainedModel, method: Method) -> None:
        super().__init__()
        self.student = student
        self.method = method

    @property
    def config(self) -> Any:
        """The student's configuration, which the Trainer looks at."""
        return self.student.config

    def __getattr__(self, name: str) -> Any:
        """Whatever the Trainer asks a model about activation checkpointing, under its old and new names."""
        if "checkpointing" in name and "student" in self._modules:
            return getattr(self._modules["student"], name)
        return super().__getattr__(name)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        task: Tensor,
        step_of_token: Tensor | None = None,
        key_of_token: Tensor | None = None,
        attends: Tensor | None = None,
        teacher_attention: Tensor | None = None,
        step_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        logits_needed: int | None = None,
        totals: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The loss of one batch and its parts.

        Args:
            input_ids: [R, T], padded on the right.
            attention_mask: [R, T], 1 at real tokens.
            labels: [R, T], `IGNORED` where no loss is taken.
            task: [R], `PREDICT_ROW` or `EXPLAIN_ROW`.
            step_of_token: [R, T], −1 for none.
            key_of_token: [R, T], likewise.
            attends: [B], the rows that have the teacher's attention.
            teacher_attention: [B, L, S, K] of these rows, in their order.
            step_mask: [B, S], True at real steps.
            key_mask: [B, K], True at real keys.
            logits_needed: how many positions at the end hold all that the labels are predicted from; T by default.
            totals: label tokens, rationale tokens and attending examples of the whole optimiser step, if this is
                one of several accumulated batches; the parts are then this batch's shares of the step's means.

        Returns:
            loss, label_loss, rationale_loss, attention_loss (scalars) and their shares.
        """
        pair: AttentionPair | None = None
        keep = last_logits(find_model(self.student), input_ids.shape[1] if logits_needed is None else logits_needed)
        if self.method.reads_attention and teacher_attention is not None:
            assert step_of_token is not None
            assert key_of_token is not None
            assert attends is not None
            assert step_mask is not None
            assert key_mask is not None
            reading = read_attention(
                self.student,
                input_ids,
                attention_mask,
                step_of_token,
                key_of_token,
                rows=attends,
                steps=step_mask.shape[1],
                keys=key_mask.shape[1],
                values=True,
                **keep,
            )
            assert reading.values is not None
            logits = reading.outputs.logits
            pair = AttentionPair(
                teacher_BLSK=teacher_attention,
                student_BLSK=reading.attention,
                values=tuple(reading.values),
                token_mask_BT=attention_mask[attends],
                step_mask_BS=step_mask,
                key_mask_BK=key_mask,
                visible_BSK=visible_keys(
                    step_of_token[attends], key_of_token[attends], step_mask.shape[1], key_mask.shape[1]
                ),
                share=1.0 if totals is None else teacher_attention.shape[0] / totals[2],
            )
        else:
            outputs = self.student(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **keep)
            logits = outputs.logits
        label_loss, rationale_loss = self._cross_entropies(logits, labels, task, totals)
        has_rationales = "explain" in self.method.tasks
        # Attention and layer weights are read in float32; mixed precision would round them again.
        with torch.autocast(logits.device.type, enabled=False):
            parts = self.method(Seen(label_loss, rationale_loss if has_rationales else None, pair))
        return {
            "loss": parts.total,
            "label_loss": parts.label.detach(),
            "rationale_loss": parts.rationale.detach(),
            "attention_loss": parts.attention.detach(),
            **{f"{name}_share": share for name, share in parts.shares.items()},
        }

    @staticmethod
    def _cross_entropies(logits: Tensor, labels: Tensor, task: Tensor, totals: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of the labels' tokens and of the rationales' tokens.

        Only the logits that predict one of them are copied, so that no second [R, T, vocabulary] is held.
        """
        positions = logits.shape[1]
        targets = nn.functional.pad(labels[:, labels.shape[1] - positions + 1 :], (0, 1), value=IGNORED).flatten()
        counted_N = (targets != IGNORED).nonzero().squeeze(1)
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1).index_select(0, counted_N).float(), targets[counted_N], reduction="none"
        )
        explains = task[counted_N // positions] == EXPLAIN_ROW
        sums = torch.stack([losses.masked_fill(explains, 0.0).sum(), losses.masked_fill(~explains, 0.0).sum()])
        counts = torch.stack([(~explains).sum(), explains.sum()]) if totals is None else totals[:2]
        means = sums / counts.clamp_min(1)
        return means[0], means[1]


def count_items(batch: Mapping[str, Tensor]) -> Tensor:
    """How much of each thing a batch has: label tokens, rationale tokens, examples with attention."""
    counted = batch["labels"][:, 1:] != IGNORED
    explains = (batch["task"] == EXPLAIN_ROW)[:, None]
    attention = batch.get("teacher_attention")
    explained = (counted & explains).sum()
    attending = torch.full_like(explained, 0 if attention is None else attention.shape[0])
    return torch.stack([counted.sum() - explained, explained, attending])
