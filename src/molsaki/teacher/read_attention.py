"""A view of a teacher's attention on its rationale, as a signal.

Legend: R examples of a batch that have the signal, T tokens, L layers (or the heads of all of them), S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from molsaki.attention import (
    AttentionReading,
    SpanRequest,
    find_model,
    read_attention,
)
from molsaki.attention.span_index import make_span_index
from molsaki.encoding.encode import EncodedText
from molsaki.encoding.padding import pad
from molsaki.models.inputs import pad_texts
from molsaki.models.logits import last_logits
from molsaki.records import RowReport
from molsaki.spans.align import Alignment
from molsaki.spans.text import Text
from molsaki.spans.views import STEPS, WORDS, View
from molsaki.store import attention_rows as rows
from molsaki.store.schema import TensorSpec
from molsaki.teacher.collect_attention import AttentionRows, LayerMix, StoredForm, TextRow, first_steps
from molsaki.teacher.signals import CUT, Collector, ModelSizes, PassRequest, Signal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_KEYS = "no key: takes no part in the attention loss"
NO_STEP = "no step left: takes no part in the attention loss"
UNMAPPED = "a step or key without a token"
ROUNDING = 1e-2
"""The relative tolerance of the bound on a sum of weights: bfloat16 rounds weights to 8 bits."""
_EXPECTED_STEPS, _EXPECTED_KEYS = 5, 8
"""The estimated steps and keys of a rationale before it is written: about the mean of PaLM's for SVAMP."""
_EXPECTED_WORDS = 60, 120
"""The estimated words of a rationale, and of the rationale and its question together."""


@dataclass(frozen=True, slots=True)
class PreparedText:
    """A text with its tokens under a model's tokenizer.

    Attributes:
        text: the text.
        encoded: the whole prompt with question and rationale.
        tokens: the step and key of each token.
    """

    text: Text
    encoded: EncodedText
    tokens: Alignment

    @property
    def length(self) -> int:
        """The number of tokens."""
        return len(self.encoded.input_ids)


class AttentionSignal(Signal[PreparedText]):
    """A view of a teacher's attention: A [L, S, K] of every text, with the steps and keys that have no token.

    Args:
        view: its rows and columns, and whether it has layers or heads.
        keys: the recipe's kind of keys.
        dtype: the type of stored attention, `"float32"` or `"float16"`.
        mix: store only the layers' mixture; None stores every layer.
        top: store only this number of keys of each step, and the rest as one number; None stores all keys.
    """

    def __init__(
        self,
        view: View = STEPS,
        keys: str = "numbers",
        dtype: str = "float32",
        mix: LayerMix | None = None,
        top: int | None = None,
    ) -> None:
        self.view = view
        self.name, self.title = view.name, view.title
        self._keys, self._dtype, self._mix, self._top = keys, dtype, mix, top

    def rules(self) -> dict[str, str]:
        """The rules for steps and keys, and which layers are stored."""
        layers = "all heads of all" if self.view.heads else "all"
        if self._mix is not None:
            layers = rows.mixture_rule(self._mix.temperature, self._mix.change)
        form = {} if self._top is None else {"form": f"the {self._top} largest of each row, the rest as one number"}
        return {**self.view.rules(self._keys), "layers": layers, **form}

    def schema(self, model: ModelSizes) -> dict[str, TensorSpec]:
        """Attention of every layer, head or mixture; missing steps and keys; tokens of each step."""
        layers = model.heads if self.view.heads else len(model.layers.numbers)
        layers = 1 if self._mix is not None else layers
        if self._top is not None:
            return rows.compact_schema(layers, self._dtype)
        schema = rows.attention_schema(layers, self._dtype)
        return schema if self._dtype == "float32" else {**schema, **rows.ERROR_SCHEMA}

    def read_from(self, model: ModelSizes) -> dict[str, str]:
        """The layers that are read, if they are not all."""
        return rows.pack_layers(model.layers.numbers, model.layers.count)

    def describe(self, model: ModelSizes) -> str:
        """The number of layers or heads of a row."""
        top = "" if self._top is None else f", the {self._top} largest of each row"
        if self._mix is not None:
            return f"{model.layers} mixed{top}"
        return (f"{model.heads} heads of {model.layers}" if self.view.heads else str(model.layers)) + top

    def prepare(
        self,
        text: Text,
        encoded: EncodedText,
        tokenizer: PreTrainedTokenizerBase,  # noqa: ARG002 - for signals that need the bytes of tokens
        report: RowReport,
    ) -> PreparedText | None:
        """The text with its steps and keys on its tokens."""
        return prepare_text(text, encoded, report, self.view)

    def sizes(self, item: PreparedText) -> dict[str, int]:
        """The numbers of steps and keys, and of missing steps and keys."""
        tokens = item.tokens
        return self._sizes(tokens.n_steps, tokens.n_keys, len(tokens.missing_steps), len(tokens.missing_keys))

    def _sizes(self, steps: int, keys: int, missing_steps: int = 0, missing_keys: int = 0) -> dict[str, int]:
        kept = {} if self._top is None else {rows.KEPT: min(self._top, keys)}
        missing = {rows.MISSING_STEPS: missing_steps, rows.MISSING_KEYS: missing_keys}
        return {rows.STEPS: steps, rows.KEYS: keys, **missing, **kept}

    def expected_sizes(self, tokens: int) -> tuple[dict[str, int], str]:  # noqa: ARG002 - steps hardly depend on it
        """The sizes of PaLM's rationales for SVAMP, or of 60 words and a question of 60 words."""
        words, all_words = _EXPECTED_WORDS
        steps = words if self.view.rows == "words" else _EXPECTED_STEPS
        keys = all_words if self.view.columns == "words" else _EXPECTED_KEYS
        if self.view == WORDS:
            return self._sizes(steps, keys), f"{steps} words and questions {keys - steps}"
        return self._sizes(steps, keys), f"{steps} {self.view.rows} and {keys} {self.view.columns}"

    def request(self, items: Sequence[PreparedText | None], attention_mask_BT: Tensor) -> PassRequest:
        """The steps and keys of the texts that have the signal."""
        present = [item for item in items if item is not None]
        if not present:
            return PassRequest()
        # [B, T] over the whole batch, −1 for no step or key and at padding; `rows` selects the texts with the signal.
        device, width = attention_mask_BT.device, attention_mask_BT.shape[1]
        nothing = [-1] * width
        spans = make_span_index(
            pad([nothing if item is None else item.tokens.step_of_token for item in items], -1).to(device),
            pad([nothing if item is None else item.tokens.key_of_token for item in items], -1).to(device),
            attention_mask_BT,
            None if len(present) == len(items) else torch.tensor([item is not None for item in items], device=device),
            max(item.tokens.n_steps for item in present),
            max(item.tokens.n_keys for item in present),
        )
        return PassRequest(spans=SpanRequest(spans, self.view.heads))

    def collect(self, items: Sequence[PreparedText | None]) -> Collector:
        """A [L, S, K] of each text in the form that is stored."""
        form = StoredForm(self._dtype, self._mix, self._top)
        return AttentionRows([None if item is None else TextRow(item.tokens, form) for item in items])

    def check(self, item: PreparedText, row: Mapping[str, Tensor]) -> list[str]:
        """What is impossible for attention on this text.

        Attention is never negative, and 0 where the teacher has no token. A step's sum over keys is at most its number
        of tokens, in every layer or head, since the weights of each token add up to at most 1.
        """
        tokens = item.tokens
        expected = {
            rows.MISSING_STEPS: tokens.missing_steps,
            rows.MISSING_KEYS: tokens.missing_keys,
            rows.STEP_TOKENS: tokens.tokens_of_steps,
        }
        if rows.TOP_KEYS in row:
            expected[rows.FIRST_STEP] = tuple(first_steps(tokens).tolist())
        wrong = [
            f"its {name} are {row[name].tolist()}, those of its text {list(values)}"
            for name, values in expected.items()
            if row[name].tolist() != list(values)
        ]
        # One layer at a time; the first problem of a layer stands for those of the others.
        for layer, attention_SK in enumerate(rows.layers_of(row)):
            if problems := _impossible(layer, attention_SK, tokens):
                return [*wrong, *problems]
        return wrong


