"""The causal check: hide a key from attention while a model writes a step, and see what it writes instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.analysis.looks import Encoder
from molsaki.answers.parse import parse_answer
from molsaki.errors import InputError
from molsaki.models.decode import end_tokens
from molsaki.models.modes import eval_mode
from molsaki.records import RowReport
from molsaki.spans.sentences import sentence_spans
from molsaki.spans.text import Text
from molsaki.teacher.read_attention import prepare_text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a model wrote from one step on, with a key hidden at that step and with nothing hidden.

    Attributes:
        step: the step that was written anew, at least 1.
        key: the key that could not be attended to meanwhile.
        written: what was written from that step on.
        undisturbed: the same with nothing hidden.
        answer: the answer of the whole, as it was written; empty where none can be read.
        undisturbed_answer: likewise.
    """

    step: int
    key: int
    written: str
    undisturbed: str
    answer: str
    undisturbed_answer: str

    @property
    def step_changed(self) -> bool:
        """Whether the sentence itself came out otherwise."""
        return _first_sentence(self.written) != _first_sentence(self.undisturbed)

    @property
    def answer_changed(self) -> bool:
        """Whether another answer came out, or none."""
        return self.answer != self.undisturbed_answer


def hide_keys(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: Text,
    encode: Encoder,
    pairs: Sequence[tuple[int, int]],
    *,
    choices: Sequence[str] = (),
    max_new_tokens: int = 128,
) -> list[Hidden]:
    """Write a rationale anew from a step on, with one key out of sight until the next sentence has begun.

    The text is kept up to the step. From there the model writes greedily, and as long as it is at that sentence no
    layer's attention gives the key's tokens any weight, at any position that decides a token of the sentence. Then
    the key is in sight again, and the model goes on to its end. The same with nothing hidden is the measure.

    It can show that looking at a key at that step matters to what is written: without it, something else comes. It
    cannot show that a key does not matter: other tokens may have read it before (a noun behind a number knows the
    number), and pass it on. Nor is a changed text a better or worse one. Compare with hiding other keys at the same
    step, since any missing key disturbs. Models with sliding windows see beyond them here.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        text: question, rationale and what counts as a key.
        encode: from `teacher_encoder` or `student_encoder`, as for `read_looks`.
        pairs: (step, key) to try, each step at least 1 and each key in an earlier step.
        choices: the choices' texts of a multiple-choice question.
        max_new_tokens: the bound on what is written.

    Raises:
        InputError: a step or key is not there, was cut off, or the key comes after the step begins.
    """
    import torch

    item = prepare_text(text, encode(text.question, text.rationale), RowReport())
    if item is None:
        raise InputError(f"Expected a text with a key that has tokens; {text.id!r} has none. There is nothing to hide.")
    steps, keys = item.tokens.step_of_token, item.tokens.key_of_token
    rows: list[tuple[int, list[int]]] = []
    for step, key in pairs:
        start = steps.index(step) if step in steps else -1
        places = [place for place, k in enumerate(keys) if k == key]
        if step < 1 or start < 1 or not places or places[-1] >= start:
            raise InputError(
                f"Expected a step of the rationale and a key before it, both with tokens; got step {step} and key "
                f"{key} of {text.id!r}. Nothing was hidden; see find_spans for the steps and keys of a text."
            )
        rows += [(start, places)]
    starts = sorted({start for start, _ in rows})
    ids = item.encoded.input_ids
    everything = [(ids[:start], list[int]()) for start in starts] + [(ids[:start], places) for start, places in rows]
    with eval_mode(model), torch.inference_mode():
        written = _write(model, tokenizer, everything, max_new_tokens)
    undisturbed = dict(zip(starts, written, strict=False))
    full = item.encoded
    kept_text = {start: text.rationale[: max(0, full.offsets[start][0] - full.completion_start)] for start in starts}

    def answer(start: int, continuation: str) -> str:
        return parse_answer(kept_text[start] + continuation, choices).answer_text

    return [
        Hidden(
            step,
            key,
            new,
            undisturbed[start],
            answer(start, new),
            answer(start, undisturbed[start]),
        )
        for (step, key), (start, _), new in zip(pairs, rows, written[len(starts) :], strict=True)
    ]


def _write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    max_new_tokens: int,
) -> list[str]:
    """Continue every prefix greedily, with some of its tokens out of sight until a second sentence has begun."""
    import torch

    ends = set(end_tokens(model, tokenizer))
    device = model.device
    width = max(len(prefix) for prefix, _ in rows)
    fill = next(iter(ends))
    ids_BT = torch.tensor([[fill] * (width - len(prefix)) + list(prefix) for prefix, _ in rows], device=device)
    pads = [width - len(prefix) for prefix, _ in rows]
    # What each row may see of the columns so far; a hidden token is out of sight of the last position and new ones.
    seen_BT = torch.tensor([[place >= pad for place in range(width)] for pad in pads], device=device)
    hidden_BT = torch.zeros_like(seen_BT)
    for row, (_, places) in enumerate(rows):
        hidden_BT[row, [pads[row] + place for place in places]] = True
    allowed_BTT = torch.ones(width, width, dtype=torch.bool, device=device).tril()[None] & seen_BT[:, None, :]
    allowed_BTT[:, -1] &= ~hidden_BT
    position_BT = (torch.arange(width, device=device)[None] - torch.tensor(pads, device=device)[:, None]).clamp_min(0)
    written: list[list[int]] = [[] for _ in rows]
    hiding, done = [bool(places) for _, places in rows], [False] * len(rows)
    past: Any = None
    for _ in range(max_new_tokens):
        outputs = model(
            input_ids=ids_BT,
            attention_mask=_bias(allowed_BTT, model.dtype),
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
        seen_BT = torch.cat([seen_BT, torch.ones_like(seen_BT[:, :1])], dim=1)
        hidden_BT = torch.cat([hidden_BT, torch.zeros_like(hidden_BT[:, :1])], dim=1)
        still_B1 = torch.tensor(hiding, device=device)[:, None]
        allowed_BTT = (seen_BT & ~(hidden_BT & still_B1))[:, None, :]
        ids_BT, position_BT = next_B[:, None], position_BT[:, -1:] + 1
    return [tokenizer.decode(row, skip_special_tokens=True) for row in written]


def _bias(allowed_BTT: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The additive mask [B, 1, T, T]; the lowest number, as a row of padding would be NaN under minus infinity."""
    import torch

    return torch.zeros(allowed_BTT.shape, dtype=dtype, device=allowed_BTT.device).masked_fill_(
        ~allowed_BTT, torch.finfo(dtype).min
    )[:, None]


def _first_sentence(written: str) -> str:
    spans = sentence_spans(written)
    return written[slice(*spans[0])] if spans else written
