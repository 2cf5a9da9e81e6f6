"""The causal check: mask a key while a model writes a step, and compare what it writes.

Legend: B texts written together, T columns of attention so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.analysis.text_attention import Encoder
from molsaki.answers.parse import parse_answer
from molsaki.errors import InputError
from molsaki.models.decode import end_tokens
from molsaki.models.modes import eval_mode
from molsaki.records import RowReport
from molsaki.spans.align import Alignment
from molsaki.spans.sentences import sentence_spans
from molsaki.spans.text import Text
from molsaki.teacher.read_attention import prepare_text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class HiddenKey:
    """What a model wrote from one step on, with a key hidden at that step and with nothing hidden.

    Attributes:
        step: the first step that the model wrote, at least 1.
        key: the key that was hidden while the model wrote that step.
        written: what it wrote from that step on.
        baseline: what it wrote with nothing hidden.
        answer: the answer of the whole text; empty where none can be parsed.
        baseline_answer: the answer with nothing hidden.
    """

    step: int
    key: int
    written: str
    baseline: str
    answer: str
    baseline_answer: str

    @property
    def step_changed(self) -> bool:
        """Whether the step's sentence differs."""
        return _first_sentence(self.written) != _first_sentence(self.baseline)

    @property
    def answer_changed(self) -> bool:
        """Whether the answer differs, or only one of the two has an answer."""
        return self.answer != self.baseline_answer


def hide_keys(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: Text,
    encode: Encoder,
    pairs: Sequence[tuple[int, int]],
    *,
    choices: Sequence[str] = (),
    max_new_tokens: int = 128,
) -> list[HiddenKey]:
    """Let a model continue a rationale from a step on, with one key hidden until that step's sentence is written.

    The text is kept up to the step. From there the model decodes greedily. Until the sentence ends, no layer's
    attention gives the key's tokens any weight, at any position that predicts a token of the sentence. Then the key is
    visible again, and the model writes to its end. The baseline is the same with nothing hidden.

    It can show that attention to a key at that step matters: without it, the model writes something else. It cannot
    show that a key does not matter: other tokens may have read it before (a noun after a number) and pass it on. A
    changed text need not be better or worse. Compare with other keys at the same step, since any missing key disturbs
    the model. Sliding windows are ignored here.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        text: question, rationale and what counts as a key.
        encode: from `teacher_encoder` or `student_encoder`, as for `read_text_attention`.
        pairs: (step, key) to try, each step at least 1 and each key in an earlier step.
        choices: the choices' texts of a multiple-choice question.
        max_new_tokens: the most tokens to write.

    Raises:
        InputError: a step or key is not there or was cut off, or the key comes after the step begins.
    """
    import torch

    item = prepare_text(text, encode(text.question, text.rationale), RowReport())
    if item is None:
        raise InputError(f"Expected a text with a key that has tokens; {text.id!r} has none. There is nothing to hide.")
    rows = [_tokens_of(text, item.tokens, step, key) for step, key in pairs]
    starts = sorted({start for start, _ in rows})
    encoded = item.encoded
    prefixes = [(encoded.input_ids[:start], hidden) for start, hidden in [*((start, []) for start in starts), *rows]]
    with eval_mode(model), torch.inference_mode():
        written = _write(model, tokenizer, prefixes, max_new_tokens)
    baselines = dict(zip(starts, written, strict=False))

    def answer(start: int, continuation: str) -> str:
        kept = text.rationale[: max(0, encoded.offsets[start][0] - encoded.completion_start)]
        return parse_answer(kept + continuation, choices).answer_text

    return [
        HiddenKey(step, key, new, baselines[start], answer(start, new), answer(start, baselines[start]))
        for (step, key), (start, _), new in zip(pairs, rows, written[len(starts) :], strict=True)
    ]


def _tokens_of(text: Text, alignment: Alignment, step: int, key: int) -> tuple[int, list[int]]:
    """The step's first token, and the key's tokens before it."""
    steps = alignment.step_of_token
    start = steps.index(step) if step in steps else -1
    positions = [position for position, k in enumerate(alignment.key_of_token) if k == key]
    if step < 1 or start < 1 or not positions or positions[-1] >= start:
        raise InputError(
            f"Expected a step of the rationale and a key before it, both with tokens; got step {step} and key {key} of "
            f"{text.id!r}. Nothing was hidden; see find_spans for the steps and keys of a text."
        )
    return start, positions