def _impossible(layer: int, attention_SK: Tensor, tokens: Alignment) -> list[str]:
    """What is impossible in a layer's attention."""
    wrong = []
    if float(attention_SK.min()) < 0:
        wrong.append(f"it has a negative weight, {float(attention_SK.min()):.3g}")
    without = attention_SK[list(tokens.missing_steps)], attention_SK[:, list(tokens.missing_keys)]
    if any(bool(part.any()) for part in without):
        wrong.append("it has weights where the teacher has no token")
    if too_much := _too_much(layer, attention_SK, tokens.tokens_of_steps):
        wrong.append(too_much)
    return wrong


def _too_much(layer: int, attention_SK: Tensor, step_tokens: Sequence[int]) -> str:
    """The step whose sum over keys exceeds its number of tokens the most; empty if none does."""
    sums_S = attention_SK.sum(1)
    excess_S = sums_S - torch.tensor(step_tokens) * (1 + ROUNDING)
    step = int(excess_S.argmax())
    if float(excess_S[step]) <= 0:
        return ""
    total = float(sums_S[step])
    return f"layer {layer}, step {step} has a sum of {total:.4g}, more than its {step_tokens[step]} tokens can have"


def prepare_text(text: Text, encoded: EncodedText, report: RowReport, view: View = STEPS) -> PreparedText | None:
    """Map a text's steps and keys to its tokens; returns None, and counts the reason, if it has no step or key."""
    spans = view.spans(text.question, text.rationale, text.keys, text.steps)
    if not spans.keys:
        report.skip(text.id, NO_KEYS)
        return None
    tokens = encoded.align(spans)
    if encoded.cut_tokens:
        report.note(CUT)
    elif tokens.missing_steps or tokens.missing_keys:
        report.note(UNMAPPED)
    if len(tokens.missing_keys) == len(spans.keys):
        report.skip(text.id, NO_KEYS)
        return None
    if len(tokens.missing_steps) == len(spans.steps):
        report.skip(text.id, NO_STEP)
        return None
    report.keep()
    return PreparedText(text, encoded, tokens)


def read_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[PreparedText],
    columns: Sequence[Sequence[int]],
    width: int,
    values: bool = False,
) -> AttentionReading:
    """Read the attention of steps on arbitrary columns, in one forward pass over some texts, without gradients.

    Args:
        model: the model, in evaluation mode.
        tokenizer: its tokenizer.
        batch: the texts.
        columns: for each text the column that each token is added to, -1 for none; the keys, for example.
        width: the number of columns.
        values: keep the value states of every layer.
    """
    input_ids, attention_mask = pad_texts(model, tokenizer, [item.encoded for item in batch])
    with torch.inference_mode():
        return read_attention(
            model,
            input_ids,
            attention_mask,
            pad([item.tokens.step_of_token for item in batch], -1).to(input_ids.device),
            pad(columns, -1).to(input_ids.device),
            steps=max(item.tokens.n_steps for item in batch),
            keys=width,
            values=values,
            **last_logits(find_model(model), 1),
        )
