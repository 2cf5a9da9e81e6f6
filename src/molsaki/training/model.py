"""The student and its method as one module, which gives the loss of a batch and its parts.

Everything that needs the student's inside (its attention, its value states) happens inside `forward`, where data
parallelism, FSDP and mixed precision expect it; a router's parameters are wrapped, clipped and synchronised with
the student's.

Legend: R rows, T tokens, B examples with attention, E examples, N tokens that a loss is taken of, L layers, S steps,
K keys, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from molsaki.attention import AttentionReading, find_model, padded_on_the_right, read_spans
from molsaki.methods import TERM_OF_TASK, TERMS, AttentionPair, Method, MethodInputs, NextTokenPair, OutputPair, Task
from molsaki.models.logits import last_logits
from molsaki.training.next_tokens import meet

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
        self,
        passes: Sequence[Mapping[str, Any]],
        counts: Tensor,
        totals: Tensor | None = None,
        progress: float = 0.0,
    ) -> dict[str, Tensor]:
        """The loss of one batch and its parts.

        Args:
            passes: what runs together; see `Collator`.
            counts: how many items of each of `TERMS` the batch has.
            totals: the same of the whole optimiser step, if this is one of several accumulated batches; the parts
                are then this batch's shares of the step's means.
            progress: the share of the training's steps that are done.

        Returns:
            loss, and for every one of `TERMS` its `_loss` and `_share` (scalars, 0 for one that the method lacks).
        """
        items = dict(zip(TERMS, (counts if totals is None else totals).clamp_min(1), strict=True))
        shares = {term: 1.0 if totals is None else counts[i] / items[term] for i, term in enumerate(TERMS)}
        pair: AttentionPair | None = None
        next_tokens: NextTokenPair | None = None
        zero = torch.zeros((), device=counts.device)
        losses = dict.fromkeys(self.method.tasks, zero)
        pooled: dict[Task, Tensor] = {}
        for one in passes:
            reading, kept_NV = self._run(one)
            losses_N, pooled_RV = _token_losses(kept_NV, one, self.method.pools_outputs)
            for task, rows, tokens in _tasks(one["rows"]):
                losses[task] = losses[task] + losses_N[tokens].sum() / items[TERM_OF_TASK[task]]
                if pooled_RV is not None:
                    pooled[task] = pooled_RV[rows]
            if reading is not None:
                assert pair is None, "the examples with attention run in one pass"
                pair = _pair(one["attention"], reading, shares["attention"])
            if self.method.reads_logits and "next_tokens" in one:
                assert next_tokens is None, "the rationales run in one pass"
                temperature = self.method.temperature_of(self.method.settings)
                next_tokens = meet(kept_NV, one["next_tokens"], temperature, shares["logits"])
        outputs: OutputPair | None = None
        if "predict" in pooled and "explain" in pooled:
            outputs = OutputPair(pooled["predict"], pooled["explain"], shares["mutual"])
        # Attention and layer weights are read in float32; mixed precision would round them again.
        with torch.autocast(zero.device.type, enabled=False):
            parts = self.method(
                MethodInputs(
                    losses.get("predict"),
                    losses.get("explain"),
                    pair,
                    losses.get("reason"),
                    outputs,
                    progress,
                    next_tokens,
                )
            )
        given = {"loss": parts.total}
        for term in TERMS:
            given[f"{term}_loss"] = parts.terms.get(term, zero).detach()
            given[f"{term}_share"] = parts.shares.get(term, zero)
        return given

    def _run(self, one: Mapping[str, Any]) -> tuple[AttentionReading | None, Tensor]:
        """One forward pass: the reading, if the method wants one and there is one, and the logits [N, V] with a loss.

        Only the logits that predict one of the tokens are copied, so that no second [R, T, V] is held.
        """
        model = find_model(self.student)
        inputs = {
            "input_ids": one["input_ids"],
            "attention_mask": torch.ones_like(one["input_ids"]),
            **last_logits(model, one["logits_needed"]),
        }
        reading: AttentionReading | None = None
        with padded_on_the_right(model):
            if self.method.reads_attention and "attention" in one:
                spans, values, heads = one["attention"]["spans"], self.method.wants_values, self.method.wants_heads
                reading = read_spans(self.student, spans=spans, values=values, heads=heads, **inputs)
                outputs = reading.outputs
            else:
                outputs = self.student(use_cache=False, **inputs)
        # A model that knows no `logits_to_keep` gives those of all positions.
        logits = outputs.logits[:, -one["logits_needed"] :]
        return reading, logits.flatten(0, 1).index_select(0, one["positions"]).float()


def _pair(attention: Mapping[str, Any], reading: AttentionReading, share: float | Tensor) -> AttentionPair:
    return AttentionPair(
        teacher_BLSK=attention["teacher"],
        student_BLSK=reading.attention,
        values=tuple(reading.values or ()),
        token_mask_BT=attention["token_mask"],
        step_mask_BS=attention["step_mask"],
        key_mask_BK=attention["key_mask"],
        visible_BSK=attention["visible"],
        step_tokens_BS=attention["step_tokens"],
        share=share,
    )


def _tasks(rows: Sequence[tuple[Task, int]]) -> Iterator[tuple[Task, slice, slice]]:
    """Where each task's rows and their tokens lie; a task's rows lie together."""
    row = token = 0
    for task, group in groupby(rows, key=lambda row: row[0]):
        counts = [count for _, count in group]
        yield task, slice(row, row + len(counts)), slice(token, token + sum(counts))
        row, token = row + len(counts), token + sum(counts)


def _token_losses(kept_NV: Tensor, one: Mapping[str, Any], pools: bool) -> tuple[Tensor, Tensor | None]:
    """Cross-entropy of every token [N] and, if asked for, each row's largest log-probabilities [R, V].

    What is pooled is kept for the backward pass anyway.
    """
    if not pools:
        return nn.functional.cross_entropy(kept_NV, one["targets"], reduction="none"), None
    log_NV = kept_NV.log_softmax(1)
    pooled = [row_NV.amax(0) for row_NV in torch.split(log_NV, [count for _, count in one["rows"]])]
    return -log_NV.gather(1, one["targets"][:, None]).squeeze(1), torch.stack(pooled)