def _write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    max_new_tokens: int,
) -> list[str]:
    """Continue every prefix greedily, with some of its tokens hidden until a second sentence has begun.

    Args:
        model: the model, in evaluation mode.
        tokenizer: its tokenizer.
        rows: each prefix as token ids, and the positions of its hidden tokens.
        max_new_tokens: the most tokens to write.
    """
    import torch

    ends = set(end_tokens(model, tokenizer))
    device = model.device
    ids_BT, position_BT, real_BT, hidden_BT = (part.to(device) for part in _pad_left(rows, next(iter(ends))))
    width = ids_BT.shape[1]
    # The prefix is causal. Its last position predicts the step's first token, so the key is hidden from it already.
    allowed_BTT = torch.ones(width, width, dtype=torch.bool, device=device).tril()[None] & real_BT[:, None, :]
    allowed_BTT[:, -1] &= ~hidden_BT
    written: list[list[int]] = [[] for _ in rows]
    hiding, done = [bool(hidden) for _, hidden in rows], [False] * len(rows)
    past: Any = None
    for _ in range(max_new_tokens):
        outputs = model(
            input_ids=ids_BT,
            attention_mask=_additive_mask(allowed_BTT, model.dtype),
            position_ids=position_BT,
            past_key_values=past,
            use_cache=True,
        )
        past = outputs.past_key_values
        next_B = outputs.logits[:, -1].argmax(-1)
        for row, token in enumerate(next_B.tolist()):
            done[row] = done[row] or token in ends
            if not done[row]:
                written[row].append(token)
                hiding[row] = hiding[row] and len(sentence_spans(tokenizer.decode(written[row]))) < 2
        if all(done):
            break
        # One more column, visible to all later positions; the key's columns are visible again once a row stops hiding.
        real_BT = torch.cat([real_BT, torch.ones_like(real_BT[:, :1])], dim=1)
        hidden_BT = torch.cat([hidden_BT, torch.zeros_like(hidden_BT[:, :1])], dim=1)
        hiding_B1 = torch.tensor(hiding, device=device)[:, None]
        allowed_BTT = (real_BT & ~(hidden_BT & hiding_B1))[:, None, :]
        ids_BT, position_BT = next_B[:, None], position_BT[:, -1:] + 1
    return [tokenizer.decode(row, skip_special_tokens=True) for row in written]


def _pad_left(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]], fill: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pad prefixes on the left, so that all rows write their next token in the same column.

    Args:
        rows: each prefix as token ids, and the positions of its hidden tokens.
        fill: the id at padding.

    Returns:
        Token ids and their positions, LongTensors [B, T]; True at real tokens and at hidden tokens, [B, T].
    """
    import torch

    width = max(len(prefix) for prefix, _ in rows)
    pads = [width - len(prefix) for prefix, _ in rows]
    ids_BT = torch.tensor([[fill] * pad + list(prefix) for pad, (prefix, _) in zip(pads, rows, strict=True)])
    shifted_BT = torch.arange(width)[None] - torch.tensor(pads)[:, None]
    hidden_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    for row, (_, hidden) in enumerate(rows):
        hidden_BT[row, [pads[row] + position for position in hidden]] = True
    return ids_BT, shifted_BT.clamp_min(0), shifted_BT >= 0, hidden_BT


def _additive_mask(allowed_BTT: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The additive mask [B, 1, T, T]. Masked pairs get the lowest number: −inf would make rows of padding NaN."""
    import torch

    mask_BTT = torch.zeros(allowed_BTT.shape, dtype=dtype, device=allowed_BTT.device)
    return mask_BTT.masked_fill_(~allowed_BTT, torch.finfo(dtype).min)[:, None]


def _first_sentence(written: str) -> str:
    spans = sentence_spans(written)
    return written[slice(*spans[0])] if spans else written
