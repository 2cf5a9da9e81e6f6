"""The attention loss for a training loop of your own: a collator and a loss module.

`DistillationTrainer` trains with molsaki's methods, prompts and order. A loop that has its own (a plain PyTorch loop,
another trainer) needs two things of molsaki: batches that know which token belongs to which step and key, and the
loss between the teacher's stepwise attention and the student's.

Legend: R rows of a batch, B rows with the teacher's attention, T tokens, L layers, S steps, K keys.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from molsaki.attention import find_model, read_spans
from molsaki.encoding.encode import IGNORED, require_offsets
from molsaki.encoding.padding import pad
from molsaki.errors import InputError
from molsaki.methods.base import AttentionChoice
from molsaki.methods.molsaki import MoLSAKI, MoLSAKISettings
from molsaki.records import Problem, RowReport
from molsaki.spans.align import align_spans
from molsaki.spans.text import Text
from molsaki.store.attention_rows import ATTENTION
from molsaki.store.signal_reader import SignalStore
from molsaki.training.batches import RowTargets, attention_targets
from molsaki.training.examples import shared_attention
from molsaki.training.model import attention_pair
from molsaki.training.run import make_method

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


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


class SpanCollator:
    r"""Collates prompts and completions into batches with the tokens of steps and keys.

    A row is a mapping with `prompt` and `completion`, as in TRL, and the `id` of its row in the signals. The prompt
    must contain the question of that row and the completion its rationale, exactly once and unchanged, with any text
    around them (a chat template, an answer). Prompt and completion are tokenized separately, the completion ends with
    the end-of-text token, and only its tokens have labels. A row whose id is not in the signals takes no part in the
    attention loss, and is counted in `report`.

    Example:
        >>> import molsaki
        >>> from transformers import AutoTokenizer
        >>> from molsaki.data.pocket import STUDENT
        >>> signals = molsaki.load_signals("runs/pocket")
        >>> collate = molsaki.SpanCollator(AutoTokenizer.from_pretrained(STUDENT), signals)
        >>> rows = [
        ...     {"id": text.id, "prompt": f"Q: {text.question}\nA: ", "completion": text.rationale}
        ...     for text in signals.texts.values()
        ... ]
        >>> batch = collate(rows[:4])
        >>> sorted(batch)
        ['attention', 'attention_mask', 'input_ids', 'labels']

    Args:
        tokenizer: the student's; a fast one, with an end-of-text token.
        signals: the teacher's attention.
        max_length: rows are cut after this many tokens; by default the tokenizer's limit. Steps and keys that are cut
            are left out on both sides.
        special_tokens: let the tokenizer add its special tokens to the prompt. False for a rendered chat, which has
            them already.

    Attributes:
        report: counts of rows that were left out or cut, over all batches so far. Workers of a DataLoader have copies
            of their own, which a warning says; without workers, it counts every row.

    Raises:
        TokenizerError: the tokenizer is slow, or has no end-of-text token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        signals: Signals,
        max_length: int | None = None,
        *,
        special_tokens: bool = True,
    ) -> None:
        require_offsets(tokenizer)
        self.tokenizer = tokenizer
        self.signals = signals
        self.max_length = min(max_length or tokenizer.model_max_length, tokenizer.model_max_length)
        self.special_tokens = special_tokens
        self.report = RowReport()
        padding = tokenizer.pad_token_id
        self._padding = padding if padding is not None else tokenizer.eos_token_id
        self._warned = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of some rows, padded on the right.

        A row whose prompt alone is `max_length` tokens or longer is skipped, and counted in `report`.

        Returns:
            `input_ids`, `attention_mask` and `labels`, LongTensors [R, T], and `attention`, which
            `StepwiseAttentionLoss` takes; None if no row has the teacher's attention.

        Raises:
            InputError: a row lacks a field, its prompt or completion does not hold the text of its id once, or no row
                has room for a token of its completion.
            ArtefactError: the teacher's attention on a row is damaged, or was read on another text.
        """
        if not self._warned and get_worker_info() is not None:
            self._warned = True
            logger.warning("Rows that a DataLoader's workers leave out or cut are not in this collator's report.")
        encoded = self._encode_all(rows)
        targets = [self._target(place, row, one) for place, (row, one) in enumerate(encoded)]
        lengths = [len(one.input_ids) for _, one in encoded]
        return {
            "input_ids": pad([one.input_ids for _, one in encoded], self._padding),
            "attention_mask": pad([[1] * length for length in lengths], 0),
            "labels": pad([one.labels for _, one in encoded], IGNORED),
            "attention": attention_targets(lengths, [target for target in targets if target is not None]),
        }

    def _encode_all(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], _EncodedRow]]:
        """The rows with a label, encoded; the others are counted."""
        kept = []
        for row in rows:
            encoded = self._encode(row)
            if all(label == IGNORED for label in encoded.labels):
                self.report.skip(row["id"], NO_ROOM)
                continue
            if encoded.truncated:
                self.report.note(CUT)
            kept.append((row, encoded))
        if not kept:
            raise InputError(
                f"Expected a row whose prompt is shorter than {self.max_length} tokens; none of the {len(rows)} rows "
                "of this batch is. The loss of no token is not a number; leave such rows out, or raise max_length."
            )
        return kept

    def _encode(self, row: Mapping[str, Any]) -> _EncodedRow:
        for name in ("id", "prompt", "completion"):
            if not isinstance(row.get(name), str):
                kind = type(row.get(name)).__name__
                raise InputError(
                    f"Expected a row with the texts `id`, `prompt` and `completion`; {name!r} is of type {kind}, the "
                    f"fields are {sorted(map(str, row))}. The batch was not built; add the field."
                )
        first = self.tokenizer(
            row["prompt"], add_special_tokens=self.special_tokens, return_offsets_mapping=True, verbose=False
        )
        second = self.tokenizer(row["completion"], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        # Offsets of the completion count from the end of the prompt, as if both were one text.
        shift = len(row["prompt"])
        offsets = [
            *first["offset_mapping"],
            *((left + shift, right + shift) for left, right in second["offset_mapping"]),
        ]
        ids = [*first["input_ids"], *second["input_ids"], self.tokenizer.eos_token_id]
        labels = [IGNORED] * len(first["input_ids"]) + ids[len(first["input_ids"]) :]
        kept = slice(0, self.max_length)
        return _EncodedRow(ids[kept], labels[kept], [*offsets, (0, 0)][kept], len(ids) > self.max_length)

    def _target(self, place: int, row: Mapping[str, Any], encoded: _EncodedRow) -> RowTargets | None:
        text = self.signals.texts.get(row["id"])
        if text is None:
            self.report.note(NO_TEXT)
            return None
        starts = {
            "question_start": _find(row["prompt"], text.question, row["id"], "prompt", "question"),
            "rationale_start": len(row["prompt"])
            + _find(row["completion"], text.rationale, row["id"], "completion", "rationale"),
        }
        shared = shared_attention(
            self.signals.attention,
            text,
            lambda spans: align_spans(spans, encoded.offsets, **starts, truncated=encoded.truncated),
            AttentionChoice(),
            self.report,
        )
        return None if shared is None else RowTargets(place, row["id"], shared.tokens, shared.teacher_LSK)


CUT = "completion cut at the maximum length"
NO_ROOM = "the prompt leaves no room for the completion"
NO_TEXT = "an id that the signals do not have: takes no part in the attention loss"


class StepwiseAttentionLoss(nn.Module):
    r"""L_att (Eq. 2 to 7 of the MoLSAKI paper) as a module, with the router of the student's layers (Eq. 5).

    Call it instead of the model: it runs one forward pass and returns the model's outputs and L_att. Its own parameters
    (the router) are trained together with the student's: add `parameters()` to the optimiser.

    Example:
        >>> import molsaki
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> from molsaki.data.pocket import STUDENT
        >>> signals = molsaki.load_signals("runs/pocket")
        >>> student = AutoModelForCausalLM.from_pretrained(STUDENT)
        >>> collate = molsaki.SpanCollator(AutoTokenizer.from_pretrained(STUDENT), signals)
        >>> loss = molsaki.StepwiseAttentionLoss(student, signals)
        >>> text = next(iter(signals.texts.values()))
        >>> batch = collate([{"id": text.id, "prompt": f"Q: {text.question}\nA: ", "completion": text.rationale}])
        >>> outputs, attention_loss = loss(student, **batch)
        >>> (outputs.loss + attention_loss).backward()

    Args:
        student: the student, bare or wrapped; only its sizes are used, and it does not become a submodule.
        signals: the teacher's attention.
        **settings: settings of the method `molsaki`, such as `kl_temperature`; see `docs/recipe_keys.md`. Weights of
            the loss and learning rates (`alpha`, `beta`, `beta_schedule`, `router_learning_rate`) are the loop's.

    Raises:
        InputError: a setting is unknown or impossible, or is the loop's.
        UnreadableModelError: the student's attention cannot be read.
    """

    def __init__(self, student: PreTrainedModel, signals: Signals, **settings: Any) -> None:
        super().__init__()
        try:
            parsed = MoLSAKISettings(**settings)
        except ValueError as error:
            raise InputError(
                f"Expected settings of the method molsaki; got {settings}: {error} No loss was created; see "
                "docs/recipe_keys.md for the settings and their values."
            ) from error
        loops_own = sorted({"alpha", "beta", "beta_schedule", "router_learning_rate"} & settings.keys())
        if loops_own:
            raise InputError(
                f"Expected settings of the attention loss alone; got {', '.join(loops_own)}, which would have no "
                "effect here. No loss was created; weight the loss in your loop, and give the router's parameters "
                "their rate in the optimiser."
            )
        choice = MoLSAKI.terms_of(parsed).attention
        assert choice is not None
        if replace(choice, values=False) != AttentionChoice():
            raise InputError(
                f"Expected settings that compare the teacher's steps and keys as `SpanCollator` batches them; got "
                f"{settings}. No loss was created; leave out target, columns, keys, steps, step_pool, rows and heads, "
                "or train with DistillationTrainer."
            )
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
            attention: the batch's `attention` from a `SpanCollator`; with None, L_att is 0.
            examples: number of rows with the teacher's attention over all accumulated batches of the optimiser step,
                if this is one of several; L_att is then this batch's share of the mean over all of them.
            **model_inputs: passed to the model, such as `labels`.

        Returns:
            The model's outputs, and L_att: a scalar with gradients to the student and to the router.

        Raises:
            InputError: as `read_attention`.
        """
        if attention is None:
            outputs = student(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **model_inputs)
            return LossOutput(outputs, outputs.logits.new_zeros((), dtype=torch.float32))
        assert self.choice is not None
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


class LossOutput(NamedTuple):
    """The outputs of a student's forward pass, and its attention loss."""

    outputs: Any
    attention_loss: Tensor


@dataclass(frozen=True, slots=True)
class _EncodedRow:
    """Prompt and completion as tokens; the offsets are characters of both texts joined."""

    input_ids: Sequence[int]
    labels: Sequence[int]
    offsets: Sequence[tuple[int, int]]
    truncated: bool


def _find(text: str, part: str, row_id: str, where: str, what: str) -> int:
    """The position of a part that occurs exactly once in a text."""
    if text.count(part) != 1:
        raise InputError(
            f"Expected the {where} of row {row_id!r} to contain its {what} exactly once, unchanged; it contains it "
            f"{text.count(part)} times. Steps and keys would be found in another text; build the {where} from "
            "`signals.texts[id]`."
        )
    return text.index(part)
