"""The teacher's next tokens on their way to the loss: added to the examples, batched, and compared with the student's.

Legend: N tokens of a pass with a loss, V vocabulary, M positions where both tokenizers agree, there K tokens with a
probability of their own, W spans that they cut differently, of at most J tokens. No token is in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_columns

from molsaki.encoding.padding import pad
from molsaki.encoding.token_map import AgreedSpans, AgreedTokens, Kind, TokenMap
from molsaki.methods import NextTokenPair
from molsaki.records import RowReport
from molsaki.spans.text import Text
from molsaki.store.next_tokens import next_tokens
from molsaki.store.signal_reader import SignalStore
from molsaki.training.example import Example

NO_NEXT_TOKENS = "without the teacher's next tokens: takes no part in their loss"
NO_AGREEMENT = (
    "nothing of the rationale can be compared between both tokenizers: takes no part in the next tokens' loss"
)
COMPARED = "with {shares} of their rationales' tokens compared with the teacher's next tokens"

_NOTHING = -1e30
"""A logit that adds nothing; finite, so that a position at which nothing is left has a gradient of 0 and not NaN."""
_LEAST = -100.0
"""Of a share's logarithm: a student that has no other token would else be infinitely far from a teacher that has."""


@dataclass(frozen=True, slots=True)
class NextTokenTargets:
    """What the next-token loss of a pass needs, for the M positions and W spans where the tokenizers agree.

    Attributes:
        positions_M: which of the pass's N tokens is predicted.
        ids_MK: the tokens that the teacher has a probability for; the first one is repeated after the last.
        teacher_MK: the teacher's log-probabilities of them; −inf after the last.
        span_positions_WJ: which of the pass's N tokens each span consists of; −1 after its last.
        span_teacher_W: the teacher's log-probabilities of the spans.
    """

    positions_M: Tensor
    ids_MK: Tensor
    teacher_MK: Tensor
    span_positions_WJ: Tensor
    span_teacher_W: Tensor

    @property
    def count(self) -> int:
        """M + W."""
        return len(self.positions_M) + len(self.span_teacher_W)


ComparedTokens = dict[str, dict[str, int]]
"""For each kind of token, the number of `tokens` of the rationales and how many of them are `compared`."""


def add_next_tokens(
    examples: Sequence[Example],
    texts: Mapping[str, Text],
    store: SignalStore,
    tokens: TokenMap,
    temperature: float,
    report: RowReport,
) -> tuple[list[Example], ComparedTokens]:
    """The examples with what the teacher expected where both tokenizers agree.

    Args:
        examples: encoded for the student.
        texts: question and rationale by problem id.
        store: the teacher's next tokens.
        tokens: the teacher's tokens in the student's vocabulary.
        temperature: τ of the teacher's distribution.
        report: gets the count of examples without, with the reason, and of the others with the share of their tokens.

    Returns:
        The examples, and how many of their rationales' tokens are compared, by kind.

    Raises:
        ArtefactError: the next tokens were read on other text, or not at this temperature.
    """
    made: list[Example] = []
    of_kinds: ComparedTokens = {kind: {"compared": 0, "tokens": 0} for kind in get_args(Kind)}
    for example in examples:
        text, explain = texts[example.problem_id], example.sequences["explain"]
        if text.id not in store:
            report.note(NO_NEXT_TOKENS)
            made.append(example)
            continue
        agreed = tokens.agree(next_tokens(store, text.id, text.text_hash, temperature), explain, text.rationale)
        if agreed is None:
            report.note(NO_AGREEMENT)
        compared = set() if agreed is None else agreed.compared
        for position, kind in enumerate(tokens.kinds(explain, text.rationale)):
            of_kinds[kind]["tokens"] += 1
            of_kinds[kind]["compared"] += position in compared
        made.append(replace(example, agreed=agreed))
    shares = [f"{100 * n['compared'] / n['tokens']:.1f} % ({kind})" for kind, n in of_kinds.items() if n["tokens"]]
    if any(example.agreed is not None for example in made):
        report.notes[COMPARED.format(shares=", ".join(shares))] = sum(e.agreed is not None for e in made)
    return made, of_kinds


def batch_next_tokens(agreed: Sequence[tuple[int, AgreedTokens]]) -> NextTokenTargets:
    """Put the next tokens of several rows into one rectangle.

    Args:
        agreed: for each row with next tokens, the index of its first token among the pass's N, and the next tokens.
    """
    # Without a position, one row too many gives the rectangle a width.
    ids_MK = pad([*(row for _, some in agreed for row in some.ids_MK.tolist()), [0]], -1)[:-1]
    teacher_MK = torch.full(ids_MK.shape, -torch.inf)
    position = 0
    for _, some in agreed:
        rows, columns = some.log_probs_MK.shape
        teacher_MK[position : position + rows, :columns] = some.log_probs_MK
        position += rows
    return NextTokenTargets(
        positions_M=torch.cat([first + some.positions_M for first, some in agreed]),
        ids_MK=torch.where(ids_MK < 0, ids_MK[:, :1], ids_MK),
        teacher_MK=teacher_MK,
        **_batch_spans([(first, some.spans) for first, some in agreed if some.spans is not None]),
    )


