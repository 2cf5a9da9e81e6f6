"""The attention loss for a training loop of your own: the teacher's signals and a loss module.

`DistillationTrainer` trains with molsaki's methods, prompts and order. A loop that has its own (a plain PyTorch loop,
another trainer) needs two things of molsaki: batches that know which token belongs to which step and key
(`span_collator.py`), and the loss between the teacher's stepwise attention and the student's.

Legend: R rows of a batch, B rows with the teacher's attention, T tokens, L layers, S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from molsaki.attention import find_model, read_spans
from molsaki.config.load import list_errors
from molsaki.errors import InputError
from molsaki.methods.molsaki import MoLSAKI, MoLSAKISettings
from molsaki.methods.terms import AttentionChoice
from molsaki.records import Problem, RowReport
from molsaki.spans.text import Text
from molsaki.store.attention_rows import ATTENTION, mixture_rule
from molsaki.store.signal_reader import SignalStore
from molsaki.training.make_method import make_method
from molsaki.training.model import attention_pair

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from molsaki.training.batches import AttentionTargets


@dataclass(frozen=True, slots=True)
class Signals:
    """A teacher's stepwise attention and the texts that it was read on. `molsaki.load_signals` opens one.

    Example:
        >>> import molsaki
        >>> signals = molsaki.load_signals("runs/pocket")
        >>> len(signals) > 0, signals.teacher_layers
        (True, 4)

    Attributes:
        texts: question and rationale by row id.
        attention: the attention of the same rows, on disk; a row is read when a batch needs it.
        problems: the questions with their answers and labels, by row id; empty for an export that has only hashes.
        report: counts of the rows of an export, with the reasons of those that cannot be used.
    """

    texts: Mapping[str, Text]
    attention: SignalStore
    problems: Mapping[str, Problem] = field(default_factory=dict)
    report: RowReport = field(default_factory=RowReport)

    @property
    def teacher_layers(self) -> int:
        """L, the number of layers in a row."""
        return int(self.attention.schema[ATTENTION].shape[0])

    def __len__(self) -> int:
        return len(self.texts)


class StepwiseAttentionLoss(nn.Module):
    r"""L_att (Eq. 2 to 7 of the MoLSAKI paper) as a module, with the router of the student's layers (Eq. 5).

    Call it instead of the model: it runs one forward pass and returns the model's outputs and L_att. Its own parameters
    (the router) are trained together with the student's: add `parameters()` to the optimizer. With several processes,
    average their gradients over these before each optimizer step: a DistributedDataParallel around the student does
    so for the student's alone.

    Example:
        >>> import molsaki
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> from molsaki.data.pocket import STUDENT
        >>> signals = molsaki.load_signals("runs/pocket")
        >>> student = AutoModelForCausalLM.from_pretrained(STUDENT)
        >>> collate = molsaki.SpanCollator(AutoTokenizer.from_pretrained(STUDENT), signals)
        >>> loss = molsaki.StepwiseAttentionLoss(student, signals)
        >>> text = next(iter(signals.texts.values()))
        >>> batch = collate([{"id": text.id, "prompt": f"Q: {text.question}\nA:", "completion": f" {text.rationale}"}])
        >>> outputs, attention_loss = loss(student, **batch)
        >>> (outputs.loss + attention_loss).backward()

    Args:
        student: the student, bare or wrapped; only its sizes are used, and it does not become a submodule.
        signals: the teacher's attention.
        **settings: settings of the method `molsaki`, such as `kl_temperature`; see `docs/recipe_keys.md`. What is
            learned (`sequences`), weights of the loss and learning rates (`alpha`, `beta`, `beta_schedule`,
            `router_learning_rate`) are the loop's.

    Raises:
        InputError: a setting is unknown or impossible, is the loop's, or asks for another mixture of the teacher's
            layers than the one that the signals hold.
        UnreadableModelError: the student's attention cannot be read.
    """

    def __init__(self, student: PreTrainedModel, signals: Signals, **settings: Any) -> None:
        super().__init__()
        if not isinstance(signals, Signals):
            raise InputError(
                f"Expected the signals that `molsaki.load_signals` opens; got a {type(signals).__name__}. No loss was "
                "created; open the run or the export with it."
            )
        try:
            parsed = MoLSAKISettings(**settings)
        except ValidationError as error:
            problems = "; ".join(list_errors(error, MoLSAKISettings, top="the settings"))
            raise InputError(
                f"Expected settings of the method molsaki; got {settings}. {problems}. No loss was created; see "
                "docs/recipe_keys.md for the settings and their values."
            ) from error
        loops_own = sorted({"sequences", "alpha", "beta", "beta_schedule", "router_learning_rate"} & settings.keys())
        if loops_own:
            raise InputError(
                f"Expected settings of the attention loss alone; got {', '.join(loops_own)}, which would have no "
                "effect here. No loss was created; weight the loss in your loop, and give the router's parameters "
                "their rate in the optimizer."
            )
        choice = MoLSAKI.terms_of(parsed).attention
        assert choice is not None
        if replace(choice, values=False) != AttentionChoice():
            raise InputError(
                f"Expected settings that compare the teacher's steps and keys as `SpanCollator` batches them; got "
                f"{settings}. No loss was created; leave out target, columns, keys, steps, step_pool, rows and heads, "
                "or train with DistillationTrainer."
            )
        _require_mixture(signals, parsed)
        self.method = make_method(MoLSAKI, parsed, find_model(student), signals.teacher_layers)
        self.choice = self.method.terms.attention

    def forward(
        self,
        student: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        attention: Any = None,
        *,
        examples: int | Tensor | None = None,
        **model_inputs: Any,
    ) -> LossOutput:
        """One forward pass of the student, and L_att.

        Args:
            student: the student, bare or wrapped, on the device of the batch.
            input_ids: LongTensor [R, T].
            attention_mask: [R, T], 1 at real tokens.
            attention: the batch's `attention` from a `SpanCollator`; with None, L_att is 0. It belongs to the rows and
                tokens of that batch in their order, with padding on the right.
            examples: number of rows with the teacher's attention over all accumulated batches of the optimizer step,
                if this is one of several; L_att is then this batch's share of the mean over all of them. With several
                processes, whose gradients are averaged, give that of all processes, and multiply L_att by how many they
                are.
            **model_inputs: passed to the model, such as `labels`.

        Returns:
            The model's outputs, and L_att: a scalar with gradients to the student and to the router.

        Raises:
            InputError: as `read_attention`; or the batch is not as it was collated, or `examples` is too small.
        """
        if attention is None:
            inputs = {"use_cache": False, **model_inputs}
            outputs = student(input_ids=input_ids, attention_mask=attention_mask, **inputs)
            return LossOutput(outputs, outputs.logits.new_zeros((), dtype=torch.float32))
        assert self.choice is not None
        _require_collated(attention, input_ids, attention_mask)
        # The number on a GPU is not looked at, which would force a sync.
        on_gpu = isinstance(examples, Tensor) and examples.device.type != "cpu"
        if examples is not None and not on_gpu and not examples >= len(attention.teacher_BLSK):
            raise InputError(
                f"Expected the number of rows with the teacher's attention over all accumulated batches as `examples`, "
                f"at least the {len(attention.teacher_BLSK)} of this one; got {examples}. No loss was computed."
            )
        targets = attention.to(input_ids.device)
        reading = read_spans(
            student,
            input_ids,
            attention_mask,
            spans=targets.spans,
            values=self.choice.values,
            heads=self.choice.view.heads,
            **model_inputs,
        )
        share = 1.0 if examples is None else len(targets.teacher_BLSK) / examples
        # Attention and layer weights are read in float32; mixed precision would round them again.
        with torch.autocast(input_ids.device.type, enabled=False):
            return LossOutput(reading.outputs, self.method.attention_loss(attention_pair(targets, reading, share)))


def _require_mixture(signals: Signals, settings: MoLSAKISettings) -> None:
    """Check that signals whose layers are mixed already have the mixture of the settings.

    Raises:
        InputError: they have another.
    """
    stored = signals.attention.fingerprint.get("layers", "")
    if not stored.startswith("mixed"):
        return
    wanted = mixture_rule(settings.teacher_temperature, settings.layer_change)
    if settings.teacher_weights != "change" or wanted != stored:
        raise InputError(
            f"Expected settings of the mixture that the signals hold ({stored}); got teacher_weights "
            f"{settings.teacher_weights}, teacher_temperature {settings.teacher_temperature:g} and layer_change "
            f"{settings.layer_change}, which would have no effect. No loss was created; use the same, or signals of "
            "all layers."
        )


def _require_collated(targets: AttentionTargets, input_ids: Tensor, attention_mask: Tensor | None) -> None:
    """Check that a batch has the rows and the padding of its targets; on a CPU alone, where that forces no sync.

    Raises:
        InputError: it has not.
    """
    rows, (examples, width) = targets.spans.rows, targets.spans.step_RT.shape
    same = input_ids.shape[1] == width and (rows is not None or len(input_ids) == examples)
    if same and attention_mask is not None and attention_mask.dim() == 2 and attention_mask.device.type == "cpu":
        index_R = torch.arange(len(input_ids))
        seen_B = index_R if rows is None else index_R[rows] if isinstance(rows, slice) else rows.cpu()
        same = len(seen_B) == examples and int(seen_B.max()) < len(input_ids)
        same = same and torch.equal(attention_mask[seen_B] != 0, targets.token_mask_BT.cpu())
    if not same:
        raise InputError(
            f"Expected the batch as it was collated, with rows of {width} tokens, of which {examples} have the "
            f"teacher's attention, padded on the right; got {' x '.join(map(str, input_ids.shape))} tokens, or other "
            "padding. Steps and keys would be found at other tokens; do not slice, sort or pad a batch after its "
            "collation."
        )


class LossOutput(NamedTuple):
    """The outputs of a student's forward pass, and its attention loss."""

    outputs: Any
    attention_loss: Tensor
