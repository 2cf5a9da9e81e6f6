"""The student and its method as one module, which gives the loss of a batch and its parts.

Everything that needs the student's inside (its attention, its value states) happens inside `forward`, where data
parallelism, FSDP and mixed precision expect it; a router's parameters are wrapped, clipped and synchronised with
the student's.

Legend: R rows, T tokens, B examples with attention, N tokens that a loss is taken of, L layers, S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from molsaki.attention import Reading, find_model, padded_on_the_right, read_spans
from molsaki.logits import last_logits
from molsaki.methods import AttentionPair, Method, Seen

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        self, passes: Sequence[Mapping[str, Any]], counts: Tensor, totals: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The loss of one batch and its parts.

        Args:
            passes: what runs together; see `Collator`.
            counts: [3], label tokens, rationale tokens and attending examples of the batch.
            totals: [3], the same of the whole optimiser step, if this is one of several accumulated batches; the
                parts are then this batch's shares of the step's means.

        Returns:
            loss, label_loss, rationale_loss, attention_loss (scalars) and their shares.
        """
        items = (counts if totals is None else totals).clamp_min(1)
        pair: AttentionPair | None = None
        sums = []
        for one in passes:
            reading, logits = self._run(one)
            sums.append(_cross_entropies(logits, one))
            if reading is not None:
                assert pair is None, "the examples with attention run in one pass"
                share = 1.0 if totals is None else counts[2] / items[2]
                pair = _pair(one["attention"], reading, share)
        label_loss, rationale_loss = torch.stack(sums).sum(0) / items[:2]
        has_rationales = "explain" in self.method.tasks
        # Attention and layer weights are read in float32; mixed precision would round them again.
        with torch.autocast(label_loss.device.type, enabled=False):
            parts = self.method(Seen(label_loss, rationale_loss if has_rationales else None, pair))
        return {
            "loss": parts.total,
            "label_loss": parts.label.detach(),
            "rationale_loss": parts.rationale.detach(),
            "attention_loss": parts.attention.detach(),
            **{f"{name}_share": share for name, share in parts.shares.items()},
        }

    def _run(self, one: Mapping[str, Any]) -> tuple[Reading | None, Tensor]:
        """One forward pass: the reading, if the method wants one and there is one, and the logits that are needed."""
        model = find_model(self.student)
        inputs = {
            "input_ids": one["input_ids"],
            "attention_mask": torch.ones_like(one["input_ids"]),
            **last_logits(model, one["logits_needed"]),
        }
        reading: Reading | None = None
        with padded_on_the_right(model):
            if self.method.reads_attention and "attention" in one:
                reading = read_spans(self.student, spans=one["attention"]["spans"], values=True, **inputs)
                outputs = reading.outputs
            else:
                outputs = self.student(use_cache=False, **inputs)
        # A model that knows no `logits_to_keep` gives those of all positions.
        return reading, outputs.logits[:, -one["logits_needed"] :]


def _pair(attention: Mapping[str, Any], reading: Reading, share: float | Tensor) -> AttentionPair:
    assert reading.values is not None
    return AttentionPair(
        teacher_BLSK=attention["teacher"],
        student_BLSK=reading.attention,
        values=tuple(reading.values),
        token_mask_BT=attention["token_mask"],
        step_mask_BS=attention["step_mask"],
        key_mask_BK=attention["key_mask"],
        visible_BSK=attention["visible"],
        share=share,
    )


def _cross_entropies(logits: Tensor, one: Mapping[str, Any]) -> Tensor:
    """Summed cross-entropy of the labels' tokens and of the rationales' tokens, [2].

    Only the logits that predict one of them are copied, so that no second [R, T, vocabulary] is held.
    """
    losses_N = nn.functional.cross_entropy(
        logits.flatten(0, 1).index_select(0, one["positions"]).float(), one["targets"], reduction="none"
    )
    explains_N = one["explains"]
    return torch.stack([losses_N.masked_fill(explains_N, 0.0).sum(), losses_N.masked_fill(~explains_N, 0.0).sum()])