def _batch_spans(spans: Sequence[tuple[int, AgreedSpans]]) -> dict[str, Tensor]:
    """The spans of several rows, whose first tokens have these indices among the pass's N."""
    rows = [
        [first + position for position in row if position >= 0]
        for first, some in spans
        for row in some.positions_WJ.tolist()
    ]
    return {
        "span_positions_WJ": pad([*rows, [0]], -1)[:-1],
        "span_teacher_W": torch.cat([torch.zeros(0), *(some.log_probs_W for _, some in spans)]),
    }


def compared_ids(targets_N: Tensor, targets: NextTokenTargets) -> Tensor:
    """The tokens [N, K] whose probability is compared at each of a pass's N tokens: itself, unless the teacher's are.

    Args:
        targets_N: the tokens that follow, as the cross-entropy has them.
        targets: the teacher's side.
    """
    ids_NK = targets_N[:, None].repeat(1, targets.ids_MK.shape[1])
    return ids_NK.index_copy(0, targets.positions_M, targets.ids_MK)


def kept_and_rest(logits_NV: Tensor, ids_NK: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The student's log-probabilities of some tokens [N, K], and of all others together [N].

    The probability of all others is summed up from the logits, not taken as 1 minus the rest: a small probability would
    be lost in rounding, and its gradient with it.

    Args:
        logits_NV: the student's logits, in float32.
        ids_NK: the tokens, from `compared_ids`.
        temperature: τ of the student's distribution.
    """
    logits_NV = logits_NV / temperature
    all_N1 = logits_NV.logsumexp(1, keepdim=True)
    rest_N = logits_NV.scatter(1, ids_NK, _NOTHING).logsumexp(1) - all_N1.squeeze(1)
    return logits_NV.gather(1, ids_NK) - all_N1, rest_N.clamp_min(_LEAST)


def next_token_pair(kept_NK: Tensor, rest_N: Tensor, targets: NextTokenTargets, share: float | Tensor) -> NextTokenPair:
    """The student's log-probabilities beside the teacher's.

    A span is a position more, with one token: itself. All else there is what does not begin with its characters.

    Args:
        kept_NK: from `kept_and_rest`, at each of the pass's N tokens.
        rest_N: likewise.
        targets: the teacher's side.
        share: number of these positions over that of the optimizer step.
    """
    pair = NextTokenPair(
        teacher_MK=targets.teacher_MK,
        student_MK=kept_NK.index_select(0, targets.positions_M),
        student_rest_M=rest_N.index_select(0, targets.positions_M),
        share=share,
    )
    return _add_spans(pair, kept_NK[:, 0], rest_N, targets) if len(targets.span_teacher_W) else pair


def _add_spans(pair: NextTokenPair, own_N: Tensor, others_N: Tensor, targets: NextTokenTargets) -> NextTokenPair:
    """The pair with a row for each span: its log-probability, and that of all that begins otherwise.

    With p_j the probability of a span's j-th token, the span has P = Π_j p_j, and all else
    1 − P = Σ_j (Π_{i<j} p_i) · (1 − p_j), in which 1 − p_j is summed up from the logits as for a position.
    """
    real_WJ = targets.span_positions_WJ >= 0
    # Padding is read as the first token and masked below: to choose the real ones would force a device sync.
    positions_WJ = targets.span_positions_WJ.clamp_min(0)
    own_WJ = own_N[positions_WJ].masked_fill(~real_WJ, 0.0)
    others_WJ = others_N[positions_WJ].masked_fill(~real_WJ, _NOTHING)
    before_WJ = own_WJ.cumsum(1) - own_WJ
    student_W, rest_W = own_WJ.sum(1), (before_WJ + others_WJ).logsumexp(1)
    columns = pair.teacher_MK.shape[1] - 1
    return NextTokenPair(
        teacher_MK=torch.cat(
            [pair.teacher_MK, pad_columns(targets.span_teacher_W[:, None], (0, columns), value=-torch.inf)]
        ),
        student_MK=torch.cat([pair.student_MK, pad_columns(student_W[:, None], (0, columns))]),
        student_rest_M=torch.cat([pair.student_rest_M, rest_W]),
        share=pair.share,
    )
